//! `GET /v1/me`: who calls, and for which tenant.

use axum::extract::{FromRef, State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::people_http::UserView;
use crate::{
    billing::Billing,
    identity::{Subject, Verifier},
    kernel::Timestamp,
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
    OpenApiRouter::new().routes(routes!(read_me))
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
