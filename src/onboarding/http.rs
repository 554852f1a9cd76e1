//! Registrations, sign-up, offboarding, and changes of a tenant.

use axum::{
    Extension,
    extract::{FromRef, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Entrance, Onboarding, Registration, RegistrationStatus, Request, SignedUp, customer_http, domains_http,
    invitation_http, invoice_export_http, invoice_money_http, leaving_http, me_http, pages, people_http, portal_http,
    rules::DEFAULT_TIER, tier_change_http,
};
use crate::{
    billing::{AddressBody, Billing, BillingAddress},
    identity::{Identity, Origin},
    kernel::{Actor, Faults, RegistrationId, Secret, TenantId, Timestamp, UserId},
    metering::Metering,
    tenants::{TenantPatch, TenantView, Tenants},
    users::Users,
    web::{AdminScope, ClaimedKey, Json, List, PageQuery, Path, Problem, Query, Verifier},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Onboarding: FromRef<S>,
    Users: FromRef<S>,
    Tenants: FromRef<S>,
    Billing: FromRef<S>,
    Metering: FromRef<S>,
    Identity: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(create_registration, list_registrations))
        .routes(routes!(read_registration))
        .routes(routes!(retry_registration))
        .routes(routes!(sign_up))
        .routes(routes!(offboard_tenant, update_tenant))
        .merge(tier_change_http::routes())
        .merge(leaving_http::routes())
        .merge(invoice_export_http::routes())
        .merge(invoice_money_http::routes())
        .merge(me_http::routes())
        .merge(people_http::routes())
        .merge(domains_http::routes())
        .merge(customer_http::routes())
        .merge(portal_http::routes())
        .merge(invitation_http::routes())
        .merge(pages::routes())
}

/// A registration by the administrator.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistrationRequest {
    /// Email of the first user.
    email: Option<String>,
    /// The customer, 1 to 200 characters. An existing one is joined.
    customer_name: Option<String>,
    /// A text, or an object with `line1 line2 city region postal_code country`.
    billing_address: Option<AddressBody>,
    /// A tier that has a plan: `free`, `standard`, `premium`, or one that was added.
    tier: Option<String>,
    /// Password of the first user; without one they cannot sign in yet.
    #[schema(value_type = Option<String>)]
    password: Option<Secret>,
    /// What a foreign issuer calls the tenant; unique.
    external_id: Option<String>,
    /// Whether an email that lives in another tenant may become a member of this one too.
    #[serde(default)]
    allow_membership: bool,
}

/// A self-service sign-up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignUpRequest {
    /// Email of the first user; must not be known.
    email: Option<String>,
    /// Their password.
    #[schema(value_type = Option<String>)]
    password: Option<Secret>,
    /// The customer; must be new.
    customer_name: Option<String>,
    /// A text, or an object with `line1 line2 city region postal_code country`.
    billing_address: Option<AddressBody>,
    /// The tier; `free` when absent.
    tier: Option<String>,
}

impl RegistrationRequest {
    fn parse(self, actor: Actor, key: Option<[u8; 32]>) -> Result<Request, Problem> {
        let entrance = Entrance::Administrator { actor, allow_membership: self.allow_membership };
        let mut faults = Faults::new();
        let email = faults.require("email", self.email.as_deref());
        let customer_name = faults.require("customer_name", self.customer_name.as_deref());
        let billing_address = require_address(&mut faults, self.billing_address);
        let tier = faults.require("tier", self.tier.as_deref());
        let external_id = self.external_id.map(|text| faults.parse("external_id", &text));
        let external_id_fine = external_id.as_ref().is_none_or(Option::is_some);
        let request = (|| {
            Some(Request {
                email: email?,
                customer_name: customer_name?,
                billing_address: billing_address?,
                tier: tier?,
                password: self.password,
                external_id: external_id.flatten(),
                entrance,
                key,
            })
        })();
        faults.finish(request.filter(|_| external_id_fine)).map_err(|faults| Problem::invalid(&faults))
    }
}

impl SignUpRequest {
    fn parse(self, key: Option<[u8; 32]>) -> Result<Request, Problem> {
        let mut faults = Faults::new();
        let email = faults.require("email", self.email.as_deref());
        let customer_name = faults.require("customer_name", self.customer_name.as_deref());
        let billing_address = require_address(&mut faults, self.billing_address);
        let tier = faults.parse("tier", self.tier.as_deref().unwrap_or(DEFAULT_TIER));
        if self.password.is_none() {
            faults.add("password", "is required");
        }
        let request = (|| {
            Some(Request {
                email: email?,
                customer_name: customer_name?,
                billing_address: billing_address?,
                tier: tier?,
                password: self.password,
                external_id: None,
                entrance: Entrance::SignUp,
                key,
            })
        })();
        faults.finish(request).map_err(|faults| Problem::invalid(&faults))
    }
}

fn require_address(faults: &mut Faults, address: Option<AddressBody>) -> Option<BillingAddress> {
    if let Some(address) = address {
        address.parse("billing_address", faults)
    } else {
        faults.add("billing_address", "is required");
        None
    }
}

/// A registration and how far it came.
#[derive(Debug, Serialize, ToSchema)]
pub struct RegistrationView {
    registration_id: RegistrationId,
    tenant_id: TenantId,
    user_id: UserId,
    customer_name: String,
    /// The tier that was asked for; the tenant's own decides.
    tier: String,
    /// `running`, `active`, `failed` or `compensated`. One that is `failed` is tried again at its step's `next_try_at`, or
    /// when somebody says so.
    status: &'static str,
    /// Whether its steps are being taken back, because one of them failed for good.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    undoing: bool,
    steps: Vec<StepView>,
    /// What was asked for and not taken over, because the tenant existed.
    notes: Vec<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// One step.
#[derive(Debug, Serialize, ToSchema)]
pub struct StepView {
    /// `tenant`, `user`, `billing_account`, `provisioning` or `activation`.
    name: &'static str,
    /// `pending`, `running`, `done`, `failed` or `undone`.
    status: &'static str,
    attempts: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// When it is tried again by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try_at: Option<Timestamp>,
    /// When it was last begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    /// When that came to an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
}

impl From<Registration> for RegistrationView {
    fn from(registration: Registration) -> Self {
        let step = |step: super::Step| StepView {
            name: step.name.name(),
            status: step.status.name(),
            attempts: step.attempts,
            error: step.error,
            next_try_at: step.next_try_at,
            started_at: step.started_at,
            ended_at: step.ended_at,
        };
        Self {
            registration_id: registration.id,
            tenant_id: registration.tenant_id,
            user_id: registration.user_id,
            customer_name: registration.customer_name.to_string(),
            tier: registration.tier.to_string(),
            status: registration.status.name(),
            undoing: registration.undoing,
            steps: registration.steps.into_iter().map(step).collect(),
            notes: registration.notes,
            created_at: registration.created_at,
            updated_at: registration.updated_at,
        }
    }
}

/// 201 with the finished registration, or 202 while it runs; `Location` says where to look.
fn registered(registration: Registration) -> Response {
    let status = match registration.status {
        RegistrationStatus::Running => StatusCode::ACCEPTED,
        RegistrationStatus::Active | RegistrationStatus::Failed | RegistrationStatus::Compensated => {
            StatusCode::CREATED
        }
    };
    let location = format!("/admin/v1/registrations/{}", registration.id);
    let mut response = (status, Json(RegistrationView::from(registration))).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Registers a customer: tenant, user, billing account, infrastructure. Twice makes nothing twice; with the same
/// `Idempotency-Key` it is the same registration, whatever became of the server in between.
#[utoipa::path(post, path = "/admin/v1/registrations", tag = "registrations", request_body = RegistrationRequest,
    responses((status = 201, body = RegistrationView), (status = 202, body = RegistrationView), (status = 409), (status = 422),
        (status = 503)))]
async fn create_registration(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    key: Option<Extension<ClaimedKey>>,
    Json(request): Json<RegistrationRequest>,
) -> Result<Response, Problem> {
    let request = request.parse(scope.actor(), key.map(|Extension(key)| key.0))?;
    Ok(registered(onboarding.register((&scope).into(), request).await?))
}

/// Lists registrations, oldest first.
#[utoipa::path(get, path = "/admin/v1/registrations", tag = "registrations", params(PageQuery),
    responses((status = 200, body = List<RegistrationView>)))]
async fn list_registrations(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<RegistrationView>>, Problem> {
    Ok(Json(List::of(onboarding.list((&scope).into(), page.try_into()?).await?, RegistrationView::from)))
}

/// Reads a registration.
#[utoipa::path(get, path = "/admin/v1/registrations/{registration_id}", tag = "registrations",
    params(("registration_id" = RegistrationId, Path)), responses((status = 200, body = RegistrationView), (status = 404)))]
async fn read_registration(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<RegistrationId>,
) -> Result<Json<RegistrationView>, Problem> {
    Ok(Json(onboarding.find((&scope).into(), id).await?.into()))
}

/// Tries a failed registration again, without waiting for its time.
#[utoipa::path(post, path = "/admin/v1/registrations/{registration_id}/retry", tag = "registrations",
    params(("registration_id" = RegistrationId, Path)),
    responses((status = 200, body = RegistrationView), (status = 404), (status = 409)))]
async fn retry_registration(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<RegistrationId>,
) -> Result<Json<RegistrationView>, Problem> {
    Ok(Json(onboarding.retry((&scope).into(), scope.actor(), id).await?.into()))
}

/// A sign-up that waits for its email to be verified.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnverifiedView {
    /// `unverified`.
    status: &'static str,
    email: String,
}

/// Self-service sign-up of a new customer. Where emails are verified (`identity.verify_email`), the answer is 202 for any
/// email and any customer name, and the account is there once the link in the letter was followed. The name of an existing
/// customer is joined only by people whose email's domain its owners let in.
#[utoipa::path(post, path = "/v1/signup", tag = "sign-up", request_body = SignUpRequest,
    responses((status = 201, body = RegistrationView), (status = 202, body = UnverifiedView), (status = 403),
        (status = 409), (status = 422), (status = 429)))]
async fn sign_up(
    State(onboarding): State<Onboarding>,
    origin: Origin,
    key: Option<Extension<ClaimedKey>>,
    Json(request): Json<SignUpRequest>,
) -> Result<Response, Problem> {
    let request = request.parse(key.map(|Extension(key)| key.0))?;
    let email = request.email.to_string();
    match onboarding.sign_up(request, &origin).await? {
        SignedUp::Done(registration) => {
            let mut response = registered(*registration);
            response.headers_mut().remove(header::LOCATION);
            Ok(response)
        }
        SignedUp::Unverified => {
            Ok((StatusCode::ACCEPTED, Json(UnverifiedView { status: "unverified", email })).into_response())
        }
    }
}

/// Takes a tenant out: a last invoice, an export that is kept, then infrastructure, billing account, users, tenant. Twice
/// gives the same answer: 202 while it is not done.
#[utoipa::path(delete, path = "/admin/v1/tenants/{tenant_id}", tag = "tenants", params(("tenant_id" = TenantId, Path)),
    responses((status = 200, body = TenantView), (status = 202, body = leaving_http::OffboardingView), (status = 404)))]
async fn offboard_tenant(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<TenantId>,
) -> Result<Response, Problem> {
    Ok(leaving_http::left(id, onboarding.offboard((&scope).into(), scope.actor(), id).await?))
}

/// What may be changed of a tenant directly; an absent field stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "a merge patch has three cases (RFC 7396)")]
pub struct TenantUpdate {
    /// A new name, 1 to 200 characters.
    customer_name: Option<String>,
    /// A new external id; `null` takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    external_id: Option<Option<String>>,
    /// A new billing address.
    billing_address: Option<AddressBody>,
}

/// Tells an explicit `null` from an absent field.
#[expect(clippy::option_option, reason = "a merge patch has three cases (RFC 7396)")]
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl TenantUpdate {
    fn parse(self) -> Result<(TenantPatch, Option<BillingAddress>), Problem> {
        let mut faults = Faults::new();
        let mut patch = TenantPatch::default();
        if let Some(name) = &self.customer_name {
            patch.customer_name = faults.parse("customer_name", name);
        }
        if let Some(external_id) = &self.external_id {
            patch.external_id = Some(external_id.as_ref().and_then(|text| faults.parse("external_id", text)));
        }
        let address = self.billing_address.map(|address| address.parse("billing_address", &mut faults));
        let parsed = Some((patch, address.flatten()));
        faults.finish(parsed).map_err(|faults| Problem::invalid(&faults))
    }
}

/// Changes a tenant's name, external id or billing address.
#[utoipa::path(patch, path = "/admin/v1/tenants/{tenant_id}", tag = "tenants", params(("tenant_id" = TenantId, Path)),
    request_body = TenantUpdate, responses((status = 200, body = TenantView), (status = 404), (status = 409), (status = 422)))]
async fn update_tenant(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<TenantId>,
    Json(update): Json<TenantUpdate>,
) -> Result<Json<TenantView>, Problem> {
    let (patch, address) = update.parse()?;
    Ok(Json(onboarding.update_tenant((&scope).into(), scope.actor(), id, patch, address).await?.into()))
}
