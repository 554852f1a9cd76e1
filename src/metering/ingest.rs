//! Taking events in: claim, event and totals in one transaction, shared by all who wait; the answer after its commit.
//!
//! Whoever comes while a commit runs waits for the next one, which takes all of them. A request's events are taken all
//! or none. The same event again is taken and counts nothing; the same id with another content refuses its request,
//! and no other. A caller that goes away breaks its commit off; those who waited with it try again, which is safe
//! because an event is known by its identity.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{
    Mutex as AsyncMutex, MutexGuard,
    oneshot::{self, error::TryRecvError},
};
use uuid::Uuid;

use super::{
    error::Error,
    meter::Reading,
    model::{Adjustment, Cell, Conflict, Event, MeterKey, Total},
    tally::{self, Tally, Totals, with_longer_windows},
};
use crate::{
    kernel::{CalendarUnit, Clock, Period, Rng, Timestamp, ids::uuid_v7, rng::random_bytes},
    store::{Scope, Store, Tx},
};

/// Events of one transaction, about.
const MOST_EVENTS: usize = 5_000;
/// How often a request that lost its commit to another's going away, or to another node, is tried again.
const ATTEMPTS: usize = 5;

/// An event with what the meters read in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// The event; its `arrival` is set when it is taken.
    pub event: Event,
    /// What each meter of its type reads.
    pub readings: Vec<(MeterKey, Reading)>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Taken and counted.
    Counted,
    /// Known already: counted then.
    Known,
}

type Answer = Result<Vec<Outcome>, Error>;

struct Job {
    events: Arc<Vec<Measured>>,
    generation: u64,
    reply: oneshot::Sender<Answer>,
}

/// Takes events in; cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    queue: Arc<Mutex<Vec<Job>>>,
    committer: Arc<AsyncMutex<Committer>>,
    /// Grows when meters come or go.
    generation: Arc<AtomicU64>,
}

/// While this is held nothing is taken in.
pub(super) struct Paused<'a> {
    committer: MutexGuard<'a, Committer>,
    generation: &'a AtomicU64,
}

impl Paused<'_> {
    /// Events that were measured before this are measured again; totals that are remembered are given up.
    pub(super) fn meters_changed(&mut self) {
        self.committer.tally.renew();
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

impl Ingest {
    /// Over a store; `grace_s` after its end a month is closed.
    pub fn new(store: Store, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>, grace_s: i64) -> Self {
        let tally = Tally::new(Uuid::from_bytes(random_bytes(&*rng)));
        let committer = Committer { store, clock, rng, tally, grace_s, last_arrival: 0, broken_off: false };
        Self { queue: Arc::default(), committer: Arc::new(AsyncMutex::new(committer)), generation: Arc::default() }
    }

    /// Which meters are known: events must be measured by these.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Waits for the commit under way and holds up the next.
    pub(super) async fn pause(&self) -> Paused<'_> {
        Paused { committer: self.committer.lock().await, generation: &self.generation }
    }

    /// Takes one request's events, all or none; what became of each. They were measured by the meters of a generation.
    pub async fn take(&self, events: Vec<Measured>, generation: u64) -> Answer {
        let events = Arc::new(events);
        for _ in 0..ATTEMPTS {
            let (reply, mut answer) = oneshot::channel();
            self.lock_queue().push(Job { events: Arc::clone(&events), generation, reply });
            loop {
                let mut committer = self.committer.lock().await;
                match answer.try_recv() {
                    // Whoever held the committer before has taken this job along.
                    Ok(Err(Error::CursorMoved)) | Err(TryRecvError::Closed) => break,
                    Ok(answer) => return answer,
                    Err(TryRecvError::Empty) => {
                        let (stale, jobs) =
                            self.next_jobs().into_iter().partition(|job: &Job| job.generation != self.generation());
                        refuse_stale(stale);
                        committer.commit(jobs).await;
                    }
                }
            }
        }
        Err(Error::Stopped)
    }

    fn lock_queue(&self) -> std::sync::MutexGuard<'_, Vec<Job>> {
        // Held for a push or a split, neither of which panics.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest jobs, of about as many events as one transaction takes; the caller's is the newest of its own time
    /// and may stay for the next.
    fn next_jobs(&self) -> Vec<Job> {
        let mut queue = self.lock_queue();
        let mut events = 0;
        let fits = |job: &Job| {
            let fits = events == 0 || events + job.events.len() <= MOST_EVENTS;
            events += job.events.len();
            fits
        };
        let count = queue.iter().map(fits).take_while(|fits| *fits).count();
        queue.drain(..count).collect()
    }
}

fn refuse_stale(jobs: Vec<Job>) {
    for job in jobs {
        drop(job.reply.send(Err(Error::MetersChanged)));
    }
}

struct Committer {
    store: Store,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    tally: Tally,
    grace_s: i64,
    last_arrival: i64,
    broken_off: bool,
}

/// What a transaction adds.
#[derive(Default)]
struct Addition {
    events: Vec<Event>,
    minutes: Totals,
}

impl Committer {
    async fn commit(&mut self, jobs: Vec<Job>) {
        if std::mem::replace(&mut self.broken_off, true) {
            self.tally.renew();
        }
        match self.try_commit(&jobs).await {
            Ok(answers) => {
                self.broken_off = false;
                for (job, answer) in jobs.into_iter().zip(answers) {
                    // Whoever is gone does not want to know.
                    drop(job.reply.send(answer));
                }
            }
            Err(error) => {
                let mut error = Some(error);
                for job in jobs {
                    // The first learns the cause; the others try again by themselves.
                    drop(job.reply.send(Err(error.take().unwrap_or(Error::CursorMoved))));
                }
            }
        }
    }

    async fn try_commit(&mut self, jobs: &[Job]) -> Result<Vec<Answer>, Error> {
        let mut tx = self.store.begin(Scope::Job("ingest")).await?;
        let keys: Vec<Uuid> =
            jobs.iter().flat_map(|job| job.events.iter().map(|measured| measured.event.key)).collect();
        let mut known = tx.event_digests(&keys).await?;
        let now = self.clock.now();
        let mut addition = Addition::default();
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            answers.push(self.admit(job, &mut known, &mut addition, now)?);
        }
        if !addition.events.is_empty() {
            let wanted = addition.events.len() as u64;
            if tx.events_insert(&addition.events).await? != wanted {
                // Another node took one of them between the two statements: everything is looked at again.
                return Err(Error::CursorMoved);
            }
            self.put(&mut tx, addition.minutes, now).await?;
        }
        tx.commit().await?;
        Ok(answers)
    }

    /// Adds one request's new events, or none of them when one is refused.
    fn admit(
        &mut self,
        job: &Job,
        known: &mut HashMap<Uuid, Vec<u8>>,
        addition: &mut Addition,
        now: Timestamp,
    ) -> Result<Answer, Error> {
        let mut own: HashMap<Uuid, &Measured> = HashMap::new();
        let mut outcomes = Vec::with_capacity(job.events.len());
        for (index, measured) in job.events.iter().enumerate() {
            let event = &measured.event;
            let kept = known.get(&event.key).or_else(|| own.get(&event.key).map(|own| &own.event.digest));
            outcomes.push(match kept {
                None => {
                    own.insert(event.key, measured);
                    Outcome::Counted
                }
                Some(kept) if *kept == event.digest => Outcome::Known,
                Some(kept) => {
                    let (kept, sent) = (kept.clone(), event.digest.clone());
                    return Ok(Err(Error::Conflict(Conflict { index, id: event.id.clone(), kept, sent })));
                }
            });
        }
        for measured in job.events.iter().filter(|measured| own.remove(&measured.event.key).is_some()) {
            self.last_arrival = now.as_micros().max(self.last_arrival + 1);
            let event = Event { arrival: self.last_arrival, ..measured.event.clone() };
            known.insert(event.key, event.digest.clone());
            for (meter, reading) in &measured.readings {
                let total = Total::one(reading.value, event.at_ns, event.arrival);
                tally::add(&mut addition.minutes, cell(&event, meter, &reading.group), &total)?;
            }
            addition.events.push(event);
        }
        Ok(Ok(outcomes))
    }

    /// Writes the totals, and what of them belongs to months that are closed.
    async fn put(&mut self, tx: &mut Tx, minutes: Totals, now: Timestamp) -> Result<(), Error> {
        let late = adjustments(&minutes, now, self.grace_s);
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

/// The minute that an event falls into.
pub fn cell(event: &Event, meter: &MeterKey, group: &Arc<str>) -> Cell {
    let at = Timestamp::from_micros(event.at_ns.div_euclid(1_000)).unwrap_or(Timestamp::MIN);
    Cell {
        tenant: event.tenant,
        meter: meter.clone(),
        unit: CalendarUnit::Minute,
        start: at.floor_minute(),
        group: Arc::clone(group),
    }
}

/// What of some minutes belongs to months that are closed by now: `grace_s` after their end.
pub fn adjustments(minutes: &Totals, now: Timestamp, grace_s: i64) -> Vec<Adjustment> {
    let closed = |(cell, total): (&Cell, &Total)| {
        let month = Period::containing(cell.start, CalendarUnit::Month);
        (month.to().plus_secs(grace_s) <= now).then(|| Adjustment {
            tenant: cell.tenant,
            meter: cell.meter.clone(),
            month: month.from(),
            group: Arc::clone(&cell.group),
            count: total.count,
            sum: total.sum,
        })
    };
    minutes.iter().filter_map(closed).collect()
}
