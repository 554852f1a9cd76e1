//! Queries about events and who is told of them.
//!
//! Of the deliveries of one webhook in one lane, only the first that waits is ever due. Those behind it are put off with it when
//! it fails, and the next one comes forward when it is settled, so that looking for what is due does not read them all.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::{
    StoreError, Tx,
    dialect::pieces,
    value::{Bind, Row},
};
use crate::{
    kernel::{Event, EventId, EventName, PageRequest, TenantId, Timestamp, WebhookId},
    webhooks::{
        model::{Attempt, Delivery, OutboxEvent, OutboxFilter, Outcome},
        toolkit::has_counterpart,
    },
};

/// Events that one statement writes; a power of two.
const EVENTS_PER_STATEMENT: usize = 256;

/// Whether `w` wants to hear of an event of the name `{name}`, and has words for it.
fn wanted(name: &str) -> String {
    let told = EventName::ALL.iter().filter(|name| has_counterpart(**name));
    let told: Vec<String> = told.map(|name| format!("'{}'", name.name())).collect();
    format!(
        "EXISTS (SELECT 1 FROM webhook_events n WHERE n.webhook_id = w.webhook_id AND n.name IN ('*', {name}))
         AND (w.format = 'standard' OR {name} IN ({}))",
        told.join(", ")
    )
}
/// Whether `d` is the first that waits in its lane.
const FIRST: &str =
    "NOT EXISTS (SELECT 1 FROM webhook_deliveries e WHERE e.webhook_id = d.webhook_id AND e.lane = d.lane
                     AND e.settled_at IS NULL AND e.sequence < d.sequence)";

fn lane(tenant: Option<TenantId>) -> Uuid {
    tenant.map_or(Uuid::nil(), TenantId::as_uuid)
}

fn read_event(row: &Row) -> Result<OutboxEvent, StoreError> {
    let lane: Uuid = row.get("lane")?;
    Ok(OutboxEvent {
        id: row.get("event_id")?,
        tenant: (!lane.is_nil()).then(|| TenantId::from_uuid(lane)),
        sequence: row.get("sequence")?,
        name: row.get("name")?,
        occurred_at: row.get("occurred_at")?,
        data: row.get("data")?,
    })
}

fn read_attempt(row: &Row) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        id: row.get("attempt_id")?,
        webhook: row.get("webhook_id")?,
        event: row.get("event_id")?,
        name: row.get("name")?,
        number: row.get("number")?,
        at: row.get("at")?,
        took_ms: row.get("took_ms")?,
        status: row.get("status")?,
        error: row.get("error")?,
        outcome: row.get("outcome")?,
        next_try_at: row.get("next_try_at")?,
    })
}

impl Tx {
    /// Notes that something happened, with what else this transaction does, and for whom it waits. The row of the lane is held
    /// until the end of the transaction: events of one tenant get their places in the order of commits. Write it last.
    pub async fn event_insert(&mut self, event: &Event) -> Result<(), StoreError> {
        self.outbox_insert(std::slice::from_ref(event)).await
    }

    /// The same of several things; those of one tenant in the order in which they are given.
    pub async fn outbox_insert(&mut self, events: &[Event]) -> Result<(), StoreError> {
        for tenant in events.iter().filter_map(|event| event.tenant) {
            self.must_cover(tenant)?;
        }
        let mut next = self.lanes_step(events).await?;
        for piece in pieces(events, EVENTS_PER_STATEMENT) {
            let rows = self.engine().tuples(piece.len(), 6);
            let mut statement = self.assembled(format!(
                "INSERT INTO outbox (event_id, lane, sequence, name, occurred_at, data) VALUES {rows}"
            ));
            for event in piece {
                let lane = lane(event.tenant);
                let sequence = next.get_mut(&lane).ok_or_else(|| StoreError::Corrupt("outbox_lanes: no row".into()))?;
                statement.push(event.id);
                statement.push(lane);
                statement.push(*sequence);
                statement.push(event.name.name());
                statement.push(event.occurred_at);
                statement.push(event.data.to_string());
                *sequence += 1;
            }
            statement.execute().await?;
            let (these, wanted) = (self.engine().tuples(piece.len(), 1), wanted("e.name"));
            let mut statement = self.assembled(format!(
                "INSERT INTO webhook_deliveries (webhook_id, lane, sequence, event_id, attempts, next_try_at)
                 SELECT w.webhook_id, e.lane, e.sequence, e.event_id, 0, e.occurred_at FROM webhooks w
                 JOIN outbox e ON e.event_id IN (VALUES {these})
                 WHERE w.disabled_at IS NULL AND (w.tenant_id IS NULL OR w.tenant_id = e.lane) AND {wanted}"
            ));
            for event in piece {
                statement.push(event.id);
            }
            if statement.execute().await? > 0 {
                self.something_to_deliver();
            }
        }
        Ok(())
    }

    /// Takes the next places in the lanes of events, and holds the lanes, one after the other in their order; the first place of
    /// each.
    async fn lanes_step(&mut self, events: &[Event]) -> Result<HashMap<Uuid, i64>, StoreError> {
        let mut counts: BTreeMap<Uuid, i64> = BTreeMap::new();
        for event in events {
            *counts.entry(lane(event.tenant)).or_default() += 1;
        }
        let counts: Vec<(Uuid, i64)> = counts.into_iter().collect();
        let mut first = HashMap::with_capacity(counts.len());
        for piece in pieces(&counts, EVENTS_PER_STATEMENT) {
            let rows = self.engine().tuples(piece.len(), 2);
            let mut statement = self.assembled(format!(
                "INSERT INTO outbox_lanes (lane, last) VALUES {rows}
                 ON CONFLICT (lane) DO UPDATE SET last = outbox_lanes.last + excluded.last RETURNING lane, last"
            ));
            for (lane, count) in piece {
                statement.push(*lane);
                statement.push(*count);
            }
            for (lane, last) in statement.map(|row| Ok((row.get::<Uuid>("lane")?, row.get::<i64>("last")?))).await? {
                let place = piece.binary_search_by_key(&lane, |(own, _)| *own);
                let count = place.map_or(1, |place| piece[place].1);
                first.insert(lane, last - count + 1);
            }
        }
        Ok(first)
    }

    /// A page of events, in order of time.
    pub async fn outbox(&mut self, filter: &OutboxFilter, page: PageRequest) -> Result<Vec<OutboxEvent>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM outbox
             WHERE event_id > $1 AND ($2 IS NULL OR lane = $2) AND ($3 IS NULL OR lane = $3) AND ($4 IS NULL OR name = $4)
             ORDER BY event_id LIMIT $5",
        )
        .bind(page.after())
        .bind(filter.tenant)
        .bind(scope)
        .bind(filter.name.map(EventName::name))
        .bind(page.fetch_limit())
        .map(read_event)
        .await
    }

    /// Webhooks for which something is due, those first that were not tried for longest.
    pub async fn webhooks_due(&mut self, now: Timestamp, most: i64) -> Result<Vec<WebhookId>, StoreError> {
        self.assembled(format!(
            "SELECT w.webhook_id FROM webhooks w
             WHERE w.disabled_at IS NULL AND (w.not_before IS NULL OR w.not_before <= $1) AND w.webhook_id IN
                 (SELECT d.webhook_id FROM webhook_deliveries d
                  WHERE d.settled_at IS NULL AND d.next_try_at <= $1 AND {FIRST})
             ORDER BY w.tried_at, w.webhook_id LIMIT $2"
        ))
        .bind(now)
        .bind(most)
        .map(|row| row.get("webhook_id"))
        .await
    }

    /// What is due for a webhook: of each lane the first that waits.
    pub async fn deliveries_due(
        &mut self,
        webhook: WebhookId,
        now: Timestamp,
        most: i64,
    ) -> Result<Vec<Delivery>, StoreError> {
        self.assembled(format!(
            "SELECT d.webhook_id, d.attempts, o.* FROM webhook_deliveries d
             JOIN webhooks w ON w.webhook_id = d.webhook_id JOIN outbox o ON o.event_id = d.event_id
             WHERE d.webhook_id = $1 AND d.settled_at IS NULL AND d.next_try_at <= $2
                 AND w.disabled_at IS NULL AND (w.not_before IS NULL OR w.not_before <= $2) AND {FIRST}
             ORDER BY d.next_try_at LIMIT $3"
        ))
        .bind(webhook)
        .bind(now)
        .bind(most)
        .map(|row| {
            Ok(Delivery { webhook: row.get("webhook_id")?, attempts: row.get("attempts")?, event: read_event(row)? })
        })
        .await
    }

    /// Whether anything waits for a webhook that is on.
    pub async fn deliveries_wait(&mut self) -> Result<bool, StoreError> {
        let row = self
            .query(
                "SELECT 1 AS one FROM webhook_deliveries d JOIN webhooks w ON w.webhook_id = d.webhook_id
                 WHERE d.settled_at IS NULL AND w.disabled_at IS NULL LIMIT 1",
            )
            .row()
            .await?;
        Ok(row.is_some())
    }

    /// Takes a delivery to try it; `false` when somebody else did, or its webhook is to be left alone.
    pub async fn delivery_claim(
        &mut self,
        delivery: &Delivery,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.query(
            "UPDATE webhook_deliveries SET attempts = attempts + 1, next_try_at = $5
             WHERE webhook_id = $1 AND lane = $2 AND sequence = $3 AND attempts = $4 AND settled_at IS NULL AND EXISTS
                 (SELECT 1 FROM webhooks w WHERE w.webhook_id = $1 AND w.disabled_at IS NULL
                      AND (w.not_before IS NULL OR w.not_before <= $6))",
        )
        .bind(delivery.webhook)
        .bind(lane(delivery.event.tenant))
        .bind(delivery.event.sequence)
        .bind(delivery.attempts)
        .bind(until)
        .bind(now)
        .changed_one()
        .await
    }

    /// Settles a delivery, unless it has been taken up anew since; the next one of its lane comes forward.
    pub async fn delivery_settle(
        &mut self,
        delivery: &Delivery,
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let lane = lane(delivery.event.tenant);
        let settled = self
            .query(
                "UPDATE webhook_deliveries SET settled_at = $5, outcome = $6
                 WHERE webhook_id = $1 AND lane = $2 AND sequence = $3 AND attempts = $4 AND settled_at IS NULL",
            )
            .bind(delivery.webhook)
            .bind(lane)
            .bind(delivery.event.sequence)
            .bind(delivery.attempts)
            .bind(now)
            .bind(outcome.name())
            .changed_one()
            .await?;
        if settled {
            self.query(
                "UPDATE webhook_deliveries SET next_try_at = $3
                 WHERE webhook_id = $1 AND lane = $2 AND next_try_at > $3 AND sequence =
                     (SELECT MIN(e.sequence) FROM webhook_deliveries e
                      WHERE e.webhook_id = $1 AND e.lane = $2 AND e.settled_at IS NULL)",
            )
            .bind(delivery.webhook)
            .bind(lane)
            .bind(now)
            .execute()
            .await?;
        }
        Ok(())
    }

    /// Puts a delivery off, unless it has been taken up anew since, with those behind it.
    pub async fn delivery_postpone(&mut self, delivery: &Delivery, until: Timestamp) -> Result<(), StoreError> {
        let lane = lane(delivery.event.tenant);
        let postponed = self
            .query(
                "UPDATE webhook_deliveries SET next_try_at = $5
                 WHERE webhook_id = $1 AND lane = $2 AND sequence = $3 AND attempts = $4 AND settled_at IS NULL",
            )
            .bind(delivery.webhook)
            .bind(lane)
            .bind(delivery.event.sequence)
            .bind(delivery.attempts)
            .bind(until)
            .changed_one()
            .await?;
        if postponed {
            self.query(
                "UPDATE webhook_deliveries SET next_try_at = $4
                 WHERE webhook_id = $1 AND lane = $2 AND sequence > $3 AND settled_at IS NULL AND next_try_at < $4",
            )
            .bind(delivery.webhook)
            .bind(lane)
            .bind(delivery.event.sequence)
            .bind(until)
            .execute()
            .await?;
        }
        Ok(())
    }

    /// Gives up all that waits for a webhook.
    pub async fn deliveries_give_up(&mut self, webhook: WebhookId, now: Timestamp) -> Result<(), StoreError> {
        self.query(
            "UPDATE webhook_deliveries SET settled_at = $2, outcome = 'given_up'
             WHERE webhook_id = $1 AND settled_at IS NULL",
        )
        .bind(webhook)
        .bind(now)
        .execute()
        .await?;
        Ok(())
    }

    /// Lets an event wait for a webhook again, from the start of its schedule; `false` when it is none of the webhook's.
    pub async fn delivery_again(
        &mut self,
        webhook: WebhookId,
        event: EventId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(self.again(webhook, "o.event_id = $3", event, now).await? > 0)
    }

    /// The same for all events since an instant; how many.
    pub async fn deliveries_again(
        &mut self,
        webhook: WebhookId,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.again(webhook, "o.occurred_at >= $3", since, now).await
    }

    async fn again(
        &mut self,
        webhook: WebhookId,
        which: &str,
        bound: impl Bind,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let wanted = wanted("o.name");
        let queued = self
            .assembled(format!(
                "INSERT INTO webhook_deliveries (webhook_id, lane, sequence, event_id, attempts, next_try_at)
                 SELECT w.webhook_id, o.lane, o.sequence, o.event_id, 0, $2
                 FROM webhooks w JOIN outbox o ON w.tenant_id IS NULL OR o.lane = w.tenant_id
                 WHERE w.webhook_id = $1 AND {which} AND {wanted}
                 ON CONFLICT (webhook_id, lane, sequence) DO UPDATE
                     SET attempts = 0, next_try_at = excluded.next_try_at, settled_at = NULL, outcome = NULL"
            ))
            .bind(webhook)
            .bind(now)
            .bind(bound)
            .execute()
            .await?;
        // Whoever asks for it has seen to the address.
        self.query("UPDATE webhooks SET not_before = NULL WHERE webhook_id = $1").bind(webhook).execute().await?;
        self.something_to_deliver();
        Ok(queued)
    }

    /// Notes a try.
    pub async fn webhook_attempt_insert(&mut self, attempt: &Attempt) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO webhook_attempts (attempt_id, webhook_id, event_id, name, number, at, took_ms, status, error,
                                           outcome, next_try_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(attempt.id)
        .bind(attempt.webhook)
        .bind(attempt.event)
        .bind(attempt.name.as_str())
        .bind(attempt.number)
        .bind(attempt.at)
        .bind(attempt.took_ms)
        .bind(attempt.status)
        .bind(attempt.error.as_deref())
        .bind(attempt.outcome.as_str())
        .bind(attempt.next_try_at)
        .execute()
        .await?;
        Ok(())
    }

    /// A page of tries, the newest first.
    pub async fn webhook_attempts(
        &mut self,
        webhook: WebhookId,
        event: Option<EventId>,
        page: PageRequest,
    ) -> Result<Vec<Attempt>, StoreError> {
        let before = if page.after().is_nil() { Uuid::max() } else { page.after() };
        let scope = self.tenant();
        self.query(
            "SELECT a.* FROM webhook_attempts a JOIN webhooks w ON w.webhook_id = a.webhook_id
             WHERE a.webhook_id = $1 AND a.attempt_id < $2 AND ($3 IS NULL OR a.event_id = $3)
                 AND ($4 IS NULL OR w.tenant_id = $4)
             ORDER BY a.attempt_id DESC LIMIT $5",
        )
        .bind(webhook)
        .bind(before)
        .bind(event)
        .bind(scope)
        .bind(page.fetch_limit())
        .map(read_attempt)
        .await
    }

    /// Forgets what was settled before an instant, events of before it that wait for nobody, and secrets that sign no more. What
    /// waits for a webhook that is off or not there is given up.
    pub async fn outbox_forget(&mut self, before: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        self.query(
            "UPDATE webhook_deliveries SET settled_at = $1, outcome = 'given_up' WHERE settled_at IS NULL AND NOT EXISTS
                 (SELECT 1 FROM webhooks w WHERE w.webhook_id = webhook_deliveries.webhook_id AND w.disabled_at IS NULL)",
        )
        .bind(now)
        .execute()
        .await?;
        self.query("DELETE FROM webhook_attempts WHERE at < $1").bind(before).execute().await?;
        self.query("DELETE FROM webhook_deliveries WHERE settled_at < $1").bind(before).execute().await?;
        self.query(
            "DELETE FROM outbox WHERE occurred_at < $1 AND NOT EXISTS
                 (SELECT 1 FROM webhook_deliveries d WHERE d.event_id = outbox.event_id)",
        )
        .bind(before)
        .execute()
        .await?;
        self.query("DELETE FROM webhook_secrets WHERE signs_until <= $1").bind(now).execute().await?;
        Ok(())
    }
}
