//! The data set: one month of events and their totals, row by row as ingestion leaves them. `tollgate doctor` agrees.
//!
//! A thousand tenants, each at work in every fourth hour, so that each minute has 250 of them; events are spread evenly
//! over those cells, in order of time, as they would have come. Each minute a tenant uses one of three models. An event is
//! made from its number alone, so the same count gives the same set.

use std::{collections::HashMap, fmt::Write as _, ops::Range, sync::Arc};

use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};
use tollgate::{
    kernel::{CalendarUnit, Faults, Period, Quantity, Rng as _, SeededRng, TenantId, Timestamp},
    metering::{
        MeterKey,
        event::{Sent, TimeLimits},
        model::{Cell, Identity, NewEvent, Total, UNITS},
        rules,
    },
    store::{Scope, Store},
    tenants::{Status, Tenant},
};
use uuid::Uuid;

pub const TENANTS: u64 = 1_000;
/// Tenants at work at a time.
const AT_WORK: u64 = TENANTS / 4;
/// Minutes of one transaction.
const MINUTES: u64 = 10;
pub const METER: &str = "tokens";
const MODELS: [&str; 3] = ["large", "medium", "small"];

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub struct DataSet {
    pub events: u64,
    pub month: Period,
}

/// An event by its number.
struct One {
    tenant: u64,
    minute: u64,
    at_ns: i64,
    arrival: i64,
    tokens: i64,
    model: &'static str,
    id: String,
    body: String,
}

pub fn tenant_id(number: u64) -> TenantId {
    // A UUIDv7 of the year before.
    TenantId::from_uuid(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + (u128::from(number) << 64)))
}

fn external_id(number: u64) -> String {
    format!("t{number}")
}

impl DataSet {
    fn minutes(self) -> u64 {
        u64::try_from(self.month.micros() / 60_000_000).unwrap()
    }

    /// The numbers of the events from one minute of the month to another.
    fn events_of(self, minutes: Range<u64>) -> Range<u64> {
        let first = |minute: u64| {
            let number = u128::from(self.events) * u128::from(minute) / u128::from(self.minutes());
            u64::try_from(number).unwrap()
        };
        first(minutes.start)..first(minutes.end)
    }

    fn event(self, minute: u64, number: u64) -> One {
        let of_minute = self.events_of(minute..minute + 1);
        let count = of_minute.end - of_minute.start;
        let place = number - of_minute.start;
        let tenant = place * AT_WORK / count.max(AT_WORK) * 4 + minute / 60 % 4;
        // Few events are spread over the tenants at work, too.
        let tenant = if count < AT_WORK { (tenant + minute * 4) % TENANTS } else { tenant };
        let micros = i64::try_from(minute * 60_000_000 + place * 60_000_000 / count).unwrap();
        let at = self.month.from().plus_micros(micros);
        let arrival = at.as_micros();
        let tokens = i64::try_from(number * 7_919 % 1_000).unwrap() + 1;
        let model = MODELS[usize::try_from(minute % 3).unwrap()];
        let (id, subject) = (format!("{number:012}"), external_id(tenant));
        let body = format!(
            "{{\"data\":{{\"model\":\"{model}\",\"tokens\":{tokens}}},\"id\":\"{id}\",\"source\":\"bench\",\
             \"specversion\":\"1.0\",\"subject\":\"{subject}\",\"time\":\"{at}\",\"type\":\"prompt\"}}"
        );
        One { tenant, minute, at_ns: at.as_micros() * 1_000, arrival, tokens, model, id, body }
    }
}

/// Totals of the hours, days and months that are not over yet.
#[derive(Default)]
struct Open {
    cells: HashMap<Cell, Total>,
}

impl Open {
    fn add(&mut self, cell: Cell, more: &Total) {
        let sum = self.cells.get(&cell).map_or_else(|| more.clone(), |known| known.and(more).unwrap());
        self.cells.insert(cell, sum);
    }

    /// Takes out what ends by then, in order.
    fn ended(&mut self, now: Timestamp) -> Vec<(Cell, Total)> {
        let over = |cell: &Cell| Period::containing(cell.start, cell.unit).to() <= now;
        let mut ended: Vec<_> = self.cells.extract_if(|cell, _| over(cell)).collect();
        ended.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        ended
    }
}

/// Writes all of it into a store that has the meter; every tenant's sum.
pub async fn write(store: &Store, postgres: Option<&str>, set: DataSet) -> Vec<i64> {
    tenants(store, set.month.from()).await;
    let writer = Uuid::from_bytes(std::array::from_fn({
        let mut bytes = [0; 16];
        SeededRng::new(1).fill(&mut bytes);
        move |index| bytes[index]
    }));
    let groups = MODELS.map(|model| (model, rules::group([("model", model)].into_iter())));
    let meter: MeterKey = METER.parse().unwrap();
    let (mut sums, mut open) = (vec![0; usize::try_from(TENANTS).unwrap()], Open::default());
    let mut copy = match postgres {
        Some(url) => Some(url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap()),
        None => None,
    };
    for first in (0..set.minutes()).step_by(usize::try_from(MINUTES).unwrap()) {
        let minutes = first..(first + MINUTES).min(set.minutes());
        let end = set.month.from().plus_secs(i64::try_from(minutes.end * 60).unwrap());
        let events: Vec<One> = minutes
            .flat_map(|minute| set.events_of(minute..minute + 1).map(move |number| set.event(minute, number)))
            .collect();
        if let Some(one) = events.first() {
            check(one, set.month);
        }
        // A tenant's events of one minute come one after the other.
        for run in events.chunk_by(|one, other| (one.tenant, one.minute) == (other.tenant, other.minute)) {
            let of_one = |event: &One| Total::one(event.tokens.into(), event.at_ns, event.arrival);
            let total = run[1..].iter().fold(of_one(&run[0]), |sum, event| sum.and(&of_one(event)).unwrap());
            let One { tenant, minute, model, .. } = &run[0];
            sums[usize::try_from(*tenant).unwrap()] += run.iter().map(|event| event.tokens).sum::<i64>();
            let (_, group) = groups.iter().find(|(own, _)| own == model).unwrap();
            let at = set.month.from().plus_secs(i64::try_from(minute * 60).unwrap());
            for unit in UNITS {
                let (tenant, meter, group) = (tenant_id(*tenant), meter.clone(), Arc::clone(group));
                open.add(Cell { tenant, meter, unit, start: Period::containing(at, unit).from(), group }, &total);
            }
        }
        if let Some(copy) = &mut copy {
            copy_in(copy, &events).await;
        }
        let mut tx = store.begin(Scope::Job("bench")).await.unwrap();
        if copy.is_none() {
            tx.events_insert(&events.iter().map(One::as_new).collect::<Vec<_>>()).await.unwrap();
        }
        tx.totals_put(writer, &open.ended(end)).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert!(open.cells.is_empty());
    sums
}

impl One {
    fn as_new(&self) -> NewEvent<'_> {
        NewEvent {
            identity: Identity { tenant: tenant_id(self.tenant), source: "bench", id: &self.id },
            kind: "prompt",
            at_ns: self.at_ns,
            arrival: self.arrival,
            body: &self.body,
        }
    }
}

/// That the body is what ingestion would keep.
fn check(event: &One, month: Period) {
    let limits = TimeLimits { now: month.to(), back_s: i64::MAX, ahead_s: 0 };
    let sent = Sent::parse(serde_json::from_str(&event.body).unwrap(), "", limits, &mut Faults::default()).unwrap();
    assert_eq!((&sent.body, sent.at_ns), (&event.body, event.at_ns));
}

/// The same rows as [`tollgate::store::Tx::events_insert`] makes, ten times as fast.
async fn copy_in(connection: &mut sqlx::PgConnection, events: &[One]) {
    let columns = "id, source, tenant_id, type, at_ns, arrival, body";
    let mut copy = connection.copy_in_raw(&format!("COPY events ({columns}) FROM STDIN")).await.unwrap();
    let mut rows = String::with_capacity(events.len() * 256);
    for One { tenant, at_ns, arrival, id, body, .. } in events {
        // No text here has a character that COPY reads as anything but itself.
        writeln!(rows, "{id}\tbench\t{}\tprompt\t{at_ns}\t{arrival}\t{body}", tenant_id(*tenant)).unwrap();
    }
    copy.send(rows.into_bytes()).await.unwrap();
    copy.finish().await.unwrap();
}

async fn tenants(store: &Store, since: Timestamp) {
    let mut tx = store.begin(Scope::Job("bench")).await.unwrap();
    for number in 0..TENANTS {
        let tenant = Tenant {
            id: tenant_id(number),
            customer_name: format!("Customer {number}").parse().unwrap(),
            external_id: Some(external_id(number).parse().unwrap()),
            tier: "standard".parse().unwrap(),
            status: Status::Active,
            unavailable: None,
            revision: 1,
            created_at: since,
        };
        assert!(tx.tenant_insert(&tenant).await.unwrap());
    }
    tx.commit().await.unwrap();
}

/// The month of a text such as `2026-10`.
pub fn month(text: &str) -> Period {
    Period::containing(format!("{text}-01T00:00:00Z").parse().unwrap(), CalendarUnit::Month)
}

/// A sum as an answer says it.
pub fn quantity(value: &serde_json::Value) -> Quantity {
    value.as_str().unwrap().parse().unwrap()
}
