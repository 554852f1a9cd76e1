//! Many tenants' invoices made together: by several at once, and beside tenants whose invoice cannot be made.

use axum::extract::FromRef as _;
use futures_util::future::join_all;
use serde_json::json;
use tollgate::{
    billing::{Account, AddressBody, Billing},
    kernel::{Actor as Who, BillingAccountId, Clock as _, Faults, InvoiceId, PageRequest, SystemRng, TenantId},
    store::{InvoiceFilter, Scope, Store},
    tenants::{Status, Tenant},
};

use super::{
    events::{event, meter, post},
    invoices::{at, close, invoices, plan},
};
use crate::support::app::TestApp;

/// Tenants with an account each, made straight in the store: to register as many takes longer than what is tried.
async fn crowd(app: &TestApp, count: usize) {
    let (now, rng) = (app.clock.now(), SystemRng);
    let due = "2026-12-01T00:00:00Z".parse().unwrap();
    let address = AddressBody::Text("1 Long Road".into()).parse("", &mut Faults::new()).unwrap();
    let mut tx = Store::from_ref(app.app.state()).begin(Scope::Job("test")).await.unwrap();
    for number in 0..count {
        let id = TenantId::generate(now, &rng);
        let tenant = Tenant {
            id,
            customer_name: format!("Customer {number}").parse().unwrap(),
            external_id: None,
            tier: "standard".parse().unwrap(),
            status: Status::Active,
            unavailable: None,
            revision: 1,
            created_at: now,
        };
        assert!(tx.tenant_insert(&tenant).await.unwrap());
        let account = Account {
            id: BillingAccountId::generate(now, &rng),
            tenant_id: id,
            billing_address: address.clone(),
            currency: "USD".parse().unwrap(),
            opened_at: now,
            closed_at: None,
        };
        assert!(tx.billing_account_insert(&account, due).await.unwrap());
    }
    tx.commit().await.unwrap();
}

/// The ids of all drafts or of all that are issued, and the numbers of these.
async fn found(app: &TestApp, status: &'static str) -> Vec<(TenantId, InvoiceId, i64)> {
    let billing = Billing::from_ref(app.app.state());
    let filter = InvoiceFilter { status: Some(status), ..InvoiceFilter::default() };
    let page = PageRequest::new(Some(PageRequest::MAX_LIMIT), None).unwrap();
    let page = billing.invoices(Scope::Job("test"), filter, page).await.unwrap();
    assert!(page.next_cursor.is_none());
    let serial = |invoice: &tollgate::billing::Invoice| invoice.issue.as_ref().map_or(0, |issue| issue.serial);
    page.items.iter().map(|invoice| (invoice.tenant_id, invoice.id, serial(invoice))).collect()
}

async fn are_made_once(app: &TestApp, beside: &TestApp) {
    const TENANTS: usize = 240;
    crowd(app, TENANTS).await;
    at(app, "2026-12-01T00:00:00Z");
    let (one, other) = tokio::join!(close(app), close(beside));
    assert_eq!(one.drafted + other.drafted, TENANTS);
    let mut drafts = found(app, "draft").await;
    assert_eq!(drafts.len(), TENANTS);
    // By hand from the end on, while the nodes come from the beginning.
    drafts.sort_unstable_by(|a, b| b.cmp(a));
    at(app, "2026-12-01T02:00:00Z");
    let by_hand = drafts.chunks(TENANTS / 4).map(|some| async move {
        let billing = Billing::from_ref(app.app.state());
        for (_, id, _) in some {
            billing.finalize(Scope::Job("test"), Who::Job("test"), *id).await.unwrap();
        }
    });
    tokio::join!(close(app), close(beside), join_all(by_hand));
    let mut serials: Vec<i64> = found(app, "finalized").await.iter().map(|(_, _, serial)| *serial).collect();
    serials.sort_unstable();
    assert_eq!(serials, (1..=240).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_closes_and_who_issues_by_hand_do_not_wait_for_each_other() {
    let app = TestApp::new().await;
    Box::pin(are_made_once(&app, &app)).await;
}

#[tokio::test]
async fn who_closes_and_who_issues_by_hand_do_not_wait_for_each_other_on_postgres() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(are_made_once(&app, &app.beside().await)).await;
}

#[tokio::test]
async fn one_tenants_trouble_keeps_no_invoice_of_the_others() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    meter(&admin, "tokens", "SUM").await;
    let fine = json!([{"meter": "tokens", "model": "per_unit", "unit": "0.1234567891"}]);
    plan(&app, json!({"prices": fine})).await;
    let [first, bad, late, last] = ["Acme", "Bad", "Late", "Zeta"];
    let mut ids = Vec::new();
    for name in [first, bad, late, last] {
        ids.push(app.tenant(name, "pro").await);
    }
    // What it comes to has more digits than can be held.
    let endless = json!("123456789012345.123456789");
    post(&admin, event("1", &ids[1], endless.clone())).await.expect(204);
    at(&app, "2026-12-01T00:00:00Z");
    assert_eq!(close(&app).await.drafted, 3, "all but one");
    let mut within_grace = event("2", &ids[2], endless);
    within_grace["time"] = "2026-11-30T00:00:00Z".into();
    post(&app.admin().await, within_grace).await.expect(204);
    at(&app, "2026-12-01T02:00:00Z");
    assert_eq!(close(&app).await.finalized, 2, "of the others");
    for (id, issued) in ids.iter().zip([true, false, false, true]) {
        let found = invoices(&app, id).await;
        assert_eq!(found.iter().any(|invoice| invoice["number"].is_string()), issued, "{found:?}");
    }
    // Mended, it is made by the next pass.
    for (id, tenant) in [("1", &ids[1]), ("2", &ids[2])] {
        let void = format!("/admin/v1/usage/{id}/void?tenant_id={tenant}");
        app.admin().await.post(&void, json!({"reason": "nonsense"})).await.expect(200);
    }
    let closed = close(&app).await;
    assert_eq!((closed.drafted, closed.finalized), (1, 2));
}
