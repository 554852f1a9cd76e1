//! Random years of tenants: changes of tier and of prices, usage that comes late, events that are taken back, voids, credits,
//! payments, suspensions by hand and for what is overdue. Whatever happens, all that was metered is billed once or was voided, and
//! numbers have no gaps.

use std::collections::BTreeMap;

use axum::extract::FromRef as _;
use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate::{
    billing::{Billing, audit::audit},
    kernel::Clock as _,
    metering::{Recount, Snapshot},
    onboarding::Onboarding,
    store::Store,
    verification::{Against, verify_invoice},
};

use super::{
    events::{event, meter, post},
    invoice_exports::export,
    invoices::{adds_up, at, cents, close, invoices, plan_of},
    ledger::record_units,
};
use crate::support::app::TestApp;

/// What happens to a tenant in a month.
#[derive(Debug, Clone)]
enum Happening {
    /// Requests, on a day.
    Used { day: u32, requests: i64 },
    /// The same, known only after the month's invoice is issued.
    Late { day: u32, requests: i64 },
    /// An event, on a day; and whether it is taken back once it is billed.
    Sent { day: u32, tokens: i64, taken_back: bool },
    /// To the other tier, on a day.
    Moved { day: u32 },
    /// The tier's prices change, on a day: at once, or from the next period on.
    Repriced { day: u32, now: bool },
    /// Nobody gets in, on a day, until a later one.
    Suspended { day: u32 },
    /// They do again.
    LetIn { day: u32 },
    /// Prepaid money.
    Prepaid { cents: i64 },
    /// The invoice of the month, or of the one before, is taken back, and perhaps made anew.
    Voided { anew: bool, before: bool },
    /// The month's invoice is credited in full.
    Credited,
    /// It is paid.
    Paid,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (1_u32..28, 1_i64..30_000).prop_map(|(day, requests)| Happening::Used { day, requests }),
        2 => (1_u32..28, 1_i64..9_000).prop_map(|(day, requests)| Happening::Late { day, requests }),
        3 => (1_u32..28, 1_i64..400, any::<bool>())
            .prop_map(|(day, tokens, taken_back)| Happening::Sent { day, tokens, taken_back }),
        2 => (1_u32..28).prop_map(|day| Happening::Moved { day }),
        1 => (1_u32..28, any::<bool>()).prop_map(|(day, now)| Happening::Repriced { day, now }),
        1 => (1_u32..28).prop_map(|day| Happening::Suspended { day }),
        2 => (1_u32..28).prop_map(|day| Happening::LetIn { day }),
        1 => (1_i64..5_000).prop_map(|cents| Happening::Prepaid { cents }),
        1 => any::<(bool, bool)>().prop_map(|(anew, before)| Happening::Voided { anew, before }),
        1 => Just(Happening::Credited),
        2 => Just(Happening::Paid),
    ]
}

impl Happening {
    /// Things happen in the order of their days; what is about an invoice comes last.
    fn day(&self) -> u32 {
        match self {
            Self::Used { day, .. }
            | Self::Sent { day, .. }
            | Self::Moved { day }
            | Self::Repriced { day, .. }
            | Self::Suspended { day }
            | Self::LetIn { day } => *day,
            _ => 0,
        }
    }
}

const MONTHS: [&str; 12] = [
    "2026-12", "2027-01", "2027-02", "2027-03", "2027-04", "2027-05", "2027-06", "2027-07", "2027-08", "2027-09",
    "2027-10", "2027-11",
];
const SETTINGS: &str = "[billing]\noverdue = \"suspend\"\npayment_terms_days = 20\n";

/// One tenant's year, and what it used, as the test counts it.
struct Year<'a> {
    app: &'a TestApp,
    tenant: String,
    /// By month and meter.
    used: BTreeMap<(&'static str, &'static str), i64>,
    sent: u32,
    tier: &'static str,
    voided: Vec<&'static str>,
    /// How often prices changed.
    repriced: u32,
}

impl Year<'_> {
    async fn before_the_end(&mut self, month: &'static str, happening: &Happening) {
        let day = happening.day();
        at(self.app, &format!("{month}-{day:02}T10:00:00Z"));
        match happening {
            Happening::Used { requests, .. } => {
                record_units(self.app, &self.tenant, &[("apis", *requests)]);
                *self.used.entry((month, "apis")).or_default() += requests;
            }
            Happening::Sent { tokens, .. } => {
                self.sent += 1;
                let mut event = event(&format!("{}", self.sent), &self.tenant, *tokens);
                event["time"] = format!("{month}-{day:02}T10:00:00Z").into();
                post(&self.app.admin().await, event).await.expect(204);
                *self.used.entry((month, "tokens")).or_default() += tokens;
            }
            Happening::Moved { .. } => {
                let to = if self.tier == "pro" { "max" } else { "pro" };
                let path = format!("/admin/v1/tenants/{}/tier", self.tenant);
                let done = self.app.admin().await.post(&path, json!({"tier": to})).await;
                // Who is suspended stays where they are.
                let was_suspended = done.status.as_u16() == 409;
                assert!(was_suspended || done.status.as_u16() == 200, "{}", done.body);
                if !was_suspended {
                    self.tier = to;
                }
            }
            Happening::Repriced { now, .. } => {
                self.repriced += 1;
                let effective = if *now { "now" } else { "next_period" };
                let (tier, included) = (self.tier, 500 * self.repriced);
                let mut plan = if tier == "pro" { pro() } else { max() };
                plan["prices"] = prices(&included.to_string());
                plan["effective"] = effective.into();
                plan_of(self.app, tier, plan).await;
            }
            Happening::Suspended { .. } => self.becomes("suspend").await,
            Happening::LetIn { .. } => self.becomes("activate").await,
            _ => {}
        }
    }

    async fn becomes(&self, verb: &str) {
        let path = format!("/admin/v1/tenants/{}/{verb}", self.tenant);
        let done = self.app.admin().await.post(&path, json!({})).await;
        assert!([200, 409].contains(&done.status.as_u16()), "{}", done.body);
    }

    async fn after_the_end(&mut self, month: &'static str, (number, happening): (&mut u32, &Happening), next: &str) {
        at(self.app, &format!("{next}-02T00:00:00Z"));
        let admin = self.app.admin().await;
        let all = invoices(self.app, &self.tenant).await;
        let place = MONTHS.iter().position(|own| *own == month).unwrap();
        let is_before = matches!(happening, Happening::Voided { before: true, .. });
        let month = MONTHS[place.saturating_sub(is_before.into())];
        let invoice =
            all.iter().rfind(|invoice| invoice["period"]["from"].as_str().unwrap().starts_with(month)).unwrap();
        let path = format!("/admin/v1/invoices/{}", invoice["invoice_id"].as_str().unwrap());
        match happening {
            Happening::Late { day, requests } => {
                at(self.app, &format!("{month}-{day:02}T11:00:00Z"));
                record_units(self.app, &self.tenant, &[("apis", *requests)]);
                *self.used.entry((month, "apis")).or_default() += requests;
            }
            Happening::Sent { tokens, taken_back, .. } => {
                *number += 1;
                if *taken_back {
                    let void = format!("/admin/v1/usage/{number}/void?tenant_id={}", self.tenant);
                    admin.post(&void, json!({"reason": "sent twice"})).await.expect(200);
                    *self.used.entry((month, "tokens")).or_default() -= tokens;
                }
            }
            Happening::Prepaid { cents } => {
                let amount = format!("{}.{:02}", cents / 100, cents % 100);
                let credits = format!("/admin/v1/tenants/{}/credits", self.tenant);
                admin.post(&credits, json!({"amount": amount})).await.expect(201);
            }
            Happening::Voided { anew, .. } => {
                let done = admin.post(&format!("{path}/void"), json!({"reason": "x", "reissue": anew})).await;
                assert!([200, 409].contains(&done.status.as_u16()), "{}", done.body);
                if done.status == 200 && !anew && !self.voided.contains(&month) && invoice["status"] != "void" {
                    self.voided.push(month);
                }
            }
            Happening::Credited => {
                let done = admin.post(&format!("{path}/credit-notes"), json!({"reason": "x"})).await;
                assert!([201, 409, 422].contains(&done.status.as_u16()), "{}", done.body);
            }
            Happening::Paid => {
                let payment = json!({"amount": invoice["amount_remaining"], "currency": "USD", "reference": "wire"});
                let done = admin.post(&format!("{path}/payments"), payment).await;
                assert!([201, 409, 422].contains(&done.status.as_u16()), "{}", done.body);
            }
            _ => {}
        }
        if matches!(happening, Happening::Voided { .. }) {
            at(self.app, &format!("{next}-02T00:00:00Z"));
            close(self.app).await;
        }
    }

    /// What holds at the end.
    async fn is_conserved(&self) {
        let all = invoices(self.app, &self.tenant).await;
        let mut billed: BTreeMap<(String, String), i64> = BTreeMap::new();
        let mut amounts: BTreeMap<String, i64> = BTreeMap::new();
        for invoice in &all {
            adds_up(invoice);
            if invoice["status"] == "void" {
                continue;
            }
            for line in invoice["lines"].as_array().unwrap() {
                let month = line["period"]["from"].as_str().unwrap()[..7].to_owned();
                *amounts.entry(month.clone()).or_default() += cents(&line["amount"]);
                if line["model"] != "flat" {
                    let quantity: i64 = line["quantity"].as_str().unwrap().parse().unwrap();
                    *billed.entry((month, line["meter"].as_str().unwrap().to_owned())).or_default() += quantity;
                }
            }
        }
        for month in MONTHS {
            // What was voided stays so, with what later invoices had adjusted of it.
            let is_void = self.voided.contains(&month);
            for meter in ["apis", "tokens"] {
                let used = self.used.get(&(month, meter)).copied().unwrap_or_default();
                let metered = if is_void { 0 } else { used };
                let billed = billed.get(&(month.to_owned(), meter.to_owned())).copied().unwrap_or_default();
                assert_eq!(billed, metered, "{meter} of {month}: {all:#?}");
            }
            let bill = format!("/admin/v1/tenants/{}/bill?period={month}", self.tenant);
            let bill = self.app.admin().await.get(&bill).await.expect(200).body;
            let total = if is_void { 0 } else { cents(&bill["total"]) };
            assert_eq!(amounts.get(month).copied().unwrap_or_default(), total, "{month}: {all:#?}");
        }
    }
}

fn after(month: &str) -> &'static str {
    let place = MONTHS.iter().position(|own| *own == month).unwrap();
    MONTHS.get(place + 1).copied().unwrap_or("2027-12")
}

fn prices(included: &str) -> Value {
    let tiers = json!([{"up_to": "5000", "unit": "0.003"}, {"up_to": null, "unit": "0.0017", "flat": "1"}]);
    json!([{"meter": "apis", "model": "graduated", "included": included, "tiers": tiers},
        {"meter": "tokens", "model": "package", "price": "0.37", "size": "30", "round": "up"}])
}

fn pro() -> Value {
    json!({"prices": prices("1000"), "commitment": "45.00"})
}

fn max() -> Value {
    json!({"prices": prices("4000"), "base": "100.01"})
}

async fn live(happenings: Vec<Vec<Happening>>) {
    let app = TestApp::with(SETTINGS).await;
    meter(&app.admin().await, "tokens", "SUM").await;
    plan_of(&app, "pro", pro()).await;
    plan_of(&app, "max", max()).await;
    at(&app, "2026-12-01T00:00:00Z");
    let tenant = app.tenant("Acme", "pro").await;
    let rates = json!({"tax_rates": [{"name": "A", "percent": "7.7"}, {"name": "B", "percent": "2.5"}]});
    app.admin().await.patch(&format!("/admin/v1/tenants/{tenant}/billing"), rates).await.expect(200);
    let mut year =
        Year { app: &app, tenant, used: BTreeMap::new(), sent: 0, tier: "pro", voided: Vec::new(), repriced: 0 };
    for (month, mut happenings) in MONTHS.into_iter().zip(happenings) {
        happenings.sort_by_key(Happening::day);
        let mut number = year.sent;
        for happening in happenings.iter().filter(|happening| happening.day() > 0) {
            year.before_the_end(month, happening).await;
        }
        at(&app, &format!("{}-01T01:00:00Z", after(month)));
        close(&app).await;
        for happening in &happenings {
            year.after_the_end(month, (&mut number, happening), after(month)).await;
        }
    }
    for month in ["2028-01", "2028-02"] {
        at(&app, &format!("{month}-01T01:00:00Z"));
        close(&app).await;
    }
    year.is_conserved().await;
    let list = app.admin().await.get("/admin/v1/invoices?limit=500").await.expect(200).body;
    let numbers = list["items"].as_array().unwrap().iter().map(|invoice| invoice["number"].as_str());
    let mut numbers: Vec<_> = numbers.map(Option::unwrap).collect();
    numbers.sort_unstable();
    let expected: Vec<_> = (1..=numbers.len()).map(|serial| format!("INV-{serial:06}")).collect();
    assert_eq!(numbers, expected);
    assert!(Onboarding::from_ref(app.app.state()).close_periods().await.unwrap().finalized == 0);
    agrees(&app, year.voided.is_empty()).await;
    // Whoever has an invoice's file works it out again.
    for invoice in list["items"].as_array().unwrap() {
        let file = export(&app, invoice).await;
        let checked = verify_invoice(&file, Against::default());
        assert_eq!(checked.refusal, None, "{}", String::from_utf8_lossy(&file));
    }
    let credits: Value =
        app.admin().await.get(&format!("/admin/v1/tenants/{}/credits", year.tenant)).await.expect(200).body;
    assert!(credits["items"].as_array().unwrap().iter().all(|credit| cents(&credit["left"]) >= 0), "{credits}");
}

/// What the doctor says.
async fn agrees(app: &TestApp, all_is_billed: bool) {
    let (store, billing) = (Store::from_ref(app.app.state()), Billing::from_ref(app.app.state()));
    let then = Snapshot::take(&store).await.unwrap();
    let recount = Recount::open(&store, then, app.clock.now()).await.unwrap();
    let report = audit(&billing, &recount).await.unwrap();
    assert!(report.differences.is_empty(), "{:?}", report.differences);
    assert!(report.invoices >= MONTHS.len() && report.balances.values().all(|balance| balance.agrees()));
    for (meter, balance) in report.balances.iter().filter(|(meter, _)| ["apis", "tokens"].contains(&meter.as_str())) {
        assert!(balance.unbilled.is_zero(), "{meter}: {balance:?}");
        assert!(!all_is_billed || balance.billed == balance.metered, "{meter}: {balance:?}");
    }
}

/// As many as run in some seconds; `PROPTEST_CASES` for more.
fn cases() -> ProptestConfig {
    let cases = ProptestConfig::default().cases;
    // The library's own number is meant for tests that take microseconds.
    ProptestConfig { cases: if cases == 256 { 4 } else { cases }, max_shrink_iters: 40, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn whatever_happens_in_a_year_what_was_metered_is_billed_once(
        happenings in prop::collection::vec(prop::collection::vec(happening(), 0..7), MONTHS.len()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Box::pin(live(happenings)));
    }
}
