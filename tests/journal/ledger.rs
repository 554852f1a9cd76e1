//! A ledger in memory that commits, fails, and commits without saying so.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use tollgate::{
    kernel::{CalendarUnit, NodeId, Quantity, TenantId},
    metering::{
        Error,
        journal::{Chain, Counted, Identity},
        model::{Cell, Total},
        roller::{Ledger, Range},
    },
    store::StoreError,
};
use uuid::Uuid;

/// What happens to the next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is done, and the caller learns that.
    Told,
    /// It is done, and the answer is lost.
    Lost,
    /// It is not done.
    Refused,
}

#[derive(Default, Clone)]
struct State {
    starts: HashMap<NodeId, u64>,
    cursors: HashMap<Uuid, Chain>,
    totals: HashMap<(Uuid, Cell), Total>,
    next: Option<Answer>,
}

/// A copy of a ledger, to be put back later.
pub struct Backup(State);

/// Shared by all nodes of a history, as a database is.
#[derive(Clone, Default)]
pub struct SimLedger(Arc<Mutex<State>>);

impl SimLedger {
    /// Says what happens to the next commit.
    pub fn answer(&self, answer: Answer) {
        self.0.lock().unwrap().next = Some(answer);
    }

    /// How far each process is counted.
    pub fn counted(&self) -> Counted {
        self.0.lock().unwrap().cursors.clone()
    }

    pub fn backup(&self) -> Backup {
        Backup(self.0.lock().unwrap().clone())
    }

    pub fn restore(&self, backup: &Backup) {
        *self.0.lock().unwrap() = backup.0.clone();
    }

    /// Who a process is: the rule of `Metering::open`.
    pub fn identify(&self, before: Option<Identity>, fresh: Identity) -> Identity {
        let mut state = self.0.lock().unwrap();
        let mut identity =
            before.map_or(fresh, |before| Identity { node: before.node, epoch: before.epoch + 1, ..fresh });
        if state.starts.get(&identity.node).is_some_and(|last| *last >= identity.epoch) {
            identity = fresh;
        }
        state.starts.insert(identity.node, identity.epoch);
        identity
    }

    /// Whether hours, days and months add up to the same as their minutes.
    pub fn check_units(&self) {
        let state = self.0.lock().unwrap();
        let sum = |unit| {
            let of_unit = state.totals.iter().filter(|((_, cell), _)| cell.unit == unit);
            of_unit.map(|(_, total)| total.count).sum::<i64>()
        };
        let minutes = sum(CalendarUnit::Minute);
        for unit in [CalendarUnit::Hour, CalendarUnit::Day, CalendarUnit::Month] {
            assert_eq!(sum(unit), minutes, "{unit:?}");
        }
    }

    /// What was counted for each tenant, all writers together.
    pub fn by_tenant(&self) -> BTreeMap<TenantId, Quantity> {
        let state = self.0.lock().unwrap();
        let mut sums: BTreeMap<TenantId, Quantity> = BTreeMap::new();
        for ((_, cell), value) in &state.totals {
            if cell.unit == CalendarUnit::Minute {
                let sum = sums.entry(cell.tenant).or_default();
                *sum = sum.add(value.sum).unwrap();
            }
        }
        sums
    }
}

fn unreachable() -> Error {
    Error::Store(StoreError::Corrupt("simulated".into()))
}

impl Ledger for SimLedger {
    async fn counted(&self, boot: Uuid) -> Result<Option<u64>, Error> {
        Ok(self.0.lock().unwrap().cursors.get(&boot).map(|chain| chain.seq))
    }

    async fn totals(&self, writer: Uuid, cells: &[Cell]) -> Result<Vec<(Cell, Total)>, Error> {
        let state = self.0.lock().unwrap();
        let total = |cell: &Cell| Some((cell.clone(), state.totals.get(&(writer, cell.clone()))?.clone()));
        Ok(cells.iter().filter_map(total).collect())
    }

    async fn count(&self, range: Range<'_>) -> Result<(), Error> {
        let done = self.count_now(range);
        // Whoever waits may be gone by now.
        tokio::task::yield_now().await;
        done
    }
}

impl SimLedger {
    fn count_now(&self, range: Range<'_>) -> Result<(), Error> {
        let mut state = self.0.lock().unwrap();
        let answer = state.next.take().unwrap_or(Answer::Told);
        if answer == Answer::Refused {
            return Err(unreachable());
        }
        if state.cursors.get(&range.boot).map(|chain| chain.seq) != range.from {
            return Err(Error::CursorMoved);
        }
        state.cursors.insert(range.boot, range.to);
        for (cell, value) in range.totals {
            state.totals.insert((range.writer, cell.clone()), value.clone());
        }
        if answer == Answer::Lost { Err(unreachable()) } else { Ok(()) }
    }
}
