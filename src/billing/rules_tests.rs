//! Rating against published examples and its own laws.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::billing::{
    model::{Tier, Tiers},
    wire::RateRequest,
};

const ORACLES: &str = include_str!("../../tests/fixtures/pricing_public.json");

fn q(text: &str) -> Quantity {
    text.parse().unwrap()
}

fn usd() -> Currency {
    "USD".parse().unwrap()
}

#[test]
fn published_examples_come_out_to_the_last_digit() {
    let oracles: Vec<Value> = serde_json::from_str(ORACLES).unwrap();
    let mut checked = 0;
    for oracle in oracles.iter().filter(|oracle| !oracle["request"].is_null()) {
        let id = oracle["id"].as_str().unwrap();
        let request: RateRequest = serde_json::from_value(oracle["request"].clone()).unwrap();
        let (currency, prices, usage, already) = request.parse().unwrap_or_else(|faults| panic!("{id}: {faults:?}"));
        let rated = rate(&prices, &usage, already.as_ref(), currency).unwrap();
        let expected = &oracle["expected"];
        assert_eq!(Some(rated.total.amount().as_str()), expected["total"].as_str(), "{id}: total");
        if let Some(unrounded) = expected["unrounded"].as_str() {
            let exact = rated.lines.iter().try_fold(Quantity::ZERO, |sum, line| sum.add(line.unrounded)).unwrap();
            assert_eq!(exact, q(unrounded), "{id}: unrounded");
        }
        for (line, expected) in rated.lines.iter().zip(expected["lines"].as_array().into_iter().flatten()) {
            assert_eq!(Some(line.meter.as_str()), expected["meter"].as_str(), "{id}");
            assert_eq!(Some(line.amount.amount().as_str()), expected["amount"].as_str(), "{id}: {}", line.meter);
        }
        checked += 1;
    }
    assert_eq!(checked, 54, "examples that section 8 of the contract can express");
}

fn price(model: PriceModel) -> Price {
    Price {
        meter: "units".parse().unwrap(),
        model,
        included: None,
        discount_percent: None,
        minimum: None,
        maximum: None,
    }
}

fn tiers() -> Tiers {
    let tier = |up_to: Option<i64>, unit: &str, flat: &str| Tier {
        up_to: up_to.map(Quantity::from),
        unit: q(unit),
        flat: q(flat),
    };
    Tiers::new(vec![tier(Some(10), "1.25", "0"), tier(Some(100), "0.333", "5"), tier(None, "0.1", "7")]).unwrap()
}

fn exact(price: &Price, quantity: Quantity) -> Quantity {
    price_of(price, &Usage::Quantity(quantity)).unwrap().exact
}

/// Graduated prices counted unit by unit in thousandths, without decimals.
fn unit_by_unit(quantity: i64) -> i64 {
    let unit = |n: i64| {
        if n <= 10 {
            1_250
        } else if n <= 100 {
            333
        } else {
            100
        }
    };
    let entered = if quantity > 100 {
        12_000
    } else if quantity > 10 {
        5_000
    } else {
        0
    };
    (1..=quantity).map(unit).sum::<i64>() + entered
}

#[test]
fn an_amount_that_cannot_be_exact_names_its_meter() {
    let price = price(PriceModel::PerUnit { unit: q("0.0000000000000000001") });
    let usage = UsageByMeter::from([("units".parse().unwrap(), Usage::Quantity(q("0.12345678901234567891")))]);
    let error = rate(&[price], &usage, None, usd()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the amount of units cannot be held exactly: more than 28 significant digits cannot be held exactly"
    );
}

#[test]
fn usage_taken_back_below_zero_is_rated_as_none() {
    assert_eq!(exact(&price(PriceModel::PerUnit { unit: q("2") }), q("-5")), Quantity::ZERO);
}

proptest! {
    #[test]
    fn graduated_prices_agree_with_counting_unit_by_unit(quantity in 0_i64..300) {
        let expected = Quantity::from_scaled(unit_by_unit(quantity), 3).unwrap();
        prop_assert_eq!(exact(&price(PriceModel::Graduated(tiers())), quantity.into()), expected);
    }

    #[test]
    fn more_graduated_usage_never_costs_less(a in 0_i64..100_000, more in 0_i64..100_000) {
        let price = price(PriceModel::Graduated(tiers()));
        prop_assert!(exact(&price, (a + more).into()) >= exact(&price, a.into()));
    }

    #[test]
    fn the_exact_lines_of_a_split_period_add_up(a in 0_i64..10_000, b in 0_i64..10_000, maximum in 0_i64..5_000) {
        let mut price = price(PriceModel::Graduated(tiers()));
        price.maximum = Some(maximum.into());
        let first = exact(&price, a.into());
        let second = increment(&price, &Usage::Quantity(b.into()), a.into()).unwrap().exact;
        prop_assert_eq!(first.add(second).unwrap(), exact(&price, (a + b).into()));
    }

    #[test]
    fn rating_never_panics(mantissa in any::<i64>(), scale in 0_u32..28, unit in any::<i64>(), unit_scale in 0_u32..28) {
        let quantity = Quantity::from_scaled(mantissa, scale).unwrap();
        let unit = Quantity::from_scaled(unit, unit_scale).unwrap();
        let size = Quantity::from_scaled(unit_scale.into(), 3).unwrap().add(Quantity::ONE).unwrap();
        for model in [
            PriceModel::PerUnit { unit },
            PriceModel::Graduated(tiers()),
            PriceModel::Volume(tiers()),
            PriceModel::Package { price: unit, size, round: crate::billing::model::PackageRounding::Up },
        ] {
            let usage = UsageByMeter::from([("units".parse().unwrap(), Usage::Quantity(quantity))]);
            drop(rate(&[price(model)], &usage, None, usd()));
        }
    }
}
