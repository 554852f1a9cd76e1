//! Turning the clock, faults, and how vendors' issuers are set.

use std::time::Duration;

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Lab,
    clock::{OutOfRange, Setting, Turn},
    faults::{Fault, Kind as FaultKind, Place, Target},
    issuers::IssuerSettings,
    issuers_http, mint_http, registrations_http, tier_changes_http,
    vendors::Vendor,
};
use crate::{
    identity::SigningAlg,
    kernel::{Clock as _, Faults, Timestamp},
    web::{AdminScope, Json, Kind, Path, Problem},
};

/// How long a slow document takes when nothing is said, and at most, in milliseconds.
const DELAY_MS: u64 = 5_000;
const MAX_DELAY_MS: u64 = 60_000;

/// The routes, for a server of any state.
pub fn routes<S: Clone + Send + Sync + 'static>(lab: Lab) -> OpenApiRouter<S> {
    let router: OpenApiRouter<Lab> = OpenApiRouter::new()
        .routes(routes!(read_clock, turn_clock, reset_clock))
        .routes(routes!(list_faults, set_fault, clear_faults))
        .routes(routes!(list_issuers))
        .routes(routes!(set_issuer))
        .merge(mint_http::routes())
        .merge(registrations_http::routes())
        .merge(tier_changes_http::routes())
        .merge(OpenApiRouter::from(issuers_http::routes()));
    router.with_state(lab)
}

/// A change of the clock; at least one of these.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TurnBody {
    /// To this time (RFC 3339), between the years 1970 and 2200.
    set: Option<String>,
    /// Then forward by this many seconds.
    advance_s: Option<i64>,
    /// Then to a halt (`true`), or on from where it stands (`false`); a time is `set` and a halt in one.
    #[schema(value_type = Option<Object>)]
    freeze: Option<Freeze>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Freeze {
    Switch(bool),
    At(String),
}

impl TurnBody {
    fn parse(self) -> Result<Turn, Problem> {
        let mut faults = Faults::new();
        let mut turn = Turn { advance_s: self.advance_s, ..Turn::default() };
        turn.set = self.set.as_deref().and_then(|text| faults.parse("set", text));
        match &self.freeze {
            None => {}
            Some(Freeze::Switch(halt)) => turn.freeze = Some(*halt),
            Some(Freeze::At(_)) if self.set.is_some() => faults.add("freeze", "must be true or false beside `set`"),
            Some(Freeze::At(text)) => {
                turn.set = faults.parse("freeze", text);
                turn.freeze = Some(true);
            }
        }
        if self.advance_s.is_some_and(|advance_s| advance_s < 0) {
            faults.add("advance_s", "must not be negative; `set` goes back");
        }
        if self.set.is_none() && self.advance_s.is_none() && self.freeze.is_none() {
            faults.add("set", "one of set, advance_s and freeze is required");
        }
        faults.finish(Some(turn)).map_err(|faults| Problem::invalid(&faults))
    }
}

/// The clock.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClockView {
    /// What it shows.
    now: Timestamp,
    /// Whether it stands still.
    frozen: bool,
}

impl ClockView {
    fn of(lab: &Lab) -> Self {
        Self { now: lab.clock().now(), frozen: matches!(lab.clock().setting(), Setting::Frozen { .. }) }
    }
}

/// What time it is here.
#[utoipa::path(get, path = "/admin/v1/lab/clock", tag = "lab", responses((status = 200, body = ClockView)))]
async fn read_clock(_: AdminScope, State(lab): State<Lab>) -> Json<ClockView> {
    Json(ClockView::of(&lab))
}

/// Sets, advances, freezes the clock of the whole server. A restart changes nothing of it.
#[utoipa::path(post, path = "/admin/v1/lab/clock", tag = "lab", request_body = TurnBody,
    responses((status = 200, body = ClockView), (status = 422)))]
async fn turn_clock(
    _: AdminScope,
    State(lab): State<Lab>,
    Json(body): Json<TurnBody>,
) -> Result<Json<ClockView>, Problem> {
    let field = if body.set.is_some() { "set" } else { "advance_s" };
    match lab.turn(body.parse()?).await.map_err(Problem::internal)? {
        Ok(()) => Ok(Json(ClockView::of(&lab))),
        Err(OutOfRange) => Err(Problem::invalid_field(field, OutOfRange)),
    }
}

/// Lets the clock show the machine's time again.
#[utoipa::path(delete, path = "/admin/v1/lab/clock", tag = "lab", responses((status = 200, body = ClockView)))]
async fn reset_clock(_: AdminScope, State(lab): State<Lab>) -> Result<Json<ClockView>, Problem> {
    lab.reset_clock().await.map_err(Problem::internal)?;
    Ok(Json(ClockView::of(&lab)))
}

/// A fault to put on or take off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultBody {
    /// `jwks` or `discovery`.
    target: Target,
    /// The name of a vendor's issuer; our own when absent.
    issuer: Option<String>,
    /// `slow`, `fail`, `truncate`, `wrong_issuer` or `off`.
    kind: String,
    /// How slow, in milliseconds, up to 60000; 5000 when absent.
    delay_ms: Option<u64>,
    /// The status of `fail`, 400 to 599; 503 when absent.
    status: Option<u16>,
    /// For how many requests; until it is taken off when absent.
    times: Option<u32>,
}

impl FaultBody {
    fn parse(&self) -> Result<(Place, Option<Fault>), Problem> {
        let mut faults = Faults::new();
        let issuer = self.issuer.as_deref().map(|name| faults.check("issuer", vendor(name)));
        let delay_ms = self.delay_ms.unwrap_or(DELAY_MS);
        if delay_ms > MAX_DELAY_MS {
            faults.add("delay_ms", format!("must be at most {MAX_DELAY_MS}"));
        }
        let status = self.status.unwrap_or(503);
        let status = StatusCode::from_u16(status).ok().filter(|_| (400..600).contains(&status));
        if status.is_none() {
            faults.add("status", "must be 400 to 599");
        }
        if self.times == Some(0) {
            faults.add("times", "must be at least 1");
        }
        let kind = match self.kind.as_str() {
            "slow" => Some(FaultKind::Slow(Duration::from_millis(delay_ms))),
            "fail" => status.map(FaultKind::Fail),
            "truncate" => Some(FaultKind::Truncate),
            "wrong_issuer" => Some(FaultKind::WrongIssuer),
            "off" => None,
            _ => {
                faults.add("kind", "must be slow, fail, truncate, wrong_issuer or off");
                None
            }
        };
        let fault = kind.map(|kind| Fault { kind, left: self.times });
        let parsed = Some(((self.target, issuer.flatten()), fault));
        faults.finish(parsed).map_err(|faults| Problem::invalid(&faults))
    }
}

/// A vendor by its name.
pub(super) fn vendor(name: &str) -> Result<Vendor, String> {
    let known = || format!("must be one of {}", Vendor::ALL.map(Vendor::name).join(", "));
    Vendor::by_name(name).ok_or_else(known)
}

/// A fault that is on.
#[derive(Debug, Serialize, ToSchema)]
pub struct FaultView {
    target: Target,
    /// `null` for our own.
    issuer: Option<&'static str>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Requests that it still meets; `null` until it is taken off.
    times: Option<u32>,
}

/// All faults that are on.
#[derive(Debug, Serialize, ToSchema)]
pub struct FaultList {
    items: Vec<FaultView>,
    /// Always `null`: there are few.
    next_cursor: Option<String>,
}

impl FaultList {
    fn of(lab: &Lab) -> Self {
        let view = |((target, issuer), fault): (Place, Fault)| {
            let (kind, delay_ms, status) = match fault.kind {
                FaultKind::Slow(delay) => ("slow", u64::try_from(delay.as_millis()).ok(), None),
                FaultKind::Fail(status) => ("fail", None, Some(status.as_u16())),
                FaultKind::Truncate => ("truncate", None, None),
                FaultKind::WrongIssuer => ("wrong_issuer", None, None),
            };
            FaultView { target, issuer: issuer.map(Vendor::name), kind, delay_ms, status, times: fault.left }
        };
        Self { items: lab.faults().list().into_iter().map(view).collect(), next_cursor: None }
    }
}

/// Lists the faults that are on.
#[utoipa::path(get, path = "/admin/v1/lab/faults", tag = "lab", responses((status = 200, body = FaultList)))]
async fn list_faults(_: AdminScope, State(lab): State<Lab>) -> Json<FaultList> {
    Json(FaultList::of(&lab))
}

/// Puts a fault on a key set or discovery document, or takes it off; the answer lists those that are on.
#[utoipa::path(post, path = "/admin/v1/lab/faults", tag = "lab", request_body = FaultBody,
    responses((status = 200, body = FaultList), (status = 422)))]
async fn set_fault(
    _: AdminScope,
    State(lab): State<Lab>,
    Json(body): Json<FaultBody>,
) -> Result<Json<FaultList>, Problem> {
    let (place, fault) = body.parse()?;
    lab.faults().set(place, fault);
    Ok(Json(FaultList::of(&lab)))
}

/// Takes all faults off.
#[utoipa::path(delete, path = "/admin/v1/lab/faults", tag = "lab", responses((status = 204)))]
async fn clear_faults(_: AdminScope, State(lab): State<Lab>) -> StatusCode {
    lab.faults().clear();
    StatusCode::NO_CONTENT
}

/// How a vendor's issuers are to be set; what is absent is as the vendor ships it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerBody {
    /// Auth0: `auth0` or `rfc9068`; Keycloak: `array` or `object`.
    variant: Option<String>,
    /// `RS256`, `ES256` or `EdDSA`.
    algorithm: Option<String>,
    /// The audience of tokens whose request names none.
    audience: Option<String>,
    /// Life of access tokens, in seconds, 1 to 2592000.
    access_token_ttl_s: Option<i64>,
    /// A claim that has the tenant's external id, or its id, in every token.
    tenant_claim: Option<String>,
    /// Members that go over those of every token; `null` takes one away.
    #[schema(value_type = Option<Object>)]
    claims: Option<Map<String, Value>>,
}

impl IssuerBody {
    fn parse(self, vendor: Vendor) -> Result<IssuerSettings, Problem> {
        let mut faults = Faults::new();
        let mut settings = IssuerSettings::of(vendor);
        if let Some(name) = &self.variant
            && let Some(variant) = faults.check("variant", variant(vendor, name))
        {
            settings.variant = variant;
        }
        if let Some(text) = &self.algorithm
            && let Some(algorithm) = faults.parse::<SigningAlg>("algorithm", text)
        {
            settings.algorithm = algorithm;
        }
        settings.audience = self.audience.unwrap_or(settings.audience);
        settings.access_token_ttl_s = self.access_token_ttl_s.unwrap_or(settings.access_token_ttl_s);
        if !(1..=2_592_000).contains(&settings.access_token_ttl_s) {
            faults.add("access_token_ttl_s", "must be 1 to 2592000");
        }
        settings.tenant_claim = self.tenant_claim;
        settings.claims = self.claims.unwrap_or_default();
        faults.finish(Some(settings)).map_err(|faults| Problem::invalid(&faults))
    }
}

/// One of a vendor's variants.
pub(super) fn variant(vendor: Vendor, name: &str) -> Result<&'static str, String> {
    let known = vendor.variants();
    known.iter().find(|own| **own == name).copied().ok_or_else(|| format!("must be one of {}", known.join(", ")))
}

/// A vendor's issuer.
#[derive(Debug, Serialize, ToSchema)]
pub struct IssuerView {
    name: &'static str,
    /// The identifier of the one without a realm.
    issuer: String,
    jwks_uri: String,
    token_endpoint: String,
    authorization_endpoint: String,
    variant: &'static str,
    variants: &'static [&'static str],
    algorithm: &'static str,
    audience: String,
    access_token_ttl_s: i64,
    tenant_claim: Option<String>,
    #[schema(value_type = Object)]
    claims: Map<String, Value>,
}

impl IssuerView {
    fn of(lab: &Lab, vendor: Vendor) -> Self {
        let (base, places, settings) = (lab.vendor_base(vendor), vendor.places(None), lab.issuers().settings(vendor));
        Self {
            name: vendor.name(),
            issuer: lab.vendor_issuer(vendor, None),
            jwks_uri: format!("{base}{}", places.jwks),
            token_endpoint: format!("{base}{}", places.token),
            authorization_endpoint: format!("{base}{}", places.authorize),
            variant: settings.variant,
            variants: vendor.variants(),
            algorithm: settings.algorithm.name(),
            audience: settings.audience,
            access_token_ttl_s: settings.access_token_ttl_s,
            tenant_claim: settings.tenant_claim,
            claims: settings.claims,
        }
    }
}

/// All vendors' issuers.
#[derive(Debug, Serialize, ToSchema)]
pub struct IssuerList {
    items: Vec<IssuerView>,
    /// Always `null`: there are few.
    next_cursor: Option<String>,
}

/// Lists the vendors' issuers.
#[utoipa::path(get, path = "/admin/v1/lab/issuers", tag = "lab", responses((status = 200, body = IssuerList)))]
async fn list_issuers(_: AdminScope, State(lab): State<Lab>) -> Json<IssuerList> {
    let items = Vendor::ALL.map(|vendor| IssuerView::of(&lab, vendor)).into();
    Json(IssuerList { items, next_cursor: None })
}

/// Sets a vendor's issuers, until the process ends.
#[utoipa::path(put, path = "/admin/v1/lab/issuers/{name}", tag = "lab", params(("name" = String, Path)),
    request_body = IssuerBody, responses((status = 200, body = IssuerView), (status = 404), (status = 422)))]
async fn set_issuer(
    _: AdminScope,
    State(lab): State<Lab>,
    Path(name): Path<String>,
    Json(body): Json<IssuerBody>,
) -> Result<Json<IssuerView>, Problem> {
    let vendor = vendor(&name).map_err(|_| Problem::new(Kind::NOT_FOUND, "there is no such issuer"))?;
    lab.issuers().set(vendor, body.parse(vendor)?);
    Ok(Json(IssuerView::of(&lab, vendor)))
}
