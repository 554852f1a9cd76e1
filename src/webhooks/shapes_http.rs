//! How webhooks are asked for and shown, and what the platform's calls and a tenant's have in common.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{Attempt, Error, Events, Format, NewWebhook, Webhook, WebhookPatch, WebhookState, Webhooks};
use crate::{
    kernel::{Actor, EventId, EventName, Faults, PageRequest, Secret, TenantId, Timestamp, WebhookId},
    store::Scope,
    users::Role,
    web::{AdminScope, Json, List, PageQuery, Problem, TenantAccess},
};

/// Old secrets sign for a day when nothing else is said, and for a week at most, in seconds.
const KEEP_OLD_S: u32 = 86_400;
const MOST_KEEP_OLD_S: u32 = 7 * 86_400;
/// The most names in a list of events; there are fewer.
const MOST_NAMES: usize = 100;

/// A webhook to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookRequest {
    /// Where: an `https` address.
    url: Option<String>,
    /// Names of events, or `["*"]` for all of them.
    events: Option<Vec<String>>,
    /// In which words: `standard` (when absent), or those of AWS's SaaS Builder Toolkit: `sbt`, or `sbt_aws` for names that begin
    /// with `sbt_aws_`.
    format: Option<String>,
}

impl WebhookRequest {
    fn parse(self, tenant: Option<TenantId>) -> Result<NewWebhook, Problem> {
        let mut faults = Faults::new();
        if self.url.is_none() {
            faults.add("url", "is required");
        }
        if self.events.is_none() {
            faults.add("events", "is required");
        }
        let events = self.events.as_deref().and_then(|names| events(names, &mut faults));
        let format = self.format.as_deref().map_or(Some(Format::Standard), |text| faults.parse("format", text));
        if let (Some(format), Some(Events::Named(names))) = (format, &events)
            && !names.iter().any(|name| format.has(*name))
        {
            faults.add("events", format!("has none that the format {} has words for", format.name()));
        }
        let new = self.url.zip(events).zip(format);
        let new = new.map(|((url, events), format)| NewWebhook { tenant, url, events, format });
        faults.finish(new).map_err(|faults| Problem::invalid(&faults))
    }
}

fn events(names: &[String], faults: &mut Faults) -> Option<Events> {
    if names.is_empty() || names.len() > MOST_NAMES {
        faults.add("events", format!("must be 1 to {MOST_NAMES} names of events, or [\"*\"]"));
        return None;
    }
    if names == [Events::STAR] {
        return Some(Events::All);
    }
    let mut parsed = Vec::new();
    for (index, name) in names.iter().enumerate() {
        parsed.push(faults.parse::<EventName>(&format!("events[{index}]"), name)?);
    }
    parsed.sort_unstable();
    parsed.dedup();
    Some(Events::Named(parsed))
}

/// What is to be changed of a webhook; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookChange {
    /// Another address; what waits goes there, too.
    url: Option<String>,
    /// Other events, from now on.
    events: Option<Vec<String>>,
    /// Whether anything goes there. What waits is given up when it is switched off.
    enabled: Option<bool>,
}

impl WebhookChange {
    fn parse(self) -> Result<WebhookPatch, Problem> {
        let mut faults = Faults::new();
        let events = self.events.as_deref().map(|names| events(names, &mut faults));
        let patch = WebhookPatch { url: self.url, events: events.flatten(), enabled: self.enabled };
        faults.finish(Some(patch)).map_err(|faults| Problem::invalid(&faults))
    }
}

/// How a secret is renewed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRenewal {
    /// Seconds for which the secrets before sign, too: 0 to 604800, a day when absent.
    keep_old_s: Option<u32>,
}

impl SecretRenewal {
    fn parse(&self) -> Result<i64, Problem> {
        match self.keep_old_s.unwrap_or(KEEP_OLD_S) {
            seconds @ 0..=MOST_KEEP_OLD_S => Ok(i64::from(seconds)),
            _ => Err(Problem::invalid_field("keep_old_s", format!("must be 0 to {MOST_KEEP_OLD_S}"))),
        }
    }
}

/// What is told again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// Events since then; all that are kept when absent.
    since: Option<Timestamp>,
}

/// What is told again.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplayView {
    /// How many events wait for it.
    queued: u64,
}

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookView {
    webhook_id: WebhookId,
    /// Whose; `null` for the platform's, which is told of everything.
    tenant_id: Option<TenantId>,
    url: String,
    events: Vec<&'static str>,
    /// `standard`, `sbt` or `sbt_aws`.
    format: &'static str,
    /// Shown once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    enabled: bool,
    disabled_at: Option<Timestamp>,
    /// `asked`, `gone` (it answered 410) or `failing` (nothing succeeded for days).
    disabled_reason: Option<&'static str>,
    /// Since when nothing succeeded, while it fails.
    failing_since: Option<Timestamp>,
    /// Tries since then.
    failures: i64,
    created_at: Timestamp,
}

impl WebhookView {
    fn new(webhook: Webhook, secret: Option<&Secret>) -> Self {
        let (disabled_at, disabled_reason) = match webhook.state {
            WebhookState::On => (None, None),
            WebhookState::Off { at, reason } => (Some(at), Some(reason.name())),
        };
        Self {
            webhook_id: webhook.id,
            tenant_id: webhook.tenant,
            url: webhook.url,
            events: webhook.events.names(),
            format: webhook.format.name(),
            secret: secret.map(|secret| secret.expose().to_owned()),
            enabled: webhook.state == WebhookState::On,
            disabled_at,
            disabled_reason,
            failing_since: webhook.failing.map(|failing| failing.since),
            failures: webhook.failing.map_or(0, |failing| failing.failures),
            created_at: webhook.created_at,
        }
    }
}

/// A try.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptView {
    #[schema(value_type = String)]
    attempt_id: Uuid,
    /// The `webhook-id` that was sent.
    event_id: EventId,
    /// The event's name.
    name: String,
    /// The how manieth try of this event.
    attempt: i64,
    at: Timestamp,
    took_ms: i64,
    /// The status of the answer; `null` when there was none.
    status: Option<i64>,
    /// `delivered`, `failed` or `given_up`.
    outcome: String,
    /// Why it failed.
    error: Option<String>,
    /// When it was to be tried again.
    next_try_at: Option<Timestamp>,
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        let Attempt { id, webhook: _, event, name, number, at, took_ms, status, error, outcome, next_try_at } = attempt;
        Self {
            attempt_id: id,
            event_id: event,
            name,
            attempt: number,
            at,
            took_ms,
            status,
            outcome,
            error,
            next_try_at,
        }
    }
}

/// Which tries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AttemptQuery {
    /// Of this event.
    event_id: Option<String>,
    /// Items on the page, 1 to 500; 50 when absent.
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl AttemptQuery {
    fn parse(self) -> Result<(Option<EventId>, PageRequest), Problem> {
        let event = self.event_id.as_deref().map(str::parse).transpose();
        let event = event.map_err(|error| Problem::invalid_field("event_id", error))?;
        Ok((event, PageQuery { limit: self.limit, cursor: self.cursor }.try_into()?))
    }
}

/// Who calls, and how far they reach: what both families of calls have in common.
pub(super) struct Caller {
    webhooks: Webhooks,
    scope: Scope,
    actor: Actor,
    /// Whose what they make is.
    tenant: Option<TenantId>,
}

impl Caller {
    pub(super) fn admin(scope: &AdminScope, webhooks: Webhooks) -> Self {
        Self { webhooks, scope: scope.into(), actor: scope.actor(), tenant: None }
    }

    pub(super) fn tenant(call: &TenantAccess, webhooks: Webhooks) -> Result<Self, Problem> {
        call.require_role(Role::Admin)?;
        Ok(Self { webhooks, scope: call.into(), actor: call.actor(), tenant: Some(call.tenant) })
    }

    pub(super) async fn list(
        self,
        tenant: Option<TenantId>,
        page: PageRequest,
    ) -> Result<Json<List<WebhookView>>, Problem> {
        let page = self.webhooks.list(self.scope, tenant, page).await?;
        Ok(Json(List::of(page, |webhook| WebhookView::new(webhook, None))))
    }

    pub(super) async fn create(self, request: WebhookRequest) -> Result<(StatusCode, Json<WebhookView>), Problem> {
        let (webhook, secret) = self.webhooks.create(self.scope, self.actor, request.parse(self.tenant)?).await?;
        Ok((StatusCode::CREATED, Json(WebhookView::new(webhook, Some(&secret)))))
    }

    pub(super) async fn read(self, id: WebhookId) -> Result<Json<WebhookView>, Problem> {
        Ok(Json(WebhookView::new(self.webhooks.find(self.scope, id).await?, None)))
    }

    pub(super) async fn update(self, id: WebhookId, change: WebhookChange) -> Result<Json<WebhookView>, Problem> {
        let changed = self.webhooks.change(self.scope, self.actor, id, change.parse()?).await?;
        Ok(Json(WebhookView::new(changed, None)))
    }

    pub(super) async fn delete(self, id: WebhookId) -> Result<StatusCode, Problem> {
        self.webhooks.delete(self.scope, self.actor, id).await?;
        Ok(StatusCode::NO_CONTENT)
    }

    pub(super) async fn renew_secret(
        self,
        id: WebhookId,
        renewal: &SecretRenewal,
    ) -> Result<(StatusCode, Json<WebhookView>), Problem> {
        let (webhook, secret) = self.webhooks.renew_secret(self.scope, self.actor, id, renewal.parse()?).await?;
        Ok((StatusCode::CREATED, Json(WebhookView::new(webhook, Some(&secret)))))
    }

    pub(super) async fn attempts(self, id: WebhookId, query: AttemptQuery) -> Result<Json<List<AttemptView>>, Problem> {
        let (event, page) = query.parse()?;
        let page = self.webhooks.attempts(self.scope, id, event, page).await?;
        Ok(Json(List::of(page, AttemptView::from)))
    }

    pub(super) async fn retry(self, id: WebhookId, event: &str) -> Result<StatusCode, Problem> {
        // What is not an id is not there, and neither is it where the webhook is not.
        let Ok(event_id) = event.parse() else {
            self.webhooks.find(self.scope, id).await?;
            return Err(Error::UnknownEvent { webhook: id, event: event.to_owned() }.into());
        };
        self.webhooks.tell_again(self.scope, self.actor, id, event_id).await?;
        Ok(StatusCode::ACCEPTED)
    }

    pub(super) async fn replay(
        self,
        id: WebhookId,
        request: &ReplayRequest,
    ) -> Result<(StatusCode, Json<ReplayView>), Problem> {
        let queued = self.webhooks.replay(self.scope, self.actor, id, request.since).await?;
        Ok((StatusCode::ACCEPTED, Json(ReplayView { queued })))
    }
}
