//! Making portal tokens, in OpenMeter's shape. What they are good for is `metering`'s: `/api/v1/portal/meters`.

use axum::{
    extract::{FromRef, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    identity::Identity,
    kernel::{Faults, Timestamp},
    metering::Metering,
    web::{Json, Kind, Problem, UsageJson, UsageScope, Verifier},
};

/// How long a token lives that nobody set an end to, in seconds.
const DEFAULT_TTL_S: i64 = 3_600;
/// The longest life, in seconds: a token cannot be taken back by itself.
const MAX_TTL_S: i64 = 86_400;
/// The most meters a token can be bound to: it carries their names.
const MAX_METERS: usize = 50;

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Identity: FromRef<S>,
    Metering: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(create_portal_token))
}

/// A portal token to be made; members that are not known are let pass, as OpenMeter's SDKs send some.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortalTokenRequest {
    /// The tenant: its id or external id.
    subject: Option<String>,
    /// RFC 3339, at most a day ahead; an hour from now when absent.
    expires_at: Option<String>,
    /// The meters it is good for, at most 50; all when absent.
    allowed_meter_slugs: Option<Vec<String>>,
}

/// A portal token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortalTokenView {
    #[schema(value_type = String)]
    id: Uuid,
    /// The tenant, as the request called it.
    subject: String,
    expires_at: Timestamp,
    expired: bool,
    created_at: Timestamp,
    /// Shown once.
    token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_meter_slugs: Option<Vec<String>>,
}

impl PortalTokenRequest {
    /// The subject and the end, once all of it is good.
    fn check(&self, metering: &Metering, now: Timestamp) -> Result<(String, Timestamp), Problem> {
        let mut faults = Faults::new();
        let subject: Option<String> = faults.require("subject", self.subject.as_deref());
        let expires_at = match self.expires_at.as_deref() {
            Some(text) => faults.parse::<Timestamp>("expiresAt", text),
            None => Some(now.plus_secs(DEFAULT_TTL_S)),
        };
        let in_time = |at: &Timestamp| now < *at && *at <= now.plus_secs(MAX_TTL_S);
        if expires_at.is_some_and(|at| !in_time(&at)) {
            faults.add("expiresAt", "must be later than now, and at most a day");
        }
        if let Some(slugs) = &self.allowed_meter_slugs {
            if !(1..=MAX_METERS).contains(&slugs.len()) {
                faults.add("allowedMeterSlugs", format!("must have 1 to {MAX_METERS} meters"));
            }
            for slug in slugs.iter().take(MAX_METERS) {
                if !metering.meters().iter().any(|meter| meter.key.as_str() == slug) {
                    faults.add("allowedMeterSlugs", format!("there is no meter {slug}"));
                }
            }
        }
        faults.finish(subject.zip(expires_at)).map_err(|faults| Problem::bad(&faults))
    }
}

/// Makes a token with which a browser may read one tenant's usage for a while, and do nothing else.
#[utoipa::path(post, path = "/api/v1/portal/tokens", tag = "usage", request_body = PortalTokenRequest,
    responses((status = 200, body = PortalTokenView), (status = 400), (status = 403)))]
async fn create_portal_token(
    scope: UsageScope,
    State(identity): State<Identity>,
    State(metering): State<Metering>,
    UsageJson(request): UsageJson<PortalTokenRequest>,
) -> Result<Response, Problem> {
    scope.require_scope("usage:read")?;
    let (subject, expires_at) = request.check(&metering, identity.now())?;
    let tenant = metering.subject_of(scope.scope, &subject).await?;
    match metering.standing(scope.scope, tenant).await? {
        Some("active" | "changing_tier") => {}
        state => {
            let detail = format!("the tenant is {}", state.unwrap_or("deleted"));
            return Err(Problem::new(Kind::TENANT_NOT_ACTIVE, detail));
        }
    }
    let (grant, token) = identity.issue_portal_token(tenant, subject, request.allowed_meter_slugs, expires_at);
    let view = PortalTokenView {
        id: grant.id,
        subject: grant.subject,
        expires_at: grant.expires_at,
        expired: false,
        created_at: grant.created_at,
        token: token.expose().to_owned(),
        allowed_meter_slugs: grant.meters,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(view)).into_response())
}
