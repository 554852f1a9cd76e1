//! One writer's totals as they grow, kept in memory so that counting seldom reads them back.
//!
//! A writer owns its rows of the ledger, so what is remembered is what the ledger has. After a transaction that failed,
//! or was broken off, and may have been done all the same, the writer is given up for another one: nobody ever writes
//! again what such a transaction may yet change. Memory is bounded: too many cells at once are forgotten and read back.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::{
    error::Error,
    model::{Cell, Total, UNITS},
};
use crate::kernel::{CalendarUnit, Period, Timestamp};

/// Cells remembered, of 160 bytes each and as much again in a table that has just grown. A tenant has four open ones for
/// each meter and group.
const MOST: usize = 600_000;

/// Totals by cell.
pub type Totals = BTreeMap<Cell, Total>;

/// Adds hours, days and months to totals by minute.
pub fn with_longer_windows(minutes: &Totals) -> Result<Totals, Error> {
    let mut all = minutes.clone();
    for (cell, total) in minutes {
        for unit in &UNITS[1..] {
            let start = Period::containing(cell.start, *unit).from();
            add(&mut all, Cell { unit: *unit, start, ..cell.clone() }, total)?;
        }
    }
    Ok(all)
}

/// Adds a total to a cell.
pub fn add(totals: &mut Totals, cell: Cell, more: &Total) -> Result<(), Error> {
    let sum = match totals.get(&cell) {
        Some(known) => known.and(more).map_err(|source| Error::Inexact { meter: cell.meter.clone(), source })?,
        None => more.clone(),
    };
    totals.insert(cell, sum);
    Ok(())
}

/// What one writer has counted lately.
#[derive(Debug)]
pub struct Tally {
    writer: Uuid,
    recent: HashMap<Cell, Total>,
    /// Every cell that the writer wrote whose window ends after this is in `recent`.
    complete_after: Timestamp,
    newest: Timestamp,
    most: usize,
}

impl Tally {
    /// Of a writer that has written nothing yet.
    pub fn new(writer: Uuid) -> Self {
        Self { writer, recent: HashMap::new(), complete_after: Timestamp::MIN, newest: Timestamp::MIN, most: MOST }
    }

    /// Who writes.
    pub const fn writer(&self) -> Uuid {
        self.writer
    }

    /// Goes on as another writer, after a transaction of which nobody knows whether it was done.
    pub fn renew(&mut self) {
        let next = blake3::derive_key("tollgate 2026 next writer of totals", self.writer.as_bytes());
        *self = Self::new(Uuid::from_bytes(std::array::from_fn(|index| next[index])));
    }

    /// The cells of `more` whose totals must be read back.
    pub fn unknown(&mut self, more: &Totals) -> Vec<Cell> {
        self.newest = more.keys().map(|cell| cell.start).fold(self.newest, Timestamp::max);
        if self.complete_after == Timestamp::MIN {
            return Vec::new();
        }
        let unknown = |cell: &&Cell| {
            let end = Period::containing(cell.start, cell.unit).to();
            end <= self.complete_after && !self.recent.contains_key(*cell)
        };
        more.keys().filter(unknown).cloned().collect()
    }

    /// The cells' new totals, given what was read back.
    pub fn with(&self, more: Totals, read: Vec<(Cell, Total)>) -> Result<Vec<(Cell, Total)>, Error> {
        let read: HashMap<Cell, Total> = read.into_iter().collect();
        let sum = |(cell, more): (Cell, Total)| match self.recent.get(&cell).or_else(|| read.get(&cell)) {
            None => Ok((cell, more)),
            Some(known) => match known.and(&more) {
                Ok(total) => Ok((cell, total)),
                Err(source) => Err(Error::Inexact { meter: cell.meter, source }),
            },
        };
        more.into_iter().map(sum).collect()
    }

    /// Takes note of what was committed.
    pub fn remember(&mut self, totals: Vec<(Cell, Total)>) {
        self.recent.extend(totals);
        if self.recent.len() > self.most {
            self.forget_ended();
        }
        // Most of them are open: there would be no end of looking for ended ones.
        if self.recent.len() > self.most / 4 * 3 {
            self.forget();
        }
    }

    /// Forgets windows that were over when the newest began: what comes late is read back.
    fn forget_ended(&mut self) {
        let open = |cell: &Cell| Period::containing(cell.start, cell.unit).to() > self.newest;
        self.recent.retain(|cell, _| open(cell));
        self.recent.shrink_to(self.most);
        self.complete_after = self.complete_after.max(self.newest);
    }

    /// Forgets everything: it will be read back.
    fn forget(&mut self) {
        self.recent = HashMap::new();
        // Windows that are not over yet may have been written, too.
        self.complete_after = Period::containing(self.newest, CalendarUnit::Month).to();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::TenantId;

    fn cell(tenant: u128, unit: CalendarUnit, at: Timestamp) -> Cell {
        Cell {
            tenant: TenantId::from_uuid(Uuid::from_u128(tenant)),
            meter: "apis".parse().unwrap(),
            unit,
            start: Period::containing(at, unit).from(),
            group: "{}".into(),
        }
    }

    #[test]
    fn windows_that_are_over_are_forgotten_first_and_read_back() {
        let at: Timestamp = "2026-11-10T12:00:00Z".parse().unwrap();
        let (minute, month) = (cell(1, CalendarUnit::Minute, at), cell(1, CalendarUnit::Month, at));
        let one = Total::one(1_i64.into(), 0, 0);
        let more: Totals = [(minute.clone(), one.clone()), (month.clone(), one.clone())].into();
        let mut tally = Tally { most: 100, ..Tally::new(Uuid::nil()) };
        assert_eq!(tally.unknown(&more), []);
        tally.remember(more.clone().into_iter().collect());
        // A minute later there are too many cells to remember.
        let later = at.plus_secs(60);
        let now: Totals = [(cell(2, CalendarUnit::Minute, later), one.clone())].into();
        assert_eq!(tally.unknown(&now), []);
        tally.remember((0..=100).map(|tenant| (cell(tenant, CalendarUnit::Minute, at), one.clone())).collect());
        assert_eq!(tally.recent.len(), 1, "the month is open");
        assert_eq!(tally.unknown(&more), std::slice::from_ref(&minute));
        let read = vec![(minute.clone(), one.clone())];
        let sums = tally.with(more.clone(), read).unwrap();
        assert!(sums.iter().all(|(_, total)| total.count == 2), "{sums:?}");
        // Open ones alone are too many, too: then all of them are forgotten.
        tally.remember((0..=100).map(|tenant| (cell(tenant, CalendarUnit::Month, at), one.clone())).collect());
        assert!(tally.recent.is_empty());
        assert_eq!(tally.unknown(&more), [minute, month]);
    }
}
