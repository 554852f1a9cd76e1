//! What does rating cost: one tenant's month by the stock plans, and each price model on a few and on ten thousand rows of
//! usage?
//!
//! A model that looks at transactions one by one grows with the rows; the others only add them up. Rows are parsed
//! before: this is the pure rules alone, without the store and without JSON.

#![expect(clippy::unwrap_used, reason = "a bench shows what failed by where it panics")]

use std::{collections::BTreeMap, hint::black_box};

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use tollgate::billing::{
    model::Usage,
    rules::rate,
    stock_plans,
    wire::{RateRequest, RatingInput},
};

const FEW: usize = 10;
const MANY: usize = 10_000;

fn stock(c: &mut Criterion) {
    for plan in stock_plans() {
        let usage = plan.prices.iter().map(|price| (price.meter.clone(), Usage::Quantity(1_234_567_i64.into())));
        let usage: BTreeMap<_, _> = usage.collect();
        c.bench_function(&format!("rate_invoice/a month of {}", plan.tier), |b| {
            b.iter(|| rate(black_box(&plan.prices), black_box(&usage), None, plan.currency()).unwrap());
        });
    }
}

/// One price of every model, each with the terms that make it work most.
fn prices() -> [Value; 8] {
    let tiers = json!([
        {"up_to": "100", "unit": "0.50", "flat": "1"},
        {"up_to": "10000", "unit": "0.25", "flat": "5"},
        {"up_to": "1000000", "unit": "0.125"},
        {"unit": "0.0625"},
    ]);
    [
        json!({"model": "flat", "amount": "9.99"}),
        json!({"model": "per_unit", "unit": "0.0005", "included": "1000", "discount_percent": "5"}),
        json!({"model": "graduated", "tiers": tiers}),
        json!({"model": "volume", "tiers": tiers}),
        json!({"model": "package", "price": "3", "size": "1000"}),
        json!({"model": "percentage", "rate_percent": "1.2", "fixed_per_event": "0.1", "free_events": "3",
            "min_per_event": "0.5", "max_per_event": "4"}),
        json!({"model": "graduated_percentage", "tiers": tiers}),
        json!({"model": "dynamic", "multiplier": "1.2"}),
    ]
}

/// A month of so many transactions on each of these prices' meters.
fn month(prices: &[Value], rows: usize) -> RatingInput {
    let amounts: Vec<String> = (0..rows).map(|n| format!("{}.{:02}", n % 500, n % 100)).collect();
    let prices: Vec<Value> = prices
        .iter()
        .map(|price| {
            let mut price = price.clone();
            price["meter"] = price["model"].clone();
            price
        })
        .collect();
    let usage: serde_json::Map<String, Value> =
        prices.iter().map(|price| (price["meter"].as_str().unwrap().to_owned(), json!(amounts))).collect();
    let request = json!({"currency": "USD", "prices": prices, "usage": usage});
    serde_json::from_value::<RateRequest>(request).unwrap().parse().unwrap()
}

fn models(c: &mut Criterion) {
    let prices = prices();
    let mut bench = |name: &str, (currency, prices, usage, _): RatingInput| {
        c.bench_function(&format!("rate_invoice/{name}"), |b| {
            b.iter(|| rate(black_box(&prices), black_box(&usage), None, currency).unwrap());
        });
    };
    for price in &prices {
        let model = price["model"].as_str().unwrap();
        bench(&format!("{model}, {MANY} rows"), month(std::slice::from_ref(price), MANY));
    }
    bench(&format!("every model, {FEW} rows each"), month(&prices, FEW));
    bench(&format!("every model, {MANY} rows each"), month(&prices, MANY));
}

/// What most invoices are made of, and then some: ten meters, each with four graduated tiers.
fn ten_lines(c: &mut Criterion) {
    let tiers = &prices()[2]["tiers"];
    let price =
        |n: usize| json!({"meter": format!("meter_{n}"), "model": "graduated", "tiers": tiers, "included": "10"});
    let prices: Vec<Value> = (0..10).map(price).collect();
    let usage: serde_json::Map<String, Value> = (0..10).map(|n| (format!("meter_{n}"), json!("1234567.5"))).collect();
    let request = json!({"currency": "USD", "prices": prices, "usage": usage});
    let (currency, prices, usage, _) = serde_json::from_value::<RateRequest>(request).unwrap().parse().unwrap();
    c.bench_function("rate_invoice/10 graduated lines", |b| {
        b.iter(|| rate(black_box(&prices), black_box(&usage), None, currency).unwrap());
    });
}

criterion_group!(benches, stock, ten_lines, models);
criterion_main!(benches);
