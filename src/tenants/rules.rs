//! Which transition a state allows. Each consumes the tenant and gives the next one, or says why not.

use super::{
    error::Error,
    model::{Failure, Status, Suspension, Tenant, Unavailable},
};
use crate::kernel::{EventName, TierName, Timestamp};

/// Which state may follow which, by their names; each may also stay what it is. The store refuses all others, and so does the
/// database by itself (`migrations/0051_states.sql`).
pub const TRANSITIONS: [(&str, &str); 14] = [
    ("provisioning", "active"),
    ("provisioning", "failed"),
    ("provisioning", "offboarding"),
    ("failed", "active"),
    ("failed", "provisioning"),
    ("failed", "offboarding"),
    ("active", "suspended"),
    ("active", "changing_tier"),
    ("active", "offboarding"),
    ("suspended", "active"),
    ("suspended", "offboarding"),
    ("changing_tier", "active"),
    ("changing_tier", "offboarding"),
    ("offboarding", "deleted"),
];

/// What others are told of a change.
pub fn events(before: &Tenant, after: &Tenant) -> Vec<EventName> {
    let mut events = Vec::new();
    if after.tier != before.tier {
        events.push(EventName::TenantTierChanged);
    }
    match (&before.unavailable, &after.unavailable) {
        (None, Some(_)) => events.push(EventName::TenantUnavailable),
        // Of one that is gone nobody asks any more whether it answers.
        (Some(_), None) if !matches!(after.status, Status::Deleted { .. }) => events.push(EventName::TenantAvailable),
        _ => {}
    }
    if after.status == before.status {
        return events;
    }
    match after.status {
        // A move to another tier stops no call, so its end begins none.
        Status::Active if !before.status.is_usable() => events.push(EventName::TenantActivated),
        // For another reason than before it is suspended all the same.
        Status::Suspended(_) if !matches!(before.status, Status::Suspended(_)) => {
            events.push(EventName::TenantSuspended);
        }
        Status::Failed(_) if !matches!(before.status, Status::Failed(_)) => events.push(EventName::TenantFailed),
        Status::Offboarding => events.push(EventName::TenantOffboarding),
        Status::Deleted { .. } => events.push(EventName::TenantDeleted),
        _ => {}
    }
    events
}

impl Tenant {
    /// All steps of onboarding are done.
    pub fn activate(self) -> Result<Self, Error> {
        match self.status {
            Status::Provisioning | Status::Failed(_) | Status::Suspended(_) | Status::Active => {
                Ok(self.becomes(Status::Active))
            }
            _ => Err(self.refuses("be activated")),
        }
    }

    /// No call gets through any more, whoever pays what.
    pub fn suspend(self) -> Result<Self, Error> {
        match self.status {
            Status::Active | Status::Suspended(_) => Ok(self.becomes(Status::Suspended(Suspension::Asked))),
            _ => Err(self.refuses("be suspended")),
        }
    }

    /// No call gets through until what is owed is paid. Who is suspended already stays so for the reason there was.
    pub fn suspend_unpaid(self) -> Result<Self, Error> {
        match self.status {
            Status::Active => Ok(self.becomes(Status::Suspended(Suspension::Unpaid))),
            Status::Suspended(_) => Ok(self),
            _ => Err(self.refuses("be suspended")),
        }
    }

    /// Nothing is overdue any more: ends a suspension for that, and no other.
    #[must_use]
    pub fn settle(self) -> Self {
        match self.status {
            Status::Suspended(Suspension::Unpaid) => self.becomes(Status::Active),
            _ => self,
        }
    }

    /// A step failed.
    pub fn fail(self, failure: Failure) -> Result<Self, Error> {
        match self.status {
            Status::Provisioning | Status::Failed(_) => Ok(self.becomes(Status::Failed(failure))),
            _ => Err(self.refuses("fail to come about")),
        }
    }

    /// Trying again after a failure.
    pub fn retry(self) -> Result<Self, Error> {
        match self.status {
            Status::Provisioning | Status::Failed(_) => Ok(self.becomes(Status::Provisioning)),
            _ => Err(self.refuses("be tried again")),
        }
    }

    /// Its infrastructure starts to move to another tier's. Asking again for the same tier goes on with the move.
    pub fn begin_tier_change(self, to: TierName) -> Result<Self, Error> {
        match &self.status {
            Status::Active => Ok(self.becomes(Status::ChangingTier { to })),
            Status::ChangingTier { to: under_way } if *under_way == to => Ok(self),
            _ => Err(self.refuses("change its tier")),
        }
    }

    /// The move is done: the new tier holds.
    pub fn finish_tier_change(mut self) -> Result<Self, Error> {
        match self.status {
            Status::ChangingTier { ref to } => {
                self.tier = to.clone();
                Ok(self.becomes(Status::Active))
            }
            _ => Err(self.refuses("finish a tier change")),
        }
    }

    /// The move failed: the old tier stays.
    pub fn abandon_tier_change(self) -> Result<Self, Error> {
        match self.status {
            Status::ChangingTier { .. } => Ok(self.becomes(Status::Active)),
            _ => Err(self.refuses("abandon a tier change")),
        }
    }

    /// It starts to be taken apart; a second time goes on with it.
    pub fn begin_offboarding(self) -> Result<Self, Error> {
        match self.status {
            Status::Deleted { .. } => Err(self.refuses("be taken apart")),
            _ => Ok(self.becomes(Status::Offboarding)),
        }
    }

    /// Everything of it is gone but the tombstone.
    pub fn bury(self, at: Timestamp) -> Result<Self, Error> {
        match self.status {
            Status::Offboarding => Ok(Self { unavailable: None, ..self.becomes(Status::Deleted { at }) }),
            _ => Err(self.refuses("be deleted")),
        }
    }

    /// Its infrastructure does not answer. What was decided about it stays.
    pub fn becomes_unavailable(self, fault: Unavailable) -> Result<Self, Error> {
        match self.status {
            Status::Active | Status::Suspended(_) | Status::ChangingTier { .. } => {
                // The first word of it stands: it says since when.
                let unavailable = self.unavailable.clone().or(Some(fault));
                Ok(Self { unavailable, ..self })
            }
            _ => Err(self.refuses("be unavailable")),
        }
    }

    /// Its infrastructure answers.
    #[must_use]
    pub fn becomes_available(self) -> Self {
        Self { unavailable: None, ..self }
    }

    fn becomes(self, status: Status) -> Self {
        Self { status, ..self }
    }

    fn refuses(&self, verb: &'static str) -> Error {
        Error::WrongState { id: self.id, status: self.status.name(), verb }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{SeededRng, TenantId};

    const NOW: fn() -> Timestamp = || Timestamp::from_secs(1_800_000_000).unwrap();

    fn tenant(status: Status) -> Tenant {
        Tenant {
            id: TenantId::generate(NOW(), &SeededRng::new(1)),
            customer_name: "Acme".parse().unwrap(),
            external_id: None,
            tier: "standard".parse().unwrap(),
            status,
            unavailable: None,
            revision: 1,
            created_at: NOW(),
        }
    }

    fn all_states() -> Vec<Status> {
        let failure = Failure { step: "provisioning".into(), reason: "disk".into(), retryable: true };
        let to = "premium".parse().unwrap();
        vec![
            Status::Provisioning,
            Status::Active,
            Status::Suspended(Suspension::Asked),
            Status::ChangingTier { to },
            Status::Failed(failure),
            Status::Offboarding,
            Status::Deleted { at: NOW() },
        ]
    }

    #[test]
    fn a_deleted_tenant_stays_deleted() {
        let deleted = || tenant(Status::Deleted { at: NOW() });
        assert!(deleted().activate().is_err());
        assert!(deleted().suspend().is_err());
        assert!(deleted().retry().is_err());
        assert!(deleted().begin_tier_change("free".parse().unwrap()).is_err());
        assert!(deleted().begin_offboarding().is_err());
    }

    #[test]
    fn every_state_but_deleted_can_be_offboarded() {
        for status in all_states() {
            let gone = matches!(status, Status::Deleted { .. });
            assert_eq!(tenant(status.clone()).begin_offboarding().is_err(), gone, "{status:?}");
        }
    }

    #[test]
    fn only_active_and_moving_tenants_are_usable() {
        let usable: Vec<_> = all_states().iter().filter(|s| s.is_usable()).map(Status::name).collect();
        assert_eq!(usable, ["active", "changing_tier"]);
    }

    #[test]
    fn the_tier_changes_only_when_the_move_is_done() {
        let moving = tenant(Status::Active).begin_tier_change("premium".parse().unwrap()).unwrap();
        assert_eq!(moving.tier.as_str(), "standard");
        assert_eq!(moving.clone().abandon_tier_change().unwrap().tier.as_str(), "standard");
        assert_eq!(moving.finish_tier_change().unwrap().tier.as_str(), "premium");
    }

    #[test]
    fn a_payment_lifts_a_suspension_for_debt_and_no_other() {
        let unpaid = tenant(Status::Active).suspend_unpaid().unwrap();
        assert_eq!(unpaid.clone().settle().status, Status::Active);
        let asked = unpaid.suspend().unwrap();
        assert_eq!(asked.clone().suspend_unpaid().unwrap(), asked);
        assert_eq!(asked.clone().settle(), asked);
    }

    type Way = fn(Tenant) -> Result<Tenant, Error>;

    /// Every way to change a state.
    fn ways() -> Vec<(&'static str, Way)> {
        vec![
            ("activate", Tenant::activate),
            ("suspend", Tenant::suspend),
            ("suspend_unpaid", Tenant::suspend_unpaid),
            ("settle", |tenant| Ok(tenant.settle())),
            ("fail", |tenant| tenant.fail(Failure { step: "user".into(), reason: "no".into(), retryable: false })),
            ("retry", Tenant::retry),
            ("begin_tier_change", |tenant| tenant.begin_tier_change("premium".parse().unwrap())),
            ("finish_tier_change", Tenant::finish_tier_change),
            ("abandon_tier_change", Tenant::abandon_tier_change),
            ("begin_offboarding", Tenant::begin_offboarding),
            ("bury", |tenant| tenant.bury(NOW())),
            ("becomes_unavailable", |tenant| tenant.becomes_unavailable(fault())),
            ("becomes_available", |tenant| Ok(tenant.becomes_available())),
        ]
    }

    fn fault() -> Unavailable {
        Unavailable { since: NOW(), reason: "its database does not answer".into() }
    }

    #[test]
    fn every_pair_of_states_is_reached_by_some_way_or_by_none_as_the_table_says() {
        for from in all_states() {
            for to in Status::NAMES {
                let by: Vec<&str> = ways()
                    .into_iter()
                    .filter(|(_, way)| way(tenant(from.clone())).is_ok_and(|after| after.status.name() == to))
                    .map(|(name, _)| name)
                    .collect();
                let legal = from.name() == to || TRANSITIONS.contains(&(from.name(), to));
                assert!(legal || by.is_empty(), "{} becomes {to} by {by:?}", from.name());
                assert!(!legal || from.name() == to || !by.is_empty(), "nothing makes {} {to}", from.name());
            }
        }
    }

    #[test]
    fn a_fault_and_a_decision_hold_at_once_and_end_by_themselves() {
        let both = tenant(Status::Active).becomes_unavailable(fault()).unwrap().suspend().unwrap();
        assert_eq!((both.status.name(), both.unavailable.as_ref()), ("suspended", Some(&fault())));
        let let_in = both.clone().activate().unwrap();
        assert_eq!((let_in.status.name(), let_in.unavailable.is_some()), ("active", true));
        let mended = both.becomes_available();
        assert_eq!((mended.status.name(), mended.unavailable), ("suspended", None));
        let later = Unavailable { since: NOW().plus_secs(60), reason: "still".into() };
        assert_eq!(let_in.becomes_unavailable(later).unwrap().unavailable, Some(fault()), "since when it is");
        for status in all_states() {
            let may = matches!(status, Status::Active | Status::Suspended(_) | Status::ChangingTier { .. });
            assert_eq!(tenant(status.clone()).becomes_unavailable(fault()).is_ok(), may, "{status:?}");
        }
    }

    #[test]
    fn names_match_the_states() {
        let names: Vec<_> = all_states().iter().map(Status::name).collect();
        assert_eq!(names, Status::NAMES);
    }
}
