//! How fast is a period closed for many tenants, in what memory, and does a run that was cut off go on where it was?
//!
//! `TENANTS` says for how many (`2000`). Each is on the stock plan `standard`: a base and four meters, a tenant's own usage of
//! each in every month, as the totals of a day and of the month that metering keeps. Three months are closed one after the other, so that the last
//! looks back at two that were billed; each in two passes, as the server's job does it: drafts, then, with the grace over, their
//! issue. On the embedded store, in a folder of the temporary one's file system. Ends with status 1 when an invoice is missing,
//! is there twice, or when numbers have a gap.

#![expect(clippy::unwrap_used, reason = "a bench shows what failed by where it panics")]
#![expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "a table of rates is what this is for")]

#[path = "common/mod.rs"]
mod common;

use std::{
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use axum::extract::FromRef as _;
use tollgate::{
    app::{App, Deps},
    billing::{Account, AddressBody, Billing},
    kernel::{
        BillingAccountId, CalendarUnit, Clock, Faults, PageRequest, Period, SystemRng, TenantId, Timestamp,
        ids::uuid_v7,
    },
    metering::model::{Cell, Last, Total},
    settings::{Flags, Settings, Sources},
    store::{InvoiceFilter, Scope, Store},
    tenants::{Status, Tenant},
};

use common::{memory_kib, setting, wanted};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SETTINGS: &str = "[server]\nissuer = \"http://bench\"\n";
const PASSWORD: &str = "copper-Lantern-17-tides";
const METERS: [(&str, i64); 4] =
    [("apis", 40_000), ("compute", 900_000), ("memory", 70_000_000), ("egress_bytes", 3_000_000_000)];
const MONTHS: [&str; 3] = ["2026-08", "2026-09", "2026-10"];
/// What is written in one transaction while the data is made.
const AT_ONCE: usize = 2_000;

/// A clock that stands still until it is set.
struct Set(AtomicI64);

impl Clock for Set {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

fn month(text: &str) -> Period {
    Period::containing(format!("{text}-01T00:00:00Z").parse().unwrap(), CalendarUnit::Month)
}

async fn build(data: &Path, clock: Arc<Set>) -> App {
    let sources = Sources {
        file: Some(("bench".into(), SETTINGS.into())),
        env: vec![("TOLLGATE_ADMIN_PASSWORD".into(), PASSWORD.into())],
        flags: Flags { data: Some(data.display().to_string()), ..Flags::default() },
    };
    App::build(Settings::load(&sources).unwrap(), Deps { clock, rng: Arc::new(SystemRng) }).await.unwrap()
}

/// Makes tenants with accounts and usage.
async fn fill(store: &Store, tenants: usize) {
    let (opened, rng) = (month(MONTHS[0]).from(), SystemRng);
    let address = AddressBody::Text("1 Long Road".into()).parse("", &mut Faults::new()).unwrap();
    let writer = uuid_v7(opened, &rng);
    let mut number = 0;
    while number < tenants {
        let mut tx = store.begin(Scope::Job("bench")).await.unwrap();
        let mut totals = Vec::new();
        for number in number..tenants.min(number + AT_ONCE) {
            let id = TenantId::generate(opened, &rng);
            let tenant = Tenant {
                id,
                customer_name: format!("Customer {number}").parse().unwrap(),
                external_id: None,
                tier: "standard".parse().unwrap(),
                status: Status::Active,
                revision: 1,
                created_at: opened,
                unavailable: None,
            };
            assert!(tx.tenant_insert(&tenant).await.unwrap());
            let account = Account {
                id: BillingAccountId::generate(opened, &rng),
                tenant_id: id,
                billing_address: address.clone(),
                currency: "USD".parse().unwrap(),
                opened_at: opened,
                closed_at: None,
            };
            assert!(tx.billing_account_insert(&account, month(MONTHS[0]).to()).await.unwrap());
            for (place, text) in MONTHS.iter().enumerate() {
                for (meter, most) in METERS {
                    let month = month(text);
                    let used = (most / 7 * i64::try_from(number % 11 + place).unwrap()).into();
                    // Drafts read the month, and what is issued its days.
                    let day = Period::containing(month.from().plus_secs(10 * 86_400), CalendarUnit::Day);
                    for (unit, start) in [(CalendarUnit::Month, month.from()), (CalendarUnit::Day, day.from())] {
                        let group = r#"{"route":"/orders/"}"#.into();
                        let cell = Cell { tenant: id, meter: meter.parse().unwrap(), unit, start, group };
                        let last = Last { at_ns: day.from().as_micros() * 1_000, arrival: 0, value: used };
                        totals.push((cell, Total { count: 1, sum: used, low: used, high: used, last }));
                    }
                }
            }
        }
        tx.totals_put(writer, &totals).await.unwrap();
        tx.commit().await.unwrap();
        number += AT_ONCE;
    }
}

/// How many invoices were made, and how long it took.
#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
async fn timed(work: impl Future<Output = Result<usize, tollgate::billing::Error>>) -> (usize, f64) {
    let begun = Instant::now();
    let made = work.await.unwrap();
    (made, begun.elapsed().as_secs_f64())
}

async fn run(tenants: usize) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Set(AtomicI64::new(month(MONTHS[0]).from().as_micros())));
    let app = build(folder.path(), Arc::clone(&clock)).await;
    let (store, billing) = (Store::from_ref(app.state()), Billing::from_ref(app.state()));
    fill(&store, tenants).await;
    let before = memory_kib(std::process::id(), "VmHWM") / 1024;
    println!("| period | drafts/s | issued/s | both: invoices/s | peak MiB (with the data made: {before}) |");
    println!("|---|---|---|---|---|");
    let mut good = true;
    for text in MONTHS {
        clock.0.store(month(text).to().plus_secs(2 * 3_600).as_micros(), Ordering::Relaxed);
        let (drafted, drafting) = Box::pin(timed(billing.draft_due())).await;
        let (issued, issuing) = Box::pin(timed(billing.finalize_due())).await;
        good &= drafted == tenants && issued == tenants;
        let peak = memory_kib(std::process::id(), "VmHWM") / 1024;
        let rate = |count: usize, seconds: f64| count as f64 / seconds;
        println!(
            "| {text} | {:.0} | {:.0} | {:.0} | {peak} |",
            rate(drafted, drafting),
            rate(issued, issuing),
            rate(issued, drafting + issuing)
        );
    }
    good & numbers_are_whole(&billing, tenants * MONTHS.len()).await
}

/// Whether there are so many invoices, numbered from one without a gap, and with what was used.
async fn numbers_are_whole(billing: &Billing, count: usize) -> bool {
    let (mut seen, mut after, mut total) = (vec![false; count], None, 0);
    loop {
        let page = PageRequest::new(Some(PageRequest::MAX_LIMIT), after).unwrap();
        let page = billing.invoices(Scope::Job("bench"), InvoiceFilter::default(), page).await.unwrap();
        for invoice in &page.items {
            total += invoice.total.minor();
            let serial = invoice.issue.as_ref().map_or(0, |issue| usize::try_from(issue.serial).unwrap());
            if serial == 0 || serial > count || std::mem::replace(&mut seen[serial - 1], true) {
                return false;
            }
        }
        after = page.next_cursor;
        if after.is_none() {
            let bases = 3_000 * i64::try_from(count).unwrap();
            return seen.iter().all(|seen| *seen) && total > bases;
        }
    }
}

fn main() -> ExitCode {
    if !wanted("closing") {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if runtime.block_on(run(setting("TENANTS", 2_000))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
