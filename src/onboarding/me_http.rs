//! `/v1/me`: who calls, and for which tenant; and what they are called.

use axum::extract::{FromRef, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::people_http::UserView;
use crate::{
    billing::Billing,
    identity::{Subject, Verifier},
    kernel::{PersonName, Timestamp},
    tenants::{TenantView, Tenants},
    users::Users,
    web::{Json, Problem, TenantAccess},
};

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Tenants: FromRef<S>,
    Users: FromRef<S>,
    Billing: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(read_me, change_me))
}

/// The caller.
#[derive(Debug, Serialize, ToSchema)]
pub struct MeView {
    tenant: TenantView,
    /// The user; `null` for a machine client.
    user: Option<UserView>,
    /// `client_id` of the token.
    client_id: String,
    /// What the token may be used for, space-separated.
    scope: String,
    /// When the token ends.
    expires_at: Timestamp,
    /// What the tier's plan switches on.
    features: Vec<String>,
}

/// Says who calls: the tenant, the user, what the token allows and what the tier switches on.
#[utoipa::path(get, path = "/v1/me", tag = "tenant", responses((status = 200, body = MeView)))]
async fn read_me(
    call: TenantAccess,
    State(tenants): State<Tenants>,
    State(users): State<Users>,
    State(billing): State<Billing>,
) -> Result<Json<MeView>, Problem> {
    let tenant = tenants.find((&call).into(), call.tenant).await?;
    let user = match call.access.subject {
        Subject::User(id) => Some(users.find((&call).into(), call.tenant, id).await?.into()),
        Subject::Client(_) => None,
    };
    let features = billing.plan(&tenant.tier).map(|plan| plan.features.clone()).unwrap_or_default();
    Ok(Json(MeView {
        tenant: tenant.into(),
        user,
        client_id: call.access.client_id.clone(),
        scope: call.access.scope.to_string(),
        expires_at: call.access.expires_at,
        features,
    }))
}

/// What a person says of themselves.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MeChange {
    /// What they are called, for applications that may know (`name` of the scope `profile`); an empty text takes it back.
    name: Option<String>,
}

/// Changes what the caller is called.
#[utoipa::path(patch, path = "/v1/me", tag = "tenant", request_body = MeChange,
    responses((status = 200, body = UserView), (status = 403), (status = 422)))]
async fn change_me(
    call: TenantAccess,
    State(users): State<Users>,
    Json(change): Json<MeChange>,
) -> Result<Json<UserView>, Problem> {
    let (user, _) = call.person()?;
    if let Some(name) = change.name {
        let name = Some(name).filter(|name| !name.is_empty()).map(|name| name.parse::<PersonName>()).transpose();
        let name = name.map_err(|error| Problem::invalid_field("name", error))?;
        users.rename((&call).into(), user, name.as_ref()).await?;
    }
    Ok(Json(users.find((&call).into(), call.tenant, user).await?.into()))
}
