//! Events: taking them in and listing them.

use std::sync::Arc;

use serde_json::Value;

use super::{
    error::Error,
    event::Sent,
    ingest::{Batch, Measured, Outcome},
    meter::{Aggregation, Meter, Reading},
    model::{Event, MeterKey},
    service::Metering,
};
use crate::{
    kernel::{Quantity, TenantId},
    store::{EventFilter, Scope, Tx},
};

/// What a meter reads in an event that is kept; `None` when it cannot read it.
pub(super) fn measured(meter: &Arc<Meter>, event: &Event) -> Option<(MeterKey, Reading)> {
    let body: Value = serde_json::from_str(&event.body).ok()?;
    let reading = meter.read(body.get("data").unwrap_or(&Value::Null)).ok()?;
    Some((meter.key.clone(), reading))
}

impl Metering {
    /// Takes one request's events in, all or none.
    pub async fn take_events(&self, scope: Scope, sent: Vec<Sent>, listed: bool) -> Result<Vec<Outcome>, Error> {
        let measured = |sent| Measured { sent, readings: Vec::new() };
        let events = sent.into_iter().map(measured).collect();
        let mut batch = Arc::new(Batch { events, own: scope.tenant(), listed, meters: 0 });
        loop {
            self.measure(&mut batch)?;
            match self.ingest.take(Arc::clone(&batch)).await {
                Err(Error::MetersChanged) => self.meters.refresh(&self.store).await?,
                done => return done,
            }
        }
    }

    fn measure(&self, batch: &mut Arc<Batch>) -> Result<(), Error> {
        // Nobody else has it, unless meters changed while it waited.
        let own = Arc::make_mut(batch);
        let (version, meters) = self.meters.versioned();
        own.meters = version;
        for index in 0..own.events.len() {
            let Measured { sent, .. } = &own.events[index];
            let of_type = meters.iter().filter(|meter| meter.event_type() == Some(&sent.kind));
            let readings = of_type.map(|meter| Ok((meter.key.clone(), meter.read(&sent.data)?)));
            let readings = readings.collect::<Result<Vec<(MeterKey, Reading)>, _>>();
            let unreadable = |source| Error::Unreadable { field: own.field(index, "data"), source };
            let readings = readings.map_err(unreadable)?;
            // What is on a tenant's bill is not for the tenant to take off it.
            let is_sum =
                |key: &MeterKey| meters.iter().any(|meter| meter.key == *key && meter.aggregation == Aggregation::Sum);
            let taken = readings.iter().find(|(key, reading)| reading.value < Quantity::ZERO && is_sum(key));
            if let Some((meter, _)) = taken.filter(|_| own.own.is_some()) {
                return Err(Error::Takes { field: own.field(index, "data"), meter: meter.clone() });
            }
            own.events[index].readings = readings;
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
}
