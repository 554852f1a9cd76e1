//! The meters that are known: the stock ones, and those that were made for events.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    commit,
    definition::MeterDefinition,
    error::Error,
    events::measured,
    meter::{Aggregation, Meter, Source},
    model::{MeterKey, Total},
    service::{Metering, STOCK_METERS},
    tally::{self, Tally, Totals, with_longer_windows},
};
use crate::{
    kernel::{Act, Actor, MeterId, Timestamp, ids::uuid_v7, rng::random_bytes},
    store::{EventFilter, Scope, Store, Tx, acting_still},
};

/// All meters, as a snapshot that is swapped whole; cheap to clone.
#[derive(Clone)]
pub(super) struct Meters {
    known: Arc<RwLock<Known>>,
}

/// The meters as of one version of the ledger's.
#[derive(Clone, Default)]
struct Known {
    version: i64,
    all: Arc<Vec<Arc<Meter>>>,
}

impl Meters {
    pub(super) async fn open(store: &Store) -> Result<Self, Error> {
        let meters = Self { known: Arc::default() };
        meters.reload(store).await?;
        Ok(meters)
    }

    /// Reads them again if they have changed, here or on another node.
    pub(super) async fn refresh(&self, store: &Store) -> Result<(), Error> {
        let version = store.read(Scope::Job("meters")).await?.meters_version().await?;
        if version == self.versioned().0 { Ok(()) } else { self.reload(store).await }
    }

    async fn reload(&self, store: &Store) -> Result<(), Error> {
        let mut tx = store.read(Scope::Job("meters")).await?;
        let version = tx.meters_version().await?;
        let all = Arc::new(stock().chain(tx.meters().await?).map(Arc::new).collect());
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Whoever read later may have come first.
        if known.all.is_empty() || version > known.version {
            *known = Known { version, all };
        }
        Ok(())
    }

    /// An error unless these are the meters that there are; they stay so until the transaction ends.
    pub(super) async fn hold(&self, tx: &mut Tx) -> Result<(), Error> {
        let version = tx.meters_version_held().await?;
        if version == self.versioned().0 { Ok(()) } else { Err(Error::MetersChanged) }
    }

    pub(super) fn all(&self) -> Arc<Vec<Arc<Meter>>> {
        self.versioned().1
    }

    /// The meters, and the version that they are of.
    pub(super) fn versioned(&self) -> (i64, Arc<Vec<Arc<Meter>>>) {
        let Known { version, all } = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        (version, all)
    }

    pub(super) fn by_key(&self, key: &MeterKey) -> Option<Arc<Meter>> {
        self.all().iter().find(|meter| meter.key == *key).cloned()
    }

    /// Those that count events of a type.
    pub(super) fn of_type(&self, kind: &str) -> Vec<Arc<Meter>> {
        self.all().iter().filter(|meter| meter.event_type() == Some(kind)).cloned().collect()
    }
}

/// The stock meters. Their ids are made from their keys, so they are the same everywhere.
fn stock() -> impl Iterator<Item = Meter> {
    STOCK_METERS.iter().filter_map(|stock| {
        let id = blake3::derive_key("tollgate 2026 ids of stock meters", stock.key.as_bytes());
        Some(Meter {
            id: MeterId::from_uuid(Uuid::from_bytes(std::array::from_fn(|index| id[index]))),
            key: stock.key.parse().ok()?,
            name: stock.key.to_owned(),
            description: stock.description.to_owned(),
            source: Source::Gateway { unit: stock.unit },
            aggregation: Aggregation::Sum,
            created_at: Timestamp::from_secs(0)?,
        })
    })
}

impl Metering {
    /// All meters: the stock ones first, then by key.
    pub fn meters(&self) -> Arc<Vec<Arc<Meter>>> {
        self.meters.all()
    }

    /// A meter by its key or its id.
    pub fn meter(&self, key_or_id: &str) -> Option<Arc<Meter>> {
        let is = |meter: &&Arc<Meter>| meter.key.as_str() == key_or_id || meter.id.to_string() == key_or_id;
        self.meters.all().iter().find(is).cloned()
    }

    /// Makes a meter of events. Events of its type that are kept already are counted, too. Goes on when the caller goes
    /// away.
    pub async fn create_meter(&self, scope: Scope, actor: Actor, meter: Meter) -> Result<Arc<Meter>, Error> {
        let metering = self.clone();
        let made = self.tasks.spawn(acting_still(async move { metering.make_meter(scope, actor, meter).await }));
        made.await.map_err(|_| Error::Stopped)?
    }

    async fn make_meter(&self, scope: Scope, actor: Actor, meter: Meter) -> Result<Arc<Meter>, Error> {
        // No event is taken in between: it would be counted by nobody.
        let _paused = self.ingest.pause().await;
        let mut tx = self.store.begin(scope).await?;
        let stock = self.meters.by_key(&meter.key).is_some_and(|known| known.event_type().is_none());
        if stock || !tx.meter_insert(&meter).await? {
            drop(tx);
            // By another node, or by a request whose end this one never heard of.
            self.meters.refresh(&self.store).await?;
            return Err(Error::MeterTaken(meter.key));
        }
        let kind = meter.event_type().map(str::to_owned);
        let meter = Arc::new(meter);
        let filter = EventFilter { kind, valid_only: true, ..EventFilter::default() };
        let mut minutes = Totals::new();
        // Totals come out the same in any order.
        tx.events_each_unordered(&filter, |event| {
            // What it cannot read was taken before the meter was there.
            let Some((key, reading)) = measured(&meter, &event) else { return Ok(()) };
            let total = Total::one(reading.value, event.at_ns, event.arrival);
            let cell = commit::minute(event.tenant, &key, &reading.group, event.at_ns);
            tally::add(&mut minutes, cell, &total)
        })
        .await?;
        let tally = Tally::new(Uuid::from_bytes(random_bytes(&*self.rng)));
        let totals = tally.with(with_longer_windows(&minutes)?, Vec::new())?;
        tx.totals_put(tally.writer(), &totals).await?;
        tx.changes(None, Some(noted(&meter)));
        self.note_meter(&mut tx, actor, "meter.made", &meter.key).await?;
        tx.commit().await?;
        self.meters.refresh(&self.store).await?;
        Ok(meter)
    }

    /// Makes the meters of the settings that are not there; says so when one is there that counts otherwise. Others may do
    /// the same at the same time: whoever comes first makes a meter, and the next one finds it.
    pub async fn define_meters(&self, definitions: &[MeterDefinition]) -> Result<(), Error> {
        let (scope, actor) = (Scope::Job("meters-of-settings"), Actor::Job("meters-of-settings"));
        let mut differences = Vec::new();
        for definition in definitions {
            if self.meters.by_key(&definition.key).is_none() {
                let now = self.clock.now();
                let meter = definition.clone().into_meter(MeterId::generate(now, &*self.rng), now);
                match self.create_meter(scope, actor, meter).await {
                    Ok(_) => continue,
                    // By another node, since this one looked.
                    Err(Error::MeterTaken(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            let known = self.meters.by_key(&definition.key);
            let known = known.ok_or_else(|| Error::UnknownMeter(definition.key.clone()))?;
            let differs = definition.differences(&known);
            if !differs.is_empty() {
                differences.push(format!("{}: {}", definition.key, differs.join(", ")));
                continue;
            }
            let name = definition.name.as_ref().unwrap_or(&known.name);
            let description = definition.description.as_ref().unwrap_or(&known.description);
            if (name, description) != (&known.name, &known.description) {
                self.describe_meter(scope, actor, &known, (name, description)).await?;
            }
        }
        if differences.is_empty() { Ok(()) } else { Err(Error::MetersDiffer(differences)) }
    }

    /// Sets what people call a meter.
    pub async fn describe_meter(
        &self,
        scope: Scope,
        actor: Actor,
        meter: &Meter,
        (name, description): (&str, &str),
    ) -> Result<Option<Arc<Meter>>, Error> {
        let mut tx = self.store.begin(scope).await?;
        tx.meter_describe(meter.id, name, description).await?;
        let said = |name: &str, description: &str| Some(json!({"name": name, "description": description}));
        tx.changes(said(&meter.name, &meter.description), said(name, description));
        self.note_meter(&mut tx, actor, "meter.changed", &meter.key).await?;
        tx.commit().await?;
        self.meters.refresh(&self.store).await?;
        Ok(self.meters.by_key(&meter.key))
    }

    /// Removes a meter of events with its totals. The events stay, and count again if it is made again. Goes on when the
    /// caller goes away.
    pub async fn delete_meter(&self, scope: Scope, actor: Actor, meter: &Meter) -> Result<(), Error> {
        if let Source::Gateway { .. } = meter.source {
            return Err(Error::StockMeter(meter.key.clone()));
        }
        // Its requests would come to nothing, and what the roller remembers of it would come back.
        if self.is_routed(&meter.key) {
            return Err(Error::RoutedMeter(meter.key.clone()));
        }
        let (metering, id, key, before) = (self.clone(), meter.id, meter.key.clone(), noted(meter));
        let gone = self.tasks.spawn(acting_still(async move {
            let _paused = metering.ingest.pause().await;
            let mut tx = metering.store.begin(scope).await?;
            // Without its totals, invoices that were issued would be taken back by the next ones. Versions of plans are never
            // removed, so whatever was billed has a price here.
            if tx.meter_is_priced(&key).await? {
                return Err(Error::PricedMeter(key));
            }
            tx.meter_delete(id, &key).await?;
            tx.changes(Some(before), None);
            metering.note_meter(&mut tx, actor, "meter.deleted", &key).await?;
            tx.commit().await?;
            metering.meters.refresh(&metering.store).await
        }));
        gone.await.map_err(|_| Error::Stopped)?
    }

    async fn note_meter(&self, tx: &mut Tx, actor: Actor, action: &'static str, meter: &MeterKey) -> Result<(), Error> {
        let now = self.clock.now();
        let act = Act { actor, action, tenant: None, subject: meter.to_string(), detail: None };
        Ok(tx.audit_insert(uuid_v7(now, &*self.rng), now, &act).await?)
    }
}

/// A meter as the audit has it.
fn noted(meter: &Meter) -> Value {
    json!({
        "key": meter.key.as_str(),
        "name": meter.name,
        "event_type": meter.event_type(),
        "aggregation": meter.aggregation.name(),
        "group_by": meter.group_keys(),
    })
}
