//! One commit of events: whose they are, which are known already, and the totals they add, in one transaction.
//!
//! Events are seldom sent twice, so they are inserted without a look. When one of them was there, the transaction is
//! given up and done again with a look first, and so are the next ones until none is known any more.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    error::Error,
    ingest::{Answer, Batch, Job, Measured, Outcome},
    model::{Cell, Conflict, Correction, Event, Identity, MeterKey, NewEvent, Total},
    rules,
    tally::{self, Tally, Totals, with_longer_windows},
};
use crate::{
    kernel::{CalendarUnit, Clock, Rng, TenantId, Timestamp, ids::uuid_v7, rng::random_bytes},
    store::{Scope, Store, Tx},
};

/// Commits events, one transaction after the other.
pub(super) struct Committer {
    store: Store,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    tally: Tally,
    /// The version of the meters that the tally's totals are of.
    meters: i64,
    grace_s: i64,
    last_arrival: i64,
    /// A transaction was begun of which nobody knows whether it was done.
    broken_off: bool,
    /// Events have been sent again lately: look before inserting.
    look_first: bool,
}

/// What a transaction adds.
#[derive(Default)]
struct Addition<'a> {
    events: Vec<NewEvent<'a>>,
    minutes: Totals,
}

/// Those events that are known, or become known by this transaction.
struct Known<'a> {
    /// What each says.
    bodies: HashMap<Identity<'a>, &'a str>,
    /// What some of them said before they were amended, by the key of their identity.
    earlier: HashSet<(Uuid, String)>,
}

impl Committer {
    pub(super) fn new(store: Store, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>, grace_s: i64) -> Self {
        let tally = Tally::new(Uuid::from_bytes(random_bytes(&*rng)));
        Self { store, clock, rng, tally, meters: 0, grace_s, last_arrival: 0, broken_off: false, look_first: false }
    }

    /// Commits what these wait for, and tells them.
    pub(super) async fn commit(&mut self, jobs: Vec<Job>) {
        match self.commit_together(&jobs).await {
            Ok(answers) => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    job.answer(answer);
                }
            }
            // One of them makes a total that cannot be held exactly; it must not stand in the others' way.
            Err(Error::Inexact { .. }) if jobs.len() > 1 => {
                for job in jobs {
                    let answers = self.commit_together(std::slice::from_ref(&job)).await;
                    job.answer(answers.and_then(|mut answers| answers.pop().unwrap_or(Err(Error::Stopped))));
                }
            }
            Err(error) => {
                let mut error = Some(error);
                for job in jobs {
                    // The first learns the cause; the others try again by themselves.
                    job.answer(Err(error.take().unwrap_or(Error::TryAgain)));
                }
            }
        }
    }

    async fn commit_together(&mut self, jobs: &[Job]) -> Result<Vec<Answer>, Error> {
        if std::mem::replace(&mut self.broken_off, true) {
            self.tally.renew();
        }
        let batches: Vec<&Batch> = jobs.iter().map(|job| &*job.batch).collect();
        let mut answers = self.try_commit(&batches).await;
        if matches!(answers, Err(Error::TryAgain)) && !self.look_first {
            self.look_first = true;
            answers = self.try_commit(&batches).await;
        }
        // What cannot be added up was given up before its commit. Another writer would take it, and then nobody could
        // add the rows of both.
        self.broken_off = answers.as_ref().is_err_and(|error| !matches!(error, Error::Inexact { .. }));
        answers
    }

    async fn try_commit(&mut self, batches: &[&Batch]) -> Result<Vec<Answer>, Error> {
        let mut tx = self.store.begin(Scope::Job("ingest")).await?;
        let meters = tx.meters_version_held().await?;
        if meters != self.meters {
            // What is remembered may be of a meter that is gone, with its rows, whoever removed it.
            self.tally.renew();
            self.meters = meters;
        }
        let events = || batches.iter().flat_map(|batch| &batch.events);
        let names: HashSet<&str> = events().map(|event| event.sent.subject.as_str()).collect();
        let tenants = tx.tenants_by_subject(&names.into_iter().collect::<Vec<_>>()).await?;
        let before = if self.look_first { kept(&mut tx, batches, &tenants).await? } else { Vec::new() };
        let bodies: HashMap<_, _> = before.iter().map(|event| (event.identity(), event.body.as_str())).collect();
        let earlier = said_before(&mut tx, batches, &tenants, &bodies).await?;
        let mut known = Known { bodies, earlier };
        let now = self.clock.now();
        let mut addition = Addition::default();
        let mut answers = Vec::with_capacity(batches.len());
        for batch in batches {
            if batch.meters != meters {
                answers.push(Err(Error::MetersChanged));
                continue;
            }
            answers.push(match Admitted::of(batch, &tenants, &mut known) {
                Ok(admitted) => {
                    for (identity, measured) in admitted.new {
                        self.add(&mut addition, identity, measured, now)?;
                    }
                    Ok(admitted.outcomes)
                }
                Err(refusal) => Err(refusal),
            });
        }
        if !addition.events.is_empty() {
            if tx.events_insert(&addition.events).await? != addition.events.len() as u64 {
                // Some were there: known already, or taken by another node between the two statements.
                return Err(Error::TryAgain);
            }
            self.put(&mut tx, addition.minutes, now).await?;
        }
        tx.commit().await?;
        self.look_first &= !before.is_empty();
        Ok(answers)
    }

    fn add<'a>(
        &mut self,
        addition: &mut Addition<'a>,
        identity: Identity<'a>,
        measured: &'a Measured,
        now: Timestamp,
    ) -> Result<(), Error> {
        let sent = &measured.sent;
        self.last_arrival = now.as_micros().max(self.last_arrival + 1);
        let arrival = self.last_arrival;
        for (meter, reading) in &measured.readings {
            let total = Total::one(reading.value, sent.at_ns, arrival);
            let cell = minute(identity.tenant, meter, &reading.group, sent.at_ns);
            tally::add(&mut addition.minutes, cell, &total)?;
        }
        addition.events.push(NewEvent { identity, kind: &sent.kind, at_ns: sent.at_ns, arrival, body: &sent.body });
        Ok(())
    }

    /// Writes the totals, and what of them belongs to months that are closed.
    async fn put(&mut self, tx: &mut Tx, minutes: Totals, now: Timestamp) -> Result<(), Error> {
        let late = rules::adjustments(&minutes, now, self.grace_s)?;
        let late: Vec<_> = late.into_iter().map(|late| (uuid_v7(now, &*self.rng), late)).collect();
        tx.adjustments_insert(&late, now).await?;
        let more = with_longer_windows(&minutes)?;
        let unknown = self.tally.unknown(&more);
        let read = match unknown.as_slice() {
            [] => Vec::new(),
            cells => tx.totals_of_writer(self.tally.writer(), cells).await?,
        };
        let totals = self.tally.with(more, read)?;
        tx.totals_put(self.tally.writer(), &totals).await?;
        // Should the commit fail, the writer is renewed.
        self.tally.remember(totals);
        Ok(())
    }
}

/// The events of some batches, and who each is.
fn identified<'a>(
    batches: &'a [&Batch],
    tenants: &HashMap<&str, TenantId>,
) -> impl Iterator<Item = (Identity<'a>, &'a str)> {
    batches.iter().flat_map(|batch| &batch.events).filter_map(|Measured { sent, .. }| {
        let tenant = *tenants.get(sent.subject.as_str())?;
        Some((Identity { tenant, source: &sent.source, id: &sent.id }, sent.body.as_str()))
    })
}

/// Those events of the batches that are kept already.
async fn kept(tx: &mut Tx, batches: &[&Batch], tenants: &HashMap<&str, TenantId>) -> Result<Vec<Event>, Error> {
    let identities: Vec<Identity<'_>> = identified(batches, tenants).map(|(identity, _)| identity).collect();
    Ok(tx.events_known(&identities).await?)
}

/// What those events said before they were amended that are kept with another content than they are sent with.
async fn said_before(
    tx: &mut Tx,
    batches: &[&Batch],
    tenants: &HashMap<&str, TenantId>,
    bodies: &HashMap<Identity<'_>, &str>,
) -> Result<HashSet<(Uuid, String)>, Error> {
    let differs = |(identity, body): &(Identity<'_>, &str)| bodies.get(identity).is_some_and(|kept| kept != body);
    let keys: HashSet<Uuid> =
        identified(batches, tenants).filter(differs).map(|(identity, _)| identity.key()).collect();
    let corrections = tx.corrections(&keys.into_iter().collect::<Vec<_>>()).await?;
    let earlier = |correction: Correction| Some((correction.event, correction.before?.body));
    Ok(corrections.into_iter().filter_map(earlier).collect())
}

/// What becomes of a batch.
struct Admitted<'a> {
    outcomes: Vec<Outcome>,
    new: Vec<(Identity<'a>, &'a Measured)>,
}

impl<'a> Admitted<'a> {
    /// Makes a batch's new events known; or says why it is refused, and then nothing of it is known.
    fn of(batch: &'a Batch, tenants: &HashMap<&str, TenantId>, known: &mut Known<'a>) -> Result<Self, Error> {
        let count = batch.events.len();
        let mut admitted = Self { outcomes: Vec::with_capacity(count), new: Vec::with_capacity(count) };
        for (index, measured) in batch.events.iter().enumerate() {
            let tenant = tenant_of(batch, index, tenants);
            match tenant.and_then(|tenant| admitted.look(tenant, index, measured, known)) {
                Ok(outcome) => admitted.outcomes.push(outcome),
                Err(refusal) => {
                    for (identity, _) in admitted.new {
                        known.bodies.remove(&identity);
                    }
                    return Err(refusal);
                }
            }
        }
        Ok(admitted)
    }

    fn look(
        &mut self,
        tenant: TenantId,
        index: usize,
        measured: &'a Measured,
        known: &mut Known<'a>,
    ) -> Result<Outcome, Error> {
        let sent = &measured.sent;
        let identity = Identity { tenant, source: &sent.source, id: &sent.id };
        match known.bodies.entry(identity) {
            Entry::Vacant(entry) => {
                entry.insert(&sent.body);
                self.new.push((identity, measured));
                Ok(Outcome::Counted)
            }
            Entry::Occupied(entry) if **entry.get() == sent.body => Ok(Outcome::Known),
            // Who sent it may not have heard of the amendment.
            Entry::Occupied(_) if known.earlier.contains(&(identity.key(), sent.body.clone())) => Ok(Outcome::Known),
            Entry::Occupied(entry) => {
                let digest = |body: &str| blake3::hash(body.as_bytes()).as_bytes().to_vec();
                let (kept, sent_digest) = (digest(entry.get()), digest(&sent.body));
                Err(Error::Conflict(Conflict { index, id: sent.id.clone(), kept, sent: sent_digest }))
            }
        }
    }
}

/// Whose an event is. A tenant learns nothing about others, not even that they are there.
fn tenant_of(batch: &Batch, index: usize, tenants: &HashMap<&str, TenantId>) -> Result<TenantId, Error> {
    let subject = &batch.events[index].sent.subject;
    let field = || batch.field(index, "subject");
    match (tenants.get(subject.as_str()), batch.own) {
        (found, Some(own)) if found.is_none_or(|found| *found != own) => Err(Error::ForeignSubject(field())),
        (Some(tenant), _) => Ok(*tenant),
        (None, _) => Err(Error::UnknownSubject { field: field(), subject: subject.clone() }),
    }
}

/// The minute that an event falls into.
pub fn minute(tenant: TenantId, meter: &MeterKey, group: &Arc<str>, at_ns: i64) -> Cell {
    let at = Timestamp::from_micros(at_ns.div_euclid(1_000)).unwrap_or(Timestamp::MIN);
    let (meter, group) = (meter.clone(), Arc::clone(group));
    Cell { tenant, meter, unit: CalendarUnit::Minute, start: at.floor_minute(), group }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::{ManualClock, Quantity, SeededRng},
        metering::{event::Sent, meter::Reading},
        tenants::{Status, Tenant},
    };

    fn batch(tenant: TenantId, id: &str, value: &str) -> Arc<Batch> {
        let sent = Sent {
            id: id.into(),
            source: "test".into(),
            kind: "prompt".into(),
            subject: tenant.to_string(),
            at_ns: 0,
            body: "{}".into(),
            data: serde_json::Value::Null,
        };
        let reading = Reading { value: value.parse().unwrap(), text: String::new(), group: rules::group_of_route("/") };
        let readings = vec![("tokens".parse().unwrap(), reading)];
        Arc::new(Batch { events: vec![Measured { sent, readings }], own: None, listed: false, meters: 0 })
    }

    #[tokio::test]
    async fn what_cannot_be_added_up_is_refused_however_often_it_is_sent_and_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&folder.path().join("test.db")).await.unwrap();
        let now: Timestamp = "2026-11-10T12:00:00Z".parse().unwrap();
        let (clock, rng) = (Arc::new(ManualClock::new(now)), Arc::new(SeededRng::new(1)));
        let tenant = TenantId::generate(now, &*rng);
        let mut tx = store.begin(Scope::Job("test")).await.unwrap();
        let named = Tenant {
            id: tenant,
            customer_name: "Acme".parse().unwrap(),
            external_id: None,
            tier: "free".parse().unwrap(),
            status: Status::Active,
            unavailable: None,
            revision: 1,
            created_at: now,
        };
        assert!(tx.tenant_insert(&named).await.unwrap());
        tx.commit().await.unwrap();
        let mut committer = Committer::new(store, clock, rng, i64::MAX / 2);
        // A total that is nearly full.
        let cell = minute(tenant, &"tokens".parse().unwrap(), &rules::group_of_route("/"), 0);
        let full: Quantity = "9999999999999999999999999999".parse().unwrap();
        let totals = [(cell, Total::one(full, 0, 0))].into();
        committer.tally.remember(with_longer_windows(&totals).unwrap().into_iter().collect());
        for id in ["1", "2", "3"] {
            let (bad, refused) = Job::new(batch(tenant, id, "0.5"));
            let (good, taken) = Job::new(batch(tenant, &format!("good {id}"), "0"));
            committer.commit(vec![bad, good]).await;
            assert!(matches!(refused.await, Ok(Err(Error::Inexact { .. }))), "{id}");
            assert_eq!(taken.await.unwrap().unwrap(), [Outcome::Counted], "{id}");
        }
    }
}
