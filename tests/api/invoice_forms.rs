//! What the forms of an invoice and of a credit note say of real ones: who sells, at which price, how it adds up, and what became
//! of it.

use axum::{body::Body, http::Request};
use serde_json::{Value, json};

use super::{
    forms::pdf::{rows, text_of},
    invoices::{at, close, invoices, plan_of},
    ledger::record_units,
};
use crate::support::app::{Reply, TestApp};

const SELLER: &str = r#"
[billing]
entity = "northgate"
[billing.seller]
name = "Northgate Systems GmbH"
address = ["Speicherstraße 14", "20457 Hamburg"]
tax_id = "DE 811 907 980"
registration = "Amtsgericht Hamburg, HRB 104 711"
payment_instructions = ["IBAN DE02 1203 0000 0000 2020 51", "Name the number of the invoice."]
"#;

/// What a form says, as text.
async fn form(app: &TestApp, path: &str) -> String {
    app.admin().await.get(path).await.expect(200).body.as_str().unwrap().to_owned()
}

/// The bytes of a PDF, which are no text.
async fn pdf(app: &TestApp, path: &str) -> Vec<u8> {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;
    let token = app.admin().await.token;
    let request = Request::get(path).header("authorization", format!("Bearer {token}"));
    let reply = app.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(reply.status(), 200);
    reply.into_body().collect().await.unwrap().to_bytes().to_vec()
}

async fn post(app: &TestApp, path: &str, body: Value) -> Reply {
    app.clock.advance_secs(1);
    app.admin().await.post(path, body).await
}

/// A tenant with a coupon, taxes and some usage, the prices of which were put anew in mid-period.
async fn busy(app: &TestApp) -> (String, Value) {
    let prices = json!([
        {"meter": "apis", "model": "graduated", "included": "1000", "minimum": "2",
            "tiers": [{"up_to": "9000", "unit": "0.0005"}, {"unit": "0.0001", "flat": "1"}]},
        {"meter": "compute", "model": "per_unit", "included": "500", "unit": "0.002"},
        {"meter": "egress_bytes", "model": "package", "price": "0.09", "size": "1000000"},
    ]);
    at(app, "2026-11-01T00:00:00Z");
    plan_of(app, "pro", json!({"base": "30.00", "prices": prices})).await;
    let tenant = app.tenant("Acme", "pro").await;
    let of = |what: &str| format!("/admin/v1/tenants/{tenant}/{what}");
    let rates = json!({"tax_rates": [{"name": "VAT", "percent": "19"}], "tax_id": "PL 725 18 01 126"});
    app.admin().await.patch(&of("billing"), rates).await.expect(200);
    post(app, &of("coupons"), json!({"name": "Welcome", "percent_off": "10"})).await.expect(201);
    post(app, &of("credits"), json!({"amount": "5.00", "reason": "prepaid"})).await.expect(201);
    record_units(app, &tenant, &[("apis", 8_000), ("compute", 400), ("egress_bytes", 2_500_000)]);
    at(app, "2026-11-16T00:00:00Z");
    plan_of(app, "pro", json!({"base": "30.00", "prices": prices, "features": ["more"]})).await;
    record_units(app, &tenant, &[("apis", 4_000), ("compute", 350)]);
    at(app, "2026-12-01T01:00:00Z");
    close(app).await;
    let invoice = invoices(app, &tenant).await.remove(0);
    (tenant, invoice)
}

fn path_of(invoice: &Value) -> String {
    format!("/admin/v1/invoices/{}", invoice["invoice_id"].as_str().unwrap())
}

#[tokio::test]
async fn an_invoice_says_who_sells_at_which_price_and_how_each_line_adds_up() {
    let app = TestApp::with(SELLER).await;
    let (_, invoice) = busy(&app).await;
    // 15 twice; 7,000 × 0.0005, and what 5.70 for 11,000 is more than that; 250 × 0.002; 3 packages at 0.09.
    assert_eq!((&invoice["subtotal"], &invoice["entity"]), (&json!("36.47"), &json!("northgate")));
    assert_eq!(invoice["seller"]["registration"], "Amtsgericht Hamburg, HRB 104 711");
    let page = form(&app, &format!("{}.html", path_of(&invoice))).await;
    for said in [
        "Northgate Systems GmbH",
        "Speicherstraße 14",
        "Tax ID DE 811 907 980",
        "HRB 104 711",
        "IBAN DE02 1203 0000 0000 2020 51",
        "included",
        "beyond what is included",
        "billed before in this period",
        "0.09 per begun 1000000",
        "Welcome",
        "VAT 19%",
        "prepaid credit",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    let csv = form(&app, &format!("{}.csv", path_of(&invoice))).await;
    assert!(csv.contains(",\"IBAN DE02 1203 0000 0000 2020 51; Name the number of the invoice.\","), "{csv}");
    let print = pdf(&app, &format!("{}.pdf", path_of(&invoice))).await;
    if let Some(text) = text_of("issued.pdf", &print) {
        insta::assert_snapshot!("issued", rows(&text));
    }
    // Paid, it says so, and asks for nothing; and whoever sells by then, it is of whom it was.
    let due = invoice["amount_due"].as_str().unwrap();
    let payment = json!({"amount": due, "currency": "USD", "reference": "wire 7"});
    post(&app, &format!("{}/payments", path_of(&invoice)), payment).await.expect(201);
    let app = app.restarted_with("[billing]\nentity = \"southgate\"\n").await.unwrap();
    let page = form(&app, &format!("{}.html", path_of(&invoice))).await;
    assert!(page.contains("Paid on 2026-12-01") && page.contains("wire 7 on 2026-12-01"), "{page}");
    assert!(page.contains("Northgate Systems GmbH") && !page.contains("southgate") && !page.contains("IBAN"), "{page}");
    let print = pdf(&app, &format!("{}.pdf", path_of(&invoice))).await;
    if let Some(text) = text_of("paid.pdf", &print) {
        assert!(text.contains("Paid on 2026-12-01") && text.contains("Amount due USD 0.00"), "{text}");
    }
}

#[tokio::test]
async fn drafts_and_void_invoices_are_marked_and_ask_for_nothing() {
    let app = TestApp::with(SELLER).await;
    let tenant = app.tenant("Acme", "standard").await;
    post(&app, &format!("/admin/v1/tenants/{tenant}/credits"), json!({"amount": "5.00"})).await.expect(201);
    at(&app, "2026-12-01T00:00:00Z");
    close(&app).await;
    let draft = invoices(&app, &tenant).await.remove(0);
    let page = form(&app, &format!("{}.html", path_of(&draft))).await;
    assert!(page.contains("Draft invoice") && page.contains("may still change") && !page.contains("IBAN"), "{page}");
    post(&app, &format!("{}/finalize", path_of(&draft)), Value::Null).await.expect(200);
    post(&app, &format!("{}/void", path_of(&draft)), json!({"reason": "sent to another"})).await.expect(200);
    let page = form(&app, &format!("{}.html", path_of(&draft))).await;
    assert!(page.contains("Void invoice INV-000001") && page.contains("Void: sent to another"), "{page}");
    assert!(page.contains("Amount due: USD 0.00<") && !page.contains("IBAN") && !page.contains("prepaid"), "{page}");
}

async fn notes(app: TestApp) {
    let (_, invoice) = busy(&app).await;
    let make = async |body: Value| post(&app, &format!("{}/credit-notes", path_of(&invoice)), body).await.expect(201);
    let first = make(json!({"reason": "an outage", "lines": [{"line": 2, "amount": "1.11"}]})).await;
    let rest = make(json!({"reason": "the rest of it"})).await;
    assert_eq!(
        (first.text("/number"), first.text("/seller/name")),
        ("CN-000001".into(), "Northgate Systems GmbH".into())
    );
    let path = |note: &Reply, ending: &str| format!("/admin/v1/credit-notes/{}{ending}", note.text("/credit_note_id"));
    let read = app.admin().await.get(&path(&first, "")).await.expect(200);
    assert_eq!((read.text("/number"), read.text("/total")), ("CN-000001".into(), first.text("/total")));
    let page = form(&app, &path(&first, ".html")).await;
    for said in [
        "Credit note CN-000001",
        "Credited to",
        "Corrects",
        "INV-000001",
        "an outage",
        "apis",
        "VAT 19%",
        "Northgate Systems GmbH",
        "was taken off what was owed on INV-000001",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    // What both give back of each is what the invoice had of it.
    let mut sums = std::collections::BTreeMap::<String, i64>::new();
    for note in [&first, &rest] {
        let csv = form(&app, &path(note, ".csv")).await;
        for record in csv.lines().filter(|record| record.starts_with("credit_note,")) {
            let cells: Vec<&str> = record.split(',').collect();
            *sums.entry(cells[5].to_owned()).or_default() += cells[16].replace('.', "").parse::<i64>().unwrap();
        }
    }
    let of = |list: &str| {
        let items = invoice[list].as_array().unwrap().iter();
        items.map(|item| item["amount"].as_str().unwrap().replace('.', "").parse::<i64>().unwrap()).sum::<i64>()
    };
    assert_eq!((sums["line"], -sums["discount"], sums["tax"]), (of("lines"), of("discounts"), of("taxes")));
    let print = pdf(&app, &path(&rest, ".pdf")).await;
    if let Some(text) = text_of("credit-note.pdf", &print) {
        assert!(text.contains("Credit note") && text.contains("the rest of it"), "{text}");
    }
    // The tenant's own, in the same forms; another's are not there.
    let own = path(&rest, "").replace("/admin", "");
    let owner = app.owner_of("Acme").await;
    assert_eq!(owner.get(&own).await.expect(200).text("/number"), "CN-000002");
    assert!(owner.get(&format!("{own}.pdf")).await.expect(200).body.as_str().unwrap().starts_with("%PDF-"));
    app.tenant("Globex", "free").await;
    for unknown in ["", ".pdf", ".docx"] {
        app.owner_of("Globex").await.get(&format!("{own}{unknown}")).await.refuses(404, &[]);
    }
}

#[tokio::test]
async fn a_credit_note_has_its_forms_and_its_share_of_coupons_and_taxes() {
    Box::pin(notes(TestApp::with(SELLER).await)).await;
}

#[tokio::test]
async fn a_credit_note_has_its_forms_and_its_share_of_coupons_and_taxes_on_postgresql() {
    let Some(app) = TestApp::on_postgres_with(SELLER).await else { return };
    Box::pin(notes(app)).await;
}
