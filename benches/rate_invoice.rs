//! What does rating cost: one tenant's month by the stock plans, and ten thousand transactions by the priciest model?

#![expect(clippy::unwrap_used, reason = "a bench shows what failed by where it panics")]

use std::{collections::BTreeMap, hint::black_box};

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use tollgate::billing::{model::Usage, rules::rate, stock_plans, wire::RateRequest};

fn rate_invoice(c: &mut Criterion) {
    for plan in stock_plans() {
        let usage = plan.prices.iter().map(|price| (price.meter.clone(), Usage::Quantity(1_234_567_i64.into())));
        let usage: BTreeMap<_, _> = usage.collect();
        c.bench_function(&format!("rate_invoice/a month of {}", plan.tier), |b| {
            b.iter(|| rate(black_box(&plan.prices), black_box(&usage), None, plan.currency()).unwrap());
        });
    }

    let amounts: Vec<String> = (0..10_000).map(|n| format!("{}.{:02}", n % 500, n % 100)).collect();
    let request = json!({
        "currency": "USD",
        "prices": [{"meter": "payments", "model": "percentage", "rate_percent": "1.2", "fixed_per_event": "0.1",
            "free_events": "3", "min_per_event": "0.5", "max_per_event": "4"}],
        "usage": {"payments": amounts},
    });
    let request: RateRequest = serde_json::from_value(request).unwrap();
    let (currency, prices, usage, _) = request.parse().unwrap();
    c.bench_function("rate_invoice/10,000 transactions", |b| {
        b.iter(|| rate(black_box(&prices), black_box(&usage), None, currency).unwrap());
    });
}

criterion_group!(benches, rate_invoice);
criterion_main!(benches);
