//! Events: taking them in, listing them, taking them back.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::{
    commit,
    error::Error,
    event::Sent,
    ingest::{Batch, Measured, Outcome},
    meter::{Meter, Reading},
    model::{Correction, Event, Last, MeterKey, Total},
    service::Metering,
    tally::{self, Tally, Totals, with_longer_windows},
};
use crate::{
    kernel::{Quantity, TenantId, ids::uuid_v7, rng::random_bytes},
    store::{EventFilter, Scope, Tx},
};

/// What a meter reads in an event that is kept; `None` when it cannot read it.
pub(super) fn measured(meter: &Arc<Meter>, event: &Event) -> Option<(MeterKey, Reading)> {
    let body: Value = serde_json::from_str(&event.body).ok()?;
    let reading = meter.read(body.get("data").unwrap_or(&Value::Null)).ok()?;
    Some((meter.key.clone(), reading))
}

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

impl Metering {
    /// Takes one request's events in, all or none.
    pub async fn take_events(&self, scope: Scope, sent: Vec<Sent>, listed: bool) -> Result<Vec<Outcome>, Error> {
        let measured = |sent| Measured { sent, readings: Vec::new() };
        let events = sent.into_iter().map(measured).collect();
        let mut batch = Arc::new(Batch { events, own: scope.tenant(), listed });
        loop {
            let generation = self.ingest.generation();
            self.measure(&mut batch)?;
            match self.ingest.take(Arc::clone(&batch), generation).await {
                Err(Error::MetersChanged) => {}
                done => return done,
            }
        }
    }

    fn measure(&self, batch: &mut Arc<Batch>) -> Result<(), Error> {
        // Nobody else has it, unless meters changed while it waited.
        let own = Arc::make_mut(batch);
        let meters = self.meters.all();
        for index in 0..own.events.len() {
            let Measured { sent, .. } = &own.events[index];
            let of_type = meters.iter().filter(|meter| meter.event_type() == Some(&sent.kind));
            let readings = of_type.map(|meter| Ok((meter.key.clone(), meter.read(&sent.data)?)));
            let readings = readings.collect::<Result<_, _>>();
            let unreadable = |source| Error::Unreadable { field: own.field(index, "data"), source };
            own.events[index].readings = readings.map_err(unreadable)?;
        }
        Ok(())
    }

    /// The tenant that a subject is: by id, else by external id.
    async fn subject(&self, tx: &mut Tx, scope: Scope, subject: &str, field: &str) -> Result<TenantId, Error> {
        let unknown = || Error::UnknownSubject { field: field.to_owned(), subject: subject.to_owned() };
        let tenant = match (subject.parse::<TenantId>(), subject.parse()) {
            (Ok(id), _) => tx.tenant_by_id(id).await?,
            (_, Ok(external_id)) => tx.tenant_by_external_id(&external_id).await?,
            _ => None,
        };
        let tenant = tenant.map(|tenant| (tenant.id, tenant.status.name()));
        match (tenant, scope.tenant()) {
            // A tenant learns nothing about others, not even that they are there.
            (found, Some(own)) if found.is_none_or(|(id, _)| id != own) => Err(Error::ForeignSubject(field.to_owned())),
            (Some((id, state)), _) if state != "deleted" => Ok(id),
            _ => Err(unknown()),
        }
    }

    /// The tenant that a subject is, for a query.
    pub async fn subject_of(&self, scope: Scope, subject: &str) -> Result<TenantId, Error> {
        let mut tx = self.store.read(Scope::Job("subjects")).await?;
        self.subject(&mut tx, scope, subject, "subject").await
    }

    /// The name of a tenant's state; `None` when there is none, or no more.
    pub async fn standing(&self, scope: Scope, tenant: TenantId) -> Result<Option<&'static str>, Error> {
        let found = self.store.read(scope).await?.tenant_by_id(tenant).await?;
        Ok(found.map(|tenant| tenant.status.name()).filter(|state| *state != "deleted"))
    }

    /// Events, the newest first.
    pub async fn events(&self, scope: Scope, filter: &EventFilter, most: i64) -> Result<Vec<Event>, Error> {
        Ok(self.store.read(scope).await?.events_newest(filter, most).await?)
    }

    /// Takes an event back: it counts no more, and who did it and why is kept.
    pub async fn void_event(&self, scope: Scope, event: &EventRef, reason: &str, by: &str) -> Result<Event, Error> {
        // A meter that is made meanwhile would count it, or not, and nobody would know.
        let _paused = self.ingest.pause().await;
        let mut tx = self.store.begin(scope).await?;
        let filter = EventFilter { tenant: event.tenant, id: Some(event.id.clone()), ..EventFilter::default() };
        let mut found = Vec::new();
        tx.events_each::<Error>(&filter, |kept| {
            if event.source.as_ref().is_none_or(|source| kept.source == *source) {
                found.push(kept);
            }
            Ok(())
        })
        .await?;
        let found = match found.len() {
            0 => return Err(Error::UnknownEvent(event.id.clone())),
            1 => found.remove(0),
            several => return Err(Error::AmbiguousEvent(event.id.clone(), several)),
        };
        let now = self.clock.now();
        if !tx.event_void(found.identity(), now).await? {
            return Err(Error::AlreadyVoid(event.id.clone()));
        }
        let mut minutes = Totals::new();
        for meter in self.meters.of_type(&found.kind) {
            let Some((key, reading)) = measured(&meter, &found) else { continue };
            let less = Quantity::ZERO.sub(reading.value);
            let less = less.map_err(|source| Error::Inexact { meter: key.clone(), source })?;
            let last = Last { at_ns: i64::MIN, arrival: 0, value: Quantity::ZERO };
            let total = Total { count: -1, sum: less, low: reading.value, high: reading.value, last };
            let cell = commit::minute(found.tenant, &key, &reading.group, found.at_ns);
            tally::add(&mut minutes, cell, &total)?;
        }
        let late = commit::adjustments(&minutes, now, self.late_after_s);
        let late: Vec<_> = late.into_iter().map(|late| (uuid_v7(now, &*self.rng), late)).collect();
        tx.adjustments_insert(&late, now).await?;
        // A writer of its own: nobody else's totals are touched, and the correction can be told from usage.
        let tally = Tally::new(Uuid::from_bytes(random_bytes(&*self.rng)));
        let totals = tally.with(with_longer_windows(&minutes)?, Vec::new())?;
        tx.totals_put(tally.writer(), &totals).await?;
        let correction = Correction {
            event: found.identity().key(),
            replacement: None,
            reason: reason.to_owned(),
            by: by.to_owned(),
            at: now,
        };
        tx.correction_insert(uuid_v7(now, &*self.rng), &correction).await?;
        tx.commit().await?;
        Ok(Event { voided_at: Some(now), ..found })
    }
}
