//! Use cases of metering.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    error::Error,
    event::TimeLimits,
    health::Rolls,
    ingest::Ingest,
    journal::{self, Chain, Flusher, Folder, Identity, Journal, JournalError, Options, Record, Reservation},
    meters::Meters,
    model::{Counted, Cursor, MeterKey},
    roller::{Roller, StoreLedger},
    rounds::Rounds,
    routed::Unread,
    windows,
};
use crate::{
    kernel::{CalendarUnit, Clock, NodeId, Quantity, Rng, Timestamp, rng::random_bytes},
    store::{Scope, Store},
};

/// A meter that comes with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StockMeter {
    /// Its key; its place in [`STOCK_METERS`] is its number in the journal.
    pub key: &'static str,
    /// What it counts.
    pub description: &'static str,
    /// The unit of its quantities.
    pub unit: &'static str,
}

/// The stock meters (contract, section 4). A meter's index is its number in journal records.
pub const STOCK_METERS: [StockMeter; 5] = [
    StockMeter { key: "apis", description: "requests answered by the upstream", unit: "request" },
    StockMeter { key: "compute", description: "upstream work", unit: "millisecond" },
    StockMeter { key: "memory", description: "memory held, as the upstream reports it", unit: "megabyte-second" },
    StockMeter { key: "egress_bytes", description: "bytes of response bodies", unit: "byte" },
    StockMeter { key: "ingress_bytes", description: "bytes of request bodies", unit: "byte" },
];

/// Of the time, counting takes one part in so many.
const COUNTING_SHARE: u32 = 10;
/// Whatever counting takes, it is not put off longer than this. (Whoever asks for usage has it counted at once.)
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Where and how the journal is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the journal, which is made when it is not there.
    pub folder: PathBuf,
    /// Goes on when records are damaged that the disk had, which loses them.
    pub accept_loss: bool,
    /// How it is kept.
    pub options: Options,
    /// So many seconds after its end a month is closed: what comes later is an adjustment.
    pub late_after_s: i64,
    /// Events this old are taken, in seconds.
    pub events_back_s: i64,
    /// Events this far ahead are taken, in seconds.
    pub events_ahead_s: i64,
}

/// The metering service; cheap to clone.
#[derive(Clone)]
pub struct Metering {
    pub(super) store: Store,
    pub(super) meters: Meters,
    pub(super) ingest: Ingest,
    pub(super) late_after_s: i64,
    events_back_s: i64,
    events_ahead_s: i64,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Arc<dyn Rng>,
    pub(super) journal: Journal,
    _flusher: Arc<Flusher>,
    roller: Arc<Mutex<Roller<StoreLedger>>>,
    rounds: Arc<Rounds>,
    pub(super) unread: Unread,
    pub(super) rolls: Arc<std::sync::Mutex<Rolls>>,
    /// What must come to its end though nobody waits for it.
    pub(super) tasks: TaskTracker,
}

impl Metering {
    /// Opens the journal and counts what earlier processes left in it; commits of events are tasks of `tasks`. Reads files:
    /// call it before serving.
    pub async fn open(
        store: Store,
        settings: Settings,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        tasks: TaskTracker,
    ) -> Result<Self, Error> {
        let Settings { folder, accept_loss, options, late_after_s, events_back_s, events_ahead_s } = settings;
        let path = folder.display().to_string();
        let unusable = move |source| JournalError::Io { verb: "use", path, source };
        let disk = Arc::new(Folder::open(folder).map_err(unusable)?);
        let past = journal::recover(&*disk, &counted(&store).await?, accept_loss)?;
        let identity = identify(&store, past.identity(), clock.now(), &*rng).await?;
        let journal = Journal::begin(disk, options, &past, identity, Arc::clone(&clock))?;
        let started = Flusher::start(&journal);
        let flusher =
            started.map_err(|source| JournalError::Io { verb: "start", path: "its flusher".into(), source })?;
        note_counted_before(&store).await?;
        let ledger = StoreLedger { store: store.clone(), rng: Arc::clone(&rng) };
        let roller =
            Roller::new(journal.clone(), ledger).accepting_loss(accept_loss).closing_months_after(late_after_s);
        let roller = Arc::new(Mutex::new(roller));
        let metering = Self {
            meters: Meters::open(&store).await?,
            ingest: Ingest::new(store.clone(), Arc::clone(&clock), Arc::clone(&rng), late_after_s, tasks.clone()),
            store,
            late_after_s,
            events_back_s,
            events_ahead_s,
            clock,
            rng,
            journal,
            _flusher: Arc::new(flusher),
            roller,
            rounds: Arc::default(),
            unread: Unread::default(),
            rolls: Arc::default(),
            tasks,
        };
        metering.catch_up().await?;
        Ok(metering)
    }

    /// Random bytes, for whoever makes ids.
    pub fn rng(&self) -> &dyn Rng {
        &*self.rng
    }

    /// Which times of events are taken now.
    pub fn time_limits(&self) -> TimeLimits {
        TimeLimits { now: self.clock.now(), back_s: self.events_back_s, ahead_s: self.events_ahead_s }
    }

    /// Room for the record of a request that is about to be forwarded.
    pub fn reserve(&self) -> Result<Reservation, JournalError> {
        self.journal.reserve()
    }

    /// Writes the record of a settled request; its sequence number.
    pub fn record(&self, reservation: Reservation, record: &Record) -> Result<u64, JournalError> {
        reservation.append(record)
    }

    /// Waits until the disk has a record.
    pub async fn durable(&self, seq: u64) -> Result<(), JournalError> {
        self.journal.durable(seq).await
    }

    /// Gives names to route numbers, those that had one and more behind them, and to numbers of further meters. With a new
    /// number nothing may be recorded before this returned.
    pub async fn name(&self, more_meters: &[&str], routes: Vec<String>) -> Result<(), JournalError> {
        let journal = self.journal.clone();
        let mut meters = journal.meter_names();
        for meter in more_meters {
            if !meters.iter().any(|known| known == meter) {
                meters.push((*meter).to_owned());
            }
        }
        let done = tokio::task::spawn_blocking(move || journal.name(&meters, &routes)).await;
        // A thread that panicked has said so.
        done.unwrap_or(Err(JournalError::Unavailable))
    }

    /// Counts everything that was recorded on this node before the call. Whoever waits for one round shares the next.
    pub async fn catch_up(&self) -> Result<(), Error> {
        let asked = self.rounds.now();
        let mut roller = self.roller.lock().await;
        if self.rounds.done_since(asked) {
            return Ok(());
        }
        let round = self.rounds.begin();
        let result = roller.catch_up(&*self.clock).await;
        if result.is_ok() {
            self.rounds.done(round);
        }
        self.note_roll(&result);
        result
    }

    /// Counts at an interval until told to stop, and looks for meters that other nodes made. Where many tenants call,
    /// counting takes long, and the interval grows with it: more records are then counted together, for each tenant once.
    pub async fn run(self, every: Duration, stop: CancellationToken) {
        let mut pause = every;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let begun = tokio::time::Instant::now();
            if let Err(error) = self.catch_up().await {
                tracing::error!(error = crate::kernel::fault::chain(&error), "usage is recorded but not counted yet");
            }
            pause = (begun.elapsed() * (COUNTING_SHARE - 1)).clamp(every, every.max(LONGEST_PAUSE));
            if let Err(error) = self.meters.refresh(&self.store).await {
                tracing::warn!(error = crate::kernel::fault::chain(&error), "meters of other nodes are not known yet");
            }
        }
    }

    /// Counts what is left, syncs the journal and takes no more records.
    pub async fn close(&self) -> Result<(), Error> {
        let journal = self.journal.clone();
        tokio::task::spawn_blocking(move || journal.close()).await.map_err(|_| Error::Stopped)?;
        self.catch_up().await
    }
}

/// In a ledger that was kept before journals had their counts: what it has of them all, as of nobody in particular.
async fn note_counted_before(store: &Store) -> Result<(), Error> {
    let mut tx = store.begin(Scope::Job("journal")).await?;
    if !tx.journal_counted(None).await?.is_empty() || tx.journal_cursors().await?.is_empty() {
        return Ok(());
    }
    for stock in STOCK_METERS {
        let Ok(meter) = stock.key.parse::<MeterKey>() else { continue };
        let mut sum = Counted { meter: meter.clone(), count: 0, sum: Quantity::ZERO };
        for found in tx.totals(None, &meter, &[windows::always(CalendarUnit::Month)]).await? {
            sum = sum.and(&Counted { meter: meter.clone(), count: found.total.count, sum: found.total.sum })?;
        }
        tx.journal_counted_before(&sum).await?;
    }
    Ok(tx.commit().await?)
}

/// How far each process is counted.
async fn counted(store: &Store) -> Result<journal::Counted, Error> {
    let cursors = store.read(Scope::Job("journal")).await?.journal_cursors().await?;
    let chain =
        |Cursor { seq, hash }: Cursor| Some(Chain { seq: u64::try_from(seq).ok()?, hash: hash.try_into().ok()? });
    Ok(cursors.into_iter().filter_map(|(boot, cursor)| Some((boot, chain(cursor)?))).collect())
}

/// Who this process is for the ledger: the folder's node, one start further. A folder whose next start is taken was
/// copied, put back from a backup, or interrupted just then; it goes on as a new node.
async fn identify(store: &Store, before: Option<Identity>, now: Timestamp, rng: &dyn Rng) -> Result<Identity, Error> {
    let new = || Identity { node: NodeId::generate(now, rng), epoch: 1, boot: Uuid::from_bytes(random_bytes(rng)) };
    let mut identity = match before {
        Some(before) => Identity { epoch: before.epoch + 1, node: before.node, ..new() },
        None => new(),
    };
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut tx = store.begin(Scope::Job("journal")).await?;
    let free = tx.journal_last_epoch(identity.node).await? < number(identity.epoch);
    if !(free && tx.journal_start_insert(identity.node, number(identity.epoch), identity.boot, now).await?) {
        tracing::warn!(
            node = %identity.node, epoch = identity.epoch,
            "the ledger knows a later start of this data folder: it was copied or put back; it goes on as a new node"
        );
        identity = new();
        tx.journal_start_insert(identity.node, number(identity.epoch), identity.boot, now).await?;
    }
    tx.commit().await?;
    Ok(identity)
}
