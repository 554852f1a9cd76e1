//! The roller: turns ranges of the journal into totals, each range once.
//!
//! Totals and cursor move in one transaction; each process that wrote a journal has a cursor of its own, so a folder
//! that was copied, or put back from a backup, counts nothing twice and loses nothing. Cells are written as absolute
//! values under this process's own boot nonce, so no other writer touches them; recent ones are kept
//! in memory (`tally.rs`).

use std::{collections::BTreeMap, future::Future, sync::Arc};

use uuid::Uuid;

use super::{
    error::Error,
    journal::{Batch, Chain, Journal, Reader},
    minutes,
    model::{Adjustment, Cell, Counted, Cursor, MeterKey, Total},
    rules,
    tally::{Tally, Totals, with_longer_windows},
};
use crate::{
    kernel::{Clock, Rng, Timestamp, ids::uuid_v7},
    store::{Scope, Store},
};

/// Records read at once, about.
const BATCH: usize = 4_000;
/// Cells by minute of one transaction, about; as many are written for each of the three longer windows at most. What is
/// counted together is written once, so more is cheaper; a cell takes about 2 KB until it is written.
const CELLS: usize = 200_000;

/// Where totals go: the store, or a model of it in tests.
pub trait Ledger: Send + Sync {
    /// The last record of a process that was counted; `None` when none was.
    fn counted(&self, boot: Uuid) -> impl Future<Output = Result<Option<u64>, Error>> + Send;

    /// What one writer has counted for some cells.
    fn totals(&self, writer: Uuid, cells: &[Cell]) -> impl Future<Output = Result<Vec<(Cell, Total)>, Error>> + Send;

    /// Counts a range: all of it or nothing.
    fn count(&self, range: Range<'_>) -> impl Future<Output = Result<(), Error>> + Send;
}

/// A range of one process's journal, and what the totals are with it.
#[derive(Debug, Clone, Copy)]
pub struct Range<'a> {
    /// Whose journal.
    pub boot: Uuid,
    /// The last record that was counted before; somebody else having counted more is [`Error::CursorMoved`].
    pub from: Option<u64>,
    /// The end of the range.
    pub to: Chain,
    /// Who counts.
    pub writer: Uuid,
    /// The writer's new totals of the cells that the range touches.
    pub totals: &'a [(Cell, Total)],
    /// What the range adds to each meter, all in all.
    pub added: &'a [Counted],
    /// What of the range belongs to months that are closed.
    pub late: &'a [Adjustment],
    /// When.
    pub now: Timestamp,
}

/// The ledger in the store.
#[derive(Clone)]
pub struct StoreLedger {
    /// Where.
    pub store: Store,
    /// For ids.
    pub rng: Arc<dyn Rng>,
}

impl Ledger for StoreLedger {
    async fn counted(&self, boot: Uuid) -> Result<Option<u64>, Error> {
        let cursor = self.store.read(Scope::Job("roller")).await?.journal_cursor(boot).await?;
        Ok(cursor.map(|cursor| u64::try_from(cursor.seq).unwrap_or(0)))
    }

    async fn totals(&self, writer: Uuid, cells: &[Cell]) -> Result<Vec<(Cell, Total)>, Error> {
        Ok(self.store.read(Scope::Job("roller")).await?.totals_of_writer(writer, cells).await?)
    }

    async fn count(&self, range: Range<'_>) -> Result<(), Error> {
        let Range { boot, from, to, writer, totals, added, late, now } = range;
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let to = Cursor { seq: number(to.seq), hash: to.hash.to_vec() };
        let mut tx = self.store.begin(Scope::Job("roller")).await?;
        if !tx.journal_cursor_move(boot, from.map(number), &to, now).await? {
            return Err(Error::CursorMoved);
        }
        tx.totals_put(writer, totals).await?;
        let before = tx.journal_counted(Some(boot)).await?;
        for added in added {
            let known = before.iter().find(|(_, known)| known.meter == added.meter);
            let both = match known {
                None => added.clone(),
                Some((_, known)) => known.and(added)?,
            };
            tx.journal_counted_put(boot, &both).await?;
        }
        let late: Vec<_> = late.iter().map(|late| (uuid_v7(now, &*self.rng), late.clone())).collect();
        tx.adjustments_insert(&late, now).await?;
        Ok(tx.commit().await?)
    }
}

/// Rolls one journal.
pub struct Roller<L> {
    journal: Journal,
    ledger: L,
    reader: Option<Reader>,
    /// What was read and belongs to the next range.
    ahead: Option<Batch>,
    /// How far the process whose records are being read is counted.
    counted: Option<(Uuid, Option<u64>)>,
    /// What this process has counted.
    tally: Tally,
    /// The last round did not come to its end.
    broken_off: bool,
    /// Records that are gone before they were counted are passed over.
    accept_loss: bool,
    /// So many seconds after its end a month is closed.
    grace_s: i64,
}

impl<L: Ledger> Roller<L> {
    /// Goes on after what the ledger has counted.
    pub fn new(journal: Journal, ledger: L) -> Self {
        let reader = Some(Reader::new(&journal));
        let tally = Tally::new(journal.identity().boot);
        Self {
            journal,
            ledger,
            reader,
            ahead: None,
            counted: None,
            tally,
            broken_off: false,
            accept_loss: false,
            grace_s: i64::MAX,
        }
    }

    /// Passes over records that are gone before they were counted, which loses them.
    #[must_use]
    pub const fn accepting_loss(mut self, accept_loss: bool) -> Self {
        self.accept_loss = accept_loss;
        self
    }

    /// Notes what comes to months later than so many seconds after their end.
    #[must_use]
    pub const fn closing_months_after(mut self, grace_s: i64) -> Self {
        self.grace_s = grace_s;
        self
    }

    /// After a transaction that failed, or that nobody waited for: what was read is read again, cursors come from the
    /// ledger, and totals go on under another writer.
    fn start_over(&mut self) {
        self.reader = Some(Reader::new(&self.journal));
        self.ahead = None;
        self.counted = None;
        self.tally.renew();
    }

    /// Counts everything that was written before the call. A caller that goes away breaks it off; the next one makes
    /// that good.
    pub async fn catch_up(&mut self, clock: &dyn Clock) -> Result<(), Error> {
        if std::mem::replace(&mut self.broken_off, true) {
            self.start_over();
        }
        self.blocking(|journal, _| journal.flush()).await?;
        while self.roll(clock).await? {}
        let done = self.blocking(|journal, reader| {
            journal.counted(reader.seq());
            journal.remove_before(reader.segment())
        });
        let done = done.await?;
        self.broken_off = false;
        Ok(done?)
    }

    /// Does what reads or writes files where that may wait.
    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Journal, &mut Reader) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let journal = self.journal.clone();
        let mut reader = self.reader.take().unwrap_or_else(|| Reader::new(&self.journal));
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&journal, &mut reader);
            (reader, done)
        });
        let (reader, done) = done.await.map_err(|_| Error::Stopped)?;
        self.reader = Some(reader);
        Ok(done)
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, Error> {
        match self.ahead.take() {
            Some(batch) => Ok(Some(batch)),
            None => Ok(self.blocking(|_, reader| reader.next_batch(BATCH)).await??),
        }
    }

    /// Counts a range of one process's records; whether there may be more.
    async fn roll(&mut self, clock: &dyn Clock) -> Result<bool, Error> {
        let Some(mut batch) = self.next_batch().await? else { return Ok(false) };
        let boot = batch.boot;
        let counted = match self.counted {
            Some((known, counted)) if known == boot => counted,
            _ => self.ledger.counted(boot).await?,
        };
        self.counted = Some((boot, counted));
        let (mut totals, mut last) = (Totals::new(), None);
        let mut read;
        loop {
            let before = last.map_or(counted, |last: Chain| Some(last.seq));
            batch.entries.retain(|entry| before.is_none_or(|before| entry.seq > before));
            self.no_gap(boot, before, &batch)?;
            read = batch.last;
            if !batch.entries.is_empty() {
                minutes::add(&mut totals, &batch.entries)?;
                last = Some(batch.last);
            }
            if totals.len() >= CELLS {
                break;
            }
            match self.next_batch().await? {
                Some(next) if next.boot == boot => batch = next,
                other => {
                    self.ahead = other;
                    break;
                }
            }
        }
        let more = self.ahead.is_some() || totals.len() >= CELLS;
        if let Some(last) = last {
            self.count(boot, counted, last, &totals, clock.now()).await?;
            self.counted = Some((boot, Some(last.seq)));
        }
        self.journal.counted(read.seq);
        Ok(more)
    }

    /// Records are not skipped unless their loss was accepted.
    fn no_gap(&self, boot: Uuid, counted: Option<u64>, batch: &Batch) -> Result<(), Error> {
        let (Some(first), Some(counted)) = (batch.entries.first(), counted) else { return Ok(()) };
        if first.seq == counted + 1 {
            return Ok(());
        }
        // The segments between were counted once: this ledger is older than the journal.
        let next = first.seq;
        if !self.accept_loss {
            return Err(Error::Gap { boot, counted, next });
        }
        tracing::error!(%boot, counted, next, "records are gone that this ledger has not counted; they are lost");
        Ok(())
    }

    async fn count(
        &mut self,
        boot: Uuid,
        from: Option<u64>,
        to: Chain,
        minutes: &Totals,
        now: Timestamp,
    ) -> Result<(), Error> {
        let late = rules::adjustments(minutes, now, self.grace_s)?;
        let added = added(minutes)?;
        let more = with_longer_windows(minutes)?;
        let writer = self.tally.writer();
        let unknown = self.tally.unknown(&more);
        let read = if unknown.is_empty() { Vec::new() } else { self.ledger.totals(writer, &unknown).await? };
        let totals = self.tally.with(more, read)?;
        self.ledger.count(Range { boot, from, to, writer, totals: &totals, added: &added, late: &late, now }).await?;
        self.tally.remember(totals);
        Ok(())
    }
}

/// What some minutes add to each meter.
fn added(minutes: &Totals) -> Result<Vec<Counted>, Error> {
    let mut meters: BTreeMap<&MeterKey, Counted> = BTreeMap::new();
    for (cell, total) in minutes {
        let more = Counted { meter: cell.meter.clone(), count: total.count, sum: total.sum };
        let both = match meters.get(&cell.meter) {
            None => more,
            Some(known) => known.and(&more)?,
        };
        meters.insert(&cell.meter, both);
    }
    Ok(meters.into_values().collect())
}
