//! Corrections: events that are taken back or amended, with who did it and why, and what they said before.
//!
//! A correction is one transaction: the event, what it takes out of the totals and puts into them, what of that belongs
//! to closed months, and its own record. Totals of it are rows of writers of its own, so nobody else's are touched, a
//! commit that failed and was done all the same is not counted again, and corrections can be told from usage. A
//! correction applies to what the event was found to say: whatever another one made of it meanwhile is read anew.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    commit,
    error::Error,
    event::{Amendment, TimeLimits},
    events::measured,
    meter::Meter,
    model::{Adjusted, Content, Correction, Event, Last, Total},
    rules,
    service::Metering,
    tally::{self, Tally, Totals, with_longer_windows},
};
use crate::{
    kernel::{
        Act, Actor, Faults, Page, PageRequest, Quantity, QuantityError, TenantId, Timestamp, ids::uuid_v7,
        rng::random_bytes,
    },
    store::{EventFilter, Scope, Tx},
};

/// How often an event is read anew when another node corrects it at the same time.
const ATTEMPTS: usize = 5;

/// Which event is meant.
#[derive(Debug, Clone, Default)]
pub struct EventRef {
    /// `id`.
    pub id: String,
    /// Whose.
    pub tenant: Option<TenantId>,
    /// `source`.
    pub source: Option<String>,
}

/// Who corrects, and why.
#[derive(Debug, Clone)]
pub struct Grounds {
    /// Why, in words.
    pub reason: String,
    /// Who.
    pub by: Actor,
}

impl Metering {
    /// Takes an event back: it counts no more.
    pub async fn void_event(&self, scope: Scope, event: &EventRef, grounds: &Grounds) -> Result<Event, Error> {
        let _paused = self.ingest.pause().await;
        let mut tx = self.with_meters_held(scope).await?;
        let now = self.clock.now();
        for _ in 0..ATTEMPTS {
            let found = self.valid_event(&mut tx, event).await?;
            if tx.event_void(&found, now).await? {
                self.count_correction(&mut tx, &found, None, now).await?;
                self.note(&mut tx, &found, None, grounds, now).await?;
                tx.commit().await?;
                return Ok(Event { voided_at: Some(now), ..found });
            }
        }
        Err(Error::TryAgain)
    }

    /// Gives an event another content, which counts in place of the old one; the event, and whether it changed. What it
    /// said before stays known: sent again, it counts nothing.
    pub async fn amend_event(
        &self,
        scope: Scope,
        event: &EventRef,
        amendment: &Amendment,
        grounds: &Grounds,
    ) -> Result<(Event, bool), Error> {
        let _paused = self.ingest.pause().await;
        let mut tx = self.with_meters_held(scope).await?;
        let now = self.clock.now();
        for _ in 0..ATTEMPTS {
            let found = self.valid_event(&mut tx, event).await?;
            let content = self.amended(&found, amendment)?;
            if content == (Content { body: found.body.clone(), at_ns: found.at_ns }) {
                return Ok((found, false));
            }
            if tx.event_amend(&found, &content).await? {
                let amended = Event { body: content.body, at_ns: content.at_ns, ..found.clone() };
                self.count_correction(&mut tx, &found, Some(&amended), now).await?;
                let before = Content { body: found.body.clone(), at_ns: found.at_ns };
                self.note(&mut tx, &found, Some(before), grounds, now).await?;
                tx.commit().await?;
                return Ok((amended, true));
            }
        }
        Err(Error::TryAgain)
    }

    /// A transaction during which no meter comes or goes: it would count what is corrected, or not, and nobody would know.
    async fn with_meters_held(&self, scope: Scope) -> Result<Tx, Error> {
        for _ in 0..ATTEMPTS {
            let mut tx = self.store.begin(scope).await?;
            match self.meters.hold(&mut tx).await {
                Err(Error::MetersChanged) => drop(tx),
                held => return held.map(|()| tx),
            }
            self.meters.refresh(&self.store).await?;
        }
        Err(Error::MetersChanged)
    }

    /// An event, and its corrections in order.
    pub async fn event_history(&self, scope: Scope, event: &EventRef) -> Result<(Event, Vec<Correction>), Error> {
        let mut tx = self.store.read(scope).await?;
        let found = find_event(&mut tx, event).await?;
        let corrections = tx.corrections(&[found.identity().key()]).await?;
        Ok((found, corrections))
    }

    /// What came to a tenant's closed months, or was taken out of them; oldest first.
    pub async fn adjustments(
        &self,
        scope: Scope,
        tenant: TenantId,
        page: PageRequest,
    ) -> Result<Page<Adjusted>, Error> {
        let mut tx = self.store.read(scope).await?;
        tx.tenant_by_id(tenant).await?.ok_or(Error::UnknownTenant(tenant))?;
        Ok(page.page(tx.adjustments(tenant, page).await?, |adjusted| adjusted.id))
    }

    async fn valid_event(&self, tx: &mut Tx, event: &EventRef) -> Result<Event, Error> {
        let found = find_event(tx, event).await?;
        if found.voided_at.is_some() { Err(Error::AlreadyVoid(found.id)) } else { Ok(found) }
    }

    /// What an event says with an amendment. Every meter of its type must be able to read it, as when it is sent.
    fn amended(&self, found: &Event, amendment: &Amendment) -> Result<Content, Error> {
        let arrived = Timestamp::from_micros(found.arrival).unwrap_or(Timestamp::MIN);
        let limits = TimeLimits { now: arrived, ..self.time_limits() };
        let mut faults = Faults::new();
        let content = amendment.clone().of(found, limits, &mut faults);
        let content = faults.finish(content).map_err(Error::Amendment)?;
        if let Some(data) = &amendment.data {
            let data = serde_json::Value::Object(data.clone());
            for meter in self.meters.of_type(&found.kind) {
                let unreadable = |source| Error::Unreadable { field: "data".to_owned(), source };
                meter.read(&data).map_err(unreadable)?;
            }
        }
        Ok(content)
    }

    /// Takes one event out of the totals, and puts what it says now into them.
    async fn count_correction(
        &self,
        tx: &mut Tx,
        less: &Event,
        more: Option<&Event>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (mut out, mut back) = (Totals::new(), Totals::new());
        for meter in self.meters.of_type(&less.kind) {
            let same = |more: &Event| more.at_ns == less.at_ns && measured(&meter, more) == measured(&meter, less);
            if more.is_some_and(same) {
                continue;
            }
            add_reading(&mut out, &meter, less, taken_back)?;
            if let Some(event) = more {
                add_reading(&mut back, &meter, event, |value| Ok(Total::one(value, event.at_ns, event.arrival)))?;
            }
        }
        let mut net = out.clone();
        for (cell, total) in &back {
            tally::add(&mut net, cell.clone(), total)?;
        }
        net.retain(|_, total| total.count != 0 || !total.sum.is_zero());
        let late = rules::adjustments(&net, now, self.late_after_s)?;
        let late: Vec<_> = late.into_iter().map(|late| (uuid_v7(now, &*self.rng), late)).collect();
        tx.adjustments_insert(&late, now).await?;
        // Apart, so that a query sees that something was taken out, whatever was put in.
        for minutes in [out, back].into_iter().filter(|minutes| !minutes.is_empty()) {
            let tally = Tally::new(Uuid::from_bytes(random_bytes(&*self.rng)));
            let totals = tally.with(with_longer_windows(&minutes)?, Vec::new())?;
            tx.totals_put(tally.writer(), &totals).await?;
        }
        Ok(())
    }

    async fn note(
        &self,
        tx: &mut Tx,
        event: &Event,
        before: Option<Content>,
        grounds: &Grounds,
        now: Timestamp,
    ) -> Result<(), Error> {
        let Grounds { reason, by: actor } = grounds.clone();
        let action = if before.is_some() { "event.amended" } else { "event.voided" };
        let (subject, detail) = (event.id.clone(), Some(reason.clone()).filter(|reason| !reason.is_empty()));
        let act = Act { actor, action, tenant: Some(event.tenant), subject, detail };
        tx.audit_insert(uuid_v7(now, &*self.rng), now, &act).await?;
        let by = match actor {
            Actor::Admin(id) => id.to_string(),
            other => other.to_string(),
        };
        let (id, event) = (uuid_v7(now, &*self.rng), event.identity().key());
        Ok(tx.correction_insert(&Correction { id, event, before, reason, by, at: now }).await?)
    }
}

/// The one event that is meant.
async fn find_event(tx: &mut Tx, event: &EventRef) -> Result<Event, Error> {
    let filter = EventFilter { tenant: event.tenant, id: Some(event.id.clone()), ..EventFilter::default() };
    let mut found = Vec::new();
    tx.events_each::<Error>(&filter, |kept| {
        if event.source.as_ref().is_none_or(|source| kept.source == *source) {
            found.push(kept);
        }
        Ok(())
    })
    .await?;
    match found.len() {
        0 => Err(Error::UnknownEvent(event.id.clone())),
        1 => Ok(found.remove(0)),
        several => Err(Error::AmbiguousEvent(event.id.clone(), several)),
    }
}

/// What a reading is worth that counts no more. Its smallest, largest and latest say nothing: those are worked out from
/// events where anything was taken out.
fn taken_back(value: Quantity) -> Result<Total, QuantityError> {
    let last = Last { at_ns: i64::MIN, arrival: 0, value: Quantity::ZERO };
    Ok(Total { count: -1, sum: Quantity::ZERO.sub(value)?, low: value, high: value, last })
}

/// Adds what a meter reads in an event; nothing when it cannot read it.
fn add_reading(
    minutes: &mut Totals,
    meter: &Arc<Meter>,
    event: &Event,
    worth: impl Fn(Quantity) -> Result<Total, QuantityError>,
) -> Result<(), Error> {
    let Some((key, reading)) = measured(meter, event) else { return Ok(()) };
    let total = worth(reading.value).map_err(|source| Error::Inexact { meter: key.clone(), source })?;
    tally::add(minutes, commit::minute(event.tenant, &key, &reading.group, event.at_ns), &total)
}
