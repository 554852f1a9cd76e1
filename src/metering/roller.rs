//! The roller: turns ranges of the journal into totals, each range once.
//!
//! Totals and cursor move in one transaction; each process that wrote a journal has a cursor of its own, so a folder
//! that was copied, or put back from a backup, counts nothing twice and loses nothing. Cells are written as absolute
//! values under this process's own boot nonce, so no other writer touches them and nothing has to be read back; the
//! values of recent cells are kept in memory.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::Arc,
};

use uuid::Uuid;

use super::{
    error::Error,
    journal::{Batch, Chain, Entry, Journal, Reader},
    model::{Cell, Cursor, MeterKey},
    rules,
};
use crate::{
    kernel::{Clock, Quantity, Timestamp},
    store::{Scope, Store},
};

/// Records of one transaction, about.
const BATCH: usize = 20_000;
/// Cells of minutes older than this, before the newest, are forgotten and read back when a late record needs them.
const KEEP_S: i64 = 180;

/// Where totals go: the store, or a model of it in tests.
pub trait Ledger: Send + Sync {
    /// The last record of a process that was counted; `None` when none was.
    fn counted(&self, boot: Uuid) -> impl Future<Output = Result<Option<u64>, Error>> + Send;

    /// What one writer has counted for a cell.
    fn total(&self, writer: Uuid, cell: &Cell) -> impl Future<Output = Result<Option<Quantity>, Error>> + Send;

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
    pub totals: &'a [(Cell, Quantity)],
    /// When.
    pub now: Timestamp,
}

/// The ledger in the store.
#[derive(Clone)]
pub struct StoreLedger(pub Store);

impl Ledger for StoreLedger {
    async fn counted(&self, boot: Uuid) -> Result<Option<u64>, Error> {
        let cursor = self.0.read(Scope::Job("roller")).await?.journal_cursor(boot).await?;
        Ok(cursor.map(|cursor| u64::try_from(cursor.seq).unwrap_or(0)))
    }

    async fn total(&self, writer: Uuid, cell: &Cell) -> Result<Option<Quantity>, Error> {
        Ok(self.0.read(Scope::Job("roller")).await?.usage_of_writer(writer, cell).await?)
    }

    async fn count(&self, range: Range<'_>) -> Result<(), Error> {
        let Range { boot, from, to, writer, totals, now } = range;
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let to = Cursor { seq: number(to.seq), hash: to.hash.to_vec() };
        let mut tx = self.0.begin(Scope::Job("roller")).await?;
        if !tx.journal_cursor_move(boot, from.map(number), &to, now).await? {
            return Err(Error::CursorMoved);
        }
        tx.usage_put(writer, totals).await?;
        Ok(tx.commit().await?)
    }
}

/// Rolls one journal.
pub struct Roller<L> {
    journal: Journal,
    ledger: L,
    reader: Option<Reader>,
    /// How far the process whose records are being read is counted.
    counted: Option<(Uuid, Option<u64>)>,
    /// The values of recent cells.
    recent: HashMap<Cell, Quantity>,
    /// Every cell that this process wrote from this minute on is in `recent`.
    complete_from: Timestamp,
    /// The newest minute that this process has tried to write.
    newest: Timestamp,
}

impl<L: Ledger> Roller<L> {
    /// Goes on after what the ledger has counted.
    pub fn new(journal: Journal, ledger: L) -> Self {
        let reader = Some(Reader::new(&journal));
        // Nothing was written under this boot nonce yet, so nothing is missing from memory.
        let (complete_from, newest) = (Timestamp::MIN, Timestamp::MIN);
        Self { journal, ledger, reader, counted: None, recent: HashMap::new(), complete_from, newest }
    }

    /// After a failed transaction, which may have been done all the same: what was read is read again, and cursors
    /// and cells come from the ledger.
    fn start_over(&mut self) {
        self.reader = Some(Reader::new(&self.journal));
        self.counted = None;
        self.recent.clear();
        self.complete_from = self.newest.plus_secs(60);
    }

    /// Counts everything that was written before the call.
    pub async fn catch_up(&mut self, clock: &dyn Clock) -> Result<(), Error> {
        self.blocking(|journal, _| journal.flush()).await?;
        loop {
            match self.roll(clock).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.start_over();
                    return Err(error);
                }
            }
        }
        let done = self.blocking(|journal, reader| journal.remove_before(reader.segment())).await?;
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

    /// Counts a batch; `false` when there is none.
    async fn roll(&mut self, clock: &dyn Clock) -> Result<bool, Error> {
        let Some(Batch { boot, last, mut entries }) = self.blocking(|_, reader| reader.next_batch(BATCH)).await??
        else {
            return Ok(false);
        };
        let counted = match self.counted {
            Some((known, counted)) if known == boot => counted,
            _ => self.ledger.counted(boot).await?,
        };
        self.counted = Some((boot, counted));
        entries.retain(|entry| counted.is_none_or(|counted| entry.seq > counted));
        if !entries.is_empty() {
            self.count(boot, counted, last, &entries, clock.now()).await?;
            self.counted = Some((boot, Some(last.seq)));
        }
        Ok(true)
    }

    async fn count(
        &mut self,
        boot: Uuid,
        from: Option<u64>,
        to: Chain,
        entries: &[Entry],
        now: Timestamp,
    ) -> Result<(), Error> {
        let cells = by_cell(entries);
        let writer = self.journal.identity().boot;
        self.newest = cells.keys().map(|cell| cell.minute).fold(self.newest, Timestamp::max);
        let mut totals = Vec::with_capacity(cells.len());
        for (cell, thousandths) in cells {
            let known = match self.recent.get(&cell) {
                Some(known) => *known,
                None if cell.minute >= self.complete_from => Quantity::ZERO,
                None => self.ledger.total(writer, &cell).await?.unwrap_or_default(),
            };
            let more = rules::quantity(&cell.meter, thousandths)?;
            let total = known.add(more).map_err(|source| Error::Inexact { meter: cell.meter.clone(), source })?;
            totals.push((cell, total));
        }
        self.ledger.count(Range { boot, from, to, writer, totals: &totals, now }).await?;
        self.remember(totals);
        Ok(())
    }

    fn remember(&mut self, totals: Vec<(Cell, Quantity)>) {
        self.recent.extend(totals);
        let horizon = self.newest.plus_secs(-KEEP_S);
        if horizon > self.complete_from {
            self.complete_from = horizon;
            self.recent.retain(|cell, _| cell.minute >= horizon);
        }
    }
}

/// Adds a run of records up by cell, in thousandths.
fn by_cell(entries: &[Entry]) -> BTreeMap<Cell, i128> {
    let mut cells = BTreeMap::new();
    for entry in entries {
        let minute = entry.record.at.floor_minute();
        for (amount, name) in entry.record.amounts.as_slice().iter().zip(&entry.meters) {
            // Names were checked before they were written; one that is none belongs to a damaged dictionary.
            let Ok(meter) = name.parse::<MeterKey>() else { continue };
            let cell = Cell { tenant: entry.record.tenant, meter, minute, group: Arc::clone(&entry.route) };
            *cells.entry(cell).or_insert(0) += i128::from(amount.thousandths);
        }
    }
    cells
}
