//! What usage and tenants cost us, in versions: rates of meters and a fixed sum for a tenant and period, each for a tier or for
//! all.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{error::Error, service::Billing, wire::non_negative};
use crate::{
    kernel::{Act, Actor, Currency, Fault, Faults, Money, Quantity, TierName, Timestamp, ids::uuid_v7},
    metering::MeterKey,
    store::{CostRow, Scope, StoreError},
};

/// The most rates of a version.
const MOST: usize = 1_000;

/// A version of the cost rates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Costs {
    /// Which.
    pub version: u32,
    /// From when it holds.
    pub effective_from: Timestamp,
    currency: Currency,
    meters: Vec<(MeterKey, Option<TierName>, Quantity)>,
    fixed: Vec<(Option<TierName>, Money)>,
}

impl Costs {
    /// What a unit of a meter costs us for a tenant of a tier; `None` where nobody said.
    pub fn unit(&self, meter: &MeterKey, tier: &TierName) -> Option<Quantity> {
        let of = |wanted: Option<&TierName>| {
            let found = self.meters.iter().find(|(own, tier, _)| own == meter && tier.as_ref() == wanted);
            found.map(|(_, _, unit)| *unit)
        };
        of(Some(tier)).or_else(|| of(None))
    }

    /// What a tenant of a tier costs us for a period, whatever it uses.
    pub fn fixed(&self, tier: &TierName) -> Option<Money> {
        let of = |wanted: Option<&TierName>| {
            let found = self.fixed.iter().find(|(tier, _)| tier.as_ref() == wanted);
            found.map(|(_, amount)| *amount)
        };
        of(Some(tier)).or_else(|| of(None))
    }

    /// Whether it has a rate of a meter, of whatever tier.
    pub fn knows(&self, meter: &MeterKey) -> bool {
        self.meters.iter().any(|(own, _, _)| own == meter)
    }
}

/// All versions, oldest first.
#[derive(Debug, Clone, Default)]
pub struct CostBook(pub Vec<Costs>);

impl CostBook {
    /// The versions in a currency: what something costs in another one is not known.
    #[must_use]
    pub fn within(&self, currency: Currency) -> Self {
        Self(self.0.iter().filter(|costs| costs.currency == currency).cloned().collect())
    }

    /// The version in force at an instant; the first also before it was made.
    pub fn at(&self, at: Timestamp) -> Option<&Costs> {
        self.0.iter().rfind(|costs| costs.effective_from <= at).or_else(|| self.0.first())
    }
}

/// What usage and tenants cost.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CostsBody {
    /// ISO 4217: the rates are for tenants that owe in it.
    pub currency: String,
    /// Of usage. A rate for the tenant's tier goes before one for all.
    #[serde(default)]
    pub meters: Vec<MeterCostBody>,
    /// Of a tenant and period, whatever it uses: a part of the period has its share by time.
    #[serde(default)]
    pub fixed: Vec<FixedCostBody>,
}

/// What a unit of a meter costs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MeterCostBody {
    /// Of what.
    pub meter: String,
    /// For tenants of this tier; of all that have no rate of their own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Of one unit.
    pub unit: String,
}

/// What a tenant costs for a period.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedCostBody {
    /// One of this tier; of all that have no sum of their own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// In the currency.
    pub amount: String,
}

impl CostsBody {
    /// Checks it; every fault at once.
    pub fn parse(&self, version: u32, effective_from: Timestamp, faults: &mut Faults) -> Option<Costs> {
        let currency: Option<Currency> = faults.parse("currency", &self.currency);
        for (name, count) in [("meters", self.meters.len()), ("fixed", self.fixed.len())] {
            if count > MOST {
                faults.add(name, format!("must be at most {MOST}"));
                return None;
            }
        }
        let tier_of = |faults: &mut Faults, field: &str, tier: &Option<String>| match tier {
            None => Some(None),
            Some(tier) => faults.parse(field, tier).map(Some),
        };
        let mut meters: Vec<(MeterKey, Option<TierName>, Quantity)> = Vec::new();
        for (place, body) in self.meters.iter().enumerate() {
            let at = |name: &str| format!("meters[{place}].{name}");
            let meter: Option<MeterKey> = faults.parse(&at("meter"), &body.meter);
            let tier = tier_of(faults, &at("tier"), &body.tier);
            let unit = non_negative(faults, &at("unit"), &body.unit);
            let (Some(meter), Some(tier), Some(unit)) = (meter, tier, unit) else { continue };
            if meters.iter().any(|(own, of, _)| *own == meter && *of == tier) {
                faults.add(at("meter"), "has a rate for this tier already");
            }
            meters.push((meter, tier, unit));
        }
        let mut fixed: Vec<(Option<TierName>, Money)> = Vec::new();
        for (place, body) in self.fixed.iter().enumerate() {
            let at = |name: &str| format!("fixed[{place}].{name}");
            let tier = tier_of(faults, &at("tier"), &body.tier);
            let exact = non_negative(faults, &at("amount"), &body.amount);
            let amount = exact.zip(currency);
            let amount =
                amount.and_then(|(exact, currency)| faults.check(&at("amount"), Money::from_exact(exact, currency)));
            let (Some(tier), Some(amount)) = (tier, amount) else { continue };
            if fixed.iter().any(|(of, _)| *of == tier) {
                faults.add(at("tier"), "has a sum already");
            }
            fixed.push((tier, amount));
        }
        Some(Costs { version, effective_from, currency: currency?, meters, fixed })
    }
}

impl From<&Costs> for CostsBody {
    fn from(costs: &Costs) -> Self {
        let tier = |tier: &Option<TierName>| tier.as_ref().map(ToString::to_string);
        let meter = |(meter, of, unit): &(MeterKey, Option<TierName>, Quantity)| MeterCostBody {
            meter: meter.to_string(),
            tier: tier(of),
            unit: unit.to_string(),
        };
        let fixed =
            |(of, amount): &(Option<TierName>, Money)| FixedCostBody { tier: tier(of), amount: amount.amount() };
        Self {
            currency: costs.currency.to_string(),
            meters: costs.meters.iter().map(meter).collect(),
            fixed: costs.fixed.iter().map(fixed).collect(),
        }
    }
}

impl Billing {
    /// All versions of the cost rates.
    pub async fn costs(&self, scope: Scope) -> Result<CostBook, Error> {
        let rows = self.store.read(scope).await?.costs().await?;
        Ok(CostBook(rows.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Adds a version, from now on or from a stated time, which may be in the past: margins are worked out anew whenever they
    /// are asked for.
    pub async fn put_costs(
        &self,
        scope: Scope,
        actor: Actor,
        body: &CostsBody,
        effective_from: Option<Timestamp>,
    ) -> Result<Costs, Error> {
        let now = self.clock.now();
        let book = self.costs(scope).await?;
        let version = book.0.last().map_or(0, |costs| costs.version) + 1;
        let mut faults = Faults::new();
        // Usage is counted by the minute.
        let costs = body.parse(version, effective_from.unwrap_or(now).floor_minute(), &mut faults);
        let costs = faults.finish(costs).map_err(Error::Invalid)?;
        let catalogue = self.catalogue();
        if !catalogue.has_currency(costs.currency) {
            let detail = format!("is {}, which no plan has", costs.currency);
            return Err(Error::Invalid(vec![Fault { field: "currency".into(), detail }]));
        }
        let named = costs.meters.iter().filter_map(|(_, tier, _)| tier.as_ref());
        let mut named = named.chain(costs.fixed.iter().filter_map(|(tier, _)| tier.as_ref()));
        if let Some(tier) = named.find(|tier| catalogue.newest(tier).is_none()) {
            return Err(Error::UnknownTier(tier.clone()));
        }
        let body = serde_json::to_string(&CostsBody::from(&costs)).unwrap_or_default();
        let row = CostRow { version: i64::from(version), effective_from: costs.effective_from, body };
        let mut tx = self.store.begin(scope).await?;
        if !tx.costs_insert(&row, now).await? {
            return Err(Error::Store(StoreError::Duplicate));
        }
        let act = Act { actor, action: "costs.changed", tenant: None, subject: version.to_string(), detail: None };
        tx.audit_insert(uuid_v7(now, &*self.rng), now, &act).await?;
        tx.commit().await?;
        Ok(costs)
    }
}

fn read(row: &CostRow) -> Result<Costs, Error> {
    let corrupt = |detail: String| StoreError::Corrupt(format!("cost rates: {detail}"));
    let body: CostsBody = serde_json::from_str(&row.body).map_err(|error| corrupt(error.to_string()))?;
    let version = u32::try_from(row.version).map_err(|error| corrupt(error.to_string()))?;
    let mut faults = Faults::new();
    let costs = body.parse(version, row.effective_from, &mut faults);
    faults.finish(costs).map_err(Error::Invalid)
}
