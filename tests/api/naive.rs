//! Every answer to a usage query is what a naive model works out from the raw events: after any history of deliveries,
//! repetitions, takings back and amendments, in any windows, zones and groups.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::events::post;
use crate::support::{actors::Actor, app::TestApp};

const AGGREGATIONS: [&str; 12] =
    ["sum", "count", "unique_count", "avg", "min", "max", "latest", "weighted_sum", "p50", "p90", "p95", "p99"];
const MODELS: [&str; 3] = ["large", "small", ""];
const REGIONS: [&str; 2] = ["eu", "us"];
const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "America/St_Johns"];
const WINDOWS: [&str; 5] = ["", "minute", "hour", "day", "month"];
const GROUPS: [&[&str]; 4] = [&[], &["model"], &["region"], &["model", "region"]];
/// Clocks of Berlin and New York are put back; a month ends; now.
const ANCHORS: [&str; 4] =
    ["2026-10-25T01:00:00Z", "2026-11-01T06:00:00Z", "2026-11-01T00:00:00Z", crate::support::app::NOW];

/// What an event says.
#[derive(Debug, Clone)]
struct Said {
    at_ns: i64,
    hundredths: i64,
    model: usize,
    region: usize,
}

#[derive(Debug, Clone)]
enum Step {
    Send(usize, Said),
    Repeat(usize, prop::sample::Index),
    Void(usize),
    Amend(usize, Said, bool),
}

#[derive(Debug, Clone)]
struct Question {
    aggregation: usize,
    window: usize,
    zone: usize,
    group: usize,
    from_s: i64,
    minutes: i64,
}

fn seconds(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

/// Times near the anchors, so that many share a minute, an hour, or all of it.
fn time() -> impl Strategy<Value = i64> {
    let near = prop_oneof![3 => -3..4_i64, 2 => -90..4_i64, 1 => -2_000..4_i64];
    let nanos = prop_oneof![Just(0_i64), Just(1), 0..60_000_000_000_i64];
    (0..ANCHORS.len(), near, nanos)
        .prop_map(|(anchor, minutes, nanos)| (seconds(ANCHORS[anchor]) + minutes * 60) * 1_000_000_000 + nanos)
}

fn said() -> impl Strategy<Value = Said> {
    let value = prop_oneof![-3..4_i64, -100_000..100_000_i64];
    (time(), value, 0..MODELS.len(), 0..REGIONS.len()).prop_map(|(at_ns, hundredths, model, region)| Said {
        at_ns,
        hundredths,
        model,
        region,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..12_usize;
    prop_oneof![
        8 => (id.clone(), said()).prop_map(|(id, said)| Step::Send(id, said)),
        2 => (id.clone(), any::<prop::sample::Index>()).prop_map(|(id, which)| Step::Repeat(id, which)),
        2 => id.clone().prop_map(Step::Void),
        4 => (id, said(), any::<bool>()).prop_map(|(id, said, time)| Step::Amend(id, said, time)),
    ]
}

fn question() -> impl Strategy<Value = Question> {
    let place =
        (0..ANCHORS.len(), -2_000..60_i64).prop_map(|(anchor, minutes)| seconds(ANCHORS[anchor]) + minutes * 60);
    let length = prop_oneof![1..5_i64, 1..200_i64, 1..5_000_i64];
    (0..WINDOWS.len(), 0..ZONES.len(), 0..GROUPS.len(), place, length).prop_map(
        |(window, zone, group, from_s, minutes)| Question {
            // Each is asked of every aggregation.
            aggregation: 0,
            window,
            zone,
            group,
            from_s,
            minutes,
        },
    )
}

/// An event as the model keeps it; its place in the list is the order of arrival.
struct Kept {
    id: usize,
    contents: Vec<Said>,
    voided: bool,
}

impl Said {
    fn time(&self) -> String {
        Timestamp::from_nanosecond(self.at_ns.into()).unwrap().to_string()
    }

    fn data(&self) -> Value {
        let value = Decimal::new(self.hundredths, 2).to_string();
        json!({"value": value, "model": MODELS[self.model], "region": REGIONS[self.region]})
    }

    fn event(&self, id: usize, subject: &str) -> Value {
        json!({"specversion": "1.0", "id": id.to_string(), "source": "s", "type": "naive", "subject": subject,
            "time": self.time(), "data": self.data()})
    }

    fn same(&self, other: &Self) -> bool {
        (self.time(), self.data()) == (other.time(), other.data())
    }

    fn group(&self, keys: &[&str]) -> BTreeMap<String, String> {
        let value = |key: &str| if key == "model" { MODELS[self.model] } else { REGIONS[self.region] };
        keys.iter().map(|key| ((*key).to_owned(), value(key).to_owned())).collect()
    }
}

impl Kept {
    fn now(&self) -> &Said {
        self.contents.last().unwrap()
    }
}

async fn correct(admin: &Actor<'_>, what: &str, id: usize, tenant: &str, body: Value) -> u16 {
    admin.post(&format!("/admin/v1/usage/{id}/{what}?tenant_id={tenant}"), body).await.status.as_u16()
}

async fn take(admin: &Actor<'_>, tenant: &str, kept: &mut Vec<Kept>, step: &Step) {
    match step {
        Step::Send(id, said) => {
            let status = post(admin, said.event(*id, tenant)).await.status;
            match kept.iter().find(|own| own.id == *id) {
                None => {
                    assert_eq!(status, 204);
                    kept.push(Kept { id: *id, contents: vec![said.clone()], voided: false });
                }
                Some(own) if own.contents.iter().any(|known| known.same(said)) => assert_eq!(status, 204),
                Some(_) => assert_eq!(status, 409),
            }
        }
        Step::Repeat(id, which) => {
            let Some(own) = kept.iter().find(|own| own.id == *id) else { return };
            let said = &own.contents[which.index(own.contents.len())];
            assert_eq!(post(admin, said.event(*id, tenant)).await.status, 204, "known, whatever it said");
        }
        Step::Void(id) => {
            let status = correct(admin, "void", *id, tenant, Value::Null).await;
            let own = kept.iter_mut().find(|own| own.id == *id);
            assert_eq!(status, own.as_ref().map_or(404, |own| if own.voided { 409 } else { 200 }));
            if let Some(own) = own {
                own.voided = true;
            }
        }
        Step::Amend(id, said, with_time) => {
            let mut body = json!({"data": said.data()});
            if *with_time {
                body["time"] = said.time().into();
            }
            let status = correct(admin, "amend", *id, tenant, body).await;
            let own = kept.iter_mut().find(|own| own.id == *id);
            assert_eq!(status, own.as_ref().map_or(404, |own| if own.voided { 409 } else { 200 }));
            if let Some(own) = own.filter(|own| !own.voided) {
                let at_ns = if *with_time { said.at_ns } else { own.now().at_ns };
                own.contents.push(Said { at_ns, ..said.clone() });
            }
        }
    }
}

/// The windows of a question, found minute by minute.
fn windows(question: &Question) -> Vec<(i64, i64)> {
    let to_s = question.from_s + question.minutes * 60;
    if WINDOWS[question.window].is_empty() {
        return vec![(question.from_s, to_s)];
    }
    let zone = TimeZone::get(ZONES[question.zone]).unwrap();
    let place = |at_s: i64| {
        let local = Timestamp::from_second(at_s).unwrap().to_zoned_datetime(zone.clone());
        let offset = local.offset().seconds();
        match WINDOWS[question.window] {
            "minute" => (at_s, 0, 0),
            "hour" => (i64::from(local.hour()), offset, i32::from(local.day())),
            "day" => (i64::from(local.day()), 0, i32::from(local.month())),
            _ => (i64::from(local.month()), 0, 0),
        }
    };
    let mut windows: Vec<(i64, i64)> = Vec::new();
    let mut last = None;
    for at_s in (question.from_s..to_s).step_by(60) {
        let here = place(at_s);
        match windows.last_mut().filter(|_| last == Some(here)) {
            Some(window) => window.1 = at_s + 60,
            None => windows.push((at_s, at_s + 60)),
        }
        last = Some(here);
    }
    windows
}

/// One row of an answer.
type Row = ((i64, i64), BTreeMap<String, String>, Decimal);

fn naive(question: &Question, kept: &[Kept]) -> Vec<Row> {
    const SECOND: i64 = 1_000_000_000;
    let aggregation = AGGREGATIONS[question.aggregation];
    let keys = GROUPS[question.group];
    let mut valid: Vec<&Said> = kept.iter().filter(|own| !own.voided).map(Kept::now).collect();
    // Stable: what came first stays first.
    valid.sort_by_key(|said| said.at_ns);
    let mut rows = Vec::new();
    for window in windows(question) {
        let (from, to) = (window.0 * SECOND, window.1 * SECOND);
        let mut groups: BTreeMap<BTreeMap<String, String>, Vec<&Said>> = BTreeMap::new();
        for said in &valid {
            groups.entry(said.group(keys)).or_default().push(said);
        }
        for (group, of_group) in groups {
            let value = if aggregation == "weighted_sum" {
                held(&of_group, from, to)
            } else {
                let inside = of_group.iter().filter(|said| (from..to).contains(&said.at_ns));
                value(aggregation, &inside.copied().collect::<Vec<_>>())
            };
            rows.extend(value.map(|value| (window, group, value)));
        }
    }
    rows
}

/// Each value times the seconds until the next one of the same model and region, or until now, within a window; `None` when nothing was
/// held in it.
fn held(said: &[&Said], from: i64, to: i64) -> Option<Decimal> {
    let now = seconds(crate::support::app::NOW) * 1_000_000_000;
    let mut sum = None;
    for (place, own) in said.iter().enumerate() {
        let next = said[place + 1..].iter().find(|next| (next.model, next.region) == (own.model, own.region));
        let until = next.map_or(now, |next| next.at_ns.min(now)).min(to);
        let held = until - own.at_ns.max(from);
        if held > 0 {
            let units = i128::from(own.hundredths) * i128::from(held);
            sum = Some(sum.unwrap_or(Decimal::ZERO) + Decimal::from_i128_with_scale(units, 11));
        }
    }
    sum
}

fn value(aggregation: &str, said: &[&Said]) -> Option<Decimal> {
    let last = said.last()?;
    let mut values: Vec<Decimal> = said.iter().map(|said| Decimal::new(said.hundredths, 2)).collect();
    let sum: Decimal = values.iter().sum();
    let count = Decimal::from(values.len());
    let latest = Decimal::new(last.hundredths, 2);
    values.sort_unstable();
    let rank = |percent: usize| values[(values.len() * percent).div_ceil(100) - 1];
    Some(match aggregation {
        "sum" => sum,
        "count" => count,
        "avg" => sum / count,
        "min" => values[0],
        "max" => values[values.len() - 1],
        "latest" => latest,
        "p50" => rank(50),
        "p90" => rank(90),
        "p95" => rank(95),
        "p99" => rank(99),
        _ => {
            let mut texts: Vec<String> = values.iter().map(ToString::to_string).collect();
            texts.dedup();
            Decimal::from(texts.len())
        }
    })
}

async fn asked(admin: &Actor<'_>, tenant: &str, question: &Question) -> Vec<Row> {
    let time = |at_s: i64| Timestamp::from_second(at_s).unwrap();
    let (from, to) = (time(question.from_s), time(question.from_s + question.minutes * 60));
    let window = Some(WINDOWS[question.window]).filter(|window| !window.is_empty());
    let window = window.map(|window| format!("&window={window}")).unwrap_or_default();
    let path = format!(
        "/admin/v1/tenants/{tenant}/usage?meter=naive_{}&from={from}&to={to}&time_zone={}&group_by={}{window}",
        AGGREGATIONS[question.aggregation],
        ZONES[question.zone],
        GROUPS[question.group].join(","),
    );
    let reply = admin.get(&path).await.expect(200);
    let row = |row: &Value| {
        let group: BTreeMap<String, String> = serde_json::from_value(row["group"].clone()).unwrap();
        let text = |name: &str| row[name].as_str().unwrap();
        let window = (seconds(text("window_start")), seconds(text("window_end")));
        (window, group, text("value").parse().unwrap())
    };
    reply.body["data"].as_array().unwrap().iter().map(row).collect()
}

/// What came to October, which was closed when each of the events came, is what it has.
async fn october_is_all_adjustments(admin: &Actor<'_>, tenant: &str) {
    let whole = Question {
        aggregation: 0,
        window: 0,
        zone: 0,
        group: 0,
        from_s: seconds("2026-10-01T00:00:00Z"),
        minutes: 31 * 1_440,
    };
    let total: Decimal = asked(admin, tenant, &whole).await.iter().map(|(_, _, value)| *value).sum();
    let list = admin.get(&format!("/admin/v1/tenants/{tenant}/adjustments?limit=500")).await.expect(200);
    assert!(list.body["next_cursor"].is_null());
    let of_sum = list.body["items"].as_array().unwrap().iter().filter(|item| item["meter"] == "naive_sum");
    let adjusted: Decimal = of_sum.map(|item| item["quantity"].as_str().unwrap().parse::<Decimal>().unwrap()).sum();
    assert_eq!(adjusted, total);
}

fn check(cases: u32, app: &TestApp, runtime: &tokio::runtime::Runtime) {
    let admin = runtime.block_on(app.admin());
    for name in AGGREGATIONS {
        let mut meter = json!({"key": format!("naive_{name}"), "event_type": "naive", "aggregation": name,
            "group_by": {"model": "$.model", "region": "$.region"}});
        if name != "count" {
            meter["value_property"] = "$.value".into();
        }
        runtime.block_on(admin.post("/admin/v1/meters", meter)).expect(201);
    }
    let mut runner =
        TestRunner::new(Config { cases, max_shrink_iters: 60, failure_persistence: None, ..Config::default() });
    let number = std::cell::Cell::new(0);
    let strategy = (vec(step(), 1..40), vec(question(), 12));
    let outcome = runner.run(&strategy, |(steps, questions)| {
        number.set(number.get() + 1);
        runtime.block_on(async {
            let tenant = app.tenant(&format!("Tenant {}", number.get()), "free").await;
            let mut kept = Vec::new();
            for step in &steps {
                take(&admin, &tenant, &mut kept, step).await;
            }
            let each = questions.iter().flat_map(|question| {
                (0..AGGREGATIONS.len()).map(|aggregation| Question { aggregation, ..question.clone() })
            });
            for question in &each.collect::<Vec<_>>() {
                assert_eq!(asked(&admin, &tenant, question).await, naive(question, &kept), "{question:?}");
            }
            october_is_all_adjustments(&admin, &tenant).await;
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn every_answer_is_what_a_naive_model_makes_of_the_raw_events() {
    let runtime = runtime();
    let app = runtime.block_on(TestApp::new());
    check(16, &app, &runtime);
}

#[test]
fn every_answer_is_what_a_naive_model_makes_of_the_raw_events_on_postgresql() {
    let runtime = runtime();
    let Some(app) = runtime.block_on(TestApp::on_postgres()) else { return };
    check(6, &app, &runtime);
}
