//! Events: taking them in, listing them, taking them back.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;
use uuid::Uuid;

use super::{
    error::Error,
    event::Sent,
    ingest::{self, Measured, Outcome},
    meter::{Meter, Reading, ReadingError},
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
    pub async fn take_events(&self, scope: Scope, sent: Vec<Sent>, batch: bool) -> Result<Vec<Outcome>, Error> {
        let field = |index: usize, name: &str| if batch { format!("[{index}].{name}") } else { name.to_owned() };
        let tenants = self.subjects(scope, &sent, &field).await?;
        loop {
            let generation = self.ingest.generation();
            let measured = sent.iter().zip(&tenants).enumerate().map(|(index, (sent, tenant))| {
                self.measure(sent, *tenant).map_err(|source| Error::Unreadable { field: field(index, "data"), source })
            });
            let events = measured.collect::<Result<Vec<_>, _>>()?;
            match self.ingest.take(events, generation).await {
                Err(Error::MetersChanged) => {}
                done => return done,
            }
        }
    }

    async fn subjects(
        &self,
        scope: Scope,
        sent: &[Sent],
        field: &(impl Fn(usize, &str) -> String + Sync),
    ) -> Result<Vec<TenantId>, Error> {
        let mut known: HashMap<&str, TenantId> = HashMap::new();
        let mut tx = self.store.read(Scope::Job("ingest")).await?;
        let mut tenants = Vec::with_capacity(sent.len());
        for (index, sent) in sent.iter().enumerate() {
            let tenant = match known.get(sent.subject.as_str()) {
                Some(tenant) => *tenant,
                None => self.subject(&mut tx, scope, &sent.subject, &field(index, "subject")).await?,
            };
            known.insert(&sent.subject, tenant);
            tenants.push(tenant);
        }
        Ok(tenants)
    }

    fn measure(&self, sent: &Sent, tenant: TenantId) -> Result<Measured, ReadingError> {
        let meters = self.meters.of_type(&sent.kind);
        let readings = meters.iter().map(|meter| Ok((meter.key.clone(), meter.read(&sent.data)?)));
        let readings = readings.collect::<Result<_, _>>()?;
        let event = Event {
            key: sent.key(tenant),
            tenant,
            source: sent.source.clone(),
            id: sent.id.clone(),
            kind: sent.kind.clone(),
            subject: sent.subject.clone(),
            at_ns: sent.at_ns,
            arrival: 0,
            body: sent.body.clone(),
            digest: sent.digest.to_vec(),
            voided_at: None,
        };
        Ok(Measured { event, readings })
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

    /// Events, the newest first.
    pub async fn events(&self, scope: Scope, filter: &EventFilter, most: i64) -> Result<Vec<Event>, Error> {
        Ok(self.store.read(scope).await?.events(filter, true, Some(most)).await?)
    }

    /// Takes an event back: it counts no more, and who did it and why is kept.
    pub async fn void_event(&self, scope: Scope, event: &EventRef, reason: &str, by: &str) -> Result<Event, Error> {
        // A meter that is made meanwhile would count it, or not, and nobody would know.
        let _paused = self.ingest.pause().await;
        let mut tx = self.store.begin(scope).await?;
        let filter = EventFilter { tenant: event.tenant, id: Some(event.id.clone()), ..EventFilter::default() };
        let mut found = tx.events(&filter, false, None).await?;
        found.retain(|found| event.source.as_ref().is_none_or(|source| found.source == *source));
        let found = match found.len() {
            0 => return Err(Error::UnknownEvent(event.id.clone())),
            1 => found.remove(0),
            several => return Err(Error::AmbiguousEvent(event.id.clone(), several)),
        };
        let now = self.clock.now();
        if !tx.event_void(found.key, now).await? {
            return Err(Error::AlreadyVoid(event.id.clone()));
        }
        let mut minutes = Totals::new();
        for meter in self.meters.of_type(&found.kind) {
            let Some((key, reading)) = measured(&meter, &found) else { continue };
            let less = Quantity::ZERO.sub(reading.value);
            let less = less.map_err(|source| Error::Inexact { meter: key.clone(), source })?;
            let last = Last { at_ns: i64::MIN, arrival: 0, value: Quantity::ZERO };
            let total = Total { count: -1, sum: less, low: reading.value, high: reading.value, last };
            tally::add(&mut minutes, ingest::cell(&found, &key, &reading.group), &total)?;
        }
        let late = ingest::adjustments(&minutes, now, self.late_after_s);
        let late: Vec<_> = late.into_iter().map(|late| (uuid_v7(now, &*self.rng), late)).collect();
        tx.adjustments_insert(&late, now).await?;
        // A writer of its own: nobody else's totals are touched, and the correction can be told from usage.
        let tally = Tally::new(Uuid::from_bytes(random_bytes(&*self.rng)));
        let totals = tally.with(with_longer_windows(&minutes)?, Vec::new())?;
        tx.totals_put(tally.writer(), &totals).await?;
        let correction =
            Correction { event: found.key, replacement: None, reason: reason.to_owned(), by: by.to_owned(), at: now };
        tx.correction_insert(uuid_v7(now, &*self.rng), &correction).await?;
        tx.commit().await?;
        Ok(Event { voided_at: Some(now), ..found })
    }
}
