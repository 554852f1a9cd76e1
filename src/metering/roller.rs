//! The roller: turns ranges of the journal into totals, each range once.
//!
//! Totals and cursor move in one transaction. Cells are written as absolute values under this process's own boot id, so
//! no other writer touches them and nothing has to be read back; the values of recent cells are kept in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    error::Error,
    journal::{Entry, Journal, Reader},
    model::{Cell, Cursor, MeterKey},
    rules,
};
use crate::{
    kernel::{Clock, Quantity, Timestamp},
    store::{Scope, Store},
};

/// Records of one transaction at most.
const BATCH: usize = 20_000;
/// Cells of minutes older than this, before the newest, are forgotten and read back when a late record needs them.
const KEEP_S: i64 = 180;

/// Rolls one journal.
pub(super) struct Roller {
    journal: Journal,
    store: Store,
    reader: Option<Reader>,
    /// The values of recent cells.
    recent: HashMap<Cell, Quantity>,
    /// Every cell that this process wrote from this minute on is in `recent`.
    complete_from: Timestamp,
    /// The newest minute that this process has tried to write.
    newest: Timestamp,
}

impl Roller {
    /// Goes on after what the store has counted.
    pub(super) async fn open(journal: Journal, store: Store) -> Result<Self, Error> {
        let cursor = store.read(Scope::Job("roller")).await?.journal_cursor(journal.node()).await?;
        let counted = cursor.map_or(0, |cursor| u64::try_from(cursor.seq).unwrap_or(0));
        let reader = Some(Reader::new(&journal, counted));
        // Nothing was written under this boot id yet, so nothing is missing from memory.
        let (complete_from, newest) = (Timestamp::MIN, Timestamp::MIN);
        Ok(Self { journal, store, reader, recent: HashMap::new(), complete_from, newest })
    }

    /// After a failed transaction: what was read and not committed is read again, and cells come from the store.
    async fn start_over(&mut self) -> Result<(), Error> {
        let newest = self.newest;
        *self = Self::open(self.journal.clone(), self.store.clone()).await?;
        self.newest = newest;
        self.complete_from = newest.plus_secs(60);
        Ok(())
    }

    /// Counts everything that was written before the call.
    pub(super) async fn catch_up(&mut self, clock: &dyn Clock) -> Result<(), Error> {
        let target = self.journal.last_seq();
        let before = self.counted();
        while self.counted() < target {
            if let Err(error) = self.roll(clock).await {
                self.start_over().await?;
                return Err(error);
            }
        }
        if self.counted() > before {
            self.journal.retain_after(self.counted())?;
        }
        Ok(())
    }

    fn counted(&self) -> u64 {
        self.reader.as_ref().map_or(0, Reader::last_seq)
    }

    async fn roll(&mut self, clock: &dyn Clock) -> Result<(), Error> {
        let mut reader = self.reader.take().ok_or(Error::Stopped)?;
        let read = tokio::task::spawn_blocking(move || {
            let batch = reader.next_batch(BATCH);
            (reader, batch)
        });
        let (reader, batch) = read.await.map_err(|_| Error::Stopped)?;
        let seq = reader.last_seq();
        self.reader = Some(reader);
        let entries = batch?;
        if entries.is_empty() {
            return Err(Error::Stopped);
        }
        self.commit(seq, by_cell(&entries), clock.now()).await
    }

    async fn commit(&mut self, seq: u64, cells: BTreeMap<Cell, i128>, now: Timestamp) -> Result<(), Error> {
        let node = self.journal.node();
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let cursor = Cursor { epoch: number(self.journal.epoch()), seq: number(seq), position: String::new() };
        let mut tx = self.store.begin(Scope::Job("roller")).await?;
        if !tx.journal_cursor_advance(node, &cursor, now).await? {
            return Err(Error::Cloned(node));
        }
        let mut totals = Vec::with_capacity(cells.len());
        self.newest = cells.keys().map(|cell| cell.minute).fold(self.newest, Timestamp::max);
        for (cell, thousandths) in cells {
            let known = match self.recent.get(&cell) {
                Some(known) => *known,
                None if cell.minute >= self.complete_from => Quantity::ZERO,
                None => tx.usage_of_writer(self.journal.boot(), &cell).await?.unwrap_or_default(),
            };
            let more = rules::quantity(&cell.meter, thousandths)?;
            let total = known.add(more).map_err(|source| Error::Inexact { meter: cell.meter.clone(), source })?;
            totals.push((cell, total));
        }
        tx.usage_put(self.journal.boot(), &totals).await?;
        tx.commit().await?;
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
