//! Histories, and what must be true of each.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use proptest_state_machine::{ReferenceStateMachine as _, StateMachineTest};
use tollgate::{
    kernel::{Clock, ManualClock, NodeId, Quantity, TenantId, Timestamp},
    metering::{
        journal::{Amounts, Identity, Journal, JournalError, Reader, Record, Reservation, recover},
        roller::Roller,
    },
};
use uuid::Uuid;

use super::{
    cases::options,
    disk::{Crash, Fault, Op, SimDisk},
    ledger::{Backup, SimLedger},
    steps::{Histories, Step, Then},
};

/// Histories of one run.
const SEEDS: u64 = 200;
const STEPS: std::ops::Range<usize> = 1..60;

/// What is known of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its caller was refused: it must never be counted.
    Refused,
    /// Its caller was answered: it must be counted once, unless a power loss took it.
    Answered,
    /// The disk had it: it must be counted once, whatever happens.
    Durable,
    /// Answered, and then the power went before it was on disk, or what had it was damaged or put back.
    MayBeLost,
}

struct Node {
    disk: SimDisk,
    journal: Journal,
    roller: Roller<SimLedger>,
    /// Records of this process that the disk was not known to have, by sequence number.
    pending: BTreeMap<u64, TenantId>,
    /// Room of requests under way.
    held: Vec<Reservation>,
}

struct World {
    runtime: tokio::runtime::Runtime,
    clock: Arc<ManualClock>,
    ledger: SimLedger,
    backup: Option<Backup>,
    nodes: Vec<Node>,
    fates: BTreeMap<TenantId, Fate>,
    tenants: u128,
    starts: u128,
    damaged: bool,
}

/// What went on during a sync.
#[derive(Default)]
struct Meanwhile {
    settled: Vec<(TenantId, Result<u64, JournalError>)>,
    /// What was left when the process ended there, and what it had known to be on disk.
    left: Option<(SimDisk, u64)>,
}

/// Each record is a tenant of its own, so that its total says how often it was counted.
fn record(tenant: TenantId, at: Timestamp) -> Record {
    let mut amounts = Amounts::default();
    // A low byte that is zero, so that a frame of which the end is missing is not whole by luck.
    amounts.push(0, 1_000);
    Record { tenant, at, route: 0, amounts }
}

/// A power loss, as it may be: a journal that says it is cramped has blocks that must not be ruined.
fn possible(how: Crash, journal: &Journal) -> Crash {
    if how == Crash::Trashed && journal.health().cramped { Crash::Dropped } else { how }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            runtime: tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap(),
            clock: Arc::new(ManualClock::new("2026-11-10T12:00:00Z".parse().unwrap())),
            ledger: SimLedger::default(),
            backup: None,
            nodes: vec![],
            fates: BTreeMap::new(),
            tenants: 0,
            starts: 0,
            damaged: false,
        };
        let node = world.start(SimDisk::new(7));
        world.nodes.push(node);
        world
    }

    /// A process on what a disk has, which works.
    fn start(&mut self, disk: SimDisk) -> Node {
        let counted = self.ledger.counted();
        let past = recover(&disk, &counted, false).unwrap_or_else(|error| panic!("a crash is no damage: {error}"));
        assert_eq!(recover(&disk, &counted, false).unwrap(), past, "recovery changes nothing");
        self.try_start(disk, false).unwrap()
    }

    fn try_start(&mut self, disk: SimDisk, accept_loss: bool) -> Result<Node, JournalError> {
        self.starts += 1;
        let past = recover(&disk, &self.ledger.counted(), accept_loss)?;
        let fresh = Identity {
            node: NodeId::from_uuid(Uuid::from_u128(self.starts)),
            epoch: 1,
            boot: Uuid::from_u128(1_000 + self.starts),
        };
        let identity = self.ledger.identify(past.identity(), fresh);
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let journal = Journal::begin(Arc::new(disk.clone()), options(), &past, identity, clock)?;
        // A ledger that was restored is older than its journal; what is gone with that is known to be.
        let roller = Roller::new(journal.clone(), self.ledger.clone()).accepting_loss(true);
        Ok(Node { disk, journal, roller, pending: BTreeMap::new(), held: Vec::new() })
    }

    fn tenant(&mut self) -> TenantId {
        self.tenants += 1;
        TenantId::from_uuid(Uuid::from_u128(self.tenants))
    }

    /// A request from its beginning to its end; whether it was answered.
    fn append(&mut self, index: usize) -> bool {
        let tenant = self.tenant();
        let record = record(tenant, self.clock.now());
        let settled = self.nodes[index].journal.reserve().and_then(|room| room.append(&record));
        self.settled(index, tenant, &settled);
        self.note_durable(index);
        settled.is_ok()
    }

    fn settled(&mut self, index: usize, tenant: TenantId, settled: &Result<u64, JournalError>) {
        if let Ok(seq) = settled {
            self.nodes[index].pending.insert(*seq, tenant);
        }
        self.fates.insert(tenant, if settled.is_ok() { Fate::Answered } else { Fate::Refused });
    }

    fn hold(&mut self, index: usize, requests: u8) {
        let node = &mut self.nodes[index];
        node.held.extend((0..requests).map_while(|_| node.journal.reserve().ok()));
    }

    fn release(&mut self, index: usize, requests: u8, recorded: bool) {
        for _ in 0..requests {
            let Some(room) = self.nodes[index].held.pop() else { return };
            if recorded {
                let tenant = self.tenant();
                let settled = room.append(&record(tenant, self.clock.now()));
                let fine = settled.is_ok() || self.nodes[index].journal.health().error.is_some();
                assert!(fine, "who has room is refused only by a failed disk");
                self.settled(index, tenant, &settled);
            }
        }
    }

    /// Takes note of what the journal says the disk has.
    fn note_durable(&mut self, index: usize) {
        let upto = self.nodes[index].journal.health().durable_seq;
        self.note_durable_upto(index, upto);
    }

    fn note_durable_upto(&mut self, index: usize, upto: u64) {
        let node = &mut self.nodes[index];
        let later = node.pending.split_off(&(upto + 1));
        for tenant in std::mem::replace(&mut node.pending, later).into_values() {
            self.fates.insert(tenant, Fate::Durable);
        }
    }

    fn during(&mut self, index: usize, after: u32, records: u8, then: Then) {
        let tenants: Vec<TenantId> = (0..records).map(|_| self.tenant()).collect();
        let (journal, disk) = (self.nodes[index].journal.clone(), self.nodes[index].disk.clone());
        // Whoever is under way ends first; a full segment takes nobody else.
        let held = &mut self.nodes[index].held;
        let mut rooms = held.split_off(held.len().saturating_sub(records.into()));
        let (seen, now) = (Arc::new(Mutex::new(Meanwhile::default())), self.clock.now());
        let see = Arc::clone(&seen);
        self.nodes[index].disk.meanwhile(
            after,
            Box::new(move || {
                let mut room = || rooms.pop().map_or_else(|| journal.reserve(), Ok);
                let mut settle = |tenant| room().and_then(|room| room.append(&record(tenant, now)));
                let settled = tenants.into_iter().map(|tenant| (tenant, settle(tenant))).collect();
                let left = match then {
                    Then::Succeeds => None,
                    Then::Fails => {
                        for op in [Op::Sync, Op::SyncFolder] {
                            disk.inject(Fault { op, after: 0, times: 1, full: false });
                        }
                        None
                    }
                    Then::Crashes(how) => Some((disk.crash(possible(how, &journal)), journal.health().durable_seq)),
                };
                *see.lock().unwrap() = Meanwhile { settled, left };
            }),
        );
        self.nodes[index].journal.tend();
        self.nodes[index].disk.undisturbed();
        let Meanwhile { settled, left } = std::mem::take(&mut *seen.lock().unwrap());
        for (tenant, settled) in settled {
            self.settled(index, tenant, &settled);
        }
        match (then, left) {
            (Then::Crashes(how), Some((disk, durable))) => {
                self.note_durable_upto(index, durable);
                let pending = self.nodes.remove(index).pending;
                self.restart(index, disk, pending, how != Crash::Kill, &[]);
            }
            _ => self.note_durable(index),
        }
    }

    fn crash(&mut self, index: usize, how: Crash, troubles: &[(Fault, Crash)]) {
        self.note_durable(index);
        let node = self.nodes.remove(index);
        let disk = node.disk.crash(possible(how, &node.journal));
        self.restart(index, disk, node.pending, how != Crash::Kill, troubles);
    }

    /// Starts again what a crash left; `lost` when that was a loss of power. Before, processes start that do not get far.
    fn restart(
        &mut self,
        index: usize,
        mut disk: SimDisk,
        mut pending: BTreeMap<u64, TenantId>,
        mut lost: bool,
        troubles: &[(Fault, Crash)],
    ) {
        for (fault, how) in troubles {
            disk.inject(*fault);
            match self.try_start(disk.clone(), false) {
                // What could be read was written again.
                Ok(_) if !lost => {
                    let now_durable = std::mem::take(&mut pending).into_values();
                    self.fates.extend(now_durable.map(|tenant| (tenant, Fate::Durable)));
                }
                Ok(_) => {}
                Err(error) => assert!(matches!(error, JournalError::Io { .. }), "a crash is no damage: {error}"),
            }
            disk = disk.crash(*how);
            lost |= *how != Crash::Kill;
        }
        if lost {
            self.fates.extend(pending.into_values().map(|tenant| (tenant, Fate::MayBeLost)));
        }
        let node = self.start(disk);
        self.nodes.insert(index, node);
    }

    fn stop(&mut self, index: usize, how: Crash) {
        self.nodes[index].journal.close();
        self.roll(index);
        self.crash(index, how, &[]);
    }

    fn clone_node(&mut self, index: usize) {
        let copied = self.nodes[index].disk.copied();
        let node = self.start(copied);
        self.nodes.push(node);
    }

    fn damage(&mut self, index: usize, at: u16) {
        self.note_durable(index);
        let disk = self.nodes.remove(index).disk.crash(Crash::Kill);
        self.damaged |= disk.damage(at);
        // What is counted now need not have been then.
        self.backup = None;
        self.may_be_lost(&self.ledger.by_tenant());
        let node = self.try_start(disk, true).unwrap();
        self.nodes.insert(index, node);
    }

    /// What is counted is never counted again; of the rest nothing more is known.
    fn may_be_lost(&mut self, counted: &BTreeMap<TenantId, Quantity>) {
        for (tenant, fate) in &mut self.fates {
            if *fate != Fate::Refused && !counted.contains_key(tenant) {
                *fate = Fate::MayBeLost;
            }
        }
    }

    /// The ledger as it was; segments that were counted since are gone.
    fn restore(&mut self) {
        let Some(backup) = self.backup.take() else { return };
        let before = self.ledger.by_tenant();
        self.ledger.restore(&backup);
        let after = self.ledger.by_tenant();
        for index in 0..self.nodes.len() {
            self.nodes[index].disk.heal();
            self.crash(index, Crash::Kill, &[]);
        }
        let gone = before.into_keys().filter(|tenant| !after.contains_key(tenant));
        self.fates.extend(gone.map(|tenant| (tenant, Fate::MayBeLost)));
    }

    fn roll(&mut self, index: usize) {
        let Self { runtime, nodes, clock, .. } = self;
        // Refusals and lost answers are tried again by the next round.
        drop(runtime.block_on(nodes[index].roller.catch_up(&**clock)));
        self.note_durable(index);
    }

    fn break_off(&mut self, index: usize, after: u8) {
        let Self { runtime, nodes, clock, .. } = self;
        let mut round = Box::pin(nodes[index].roller.catch_up(&**clock));
        let mut left = after;
        runtime.block_on(std::future::poll_fn(|cx| match round.as_mut().poll(cx) {
            std::task::Poll::Pending if left > 1 => {
                left -= 1;
                std::task::Poll::Pending
            }
            _ => std::task::Poll::Ready(()),
        }));
        drop(round);
        // What it had begun on the one thread for that goes on to its end.
        runtime.block_on(runtime.spawn_blocking(|| ())).unwrap();
        self.note_durable(index);
    }

    /// Numbers without gap or repeat, in everything that is still there.
    fn check_sequence(&self, index: usize) {
        let mut reader = Reader::new(&self.nodes[index].journal);
        let mut last: Option<u64> = None;
        while let Some(batch) = reader.next_batch(50).unwrap() {
            for entry in batch.entries {
                // Damage that is counted is passed over.
                let follows = |last| entry.seq == last + 1 || (self.damaged && entry.seq > last);
                assert!(last.is_none_or(follows), "{} after {last:?}", entry.seq);
                last = Some(entry.seq);
            }
        }
    }

    /// The end of a history: everybody restarts on a working disk, and everything is counted.
    fn finish(mut self) {
        for index in 0..self.nodes.len() {
            self.nodes[index].disk.heal();
            self.crash(index, Crash::Kill, &[]);
        }
        for _ in 0..3 {
            for index in 0..self.nodes.len() {
                self.check_sequence(index);
                self.roll(index);
            }
        }
        self.ledger.check_units();
        let counted = self.ledger.by_tenant();
        for (tenant, fate) in &self.fates {
            let times = counted.get(tenant).copied().unwrap_or(Quantity::ZERO);
            let once = times == Quantity::ONE;
            let fine = match fate {
                Fate::Refused => times.is_zero(),
                Fate::Answered | Fate::Durable => once,
                Fate::MayBeLost => once || times.is_zero(),
            };
            assert!(fine, "record {tenant} was {fate:?} and counted {times} times");
        }
    }
}

impl StateMachineTest for World {
    type SystemUnderTest = Self;
    type Reference = Histories;

    fn init_test((): &()) -> Self {
        Self::new()
    }

    fn apply(mut world: Self, (): &(), step: Step) -> Self {
        let pick = |node: usize| node % world.nodes.len();
        match step {
            Step::Append { node, records } => {
                let node = pick(node);
                for _ in 0..records {
                    world.append(node);
                }
            }
            Step::Hold { node, requests } => world.hold(pick(node), requests),
            Step::Release { node, requests, recorded } => world.release(pick(node), requests, recorded),
            Step::Tend { node } => {
                let node = pick(node);
                world.nodes[node].journal.tend();
                world.note_durable(node);
            }
            Step::During { node, full, after, records, then } => {
                let node = pick(node);
                world.hold(node, if full { records } else { 0 });
                while full && world.append(node) {}
                world.during(node, after, records, then);
            }
            Step::Roll { node, answer } => {
                world.ledger.answer(answer);
                world.roll(pick(node));
            }
            Step::BreakOff { node, after } => world.break_off(pick(node), after),
            Step::Fail { node, fault } => world.nodes[pick(node)].disk.inject(fault),
            Step::Heal { node } => world.nodes[pick(node)].disk.heal(),
            Step::Crash { node, how, troubles } => world.crash(pick(node), how, &troubles),
            Step::Stop { node, how } => world.stop(pick(node), how),
            Step::Clone { node } if world.nodes.len() < 3 => world.clone_node(pick(node)),
            Step::Clone { .. } => {}
            Step::Damage { node, at } => world.damage(pick(node), at),
            Step::Backup => world.backup = Some(world.ledger.backup()),
            Step::Restore => world.restore(),
            Step::Jump { by } => world.clock.set(world.clock.now().plus_secs(by)),
        }
        world
    }

    fn teardown(world: Self, (): ()) {
        world.finish();
    }
}

fn run(seed: u64) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: 1, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config.clone(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let history = Histories::sequential_strategy(STEPS);
    let outcome = runner.run(&history, |(initial, transitions, seen)| {
        World::test_sequential(config.clone(), initial, transitions, seen);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("TOLLGATE_SEED={seed} fails: {error}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads its own switch")]
fn no_history_loses_or_doubles_a_record() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    if let Some(seed) = number("TOLLGATE_SEED") {
        return run(seed);
    }
    let seeds = number("TOLLGATE_SEEDS").unwrap_or(SEEDS);
    (0..seeds).for_each(run);
    drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{seeds} histories: lost 0, doubled 0\n")));
}
