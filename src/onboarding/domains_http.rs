//! `/v1/users/allowed-domains`: whose people may join the tenant by themselves.

use axum::extract::{FromRef, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Onboarding, domains::MOST_DOMAINS};
use crate::{
    kernel::{EmailDomain, Faults},
    users::Role,
    web::{Json, Problem, TenantAccess, Verifier},
};

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Onboarding: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(read_allowed_domains, set_allowed_domains))
}

/// Whose people may join the tenant by themselves.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowedDomains {
    /// Domains of email addresses, such as `example.com`, at most 20. Whoever signs up with the tenant's name and a verified
    /// email there becomes a member. Each must be the domain of an owner's own verified email, and none where anybody gets
    /// an address. An empty list lets nobody in.
    allowed_domains: Vec<String>,
}

impl AllowedDomains {
    fn of(domains: &[EmailDomain]) -> Self {
        Self { allowed_domains: domains.iter().map(ToString::to_string).collect() }
    }

    fn parse(&self) -> Result<Vec<EmailDomain>, Problem> {
        let mut faults = Faults::new();
        if self.allowed_domains.len() > MOST_DOMAINS {
            faults.add("allowed_domains", format!("must be at most {MOST_DOMAINS}"));
        }
        let domain = |(place, text): (usize, &String)| {
            faults.parse(&format!("allowed_domains[{place}]"), &text.to_ascii_lowercase())
        };
        let domains: Vec<Option<EmailDomain>> = self.allowed_domains.iter().enumerate().map(domain).collect();
        faults.finish(domains.into_iter().collect()).map_err(|faults| Problem::invalid(&faults))
    }
}

/// Says whose people may join the tenant by themselves; for owners.
#[utoipa::path(get, path = "/v1/users/allowed-domains", tag = "tenant",
    responses((status = 200, body = AllowedDomains), (status = 403)))]
async fn read_allowed_domains(
    access: TenantAccess,
    State(onboarding): State<Onboarding>,
) -> Result<Json<AllowedDomains>, Problem> {
    access.require_role(Role::Owner)?;
    Ok(Json(AllowedDomains::of(&onboarding.allowed_domains((&access).into(), access.tenant).await?)))
}

/// Sets whose people may join the tenant by themselves; for owners.
#[utoipa::path(put, path = "/v1/users/allowed-domains", tag = "tenant", request_body = AllowedDomains,
    responses((status = 200, body = AllowedDomains), (status = 403), (status = 422)))]
async fn set_allowed_domains(
    access: TenantAccess,
    State(onboarding): State<Onboarding>,
    Json(request): Json<AllowedDomains>,
) -> Result<Json<AllowedDomains>, Problem> {
    access.require_role(Role::Owner)?;
    let (actor, scope, domains) = (access.actor(), (&access).into(), request.parse()?);
    Ok(Json(AllowedDomains::of(&onboarding.allow_domains(scope, actor, access.tenant, domains).await?)))
}
