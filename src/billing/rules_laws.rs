//! What holds for every price of every model: cutting a period changes no sum, more usage costs no less where a model
//! promises that, and a total is the sum of its lines.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::billing::model::{PackageRounding, Percentage, Tier, Tiers};

/// A decimal of up to three places.
fn decimal(most: i64) -> impl Strategy<Value = Quantity> {
    (0..=most, 0_u32..4).prop_map(|(mantissa, scale)| Quantity::from_scaled(mantissa, scale).unwrap())
}

fn maybe(most: i64) -> impl Strategy<Value = Option<Quantity>> {
    proptest::option::of(decimal(most))
}

fn tiers() -> impl Strategy<Value = Tiers> {
    vec((1_i64..5_000, decimal(9_000), decimal(50_000)), 1..6).prop_map(|steps| {
        let (mut below, last) = (0, steps.len() - 1);
        let tier = |(place, (more, unit, flat)): (usize, (i64, Quantity, Quantity))| {
            below += more;
            Tier { up_to: (place < last).then(|| below.into()), unit, flat }
        };
        Tiers::new(steps.into_iter().enumerate().map(tier).collect()).unwrap()
    })
}

fn model() -> impl Strategy<Value = PriceModel> {
    let percentage =
        (decimal(9_000), decimal(900), proptest::option::of(0_u64..3), maybe(5_000), maybe(500), maybe(900));
    prop_oneof![
        decimal(90_000).prop_map(|amount| PriceModel::Flat { amount }),
        decimal(90_000).prop_map(|unit| PriceModel::PerUnit { unit }),
        tiers().prop_map(PriceModel::Graduated),
        tiers().prop_map(PriceModel::Volume),
        (decimal(9_000), 1_i64..500, any::<bool>()).prop_map(|(price, size, up)| PriceModel::Package {
            price,
            size: size.into(),
            round: if up { PackageRounding::Up } else { PackageRounding::Down },
        }),
        percentage.prop_map(|(rate_percent, fixed_per_event, free_events, free_amount, least, more)| {
            let max_per_event = more.map(|more| more.add(least.unwrap_or(Quantity::ZERO)).unwrap());
            let min_per_event = least;
            PriceModel::Percentage(Percentage {
                rate_percent,
                fixed_per_event,
                free_events,
                free_amount,
                min_per_event,
                max_per_event,
            })
        }),
        tiers().prop_map(PriceModel::GraduatedPercentage),
        decimal(9_000).prop_map(|multiplier| PriceModel::Dynamic { multiplier }),
    ]
}

fn price() -> impl Strategy<Value = Price> {
    let discount = proptest::option::of((0_i64..=100).prop_map(Quantity::from));
    (model(), maybe(5_000), discount, maybe(50_000), maybe(90_000)).prop_map(
        |(model, included, discount_percent, minimum, more)| {
            let maximum = more.map(|more| more.add(minimum.unwrap_or(Quantity::ZERO)).unwrap());
            Price { meter: "units".parse().unwrap(), model, included, discount_percent, minimum, maximum }
        },
    )
}

fn line(price: &Price, used: Quantity, already: Option<Quantity>) -> Line {
    let meter = || price.meter.clone();
    let usage = UsageByMeter::from([(meter(), Usage::Quantity(used))]);
    let already = already.map(|already| Quantities::from([(meter(), already)]));
    let mut rated = rate(std::slice::from_ref(price), &usage, already.as_ref(), "USD".parse().unwrap()).unwrap();
    rated.lines.remove(0)
}

/// In a tier that is cheaper than the one before it, all units may come to less.
fn never_falls(model: &PriceModel) -> bool {
    !matches!(model, PriceModel::Volume(_))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_period_cut_anywhere_comes_to_the_same(price in price(), parts in vec(decimal(90_000), 1..8)) {
        let (mut before, mut sum) = (Quantity::ZERO, Quantity::ZERO);
        for (place, part) in parts.iter().enumerate() {
            let line = line(&price, *part, (place > 0).then_some(before));
            sum = sum.add(line.unrounded).unwrap();
            before = before.add(*part).unwrap();
        }
        prop_assert_eq!(sum, line(&price, before, None).unrounded);
    }

    #[test]
    fn more_usage_never_costs_less(price in price(), used in decimal(90_000), more in decimal(90_000)) {
        prop_assume!(never_falls(&price.model));
        let (less, all) = (line(&price, used, None), line(&price, used.add(more).unwrap(), None));
        prop_assert!(all.unrounded >= less.unrounded, "{} then {}", less.unrounded, all.unrounded);
    }

    #[test]
    fn a_total_is_the_sum_of_its_lines(prices in vec((price(), decimal(90_000)), 0..12)) {
        let named = |place: usize| format!("units_{place}").parse::<MeterKey>().unwrap();
        let (mut priced, mut usage) = (Vec::new(), UsageByMeter::new());
        for (place, (price, used)) in prices.into_iter().enumerate() {
            priced.push(Price { meter: named(place), ..price });
            usage.insert(named(place), Usage::Quantity(used));
        }
        let rated = rate(&priced, &usage, None, "KWD".parse().unwrap()).unwrap();
        let sum: i64 = rated.lines.iter().map(|line| line.amount.minor()).sum();
        prop_assert_eq!(sum, rated.total.minor());
        for line in &rated.lines {
            prop_assert_eq!(line.amount, Money::round_half_up(line.unrounded, "KWD".parse().unwrap()).unwrap());
        }
    }
}
