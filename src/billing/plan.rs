//! Plans on the wire, in `config/plans.toml` and in the store.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    cadence_wire::IntervalBody,
    model::{Plan, Price, PriceModel, Quota, QuotaMode, RateLimit, Tiers},
    wire::{PriceBody, TierBody, non_negative, parse_prices},
};
use crate::kernel::{CalendarUnit, Currency, Fault, Faults, Isolation, Money, Quantity};

/// The plans that come with the program.
const STOCK: &str = include_str!("../../config/plans.toml");

/// The longest trial, in days.
const MAX_TRIAL_DAYS: u32 = 3_660;

/// What a tier costs and allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanBody {
    /// The tier's name.
    #[serde(default)]
    pub tier: String,
    /// Counts up with every change; ignored on input.
    #[serde(default)]
    pub version: u32,
    /// `pool` or `silo`.
    pub isolation: Isolation,
    /// ISO 4217.
    pub currency: String,
    /// Due every interval, in the currency.
    pub base: String,
    /// What base and usage of an interval come to at least, in the currency; nothing when absent.
    #[serde(default)]
    pub commitment: Option<String>,
    /// So many days from the opening of a tenant's account nothing of it is charged.
    #[serde(default)]
    pub trial_days: u32,
    /// What base and commitment are for: `month`, `year`, or so many days, `{"days": 30}`.
    #[serde(default)]
    pub interval: IntervalBody,
    /// Prices of meters.
    #[serde(default)]
    pub prices: Vec<PriceBody>,
    /// Limits by period.
    #[serde(default)]
    pub quotas: Vec<QuotaBody>,
    /// Limit by second.
    #[serde(default)]
    pub rate_limit: Option<RateLimitBody>,
    /// How many requests may be under way at once; as many as come when absent.
    #[serde(default)]
    pub max_concurrency: Option<u32>,
    /// What the product switches on.
    #[serde(default)]
    pub features: Vec<String>,
}

/// How much of a meter may be used in a calendar period (UTC).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaBody {
    /// Of what.
    pub meter: String,
    /// How much.
    pub limit: String,
    /// In which period.
    pub period: CalendarUnit,
    /// `hard` refuses more, `soft` only shows it.
    pub mode: String,
}

/// `requests` every `per_s` seconds, with bursts of up to `burst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitBody {
    /// Requests in the time.
    pub requests: u32,
    /// The time, in seconds.
    pub per_s: u32,
    /// Requests at once.
    pub burst: u32,
}

/// A file of plans.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    plans: Vec<PlanBody>,
}

/// Reads a file of plans; every fault at once.
pub fn parse_plans(text: &str) -> Result<Vec<Plan>, Vec<Fault>> {
    let file: PlanFile = toml::from_str(text).map_err(|error| {
        let detail = error.to_string().trim().to_owned();
        vec![Fault { field: "plans".to_owned(), detail }]
    })?;
    let mut faults = Faults::new();
    let plans: Vec<Plan> = file
        .plans
        .iter()
        .enumerate()
        .filter_map(|(index, body)| body.parse(&format!("plans[{index}]."), 1, &mut faults))
        .collect();
    for (index, plan) in plans.iter().enumerate() {
        if plans[..index].iter().any(|other| other.tier == plan.tier) {
            faults.add(format!("plans[{index}].tier"), format!("the tier {} has a plan already", plan.tier));
        }
    }
    faults.finish(Some(plans))
}

/// The plans that come with the program: free, standard, premium.
///
/// # Panics
///
/// Never: the file is part of the program, and a test reads it.
pub fn stock_plans() -> Vec<Plan> {
    parse_plans(STOCK).expect("config/plans.toml is valid")
}

impl PlanBody {
    /// Checks it; what is wrong is recorded below `prefix`, which ends in a dot or is empty.
    pub fn parse(&self, prefix: &str, version: u32, faults: &mut Faults) -> Option<Plan> {
        let at = |name: &str| format!("{prefix}{name}");
        let tier = faults.parse(&at("tier"), &self.tier);
        let currency: Option<Currency> = faults.parse(&at("currency"), &self.currency);
        let base = non_negative(faults, &at("base"), &self.base);
        let base = currency.zip(base).and_then(|(currency, base)| {
            let money = Money::from_exact(base, currency);
            faults.check(&at("base"), money)
        });
        let commitment = self.commitment.as_ref().and_then(|text| {
            let exact = non_negative(faults, &at("commitment"), text)?;
            faults.check(&at("commitment"), Money::from_exact(exact, currency?))
        });
        if self.trial_days > MAX_TRIAL_DAYS {
            faults.add(at("trial_days"), format!("must be at most {MAX_TRIAL_DAYS}"));
        }
        let interval = faults.check(&at("interval"), self.interval.parse());
        let prices = parse_prices(&self.prices, &at("prices"), faults);
        let quotas = self.quotas.iter().enumerate();
        let quotas =
            quotas.filter_map(|(index, quota)| quota.parse(&at(&format!("quotas[{index}].")), faults)).collect();
        let rate_limit = self.rate_limit.and_then(|limit| limit.parse(&at("rate_limit."), faults));
        if self.max_concurrency == Some(0) {
            faults.add(at("max_concurrency"), "must be above zero");
        }
        Some(Plan {
            tier: tier?,
            version,
            isolation: self.isolation,
            interval: interval?,
            base: base?,
            commitment,
            trial_days: self.trial_days,
            prices,
            quotas,
            rate_limit,
            max_concurrency: self.max_concurrency,
            features: self.features.clone(),
        })
    }
}

impl QuotaBody {
    /// Checks it; what is wrong is recorded below `prefix`.
    pub fn parse(&self, prefix: &str, faults: &mut Faults) -> Option<Quota> {
        let meter = faults.parse(&format!("{prefix}meter"), &self.meter);
        let limit = non_negative(faults, &format!("{prefix}limit"), &self.limit);
        let mode = match self.mode.as_str() {
            "hard" => Some(QuotaMode::Hard),
            "soft" => Some(QuotaMode::Soft),
            _ => {
                faults.add(format!("{prefix}mode"), "must be hard or soft");
                None
            }
        };
        Some(Quota { meter: meter?, limit: limit?, period: self.period, mode: mode? })
    }
}

impl RateLimitBody {
    fn parse(self, prefix: &str, faults: &mut Faults) -> Option<RateLimit> {
        let Self { requests, per_s, burst } = self;
        for (name, value) in [("requests", requests), ("per_s", per_s), ("burst", burst)] {
            if value == 0 {
                faults.add(format!("{prefix}{name}"), "must be above zero");
            }
        }
        (requests > 0 && per_s > 0 && burst > 0).then_some(RateLimit { requests, per_s, burst })
    }
}

impl From<&Plan> for PlanBody {
    fn from(plan: &Plan) -> Self {
        Self {
            tier: plan.tier.to_string(),
            version: plan.version,
            isolation: plan.isolation,
            currency: plan.currency().to_string(),
            base: plan.base.amount(),
            commitment: plan.commitment.map(Money::amount),
            trial_days: plan.trial_days,
            interval: plan.interval.into(),
            prices: plan.prices.iter().map(PriceBody::from).collect(),
            quotas: plan.quotas.iter().map(QuotaBody::from).collect(),
            rate_limit: plan.rate_limit.map(|limit| RateLimitBody {
                requests: limit.requests,
                per_s: limit.per_s,
                burst: limit.burst,
            }),
            max_concurrency: plan.max_concurrency,
            features: plan.features.clone(),
        }
    }
}

impl From<&Quota> for QuotaBody {
    fn from(quota: &Quota) -> Self {
        Self {
            meter: quota.meter.to_string(),
            limit: quota.limit.to_string(),
            period: quota.period,
            mode: quota.mode.name().to_owned(),
        }
    }
}

impl From<&Price> for PriceBody {
    fn from(price: &Price) -> Self {
        let text = |quantity: &Quantity| Some(quantity.to_string());
        let optional = |quantity: Option<Quantity>| quantity.map(|quantity| quantity.to_string());
        let mut body = Self {
            meter: price.meter.to_string(),
            model: price.model.name().to_owned(),
            included: optional(price.included),
            discount_percent: optional(price.discount_percent),
            minimum: optional(price.minimum),
            maximum: optional(price.maximum),
            ..Self::default()
        };
        match &price.model {
            PriceModel::Flat { amount } => body.amount = text(amount),
            PriceModel::PerUnit { unit } => body.unit = text(unit),
            PriceModel::Graduated(tiers) | PriceModel::Volume(tiers) | PriceModel::GraduatedPercentage(tiers) => {
                body.tiers = Some(tier_bodies(tiers));
            }
            PriceModel::Package { price, size, round } => {
                body.price = text(price);
                body.size = text(size);
                body.round = Some(round.name().to_owned());
            }
            PriceModel::Percentage(terms) => {
                body.rate_percent = text(&terms.rate_percent);
                body.fixed_per_event = text(&terms.fixed_per_event);
                body.free_events = terms.free_events.map(|count| count.to_string());
                body.free_amount = optional(terms.free_amount);
                body.min_per_event = optional(terms.min_per_event);
                body.max_per_event = optional(terms.max_per_event);
            }
            PriceModel::Dynamic { multiplier } => body.multiplier = text(multiplier),
        }
        body
    }
}

fn tier_bodies(tiers: &Tiers) -> Vec<TierBody> {
    let body = |tier: &super::model::Tier| TierBody {
        up_to: tier.up_to.map(|up_to| up_to.to_string()),
        unit: Some(tier.unit.to_string()),
        flat: Some(tier.flat.to_string()),
    };
    tiers.iter().map(body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stock_plans_are_free_standard_and_premium() {
        let plans = stock_plans();
        let tiers: Vec<_> = plans.iter().map(|plan| (plan.tier.as_str(), plan.isolation.name())).collect();
        assert_eq!(tiers, [("free", "pool"), ("standard", "pool"), ("premium", "silo")]);
    }

    #[test]
    fn a_plan_survives_the_way_to_the_store_and_back() {
        for plan in stock_plans() {
            let json = serde_json::to_string(&PlanBody::from(&plan)).unwrap();
            let body: PlanBody = serde_json::from_str(&json).unwrap();
            let mut faults = Faults::new();
            let back = body.parse("", plan.version, &mut faults);
            assert_eq!(faults.finish(back).unwrap(), plan);
        }
    }

    #[test]
    fn all_faults_of_a_plan_file_are_reported() {
        let text = r#"
            [[plans]]
            tier = "Free"
            isolation = "pool"
            currency = "USD"
            base = "1.005"
            quotas = [{ meter = "apis", limit = "-1", period = "day", mode = "firm" }]
            rate_limit = { requests = 0, per_s = 1, burst = 1 }
        "#;
        let fields: Vec<_> = parse_plans(text).unwrap_err().into_iter().map(|fault| fault.field).collect();
        let expected = ["tier", "base", "quotas[0].limit", "quotas[0].mode", "rate_limit.requests"];
        assert_eq!(fields, expected.map(|name| format!("plans[0].{name}")));
    }
}
