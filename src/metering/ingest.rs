//! Taking events in: claim, event and totals in one transaction, shared by all who wait; the answer after its commit.
//!
//! Whoever comes while a commit runs waits for the next one, which takes all of them. A request's events are taken all
//! or none. The same event again is taken and counts nothing; the same id with another content refuses its request,
//! and no other. Commits run in a task of their own while there is anything to commit, so a caller that goes away
//! breaks nothing off.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard, oneshot};
use tokio_util::task::TaskTracker;

use super::{commit::Committer, error::Error, event::Sent, meter::Reading, model::MeterKey};
use crate::{
    kernel::{Clock, Rng, TenantId},
    store::Store,
};

/// Events of one transaction, about.
const MOST_EVENTS: usize = 5_000;
/// The most that waits for a commit, in bytes of events and of what goes with each.
const MOST_WAITING: usize = 32 << 20;
/// What goes with an event, in bytes, about.
const BESIDE_BODY: usize = 512;
/// How often a request that lost its commit to another's fault, or to another node, is tried again.
const ATTEMPTS: usize = 5;

/// An event with what the meters of its type read in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The event.
    pub sent: Sent,
    /// What each meter reads.
    pub readings: Vec<(MeterKey, Reading)>,
}

/// The events of one request.
#[derive(Debug, Clone)]
pub struct Batch {
    /// In order.
    pub events: Vec<Measured>,
    /// The tenant whose token it came with: the only one it may name.
    pub own: Option<TenantId>,
    /// Whether it was sent as a list, so that faults name an event's place in it.
    pub listed: bool,
    /// The version of the meters it was measured by.
    pub meters: i64,
}

impl Batch {
    /// What it takes while it waits, in bytes, about.
    fn weight(&self) -> usize {
        self.events.iter().map(|event| event.sent.body.len() + BESIDE_BODY).sum()
    }

    /// What a member of an event is called in faults.
    pub fn field(&self, index: usize, name: &str) -> String {
        if self.listed { format!("[{index}].{name}") } else { name.to_owned() }
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Taken and counted.
    Counted,
    /// Known already: counted then.
    Known,
}

/// What became of a batch.
pub(super) type Answer = Result<Vec<Outcome>, Error>;

/// A batch and who waits for it.
pub(super) struct Job {
    /// What is to be taken in.
    pub(super) batch: Arc<Batch>,
    reply: oneshot::Sender<Answer>,
}

impl Job {
    /// Whoever waits has the other end.
    pub(super) fn new(batch: Arc<Batch>) -> (Self, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        (Self { batch, reply }, answer)
    }

    /// Tells whoever waits; who is gone does not want to know.
    pub(super) fn answer(self, answer: Answer) {
        drop(self.reply.send(answer));
    }
}

/// Takes events in; cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    queue: Arc<Mutex<Queue>>,
    committer: Arc<AsyncMutex<Committer>>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// The weight of all jobs.
    waiting: usize,
    /// Whether a task commits what is queued.
    committing: bool,
}

/// While this is held nothing is taken in.
pub(super) struct Paused<'a> {
    _committer: MutexGuard<'a, Committer>,
}

impl Ingest {
    /// Over a store; `grace_s` after its end a month is closed. Commits are tasks of `tasks`.
    pub fn new(store: Store, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>, grace_s: i64, tasks: TaskTracker) -> Self {
        let committer = Arc::new(AsyncMutex::new(Committer::new(store, clock, rng, grace_s)));
        Self { queue: Arc::default(), committer, tasks }
    }

    /// Waits for the commit under way and holds up the next.
    pub(super) async fn pause(&self) -> Paused<'_> {
        Paused { _committer: self.committer.lock().await }
    }

    /// Takes a batch in, all of it or nothing; what became of each event.
    pub async fn take(&self, batch: Arc<Batch>) -> Result<Vec<Outcome>, Error> {
        for _ in 0..ATTEMPTS {
            let (job, answer) = Job::new(Arc::clone(&batch));
            self.queue(job)?;
            match answer.await {
                Ok(Err(Error::TryAgain)) | Err(_) => {}
                Ok(answer) => return answer,
            }
        }
        Err(Error::TryAgain)
    }

    fn queue(&self, job: Job) -> Result<(), Error> {
        let weight = job.batch.weight();
        let mut queue = self.lock_queue();
        // Whatever is alone is taken.
        if queue.waiting > 0 && queue.waiting + weight > MOST_WAITING {
            return Err(Error::Crowded);
        }
        queue.waiting += weight;
        queue.jobs.push_back(job);
        if !std::mem::replace(&mut queue.committing, true) {
            self.tasks.spawn(self.clone().commit());
        }
        Ok(())
    }

    fn lock_queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        // Held for moves of jobs only, which do not panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits until nobody waits.
    async fn commit(self) {
        let task = Task(&self);
        loop {
            let mut committer = self.committer.lock().await;
            let jobs = self.next_jobs();
            if jobs.is_empty() {
                break;
            }
            committer.commit(jobs).await;
        }
        std::mem::forget(task);
    }

    /// The oldest jobs, of about as many events as one transaction takes. When there are none the task is over.
    fn next_jobs(&self) -> Vec<Job> {
        let mut queue = self.lock_queue();
        let mut events = 0;
        let fits = |job: &Job| {
            let fits = events == 0 || events + job.batch.events.len() <= MOST_EVENTS;
            events += job.batch.events.len();
            fits
        };
        let count = queue.jobs.iter().map(fits).take_while(|fits| *fits).count();
        queue.committing = count > 0;
        let jobs: Vec<Job> = queue.jobs.drain(..count).collect();
        queue.waiting -= jobs.iter().map(|job| job.batch.weight()).sum::<usize>();
        jobs
    }
}

/// A committing task that ends before its time, by a panic or with the runtime, leaves nobody waiting.
struct Task<'a>(&'a Ingest);

impl Drop for Task<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock_queue();
        queue.committing = false;
        queue.jobs.clear();
        queue.waiting = 0;
    }
}
