//! `/v1/me`: who calls, and for which tenant; and what they are called.

use axum::extract::{FromRef, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::people_http::UserView;
use crate::{
    billing::{Billing, Limited},
    identity::{Identity, Subject, Verifier},
    kernel::{PersonName, TenantId, Timestamp, UserId},
    tenants::{TenantView, Tenants},
    users::{Member, Users},
    web::{Json, Problem, TenantAccess},
};

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Tenants: FromRef<S>,
    Users: FromRef<S>,
    Billing: FromRef<S>,
    Identity: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(read_me, change_me))
}

/// The caller.
#[derive(Debug, Serialize, ToSchema)]
pub struct MeView {
    tenant: MeTenant,
    /// The user; `null` for a machine client.
    user: Option<MeUser>,
    /// `client_id` of the token.
    client_id: String,
    /// What the token may be used for, space-separated.
    scope: String,
    /// When the token ends.
    expires_at: Timestamp,
    /// What the tier's plan switches on; a client that acts for a person needs `usage:read` to see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<Vec<String>>,
    /// That the tenant is held to lower limits because an invoice is overdue; absent when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    limited: Option<MeLimited>,
}

/// Why the tenant's limits are lower than its own.
#[derive(Debug, Serialize, ToSchema)]
pub struct MeLimited {
    /// `overdue`: an invoice is; a payment ends it.
    because: &'static str,
    since: Timestamp,
    /// The tier whose limits hold.
    limits_of: String,
}

impl From<Limited> for MeLimited {
    fn from(limited: Limited) -> Self {
        Self { because: "overdue", since: limited.since, limits_of: limited.tier.to_string() }
    }
}

/// The tenant: whole, but for a client that acts for a person without `usage:read`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum MeTenant {
    /// All of it.
    Whole(Box<TenantView>),
    /// What the token says already.
    Named {
        /// Its id.
        tenant_id: TenantId,
    },
}

/// The user: whole for themselves, and as much as they allowed for a client.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum MeUser {
    /// All of it.
    Whole(Box<UserView>),
    /// What the scope of the token stands for (`OpenID` Connect Core section 5.4).
    Allowed {
        /// `sub` of the token.
        user_id: UserId,
        /// With the scope `email`.
        #[serde(skip_serializing_if = "Option::is_none")]
        email: Option<String>,
        /// With the scope `email`: whether they followed a link that was sent there.
        #[serde(skip_serializing_if = "Option::is_none")]
        email_verified: Option<bool>,
        /// With the scope `profile`, where they have said what they are called.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
}

impl MeUser {
    fn new(member: Member, call: &TenantAccess) -> Self {
        if !call.is_of_client_for_person() {
            return Self::Whole(Box::new(member.into()));
        }
        let (user, scope) = (member.user, &call.access.scope);
        let email = scope.contains("email").then(|| user.email.to_string());
        Self::Allowed {
            user_id: user.id,
            email_verified: email.as_ref().map(|_| user.email_verified_at.is_some()),
            email,
            name: user.name.filter(|_| scope.contains("profile")).map(|name| name.to_string()),
        }
    }
}

/// Says who calls: the tenant, the user, what the token allows and what the tier switches on. A client that acts for a person
/// sees what its scope stands for.
#[utoipa::path(get, path = "/v1/me", tag = "tenant", responses((status = 200, body = MeView)))]
async fn read_me(
    call: TenantAccess,
    State(tenants): State<Tenants>,
    State(users): State<Users>,
    State(billing): State<Billing>,
) -> Result<Json<MeView>, Problem> {
    let user = match call.access.subject {
        Subject::User(id) => Some(MeUser::new(users.find((&call).into(), call.tenant, id).await?, &call)),
        Subject::Client(_) | Subject::Foreign(_) => None,
    };
    let mut limited = None;
    let (tenant, features) = if call.is_of_client_for_person() && call.require_scope("usage:read").is_err() {
        (MeTenant::Named { tenant_id: call.tenant }, None)
    } else {
        let tenant = tenants.find((&call).into(), call.tenant).await?;
        let features = billing.plan(&tenant.tier).map(|plan| plan.features.clone()).unwrap_or_default();
        limited = billing.limited((&call).into(), call.tenant).await?;
        (MeTenant::Whole(Box::new(tenant.into())), Some(features))
    };
    Ok(Json(MeView {
        tenant,
        user,
        client_id: call.access.client_id.clone(),
        scope: call.access.scope.to_string(),
        expires_at: call.access.expires_at,
        features,
        limited: limited.map(Into::into),
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
    State(identity): State<Identity>,
    Json(change): Json<MeChange>,
) -> Result<Json<UserView>, Problem> {
    let (user, _) = call.person()?;
    if let Some(name) = change.name {
        let name = Some(name).filter(|name| !name.is_empty()).map(|name| name.parse::<PersonName>()).transpose();
        let name = name.map_err(|error| Problem::invalid_field("name", error))?;
        identity.rename(user, name.as_ref()).await?;
    }
    Ok(Json(users.find((&call).into(), call.tenant, user).await?.into()))
}
