//! Prices, usage and plans on the wire, in files and in the store: text in, every fault at once; valid types out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    model::{PackageRounding, Percentage, Price, PriceModel, Tier, Tiers, Usage},
    rules::UsageByMeter,
};
use crate::{
    kernel::{Currency, Fault, Faults, Quantity},
    metering::MeterKey,
};

/// The price of a meter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceBody {
    /// What is priced.
    pub meter: String,
    /// `flat`, `per_unit`, `graduated`, `volume`, `package`, `percentage`, `graduated_percentage` or `dynamic`.
    pub model: String,
    /// Of `flat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// Of `per_unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Of `graduated`, `volume` and `graduated_percentage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiers: Option<Vec<TierBody>>,
    /// Of `package`: the price of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// Of `package`: units in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Of `package`: `up` (the default) or `down`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<String>,
    /// Of `percentage`: the share in per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_percent: Option<String>,
    /// Of `percentage`: added to every transaction that is paid for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_per_event: Option<String>,
    /// Of `percentage`: transactions that are free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_events: Option<String>,
    /// Of `percentage`: the amount that is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_amount: Option<String>,
    /// Of `percentage`: the least a paid transaction costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_per_event: Option<String>,
    /// Of `percentage`: the most a paid transaction costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_event: Option<String>,
    /// Of `dynamic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiplier: Option<String>,
    /// Units that cost nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub included: Option<String>,
    /// A discount, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discount_percent: Option<String>,
    /// The least the line comes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<String>,
    /// The most the line comes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<String>,
}

/// One tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TierBody {
    /// The last unit of the tier; absent or `null` for the last tier.
    #[serde(default)]
    pub up_to: Option<String>,
    /// Price of a unit; "0" when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Due once the tier is entered; "0" when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<String>,
}

/// Usage of a meter: a quantity, or the amounts of its transactions.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum UsageBody {
    /// So much in all.
    Quantity(String),
    /// Transaction by transaction.
    Transactions(Vec<String>),
}

/// A request to rate usage by prices; changes nothing.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateRequest {
    /// ISO 4217.
    currency: String,
    prices: Vec<PriceBody>,
    /// By meter.
    #[serde(default)]
    usage: BTreeMap<String, UsageBody>,
    /// What was billed before, by meter.
    #[serde(default)]
    already: Option<BTreeMap<String, String>>,
}

/// What a rating request says.
pub type RatingInput = (Currency, Vec<Price>, UsageByMeter, Option<BTreeMap<MeterKey, Quantity>>);

impl RateRequest {
    /// Checks it; every fault at once.
    pub fn parse(&self) -> Result<RatingInput, Vec<Fault>> {
        let mut faults = Faults::new();
        let currency = faults.parse("currency", &self.currency);
        let prices = parse_prices(&self.prices, "prices", &mut faults);
        let mut usage = UsageByMeter::new();
        for (meter, used) in &self.usage {
            let field = format!("usage.{meter}");
            if let (Some(key), Some(used)) = (faults.parse(&field, meter), used.parse(&field, &mut faults)) {
                usage.insert(key, used);
            }
        }
        let already = self.already.as_ref().map(|already| {
            let parsed = already.iter().filter_map(|(meter, quantity)| {
                let field = format!("already.{meter}");
                Some((faults.parse(&field, meter)?, non_negative(&mut faults, &field, quantity)?))
            });
            parsed.collect()
        });
        faults.finish(currency.map(|currency| (currency, prices, usage, already)))
    }
}

impl UsageBody {
    fn parse(&self, field: &str, faults: &mut Faults) -> Option<Usage> {
        match self {
            Self::Quantity(quantity) => faults.parse(field, quantity).map(Usage::Quantity),
            Self::Transactions(amounts) => {
                let amounts = amounts.iter().enumerate();
                let parsed: Vec<_> =
                    amounts.map(|(index, amount)| non_negative(faults, &format!("{field}[{index}]"), amount)).collect();
                parsed.into_iter().collect::<Option<_>>().map(Usage::Transactions)
            }
        }
    }
}

/// Checks prices; what is wrong is recorded below `field`.
pub fn parse_prices(prices: &[PriceBody], field: &str, faults: &mut Faults) -> Vec<Price> {
    let parsed = prices.iter().enumerate();
    parsed
        .filter_map(|(index, price)| PriceReader { price, field: format!("{field}[{index}]"), faults }.read())
        .collect()
}

/// Reads one price, recording every fault.
struct PriceReader<'a> {
    price: &'a PriceBody,
    field: String,
    faults: &'a mut Faults,
}

impl PriceReader<'_> {
    fn read(mut self) -> Option<Price> {
        let meter = self.faults.parse(&self.at("meter"), &self.price.meter);
        let model = self.model();
        self.refuse_fields_of_other_models();
        let included = self.optional("included", self.price.included.as_deref());
        let discount_percent = self.optional("discount_percent", self.price.discount_percent.as_deref());
        if discount_percent.is_some_and(|percent| percent > Quantity::from(100_i64)) {
            self.fault("discount_percent", "must be at most 100");
        }
        let minimum = self.optional("minimum", self.price.minimum.as_deref());
        let maximum = self.optional("maximum", self.price.maximum.as_deref());
        if let (Some(minimum), Some(maximum)) = (minimum, maximum)
            && minimum > maximum
        {
            self.fault("minimum", "must not be above the maximum");
        }
        Some(Price { meter: meter?, model: model?, included, discount_percent, minimum, maximum })
    }

    fn model(&mut self) -> Option<PriceModel> {
        let price = self.price;
        match price.model.as_str() {
            "flat" => Some(PriceModel::Flat { amount: self.needed("amount", price.amount.as_deref())? }),
            "per_unit" => Some(PriceModel::PerUnit { unit: self.needed("unit", price.unit.as_deref())? }),
            "graduated" => self.tiers().map(PriceModel::Graduated),
            "volume" => self.tiers().map(PriceModel::Volume),
            "graduated_percentage" => self.tiers().map(PriceModel::GraduatedPercentage),
            "package" => self.package(),
            "percentage" => self.percentage().map(PriceModel::Percentage),
            "dynamic" => {
                Some(PriceModel::Dynamic { multiplier: self.needed("multiplier", price.multiplier.as_deref())? })
            }
            _ => {
                self.fault("model", format!("must be one of {}", MODELS.map(|(name, _)| name).join(", ")));
                None
            }
        }
    }

    fn package(&mut self) -> Option<PriceModel> {
        let price = self.needed("price", self.price.price.as_deref());
        let size = self.needed("size", self.price.size.as_deref());
        if size.is_some_and(Quantity::is_zero) {
            self.fault("size", "must be above zero");
            return None;
        }
        let round = match self.price.round.as_deref() {
            None | Some("up") => Some(PackageRounding::Up),
            Some("down") => Some(PackageRounding::Down),
            Some(_) => {
                self.fault("round", "must be up or down");
                None
            }
        };
        Some(PriceModel::Package { price: price?, size: size?, round: round? })
    }

    fn percentage(&mut self) -> Option<Percentage> {
        let price = self.price;
        let rate_percent = self.needed("rate_percent", price.rate_percent.as_deref());
        let fixed_per_event = self.optional("fixed_per_event", price.fixed_per_event.as_deref());
        let free_events = price.free_events.as_deref().map(|text| {
            let count: Option<u64> = text.parse().ok();
            if count.is_none() {
                self.fault("free_events", "must be a whole number");
            }
            count
        });
        Some(Percentage {
            rate_percent: rate_percent?,
            fixed_per_event: fixed_per_event.unwrap_or(Quantity::ZERO),
            free_events: free_events.flatten(),
            free_amount: self.optional("free_amount", price.free_amount.as_deref()),
            min_per_event: self.optional("min_per_event", price.min_per_event.as_deref()),
            max_per_event: self.optional("max_per_event", price.max_per_event.as_deref()),
        })
    }

    fn tiers(&mut self) -> Option<Tiers> {
        let Some(bodies) = &self.price.tiers else {
            self.fault("tiers", "is required by this model");
            return None;
        };
        let mut tiers = Vec::with_capacity(bodies.len());
        for (index, body) in bodies.iter().enumerate() {
            let name = |part: &str| format!("tiers[{index}].{part}");
            let up_to = self.optional(&name("up_to"), body.up_to.as_deref());
            let unit = self.optional(&name("unit"), body.unit.as_deref());
            let flat = self.optional(&name("flat"), body.flat.as_deref());
            if body.up_to.is_some() && up_to.is_none() {
                return None;
            }
            tiers.push(Tier { up_to, unit: unit.unwrap_or_default(), flat: flat.unwrap_or_default() });
        }
        let field = self.at("tiers");
        self.faults.check(&field, Tiers::new(tiers))
    }

    /// A field that another model has and this one does not: a price that would be read otherwise than it was meant.
    fn refuse_fields_of_other_models(&mut self) {
        let Some((_, own)) = MODELS.iter().find(|(name, _)| *name == self.price.model) else { return };
        let price = self.price;
        let given = [
            ("amount", price.amount.is_some()),
            ("unit", price.unit.is_some()),
            ("tiers", price.tiers.is_some()),
            ("price", price.price.is_some()),
            ("size", price.size.is_some()),
            ("round", price.round.is_some()),
            ("rate_percent", price.rate_percent.is_some()),
            ("fixed_per_event", price.fixed_per_event.is_some()),
            ("free_events", price.free_events.is_some()),
            ("free_amount", price.free_amount.is_some()),
            ("min_per_event", price.min_per_event.is_some()),
            ("max_per_event", price.max_per_event.is_some()),
            ("multiplier", price.multiplier.is_some()),
        ];
        for (name, _) in given.iter().filter(|(name, given)| *given && !own.contains(name)) {
            self.fault(name, format!("does not belong to the model {}", price.model));
        }
    }

    fn at(&self, name: &str) -> String {
        format!("{}.{name}", self.field)
    }

    fn fault(&mut self, name: &str, detail: impl ToString) {
        self.faults.add(self.at(name), detail);
    }

    fn needed(&mut self, name: &str, text: Option<&str>) -> Option<Quantity> {
        let Some(text) = text else {
            self.fault(name, "is required by this model");
            return None;
        };
        self.optional(name, Some(text))
    }

    fn optional(&mut self, name: &str, text: Option<&str>) -> Option<Quantity> {
        let field = self.at(name);
        text.and_then(|text| non_negative(self.faults, &field, text))
    }
}

/// The models and the fields of each.
const MODELS: [(&str, &[&str]); 8] = [
    ("flat", &["amount"]),
    ("per_unit", &["unit"]),
    ("graduated", &["tiers"]),
    ("volume", &["tiers"]),
    ("package", &["price", "size", "round"]),
    (
        "percentage",
        &["rate_percent", "fixed_per_event", "free_events", "free_amount", "min_per_event", "max_per_event"],
    ),
    ("graduated_percentage", &["tiers"]),
    ("dynamic", &["multiplier"]),
];

/// A quantity that is not below zero.
pub(super) fn non_negative(faults: &mut Faults, field: &str, text: &str) -> Option<Quantity> {
    let quantity: Quantity = faults.parse(field, text)?;
    if quantity.is_negative() {
        faults.add(field, "must not be below zero");
        return None;
    }
    Some(quantity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(json: serde_json::Value) -> Vec<String> {
        let request: RateRequest = serde_json::from_value(json).unwrap();
        request.parse().unwrap_err().into_iter().map(|fault| format!("{}: {}", fault.field, fault.detail)).collect()
    }

    #[test]
    fn every_fault_of_a_request_is_reported_at_once() {
        let found = faults(serde_json::json!({
            "currency": "dollars",
            "prices": [
                {"meter": "a b", "model": "per_unit", "unit": "-1"},
                {"meter": "apis", "model": "graduated", "tiers": [{"up_to": "5", "unit": "x"}, {"up_to": "3"}]},
                {"meter": "apis", "model": "package", "price": "1", "size": "0", "unit": "3"},
                {"meter": "apis", "model": "tiered"},
            ],
            "usage": {"apis": "many"},
        }));
        let expected = [
            "currency: not an ISO 4217 currency code such as USD, EUR or JPY",
            "prices[0].meter: must be 1 to 64 lower-case letters, digits or `_`, beginning with a letter",
            "prices[0].unit: must not be below zero",
            "prices[1].tiers[0].unit: not a decimal number such as 12, 0.5 or -3.25",
            "prices[1].tiers: the last tier must be open: `up_to` null",
            "prices[2].size: must be above zero",
            "prices[2].unit: does not belong to the model package",
            "prices[3].model: must be one of flat, per_unit, graduated, volume, package, percentage, graduated_percentage, dynamic",
            "usage.apis: not a decimal number such as 12, 0.5 or -3.25",
        ];
        assert_eq!(found, expected);
    }
}
