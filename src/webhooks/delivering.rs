//! Telling: what waits, who takes it upon itself, and what follows from an answer. Who makes the call is `deliveries.rs`.

use super::{
    error::Error,
    model::{Answer, Attempt, Claimed, Delivery, Message, OffReason, OutboxEvent, Outcome, SealedSecret, WebhookState},
    rules::{self, Verdict},
    service::{Webhooks, sealed_as},
    toolkit::{Format, envelopes},
};
use crate::{
    kernel::{
        Actor, EventName, Secret, WebhookId,
        ids::uuid_v7,
        rng::random_bytes,
        signature::{self, Signed},
    },
    store::{Scope, Tx},
};

const SCOPE: Scope = Scope::Job("webhooks");
/// Whoever takes a delivery upon itself and dies leaves it to others after this, in seconds: longer than a try takes.
const LEASE_S: i64 = 20;
/// Webhooks, and deliveries of one, that are looked for at once.
const BATCH: i64 = 64;

/// What is sent of an event, each under its id.
fn texts(event: &OutboxEvent, format: Format) -> Vec<(String, String)> {
    match format {
        Format::Standard => vec![(event.id.to_string(), rules::body(event))],
        Format::Sbt | Format::SbtAws => {
            envelopes(event, format).into_iter().map(|envelope| (envelope.id.to_string(), envelope.body)).collect()
        }
    }
}

impl Webhooks {
    /// Webhooks for which something is due, those first that waited longest.
    pub async fn due(&self) -> Result<Vec<WebhookId>, Error> {
        Ok(self.store.read(SCOPE).await?.webhooks_due(self.clock.now(), BATCH).await?)
    }

    /// What is due for one: of each tenant the first event that it does not have yet.
    pub async fn due_for(&self, webhook: WebhookId) -> Result<Vec<Delivery>, Error> {
        Ok(self.store.read(SCOPE).await?.deliveries_due(webhook, self.clock.now(), BATCH).await?)
    }

    /// Whether anything waits, due or not.
    pub async fn any_waiting(&self) -> Result<bool, Error> {
        Ok(self.store.read(SCOPE).await?.deliveries_wait().await?)
    }

    /// Resolves when a commit of this process has left something to deliver.
    pub async fn something_to_deliver(&self) {
        self.store.something_to_deliver().await;
    }

    /// Takes a delivery upon this process; `None` when it is another's, or its webhook is left alone just now.
    pub async fn claim(&self, delivery: Delivery) -> Result<Option<Claimed>, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin(SCOPE).await?;
        if !tx.delivery_claim(&delivery, now.plus_secs(LEASE_S), now).await? {
            return Ok(None);
        }
        let Some(webhook) = tx.webhook(delivery.webhook).await? else { return Ok(None) };
        let secrets = tx.webhook_secrets(delivery.webhook, now).await?;
        tx.commit().await?;
        let unseal = |secret: SealedSecret| self.identity.unseal_secret(&sealed_as(delivery.webhook), &secret.sealed);
        let secrets = secrets.into_iter().map(unseal).collect::<Result<Vec<_>, _>>()?;
        let sign = |(id, body): (String, String)| {
            let signed = Signed { id: &id, at: now, body: &body };
            let signatures: Vec<String> = secrets.iter().map(|secret| signature::sign(secret, &signed)).collect();
            Message { signatures: Secret::new(signatures.join(" ")), id, body }
        };
        let messages = texts(&delivery.event, webhook.format).into_iter().map(sign).collect();
        let delivery = Delivery { attempts: delivery.attempts + 1, ..delivery };
        Ok(Some(Claimed { delivery, at: now, url: webhook.url, messages }))
    }

    /// Notes what a try came to, and what follows from it.
    pub async fn settle(&self, claimed: &Claimed, answer: &Answer) -> Result<Outcome, Error> {
        let (now, delivery) = (self.clock.now(), &claimed.delivery);
        let mut tx = self.store.begin(SCOPE).await?;
        if !tx.webhook_hold(delivery.webhook).await? {
            // It was deleted meanwhile.
            return Ok(Outcome::GivenUp);
        }
        let (outcome, error) = match rules::verdict(answer, now) {
            Verdict::Taken => {
                tx.webhook_succeeded(delivery.webhook, now).await?;
                tx.delivery_settle(delivery, Outcome::Delivered, now).await?;
                (Outcome::Delivered, None)
            }
            Verdict::Gone => {
                self.switch_off(&mut tx, delivery.webhook, OffReason::Gone).await?;
                (Outcome::GivenUp, Some("the answer was 410: nobody wants any more".to_owned()))
            }
            Verdict::Refused { error, retry_after_s } => {
                (self.failed(&mut tx, delivery, retry_after_s).await?, Some(error))
            }
        };
        let status = answer.status.as_ref().ok().map(|status| i64::from(*status));
        let attempt = Attempt {
            id: uuid_v7(now, &*self.rng),
            webhook: delivery.webhook,
            event: delivery.event.id,
            name: delivery.event.name.clone(),
            number: delivery.attempts,
            at: claimed.at,
            took_ms: now.micros_since(claimed.at).max(0) / 1_000,
            status,
            error,
            outcome: outcome.name().to_owned(),
            next_try_at: outcome.next_try_at(),
        };
        tx.webhook_attempt_insert(&attempt).await?;
        tx.commit().await?;
        Ok(outcome)
    }

    async fn failed(&self, tx: &mut Tx, delivery: &Delivery, retry_after_s: Option<i64>) -> Result<Outcome, Error> {
        let (now, id) = (self.clock.now(), delivery.webhook);
        let failing = tx.webhook_failed(id, now).await?;
        if rules::is_lasting(failing.since, now, self.config.disable_after_s) {
            self.switch_off(tx, id, OffReason::Failing).await?;
            return Ok(Outcome::GivenUp);
        }
        tx.webhook_leave_alone(id, rules::held_until(failing.failures, retry_after_s, now)).await?;
        let lot = u16::from_be_bytes(random_bytes(&*self.rng));
        let Some(next_try_at) = rules::next_try(delivery.attempts, retry_after_s, now, lot) else {
            tx.delivery_settle(delivery, Outcome::GivenUp, now).await?;
            return Ok(Outcome::GivenUp);
        };
        tx.delivery_postpone(delivery, next_try_at).await?;
        Ok(Outcome::Failed { next_try_at })
    }

    /// Switches a webhook off and says so, in the audit and to the other webhooks of whose it is.
    async fn switch_off(&self, tx: &mut Tx, id: WebhookId, reason: OffReason) -> Result<(), Error> {
        let Some(mut webhook) = tx.webhook(id).await? else { return Ok(()) };
        let WebhookState::On = webhook.state else { return Ok(()) };
        let now = self.clock.now();
        webhook.state = WebhookState::Off { at: now, reason };
        tx.webhook_update(&webhook).await?;
        tx.deliveries_give_up(id, now).await?;
        let data = serde_json::json!({"webhook_id": id, "tenant_id": webhook.tenant, "reason": reason.name()});
        self.note_event_in(tx, EventName::WebhookDisabled, webhook.tenant, data).await?;
        self.note(tx, Actor::Job("webhooks"), "webhook.switched_off", &webhook, Some(reason.name().to_owned())).await
    }

    /// Forgets events and tries that were kept long enough, secrets that sign no more, and what waits for nobody.
    pub async fn tidy(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin(SCOPE).await?;
        tx.outbox_forget(now.plus_secs(-self.config.retention_s), now).await?;
        Ok(tx.commit().await?)
    }
}
