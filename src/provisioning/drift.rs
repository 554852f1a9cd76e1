//! Drift: what is not as it should be of a tenant's infrastructure, when it is looked at again, and what follows from it.

use std::str::FromStr;

use uuid::Uuid;

use crate::kernel::{TenantId, Timestamp};

/// So many looks in a row find a tenant's infrastructure bad before calls are told so: a single one is no outage.
pub const BAD_LOOKS: i64 = 3;
/// After a bad look the next one, in seconds; doubled with each from the third on.
const FIRST_WAIT_S: i64 = 5;
/// The longest wait for what ends by itself, which is to be noticed soon, and for everything else.
const MOST_WAIT_FOR_ANSWER_S: i64 = 30;
const MOST_WAIT_S: i64 = 300;
/// What is half made may be somebody's work of this moment: it is left alone for so many looks.
const LOOKS_BEFORE_COMPLETING: i64 = 3;
/// The longest text of a drift, in characters.
const LONGEST: usize = 1_000;

/// What is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DriftKind {
    /// The tenant is in use and has no infrastructure.
    Missing,
    /// Nothing of its place is there.
    Absent,
    /// Some of its place is not as it should be.
    Drifted,
    /// Its place is noted as not all made.
    HalfMade,
    /// Nothing, or not all, of its place is there, and neither are the rows that it had.
    DataLost,
    /// Whoever keeps its place does not answer.
    NoAnswer,
    /// Whoever made its place cannot be asked; it may serve all the same.
    Unanswered,
    /// Its place is there and does not work.
    Unwell,
    /// Its place was made by a driver that is not set up.
    ForeignDriver,
    /// Its place is of another kind than its tier's.
    WrongIsolation,
    /// A place that it left is still there.
    Leftover,
    /// A place of it is noted that it does not use.
    Unused,
    /// It is deleted, and a place of it is still there.
    Outlived,
}

impl DriftKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Missing,
        Self::Absent,
        Self::Drifted,
        Self::HalfMade,
        Self::DataLost,
        Self::NoAnswer,
        Self::Unanswered,
        Self::Unwell,
        Self::ForeignDriver,
        Self::WrongIsolation,
        Self::Leftover,
        Self::Unused,
        Self::Outlived,
    ];

    /// The name in the API and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Absent => "absent",
            Self::Drifted => "drifted",
            Self::HalfMade => "half_made",
            Self::DataLost => "data_lost",
            Self::NoAnswer => "no_answer",
            Self::Unanswered => "unanswered",
            Self::Unwell => "unwell",
            Self::ForeignDriver => "foreign_driver",
            Self::WrongIsolation => "wrong_isolation",
            Self::Leftover => "leftover",
            Self::Unused => "unused",
            Self::Outlived => "outlived",
        }
    }

    /// Why calls of the tenant cannot be answered while it lasts, in words that its users may read; `None` where they can.
    pub const fn outage(self) -> Option<&'static str> {
        match self {
            Self::Missing | Self::Absent => Some("its infrastructure is not there"),
            Self::DataLost => Some("its data is not there"),
            Self::NoAnswer => Some("its infrastructure does not answer"),
            Self::Unwell => Some("its infrastructure is not well"),
            Self::Drifted
            | Self::HalfMade
            | Self::Unanswered
            | Self::ForeignDriver
            | Self::WrongIsolation
            | Self::Leftover
            | Self::Unused
            | Self::Outlived => None,
        }
    }

    /// When it is looked at again that so many looks have found, in seconds.
    pub fn wait_s(self, looks: i64) -> i64 {
        let doublings = u32::try_from((looks - BAD_LOOKS).clamp(0, 16)).unwrap_or(16);
        let most = if matches!(self, Self::NoAnswer | Self::Unwell) { MOST_WAIT_FOR_ANSWER_S } else { MOST_WAIT_S };
        (FIRST_WAIT_S << doublings).min(most)
    }

    /// Whether it is mended that so many looks have found, where mending is allowed.
    pub const fn is_mended_after(self, looks: i64) -> bool {
        match self {
            Self::Missing | Self::Absent | Self::Drifted | Self::Outlived => true,
            Self::HalfMade | Self::Leftover => looks >= LOOKS_BEFORE_COMPLETING,
            // Rows come back from a backup alone; what does not answer answers by itself; the rest is for somebody to decide.
            Self::DataLost
            | Self::NoAnswer
            | Self::Unanswered
            | Self::Unwell
            | Self::ForeignDriver
            | Self::WrongIsolation
            | Self::Unused => false,
        }
    }
}

/// Not one of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one of missing, absent, drifted, half_made, data_lost, no_answer, unanswered, unwell, foreign_driver, wrong_isolation, leftover, unused, outlived"
)]
pub struct UnknownKind;

impl FromStr for DriftKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(UnknownKind)
    }
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What is not as it should be.
    pub kind: DriftKind,
    /// What exactly, for the operator.
    pub detail: String,
}

impl Found {
    /// With a text of any length.
    pub fn new(kind: DriftKind, detail: impl AsRef<str>) -> Self {
        Self { kind, detail: detail.as_ref().chars().take(LONGEST).collect() }
    }
}

/// Drift, as it is noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Its id, in order of time.
    pub id: Uuid,
    /// Whose infrastructure.
    pub tenant_id: TenantId,
    /// What is not as it should be.
    pub kind: DriftKind,
    /// What exactly, as of the last look.
    pub detail: String,
    /// Since when that is known.
    pub found_at: Timestamp,
    /// When it was last looked at.
    pub seen_at: Timestamp,
    /// How many looks in a row found it.
    pub looks: i64,
    /// When it is looked at again.
    pub next_look_at: Timestamp,
    /// When it was mended, or had mended itself.
    pub repaired_at: Option<Timestamp>,
}

/// Which drift; an empty filter is all.
#[derive(Debug, Clone, Copy, Default)]
pub struct DriftFilter {
    /// Of a tenant.
    pub tenant: Option<TenantId>,
    /// Of a kind.
    pub kind: Option<DriftKind>,
    /// Open, or mended.
    pub open: Option<bool>,
}

/// How far the round by all tenants is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Round {
    /// The last tenant that was taken; `None` before the first.
    pub after: Option<TenantId>,
    /// When it began.
    pub began_at: Option<Timestamp>,
    /// When it ended; `None` while it is under way.
    pub ended_at: Option<Timestamp>,
}

impl Round {
    /// The round that is to be gone on with: the one under way, or the next one when it is time; `None` before.
    #[must_use]
    pub fn due(self, every_s: i64, now: Timestamp) -> Option<Self> {
        match (self.began_at, self.ended_at) {
            (Some(_), None) => Some(self),
            // A clock that was set back must not stop rounds for as long.
            (Some(began), Some(_)) if began <= now && now < began.plus_secs(every_s) => None,
            _ => Some(Self { after: None, began_at: Some(now), ended_at: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for kind in DriftKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert!(UnknownKind.to_string().contains(kind.name()));
        }
        assert_eq!("lost".parse::<DriftKind>(), Err(UnknownKind));
    }

    #[test]
    fn what_ends_by_itself_is_looked_at_again_soon_and_the_rest_ever_less_often() {
        let waits = |kind: DriftKind| [1, 2, 3, 4, 5, 6, 9, 1_000].map(|looks| kind.wait_s(looks));
        assert_eq!(waits(DriftKind::NoAnswer), [5, 5, 5, 10, 20, 30, 30, 30]);
        assert_eq!(waits(DriftKind::Absent), [5, 5, 5, 10, 20, 40, 300, 300]);
    }

    #[test]
    fn rows_that_are_gone_are_never_covered_up() {
        for looks in [1, 2, 3, 1_000] {
            assert!(!DriftKind::DataLost.is_mended_after(looks));
        }
        assert!(DriftKind::DataLost.outage().is_some());
    }

    #[test]
    fn a_round_begins_when_it_is_time_and_goes_on_until_it_ends() {
        let at = |secs: i64| Timestamp::from_secs(1_800_000_000 + secs).unwrap();
        let first = Round::default().due(60, at(0)).unwrap();
        assert_eq!(first, Round { after: None, began_at: Some(at(0)), ended_at: None });
        assert_eq!(first.due(60, at(1_000)), Some(first), "however long it takes");
        let over = Round { ended_at: Some(at(5)), ..first };
        assert_eq!((over.due(60, at(59)), over.due(60, at(60)).and_then(|next| next.began_at)), (None, Some(at(60))));
        assert!(over.due(60, at(-3_600)).is_some(), "the clock was set back");
    }
}
