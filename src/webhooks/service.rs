//! Use cases of webhooks: making, changing, rotating secrets, looking back, telling again.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    error::Error,
    model::{Attempt, NewWebhook, OffReason, OutboxEvent, OutboxFilter, Webhook, WebhookPatch, WebhookState},
    rules,
};
use crate::{
    identity::Identity,
    kernel::{
        Act, Actor, Clock, Event, EventId, EventName, Page, PageRequest, Rng, Secret, TenantId, Timestamp, WebhookId,
        ids::uuid_v7, network::is_public, signature,
    },
    store::{Scope, Store, StoreError, Tx},
};

/// The most webhooks of one tenant, and of the platform.
const MOST: i64 = 50;
/// The most secrets that sign at once.
const MOST_SECRETS: usize = 5;

/// How webhooks are set up.
#[derive(Debug, Clone, Copy)]
pub struct WebhooksConfig {
    /// Whether addresses in loopback and private ranges are called, and addresses without TLS.
    pub allow_private: bool,
    /// An address that has failed for so long, in seconds, is switched off.
    pub disable_after_s: i64,
    /// Events and tries are kept this long, in seconds.
    pub retention_s: i64,
}

/// The webhooks service; cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Arc<dyn Rng>,
    pub(super) identity: Identity,
    pub(super) config: WebhooksConfig,
}

impl Webhooks {
    /// Over a store; `identity` keeps the secrets.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        identity: Identity,
        config: WebhooksConfig,
    ) -> Self {
        Self { store, clock, rng, identity, config }
    }

    /// Makes a webhook; its secret is shown this once.
    pub async fn create(&self, scope: Scope, actor: Actor, new: NewWebhook) -> Result<(Webhook, Secret), Error> {
        self.must_be_callable(&new.url)?;
        let now = self.clock.now();
        let NewWebhook { tenant, url, events, format } = new;
        let id = WebhookId::generate(now, &*self.rng);
        let state = WebhookState::On;
        let webhook = Webhook { id, tenant, url, events, format, created_at: now, state, failing: None };
        let mut tx = self.store.begin(scope).await?;
        if tx.webhooks_count(tenant).await? >= MOST {
            return Err(Error::TooMany(MOST));
        }
        tx.webhook_insert(&webhook).await?;
        let secret = self.add_secret(&mut tx, id).await?;
        self.note(&mut tx, actor, "webhook.made", &webhook, None).await?;
        tx.commit().await?;
        Ok((webhook, secret))
    }

    /// A page of webhooks: of one tenant, or of everybody within reach.
    pub async fn list(
        &self,
        scope: Scope,
        tenant: Option<TenantId>,
        page: PageRequest,
    ) -> Result<Page<Webhook>, Error> {
        let rows = self.store.read(scope).await?.webhooks(tenant, page).await?;
        Ok(page.page(rows, |webhook| webhook.id.as_uuid()))
    }

    /// One webhook.
    pub async fn find(&self, scope: Scope, id: WebhookId) -> Result<Webhook, Error> {
        self.store.read(scope).await?.webhook(id).await?.ok_or(Error::Unknown(id))
    }

    /// Changes a webhook. What waits for one that is switched off is given up; what happens while it is off is not queued.
    pub async fn change(
        &self,
        scope: Scope,
        actor: Actor,
        id: WebhookId,
        patch: WebhookPatch,
    ) -> Result<Webhook, Error> {
        if let Some(url) = &patch.url {
            self.must_be_callable(url)?;
        }
        let now = self.clock.now();
        let mut tx = self.store.begin(scope).await?;
        let mut webhook = held(&mut tx, id).await?;
        let WebhookPatch { url, events, enabled } = patch;
        let fields = [("url", url.is_some()), ("events", events.is_some()), ("enabled", enabled.is_some())];
        let fields: Vec<&str> = fields.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
        if fields.is_empty() {
            return Ok(webhook);
        }
        let before = noted(&webhook);
        if url.as_ref().is_some_and(|url| *url != webhook.url) {
            // How the old address failed says nothing of the new one.
            webhook.failing = None;
            tx.webhook_pardon(id).await?;
        }
        webhook.url = url.unwrap_or(webhook.url);
        webhook.events = events.unwrap_or(webhook.events);
        match (enabled, webhook.state) {
            (Some(true), WebhookState::Off { .. }) => {
                (webhook.state, webhook.failing) = (WebhookState::On, None);
                tx.webhook_pardon(id).await?;
            }
            (Some(false), WebhookState::On) => {
                webhook.state = WebhookState::Off { at: now, reason: OffReason::Asked };
                tx.deliveries_give_up(id, now).await?;
            }
            _ => {}
        }
        tx.webhook_update(&webhook).await?;
        tx.changes(Some(before), Some(noted(&webhook)));
        self.note(&mut tx, actor, "webhook.changed", &webhook, Some(fields.join(", "))).await?;
        tx.something_to_deliver();
        tx.commit().await?;
        Ok(webhook)
    }

    /// Deletes a webhook with all that was noted of it.
    pub async fn delete(&self, scope: Scope, actor: Actor, id: WebhookId) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        let webhook = held(&mut tx, id).await?;
        tx.webhook_delete(id).await?;
        self.note(&mut tx, actor, "webhook.deleted", &webhook, None).await?;
        Ok(tx.commit().await?)
    }

    /// Makes a new secret; the ones before sign, too, for so many seconds.
    pub async fn renew_secret(
        &self,
        scope: Scope,
        actor: Actor,
        id: WebhookId,
        keep_old_s: i64,
    ) -> Result<(Webhook, Secret), Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin(scope).await?;
        let webhook = held(&mut tx, id).await?;
        tx.webhook_secrets_retire(id, now.plus_secs(keep_old_s)).await?;
        let in_force = tx.webhook_secrets(id, now).await?.len();
        if in_force >= MOST_SECRETS {
            return Err(Error::TooManySecrets(in_force));
        }
        let secret = self.add_secret(&mut tx, id).await?;
        let detail = Some(format!("the old ones sign for {keep_old_s} s"));
        self.note(&mut tx, actor, "webhook.secret_renewed", &webhook, detail).await?;
        tx.commit().await?;
        Ok((webhook, secret))
    }

    /// A page of tries, the newest first; of one event or of all.
    pub async fn attempts(
        &self,
        scope: Scope,
        id: WebhookId,
        event: Option<EventId>,
        page: PageRequest,
    ) -> Result<Page<Attempt>, Error> {
        let mut tx = self.store.read(scope).await?;
        tx.webhook(id).await?.ok_or(Error::Unknown(id))?;
        let rows = tx.webhook_attempts(id, event, page).await?;
        Ok(page.page(rows, |attempt| attempt.id))
    }

    /// Tells a webhook of one event, again or for the first time.
    pub async fn tell_again(&self, scope: Scope, actor: Actor, id: WebhookId, event: EventId) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        let webhook = on(&mut tx, id).await?;
        if !tx.delivery_again(id, event, self.clock.now()).await? {
            return Err(Error::UnknownEvent { webhook: id, event: event.to_string() });
        }
        self.note(&mut tx, actor, "webhook.replayed", &webhook, Some(format!("the event {event}"))).await?;
        Ok(tx.commit().await?)
    }

    /// Tells a webhook again of everything that is kept since an instant, in order; how many events that are.
    pub async fn replay(
        &self,
        scope: Scope,
        actor: Actor,
        id: WebhookId,
        since: Option<Timestamp>,
    ) -> Result<u64, Error> {
        let mut tx = self.store.begin(scope).await?;
        let webhook = on(&mut tx, id).await?;
        let queued = tx.deliveries_again(id, since.unwrap_or(Timestamp::MIN), self.clock.now()).await?;
        let since = since.map_or_else(|| "the beginning".to_owned(), |since| since.to_string());
        let detail = Some(format!("{queued} events since {since}"));
        self.note(&mut tx, actor, "webhook.replayed", &webhook, detail).await?;
        tx.commit().await?;
        Ok(queued)
    }

    /// Notes that something happened, within the caller's transaction.
    pub async fn note_event_in(
        &self,
        tx: &mut Tx,
        name: EventName,
        tenant: Option<TenantId>,
        data: Value,
    ) -> Result<(), StoreError> {
        tx.event_insert(&Event::new(name, tenant, data, self.clock.now(), &*self.rng)).await
    }

    /// A page of the outbox.
    pub async fn events(
        &self,
        scope: Scope,
        filter: &OutboxFilter,
        page: PageRequest,
    ) -> Result<Page<OutboxEvent>, Error> {
        let rows = self.store.read(scope).await?.outbox(filter, page).await?;
        Ok(page.page(rows, |event| event.id.as_uuid()))
    }

    fn must_be_callable(&self, url: &str) -> Result<(), Error> {
        rules::check_url(url, self.config.allow_private, is_public).map_err(Error::Url)
    }

    async fn add_secret(&self, tx: &mut Tx, id: WebhookId) -> Result<Secret, Error> {
        let secret = signature::new_secret(&*self.rng);
        let sealed = self.identity.seal_secret(&sealed_as(id), &*secret)?;
        tx.webhook_secret_insert(uuid_v7(self.clock.now(), &*self.rng), id, &sealed).await?;
        Ok(signature::shown(&*secret))
    }

    pub(super) async fn note(
        &self,
        tx: &mut Tx,
        actor: Actor,
        action: &'static str,
        webhook: &Webhook,
        detail: Option<String>,
    ) -> Result<(), Error> {
        let act = Act { actor, action, tenant: webhook.tenant, subject: webhook.id.to_string(), detail };
        Ok(self.identity.note(tx, act).await?)
    }
}

/// A webhook as the audit has it: of the address its host alone, because the rest may be a secret.
fn noted(webhook: &Webhook) -> Value {
    let host = url::Url::parse(&webhook.url).ok().and_then(|url| Some(url.host_str()?.to_owned()));
    json!({"host": host, "events": webhook.events.names(), "enabled": webhook.state == WebhookState::On})
}

/// A webhook that nobody else changes until the transaction ends.
async fn held(tx: &mut Tx, id: WebhookId) -> Result<Webhook, Error> {
    tx.webhook_hold(id).await?;
    tx.webhook(id).await?.ok_or(Error::Unknown(id))
}

/// The same, if it is on.
async fn on(tx: &mut Tx, id: WebhookId) -> Result<Webhook, Error> {
    let webhook = held(tx, id).await?;
    if webhook.state == WebhookState::On { Ok(webhook) } else { Err(Error::Off(id)) }
}

/// No secret opens as that of another webhook.
pub(super) fn sealed_as(id: WebhookId) -> String {
    format!("webhook {id}")
}
