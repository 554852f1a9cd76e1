//! What was used in a part of a period with one plan, as the evidence of an invoice has it.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    evidence::{Plans, period},
    export::Refusal,
    rules::Quantities,
    span_bill::SpanUsage,
    spans::Span,
    transactions::Charged,
};
use crate::{
    kernel::{CalendarUnit, Period, Quantity, Timestamp},
    metering::MeterKey,
};

/// A part of a period with one plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SpanEvidence {
    /// The first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub to: Timestamp,
    /// The tier.
    pub tier: String,
    /// The version of its plan.
    pub version: u32,
    /// Whether it costs nothing.
    pub trial: bool,
    /// What was used, for each meter that the plan has a price for.
    pub usage: Vec<MeterEvidence>,
    /// What single transactions came to, for each percentage price that looks at them.
    pub charged: Vec<ChargedEvidence>,
}

/// What single transactions came to by a percentage price, before discount, maximum and minimum of its line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChargedEvidence {
    /// The place of the price in the plan, from 0.
    pub price: usize,
    /// Those that were billed before in the period.
    pub earlier: Quantity,
    /// These with those.
    pub whole: Quantity,
}

/// What was used of a meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MeterEvidence {
    /// The meter.
    pub meter: String,
    /// In all.
    pub total: Quantity,
    /// The days in UTC that have usage, each with what is within the span: `["2026-11-30", "12"]`. They sum to the total. `null`
    /// for a total that is no sum: a largest value, an average, how many different ones.
    #[schema(value_type = Option<Vec<Vec<String>>>)]
    pub days: Option<Vec<(String, Quantity)>>,
    /// The amount of each transaction, in their order, where a price looks at each of them and they are a thousand at most. They
    /// sum to the total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transactions: Option<Vec<Quantity>>,
}

impl From<&SpanUsage> for SpanEvidence {
    fn from(usage: &SpanUsage) -> Self {
        let day = |(at, quantity): &(Timestamp, Quantity)| (day_name(*at), *quantity);
        let of_meter = |(meter, total): (&MeterKey, &Quantity)| MeterEvidence {
            meter: meter.to_string(),
            total: *total,
            days: usage.days.get(meter).map(|days| days.iter().map(day).collect()),
            transactions: usage.transactions.get(meter).cloned(),
        };
        let Span { period, plan } = &usage.span;
        Self {
            from: period.from(),
            to: period.to(),
            tier: plan.tier.to_string(),
            version: plan.version,
            trial: usage.is_trial,
            usage: usage.used.iter().map(of_meter).collect(),
            charged: usage.charged.iter().map(ChargedEvidence::from).collect(),
        }
    }
}

impl From<(&usize, &Charged)> for ChargedEvidence {
    fn from((price, charged): (&usize, &Charged)) -> Self {
        Self { price: *price, earlier: charged.earlier, whole: charged.whole }
    }
}

impl SpanEvidence {
    /// What was used in it, by plans in their versions.
    pub(super) fn read(&self, plans: &Plans) -> Result<SpanUsage, Refusal> {
        let part = period(self.from, self.to)?;
        let plan = plans.get(&(self.tier.clone(), self.version));
        let plan = plan.ok_or_else(|| {
            Refusal::Unreadable(format!("there is no version {} of the plan of {}", self.version, self.tier))
        })?;
        let (mut used, mut transactions) = (Quantities::new(), BTreeMap::new());
        for of_meter in &self.usage {
            let meter: MeterKey =
                of_meter.meter.parse().map_err(|_| Refusal::Unreadable(format!("{:?} is no meter", of_meter.meter)))?;
            of_meter.check(part)?;
            transactions.extend(of_meter.transactions.clone().map(|each| (meter.clone(), each)));
            if used.insert(meter, of_meter.total).is_some() {
                return Err(Refusal::Unreadable(format!("usage of {} is there twice", of_meter.meter)));
            }
        }
        let priced = |meter: &MeterKey| plan.prices.iter().any(|price| price.meter == *meter);
        if let Some(price) = plan.prices.iter().find(|price| !used.contains_key(&price.meter)) {
            return Err(Refusal::Unreadable(format!("there is no usage of {}, which has a price", price.meter)));
        }
        if let Some(meter) = used.keys().find(|meter| !priced(meter)) {
            return Err(Refusal::Unreadable(format!("there is usage of {meter}, which has no price")));
        }
        let mut charged = BTreeMap::new();
        for ChargedEvidence { price, earlier, whole } in &self.charged {
            let looks = plan.prices.get(*price).is_some_and(|price| price.per_transaction().is_some());
            if !looks || charged.insert(*price, Charged { earlier: *earlier, whole: *whole }).is_some() {
                return Err(Refusal::Unreadable(format!("price {price} is charged otherwise, or twice")));
            }
        }
        let span = Span { period: part, plan: Arc::clone(plan) };
        Ok(SpanUsage { span, is_trial: self.trial, used, days: BTreeMap::new(), charged, transactions })
    }
}

impl MeterEvidence {
    /// Whether it is of a meter, and its total a sum.
    pub(super) fn is_sum_of(&self, meter: &MeterKey) -> bool {
        self.meter == meter.as_str() && self.days.is_some()
    }

    /// An error unless its days are days of the span, in order, and sum to the total, as its transactions do.
    fn check(&self, span: Period) -> Result<(), Refusal> {
        let mut sums = Vec::new();
        if let Some(days) = &self.days {
            let mut end = Timestamp::MIN;
            for (name, _) in days {
                let at: Option<Timestamp> = format!("{name}T00:00:00Z").parse().ok();
                let day = at.filter(|at| day_name(*at) == *name).map(|at| Period::containing(at, CalendarUnit::Day));
                let day = day.filter(|day| day.from() >= end && day.intersect(span).is_some());
                let out_of_place =
                    || Refusal::Unreadable(format!("{name:?} is no day of the span, or out of its place"));
                end = day.ok_or_else(out_of_place)?.to();
            }
            sums.push((sum_of(days.iter().map(|(_, quantity)| *quantity))?, "days"));
        }
        if let Some(transactions) = &self.transactions {
            sums.push((sum_of(transactions.iter().copied())?, "transactions"));
        }
        match sums.into_iter().find(|(sum, _)| *sum != self.total) {
            None => Ok(()),
            Some((sum, by)) => Err(Refusal::Differs {
                of: format!("usage of {} from {} to {}", self.meter, span.from(), span.to()),
                said: self.total.to_string(),
                found: format!("{sum} by its {by}"),
            }),
        }
    }
}

/// A day's date, from its first instant.
fn day_name(at: Timestamp) -> String {
    let mut name = at.to_string();
    name.truncate("2026-01-31".len());
    name
}

fn sum_of(mut quantities: impl Iterator<Item = Quantity>) -> Result<Quantity, Refusal> {
    let sum = quantities.try_fold(Quantity::ZERO, Quantity::add);
    sum.map_err(|error| Refusal::Unreadable(error.to_string()))
}
