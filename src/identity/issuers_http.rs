//! Foreign issuers, for the administrator: which there are, and what is known of their keys. They are settings: who may speak
//! for whose tenants is not for a token to change.

use axum::extract::{FromRef, State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Identity, IssuerState, UnknownTenant, Verifier};
use crate::{
    kernel::Timestamp,
    web::{AdminScope, Json, Kind, List, Path, Problem},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Identity: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(list_issuers)).routes(routes!(refresh_issuer))
}

/// A foreign issuer.
#[derive(Debug, Serialize, ToSchema)]
pub struct IssuerView {
    /// Our name for it, always the same for an issuer.
    issuer_id: String,
    /// `iss`.
    issuer: String,
    /// Where its keys are, as far as is known.
    jwks_uri: Option<String>,
    algorithms: Vec<&'static str>,
    audience: Vec<String>,
    client_id: Vec<String>,
    accept_typ: Vec<String>,
    tenant_claim: Option<String>,
    /// Ids or external ids; `*` for all.
    tenants: Vec<String>,
    /// `refuse` or `create`.
    on_unknown_tenant: &'static str,
    /// Keys that check tokens.
    keys: Vec<KeyOfIssuerView>,
    /// Keys of its set that do not, and why.
    unused_keys: Vec<UnusedKeyView>,
    /// When its keys were last fetched.
    #[schema(value_type = Option<String>)]
    fetched_at: Option<Timestamp>,
    /// When that was last tried.
    #[schema(value_type = Option<String>)]
    tried_at: Option<Timestamp>,
    /// Until when they are good without being fetched again.
    #[schema(value_type = Option<String>)]
    good_until: Option<Timestamp>,
    /// Why the last try failed.
    error: Option<String>,
}

/// A key of a foreign issuer.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyOfIssuerView {
    kid: Option<String>,
    alg: &'static str,
}

/// A key of a foreign issuer that checks no tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnusedKeyView {
    kid: Option<String>,
    why: &'static str,
}

impl From<IssuerState> for IssuerView {
    fn from(IssuerState { id, config, keys }: IssuerState) -> Self {
        let key = |(kid, alg)| KeyOfIssuerView { kid, alg };
        Self {
            issuer_id: id,
            issuer: config.issuer,
            jwks_uri: keys.jwks_uri,
            algorithms: config.algorithms.iter().map(|algorithm| algorithm.name()).collect(),
            audience: config.audience,
            client_id: config.client_ids,
            accept_typ: config.accept_typ,
            tenant_claim: config.tenant_claim,
            tenants: config.tenants.unwrap_or_else(|| vec!["*".to_owned()]),
            on_unknown_tenant: match config.on_unknown_tenant {
                UnknownTenant::Refuse => "refuse",
                UnknownTenant::Create => "create",
            },
            keys: keys.keys.into_iter().map(key).collect(),
            unused_keys: keys.unused.into_iter().map(|key| UnusedKeyView { kid: key.kid, why: key.why }).collect(),
            fetched_at: keys.fetched_at,
            tried_at: keys.tried_at,
            good_until: keys.good_until,
            error: keys.error,
        }
    }
}

/// Lists foreign issuers with the state of their keys.
#[utoipa::path(get, path = "/admin/v1/issuers", tag = "identity", responses((status = 200, body = List<IssuerView>)))]
async fn list_issuers(_: AdminScope, State(verifier): State<Verifier>) -> Json<List<IssuerView>> {
    Json(List { items: verifier.issuers().into_iter().map(IssuerView::from).collect(), next_cursor: None })
}

/// Fetches an issuer's keys now, whenever that was last done. A key that is gone from its set is dead after this; when its
/// keys cannot be had, `error` says why, and those that were known stay.
#[utoipa::path(post, path = "/admin/v1/issuers/{issuer_id}/refresh", tag = "identity",
    params(("issuer_id" = String, Path)), responses((status = 200, body = IssuerView), (status = 404)))]
async fn refresh_issuer(
    _: AdminScope,
    State(verifier): State<Verifier>,
    Path(id): Path<String>,
) -> Result<Json<IssuerView>, Problem> {
    let state = verifier.refresh_issuer(&id).await;
    let state = state.ok_or_else(|| Problem::new(Kind::NOT_FOUND, format!("there is no issuer {id}")))?;
    Ok(Json(state.into()))
}
