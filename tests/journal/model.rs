//! Histories, and what must be true of each.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use tollgate::{
    kernel::{Clock, ManualClock, NodeId, Quantity, TenantId, Timestamp},
    metering::{
        journal::{Amounts, Identity, Journal, Options, Reader, Record, recover},
        roller::Roller,
    },
};
use uuid::Uuid;

use super::{
    disk::{Crash, Fault, Op, SimDisk},
    ledger::{Answer, SimLedger},
};

/// Histories of one run.
const SEEDS: u64 = 200;
const STEPS: std::ops::Range<usize> = 1..60;

#[derive(Debug, Clone)]
enum Step {
    /// Requests settled on a node: enough of them fill segments.
    Append {
        node: usize,
        records: u8,
    },
    /// The flusher's round.
    Tend {
        node: usize,
    },
    /// The roller's round, and what becomes of its first commit.
    Roll {
        node: usize,
        answer: Answer,
    },
    /// A round whose caller goes away after so many steps.
    BreakOff {
        node: usize,
        after: u8,
    },
    Fail {
        node: usize,
        fault: Fault,
    },
    Heal {
        node: usize,
    },
    Crash {
        node: usize,
        how: Crash,
    },
    /// The data folder is copied while the node runs, and the copy is started too.
    Clone {
        node: usize,
    },
    /// The wall clock jumps, in seconds.
    Jump {
        by: i64,
    },
}

/// The reference says only which steps there are; what must hold is checked against what the nodes answered.
struct Histories;

impl ReferenceStateMachine for Histories {
    type State = ();
    type Transition = Step;

    fn init_state() -> BoxedStrategy<()> {
        Just(()).boxed()
    }

    fn transitions((): &()) -> BoxedStrategy<Step> {
        let node = 0..3_usize;
        let fault = (
            prop_oneof![Just(Op::Create), Just(Op::Write), Just(Op::Sync), Just(Op::Rename), Just(Op::SyncFolder)],
            0..4_u32,
            1..4_u32,
            any::<bool>(),
        );
        let fault = fault.prop_map(|(op, after, times, full)| Fault { op, after, times, full });
        let answer = prop_oneof![4 => Just(Answer::Told), 1 => Just(Answer::Lost), 1 => Just(Answer::Refused)];
        let how = prop_oneof![Just(Crash::Kill), Just(Crash::Dropped), Just(Crash::Trashed)];
        prop_oneof![
            8 => (node.clone(), 1..40_u8).prop_map(|(node, records)| Step::Append { node, records }),
            4 => node.clone().prop_map(|node| Step::Tend { node }),
            3 => (node.clone(), answer).prop_map(|(node, answer)| Step::Roll { node, answer }),
            2 => (node.clone(), 1..9_u8).prop_map(|(node, after)| Step::BreakOff { node, after }),
            2 => (node.clone(), fault).prop_map(|(node, fault)| Step::Fail { node, fault }),
            1 => node.clone().prop_map(|node| Step::Heal { node }),
            2 => (node.clone(), how).prop_map(|(node, how)| Step::Crash { node, how }),
            1 => node.prop_map(|node| Step::Clone { node }),
            1 => (-4_000_000..4_000_000_i64).prop_map(|by| Step::Jump { by }),
        ]
        .boxed()
    }

    fn apply((): (), _: &Step) {}
}

/// What is known of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its caller was refused: it must never be counted.
    Refused,
    /// Its caller was answered: it must be counted once, unless a power loss took it.
    Answered,
    /// The disk had it: it must be counted once, whatever happens.
    Durable,
    /// Answered, not yet on disk, and the power went.
    MayBeLost,
}

struct Node {
    disk: SimDisk,
    journal: Journal,
    roller: Roller<SimLedger>,
    /// Records of this process that the disk was not known to have, by sequence number.
    pending: BTreeMap<u64, TenantId>,
}

struct World {
    runtime: tokio::runtime::Runtime,
    clock: Arc<ManualClock>,
    ledger: SimLedger,
    nodes: Vec<Node>,
    fates: BTreeMap<TenantId, Fate>,
    starts: u128,
}

fn options() -> Options {
    Options { segment_bytes: 32 * 1_024, flush_ms: 1, meters: vec!["apis".into()], routes: vec!["/sample/".into()] }
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let clock = Arc::new(ManualClock::new("2026-11-10T12:00:00Z".parse().unwrap()));
        let mut world =
            Self { runtime, clock, ledger: SimLedger::default(), nodes: vec![], fates: BTreeMap::new(), starts: 0 };
        let node = world.start(SimDisk::new(7));
        world.nodes.push(node);
        world
    }

    /// A process on what a disk has. The disk works while it starts: otherwise it would just not start.
    fn start(&mut self, disk: SimDisk) -> Node {
        self.starts += 1;
        let past = recover(&disk, false).unwrap_or_else(|error| panic!("a crash is no damage: {error}"));
        assert_eq!(recover(&disk, false).unwrap(), past, "recovery changes nothing");
        let fresh = Identity {
            node: NodeId::from_uuid(Uuid::from_u128(self.starts)),
            epoch: 1,
            boot: Uuid::from_u128(1_000 + self.starts),
        };
        let identity = self.ledger.identify(past.identity(), fresh);
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let journal = Journal::begin(Arc::new(disk.clone()), options(), &past, identity, clock).unwrap();
        let roller = Roller::new(journal.clone(), self.ledger.clone());
        Node { disk, journal, roller, pending: BTreeMap::new() }
    }

    fn append(&mut self, index: usize) {
        // Each record is a tenant of its own, so that its total says how often it was counted.
        let tenant = TenantId::from_uuid(Uuid::from_u128(self.fates.len() as u128 + 1));
        let mut amounts = Amounts::default();
        // A low byte that is zero, so that a frame of which the end is missing is not whole by luck.
        amounts.push(0, 1_000);
        let record = Record { tenant, at: self.clock.now(), route: 0, amounts };
        let node = &mut self.nodes[index];
        let fate = match node.journal.reserve().and_then(|room| room.append(&record)) {
            Ok(seq) => {
                node.pending.insert(seq, tenant);
                Fate::Answered
            }
            Err(_) => Fate::Refused,
        };
        self.fates.insert(tenant, fate);
        self.note_durable(index);
    }

    /// Takes note of what the journal says the disk has.
    fn note_durable(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let later = node.pending.split_off(&(node.journal.health().durable_seq + 1));
        for tenant in std::mem::replace(&mut node.pending, later).into_values() {
            self.fates.insert(tenant, Fate::Durable);
        }
    }

    fn crash(&mut self, index: usize, how: Crash) {
        self.note_durable(index);
        let node = self.nodes.remove(index);
        if how != Crash::Kill {
            for tenant in node.pending.into_values() {
                self.fates.insert(tenant, Fate::MayBeLost);
            }
        }
        let node = self.start(node.disk.crash(how));
        self.nodes.insert(index, node);
    }

    fn clone_node(&mut self, index: usize) {
        let copied = self.nodes[index].disk.copied();
        let node = self.start(copied);
        self.nodes.push(node);
    }

    fn roll(&mut self, index: usize) {
        let Self { runtime, nodes, clock, .. } = self;
        // Refusals and lost answers are tried again by the next round.
        drop(runtime.block_on(nodes[index].roller.catch_up(&**clock)));
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
    }

    /// Numbers without gap or repeat, in everything that is still there.
    fn check_sequence(&self, index: usize) {
        let mut reader = Reader::new(&self.nodes[index].journal);
        let mut last: Option<u64> = None;
        while let Some(batch) = reader.next_batch(50).unwrap() {
            for entry in batch.entries {
                assert!(last.is_none_or(|last| entry.seq == last + 1), "{} after {last:?}", entry.seq);
                last = Some(entry.seq);
            }
        }
    }

    /// The end of a history: everybody restarts on a working disk, and everything is counted.
    fn finish(mut self) {
        for index in 0..self.nodes.len() {
            self.nodes[index].disk.heal();
            self.crash(index, Crash::Kill);
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
                (0..records).for_each(|_| world.append(node));
            }
            Step::Tend { node } => {
                let node = pick(node);
                world.nodes[node].journal.tend();
                world.note_durable(node);
            }
            Step::Roll { node, answer } => {
                let node = pick(node);
                world.ledger.answer(answer);
                world.roll(node);
                world.note_durable(node);
            }
            Step::BreakOff { node, after } => {
                let node = pick(node);
                world.break_off(node, after);
                world.note_durable(node);
            }
            Step::Fail { node, fault } => world.nodes[pick(node)].disk.inject(fault),
            Step::Heal { node } => world.nodes[pick(node)].disk.heal(),
            Step::Crash { node, how } => world.crash(pick(node), how),
            Step::Clone { node } if world.nodes.len() < 3 => world.clone_node(pick(node)),
            Step::Clone { .. } => {}
            Step::Jump { by } => world.clock.set(jumped(world.clock.now(), by)),
        }
        world
    }

    fn teardown(world: Self, (): ()) {
        world.finish();
    }
}

fn jumped(now: Timestamp, by: i64) -> Timestamp {
    now.plus_secs(by)
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
