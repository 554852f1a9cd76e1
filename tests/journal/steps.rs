//! The steps that histories are made of.

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use super::{
    disk::{Crash, Fault, Op},
    ledger::Answer,
};

#[derive(Debug, Clone)]
pub enum Step {
    /// Requests settled on a node: enough of them fill segments.
    Append {
        node: usize,
        records: u8,
    },
    /// Requests that are let in and stay under way.
    Hold {
        node: usize,
        requests: u8,
    },
    /// Some of them end, with a record or without one.
    Release {
        node: usize,
        requests: u8,
        recorded: bool,
    },
    /// The flusher's round.
    Tend {
        node: usize,
    },
    /// A round of the flusher, with requests that are settled while one of its syncs is under way; if `full`, at the end of
    /// a segment, so that it goes on to the next.
    During {
        node: usize,
        full: bool,
        after: u32,
        records: u8,
        then: Then,
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
    /// The end of a process, and of the next ones, too, while they start on a disk that fails.
    Crash {
        node: usize,
        how: Crash,
        troubles: Vec<(Fault, Crash)>,
    },
    /// A clean stop, whatever the disk does, and another start.
    Stop {
        node: usize,
        how: Crash,
    },
    /// The data folder is copied while the node runs, and the copy is started too.
    Clone {
        node: usize,
    },
    /// Garbage in a segment; the node goes on without what follows.
    Damage {
        node: usize,
        at: u16,
    },
    /// The ledger is copied.
    Backup,
    /// The copy is put back, and everybody starts again.
    Restore,
    /// The wall clock jumps, in seconds.
    Jump {
        by: i64,
    },
}

/// How a sync ends during which requests were settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Succeeds,
    Fails,
    /// It never does.
    Crashes(Crash),
}

/// The reference says only which steps there are; what must hold is checked against what the nodes answered.
pub struct Histories;

impl ReferenceStateMachine for Histories {
    type State = ();
    type Transition = Step;

    fn init_state() -> BoxedStrategy<()> {
        Just(()).boxed()
    }

    fn transitions((): &()) -> BoxedStrategy<Step> {
        let node = || 0..3_usize;
        let answer = prop_oneof![4 => Just(Answer::Told), 1 => Just(Answer::Lost), 1 => Just(Answer::Refused)];
        let then = prop_oneof![Just(Then::Succeeds), Just(Then::Fails), crash().prop_map(Then::Crashes)];
        let troubles = prop::collection::vec((fault(), crash()), 0..3);
        prop_oneof![
            16 => (node(), 1..40_u8).prop_map(|(node, records)| Step::Append { node, records }),
            4 => (node(), 1..120_u8).prop_map(|(node, requests)| Step::Hold { node, requests }),
            6 => (node(), 1..60_u8, prop::bool::weighted(0.8))
                .prop_map(|(node, requests, recorded)| Step::Release { node, requests, recorded }),
            10 => node().prop_map(|node| Step::Tend { node }),
            5 => (node(), any::<bool>(), 0..4_u32, 1..20_u8, then)
                .prop_map(|(node, full, after, records, then)| Step::During { node, full, after, records, then }),
            6 => (node(), answer).prop_map(|(node, answer)| Step::Roll { node, answer }),
            4 => (node(), 1..9_u8).prop_map(|(node, after)| Step::BreakOff { node, after }),
            4 => (node(), fault()).prop_map(|(node, fault)| Step::Fail { node, fault }),
            2 => node().prop_map(|node| Step::Heal { node }),
            4 => (node(), crash(), troubles).prop_map(|(node, how, troubles)| Step::Crash { node, how, troubles }),
            1 => (node(), crash()).prop_map(|(node, how)| Step::Stop { node, how }),
            2 => node().prop_map(|node| Step::Clone { node }),
            1 => (node(), any::<u16>()).prop_map(|(node, at)| Step::Damage { node, at }),
            1 => Just(Step::Backup),
            1 => Just(Step::Restore),
            2 => (-4_000_000..4_000_000_i64).prop_map(|by| Step::Jump { by }),
        ]
        .boxed()
    }

    fn apply((): (), _: &Step) {}
}

fn crash() -> impl Strategy<Value = Crash> {
    prop_oneof![Just(Crash::Kill), Just(Crash::Dropped), Just(Crash::Trashed)]
}

fn fault() -> impl Strategy<Value = Fault> {
    let op = prop_oneof![
        Just(Op::Create),
        Just(Op::Write),
        Just(Op::Sync),
        Just(Op::Rename),
        Just(Op::SyncFolder),
        Just(Op::Remove),
        Just(Op::Read)
    ];
    (op, 0..4_u32, 1..4_u32, any::<bool>()).prop_map(|(op, after, times, full)| Fault { op, after, times, full })
}
