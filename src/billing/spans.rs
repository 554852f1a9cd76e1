//! Which plan was in force when, within a period: the tenant's tiers and the versions of their plans, cut into spans.

use std::sync::Arc;

use super::model::Plan;
use crate::kernel::{Currency, Period, TierName, Timestamp};

/// A part of a period with one plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The part.
    pub period: Period,
    /// The plan in force.
    pub plan: Arc<Plan>,
}

/// A plan and from when its version holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanVersion {
    /// The first instant at which its limits and features hold.
    pub effective_from: Timestamp,
    /// From when on bills have it.
    pub billed_from: Timestamp,
    /// Whether they have it from then on whatever period of an account runs; otherwise from the account's first period that
    /// begins then or later.
    pub cuts: bool,
    /// The plan.
    pub plan: Arc<Plan>,
}

impl PlanVersion {
    /// One that holds from an instant on, for everything.
    pub fn at_once(at: Timestamp, plan: Plan) -> Self {
        Self { effective_from: at, billed_from: at, cuts: true, plan: Arc::new(plan) }
    }
}

/// The versions of all plans, oldest first within a tier.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    versions: Vec<PlanVersion>,
    instead: Option<Replacement>,
    /// A change of tier that is not made yet.
    change: Option<(Timestamp, TierName)>,
}

/// What a bill is worked out by in place of the plans that held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// In place of this tier's plan; of everybody's when absent.
    pub of: Option<TierName>,
    /// By what.
    pub by: Instead,
}

/// What is in place of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instead {
    /// One that nobody has.
    Plan(Arc<Plan>),
    /// That of a tier, in its versions.
    Tier(TierName),
}

impl Catalogue {
    /// From all versions of all tiers, in any order.
    pub fn new(mut versions: Vec<PlanVersion>) -> Self {
        versions.sort_by(|a, b| (&a.plan.tier, a.plan.version).cmp(&(&b.plan.tier, b.plan.version)));
        Self { versions, instead: None, change: None }
    }

    /// The same, where bills are worked out by something else. What is looked up stays as it is.
    #[must_use]
    pub fn replaced(&self, instead: Replacement) -> Self {
        Self { instead: Some(instead), ..self.clone() }
    }

    /// The same, where bills have a change of tier that is not made yet.
    #[must_use]
    pub fn with_change(&self, since: Timestamp, to: TierName) -> Self {
        Self { change: Some((since, to)), ..self.clone() }
    }

    /// The plan of a tier in force at an instant; a tier's first version also before it was made.
    pub fn at(&self, tier: &TierName, at: Timestamp) -> Option<&PlanVersion> {
        let of_tier = || self.versions.iter().filter(|version| version.plan.tier == *tier);
        of_tier().rfind(|version| version.effective_from <= at).or_else(|| of_tier().next())
    }

    /// The plan of a tier that a bill is made by at an instant of a period; a tier's first version also before it was made.
    fn billed_at(&self, tier: &TierName, at: Timestamp, period: Period) -> Option<&PlanVersion> {
        let of_tier = || self.versions.iter().filter(|version| version.plan.tier == *tier);
        let holds = |version: &&PlanVersion| version.billed_from <= if version.cuts { at } else { period.from() };
        of_tier().rfind(holds).or_else(|| of_tier().next())
    }

    /// One version of a tier's plan.
    pub fn version(&self, tier: &TierName, version: u32) -> Option<&PlanVersion> {
        self.versions.iter().find(|own| own.plan.tier == *tier && own.plan.version == version)
    }

    /// The newest version of a tier's plan, in force or not yet.
    pub fn newest(&self, tier: &TierName) -> Option<&PlanVersion> {
        self.versions.iter().rfind(|version| version.plan.tier == *tier)
    }

    /// Whether any plan is in a currency.
    pub fn has_currency(&self, currency: Currency) -> bool {
        self.versions.iter().any(|version| version.plan.currency() == currency)
    }

    /// The tiers that have a plan.
    pub fn tiers(&self) -> impl Iterator<Item = &TierName> {
        let mut last = None;
        self.versions.iter().map(|version| &version.plan.tier).filter(move |tier| last.replace(*tier) != Some(*tier))
    }

    /// Cuts a period where the tier or the version of its plan changes at once. The first tier reaches back to the start:
    /// a customer who comes in mid-period pays the period's base in full.
    pub fn spans(&self, period: Period, tiers: &[(Timestamp, TierName)]) -> Vec<Span> {
        let with_change: Vec<_>;
        let tiers = match &self.change {
            None => tiers,
            // Of two in one minute the later one holds.
            Some(change) => {
                let before = tiers.iter().filter(|(since, _)| *since < change.0);
                with_change = before.chain([change]).cloned().collect();
                &with_change
            }
        };
        let mut cuts: Vec<Timestamp> = vec![period.from()];
        let changes = tiers.iter().skip(1).map(|(since, _)| *since);
        let versions = self.versions.iter().filter(|version| version.cuts).map(|version| version.billed_from);
        cuts.extend(changes.chain(versions).filter(|at| period.from() < *at && *at < period.to()));
        cuts.sort_unstable();
        cuts.dedup();
        cuts.push(period.to());
        let mut spans: Vec<Span> = Vec::new();
        for cut in cuts.windows(2) {
            let Ok(part) = Period::new(cut[0], cut[1]) else { continue };
            let Some(plan) = self.plan_during(part, period, tiers) else { continue };
            match spans.last_mut() {
                Some(last) if last.plan == plan && last.period.to() == part.from() => {
                    last.period = Period::new(last.period.from(), part.to()).unwrap_or(last.period);
                }
                _ => spans.push(Span { period: part, plan }),
            }
        }
        spans
    }

    fn plan_during(&self, part: Period, whole: Period, tiers: &[(Timestamp, TierName)]) -> Option<Arc<Plan>> {
        let in_force = tiers.iter().rfind(|(since, _)| *since <= part.from()).or_else(|| tiers.first());
        let (_, tier) = in_force?;
        let instead = self.instead.as_ref().filter(|instead| instead.of.as_ref().is_none_or(|of| of == tier));
        let tier = match instead.map(|instead| &instead.by) {
            Some(Instead::Plan(plan)) => return Some(Arc::clone(plan)),
            Some(Instead::Tier(other)) => other,
            None => tier,
        };
        self.billed_at(tier, part.from(), whole).map(|version| Arc::clone(&version.plan))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{billing::stock_plans, kernel::CalendarUnit};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn catalogue() -> Catalogue {
        let epoch = Timestamp::from_secs(0).unwrap();
        let versions = stock_plans().into_iter().map(|plan| PlanVersion {
            effective_from: epoch,
            billed_from: epoch,
            cuts: true,
            plan: Arc::new(plan),
        });
        Catalogue::new(versions.collect())
    }

    fn tiers(changes: &[(&str, &str)]) -> Vec<(Timestamp, TierName)> {
        changes.iter().map(|(since, tier)| (at(since), tier.parse().unwrap())).collect()
    }

    fn spans(changes: &[(&str, &str)]) -> Vec<(String, String)> {
        let november = Period::containing(at("2026-11-10T00:00:00Z"), CalendarUnit::Month);
        let spans = catalogue().spans(november, &tiers(changes));
        spans.iter().map(|span| (span.plan.tier.to_string(), span.period.from().to_string())).collect()
    }

    #[test]
    fn one_tier_is_one_span_that_reaches_back_to_the_start() {
        assert_eq!(
            spans(&[("2026-11-20T10:00:00Z", "standard")]),
            [("standard".into(), "2026-11-01T00:00:00Z".into())]
        );
    }

    #[test]
    fn a_change_of_tier_cuts_the_period() {
        let found = spans(&[("2026-01-01T00:00:00Z", "standard"), ("2026-11-20T10:00:00Z", "premium")]);
        let expected =
            [("standard".into(), "2026-11-01T00:00:00Z".into()), ("premium".into(), "2026-11-20T10:00:00Z".into())];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_change_before_or_after_the_period_does_not_cut_it() {
        let found = spans(&[
            ("2026-01-01T00:00:00Z", "free"),
            ("2026-02-01T00:00:00Z", "premium"),
            ("2026-12-01T00:00:00Z", "free"),
        ]);
        assert_eq!(found, [("premium".into(), "2026-11-01T00:00:00Z".into())]);
    }

    #[test]
    fn one_plan_in_place_of_all_is_one_span_and_in_place_of_a_tier_cuts_like_it() {
        let november = Period::containing(at("2026-11-10T00:00:00Z"), CalendarUnit::Month);
        let own = tiers(&[("2026-01-01T00:00:00Z", "free"), ("2026-11-20T10:00:00Z", "premium")]);
        let catalogue = catalogue();
        let plan = Arc::clone(&catalogue.newest(&"standard".parse().unwrap()).unwrap().plan);
        let found = |of: Option<&str>, by: Instead| {
            let of = of.map(|of| of.parse().unwrap());
            let spans = catalogue.replaced(Replacement { of, by }).spans(november, &own);
            spans.iter().map(|span| span.plan.tier.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(None, Instead::Plan(Arc::clone(&plan))), ["standard"]);
        assert_eq!(found(Some("premium"), Instead::Plan(plan)), ["free", "standard"]);
        assert_eq!(found(Some("free"), Instead::Tier("premium".parse().unwrap())), ["premium"]);
    }

    #[test]
    fn a_change_that_is_not_made_yet_cuts_like_one_that_is() {
        let november = Period::containing(at("2026-11-10T00:00:00Z"), CalendarUnit::Month);
        let own = tiers(&[("2026-01-01T00:00:00Z", "free"), ("2026-11-20T10:00:00Z", "premium")]);
        let since = at("2026-11-20T10:00:00Z");
        for (of, made) in [(&own[..1], &own[..]), (&own[..], &own[..])] {
            let changed = catalogue().with_change(since, "premium".parse().unwrap());
            assert_eq!(changed.spans(november, of), catalogue().spans(november, made));
        }
    }

    #[test]
    fn the_tiers_are_listed_once() {
        let catalogue = catalogue();
        let tiers: Vec<_> = catalogue.tiers().map(TierName::as_str).collect();
        assert_eq!(tiers, ["free", "premium", "standard"]);
    }
}
