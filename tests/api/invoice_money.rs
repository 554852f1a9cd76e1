//! What an invoice comes to and what becomes of it: taxes, coupons, credits, payments, credit notes, voids, dunning.

use serde_json::{Value, json};
use tollgate::verification::{Against, verify_invoice};

use super::{
    billing_periods::doctor_agrees,
    invoice_exports::export,
    invoices::{adds_up, at, close, invoices, lines, plan},
    ledger::record_units,
};
use crate::support::{
    app::{Reply, TestApp},
    audit::Audit,
};

/// Issues the invoice of the month before the given one; it is the tenant's last.
async fn issue(app: &TestApp, tenant: &str, month: &str) -> Value {
    at(app, &format!("{month}-01T01:00:00Z"));
    close(app).await;
    let invoice = invoices(app, tenant).await.pop().unwrap();
    adds_up(&invoice);
    invoice
}

fn path(invoice: &Value) -> String {
    format!("/admin/v1/invoices/{}", invoice["invoice_id"].as_str().unwrap())
}

/// A second after whatever was before: of one instant things have no order.
async fn post(app: &TestApp, path: &str, body: Value) -> Reply {
    app.clock.advance_secs(1);
    app.admin().await.post(path, body).await
}

async fn pay(app: &TestApp, invoice: &Value, amount: &str, reference: &str) -> Reply {
    let payment = json!({"amount": amount, "currency": "USD", "reference": reference});
    post(app, &format!("{}/payments", path(invoice)), payment).await
}

/// What was noted besides sign-ins.
async fn deeds(audit: &mut Audit<'_>) -> Vec<String> {
    let mut actions = audit.actions().await;
    actions.retain(|action| action != "sign_in.succeeded");
    actions
}

async fn read(app: &TestApp, invoice: &Value) -> Value {
    app.admin().await.get(&path(invoice)).await.expect(200).body
}

async fn coupons_taxes_and_credits(app: TestApp) {
    let tenant = app.tenant("Acme", "standard").await;
    let of = |what: &str| format!("/admin/v1/tenants/{tenant}/{what}");
    let mut audit = Audit::of(&app).await;
    let rates =
        json!({"tax_rates": [{"name": "GST", "percent": "5"}, {"name": "QST", "percent": "9.975"}], "tax_id": "CA 1"});
    app.admin().await.patch(&of("billing"), rates.clone()).await.expect(200);
    let terms = app.admin().await.get(&of("billing")).await.expect(200).body;
    assert_eq!((&terms["tax_rates"], &terms["tax_id"]), (&rates["tax_rates"], &rates["tax_id"]));
    post(&app, &of("coupons"), json!({"name": "Welcome", "percent_off": "10", "periods": 1})).await.expect(201);
    let loyal = post(&app, &of("coupons"), json!({"name": "Loyal", "amount_off": "2.00"})).await.expect(201);
    let credit = |amount: &str, priority: i64, expires: Value| json!({"amount": amount, "priority": priority, "expires_at": expires, "reason": "prepaid"});
    post(&app, &of("credits"), credit("4.00", 2, Value::Null)).await.expect(201);
    post(&app, &of("credits"), credit("3.00", 1, json!("2026-12-20T00:00:00Z"))).await.expect(201);
    post(&app, &of("credits"), credit("9.00", 0, json!("2026-12-01T01:00:00Z"))).await.expect(201);
    assert_eq!(
        deeds(&mut audit).await,
        ["billing_terms.changed", "coupon.made", "coupon.made", "credit.granted", "credit.granted", "credit.granted"],
    );
    let november = issue(&app, &tenant, "2026-12").await;
    // 30 less a tenth, less 2: 25. 5% are 1.25; 9.975% are 2.49375.
    let amounts = |list: &str, invoice: &Value| {
        let items = invoice[list].as_array().unwrap().iter();
        items.map(|item| item["amount"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(amounts("discounts", &november), ["3.00", "2.00"]);
    assert_eq!(amounts("taxes", &november), ["1.25", "2.49"]);
    assert_eq!((&november["tax"], &november["total"]), (&json!("3.74"), &json!("28.74")));
    // What has expired is not drawn; the lower priority first.
    assert_eq!(amounts("credits", &november), ["3.00", "4.00"]);
    assert_eq!((&november["amount_due"], &november["customer"]["tax_id"]), (&json!("21.74"), &json!("CA 1")));
    let wallet = app.admin().await.get(&of("credits")).await.expect(200).body;
    let left: Vec<_> = wallet["items"].as_array().unwrap().iter().map(|item| item["left"].as_str().unwrap()).collect();
    assert_eq!(left, ["0.00", "0.00", "9.00"]);
    assert_eq!(
        (&wallet["items"][2]["expired"], &wallet["items"][0]["draws"][0]["amount"]),
        (&json!(true), &json!("4.00"))
    );

    forms_of(&app, &november).await;

    // The first coupon is used up; the second is ended; taxes are ended, too.
    let admin = app.admin().await;
    admin.delete(&format!("{}/{}", of("coupons"), loyal.text("/coupon_id"))).await.expect(204);
    admin.delete(&format!("{}/{}", of("coupons"), loyal.text("/coupon_id"))).await.expect(204);
    admin.patch(&of("billing"), json!({"tax_rates": []})).await.expect(200);
    let december = issue(&app, &tenant, "2027-01").await;
    assert_eq!((&december["total"], &december["discounts"]), (&json!("30.00"), &json!([])));
    assert_eq!(december["customer"]["tax_id"], "CA 1");
    assert_eq!(app.admin().await.get(&path(&november)).await.expect(200).body["taxes"], november["taxes"]);
    let ended = app.admin().await.get(&of("coupons")).await.expect(200).body;
    assert_eq!((&ended["items"][0]["uses"], &ended["items"][1]["active"]), (&json!(1), &json!(false)));
}

/// The same invoice as a spreadsheet, a page and a file to print, by its ending and by what is accepted.
async fn forms_of(app: &TestApp, invoice: &Value) {
    let ask = async |path: String, accept: &str| {
        let request = axum::http::Request::get(path).header("accept", accept);
        let request = request.header("authorization", format!("Bearer {}", app.admin().await.token));
        app.send(request.body(axum::body::Body::empty()).unwrap()).await
    };
    let is = |reply: &Reply, kind: &str| reply.headers["content-type"].to_str().unwrap().starts_with(kind);
    for (ending, accept, kind) in [
        (".csv", "*/*", "text/csv"),
        (".html", "application/json", "text/html"),
        (".pdf", "*/*", "application/pdf"),
        ("", "text/csv;q=0.9", "text/csv"),
        ("", "application/pdf, */*", "application/pdf"),
        (".json", "text/html", "application/json"),
        ("", "*/*", "application/json"),
    ] {
        let reply = ask(format!("{}{ending}", path(invoice)), accept).await.expect(200);
        assert!(is(&reply, kind), "{ending} {accept}: {:?}", reply.headers);
        let text = reply.body.as_str().unwrap_or_default();
        match kind {
            // A row for each amount, whose sum is what is owed.
            "text/csv" => assert!(text.contains("QST") && text.contains(",2.49"), "{text}"),
            "text/html" => assert!(text.contains("QST") && text.contains("21.74"), "{text}"),
            "application/pdf" => assert!(text.starts_with("%PDF-"), "{ending}"),
            _ => assert_eq!(reply.body["number"], invoice["number"]),
        }
    }
    let (own, own_path) = (app.owner_of("Acme").await, path(invoice).replace("/admin", ""));
    let theirs = own.get(&format!("{own_path}.pdf")).await.expect(200);
    assert!(is(&theirs, "application/pdf"), "{:?}", theirs.headers);
    for unknown in [".docx", ".", ".pdf.pdf"] {
        ask(format!("{}{unknown}", path(invoice)), "*/*").await.expect(404);
    }
}

#[tokio::test]
async fn coupons_are_before_taxes_and_credits_after() {
    Box::pin(coupons_taxes_and_credits(TestApp::new().await)).await;
}

#[tokio::test]
async fn coupons_are_before_taxes_and_credits_after_on_postgresql() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(coupons_taxes_and_credits(app)).await;
}

#[tokio::test]
async fn ending_a_coupon_is_noted() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let coupons = format!("/admin/v1/tenants/{tenant}/coupons");
    let made = post(&app, &coupons, json!({"name": "Half", "percent_off": "50"})).await.expect(201);
    let mut audit = Audit::of(&app).await;
    for _ in 0..2 {
        app.admin().await.delete(&format!("{coupons}/{}", made.text("/coupon_id"))).await.expect(204);
    }
    assert_eq!(deeds(&mut audit).await, ["coupon.ended"]);
    assert_eq!(issue(&app, &tenant, "2026-12").await["total"], "30.00");
}

async fn payments(app: TestApp) {
    let tenant = app.tenant("Acme", "standard").await;
    let invoice = issue(&app, &tenant, "2026-12").await;
    let mut audit = Audit::of(&app).await;
    let first = pay(&app, &invoice, "10.00", "wire 1").await.expect(201);
    assert_eq!(
        (first.text("/invoice/status"), first.text("/invoice/amount_remaining")),
        ("finalized".into(), "20.00".into())
    );
    // The same payment again is the same payment.
    let again = pay(&app, &invoice, "10.00", "wire 1").await.expect(201);
    assert_eq!(
        (again.text("/payment_id"), again.text("/invoice/amount_remaining")),
        (first.text("/payment_id"), "20.00".into())
    );
    pay(&app, &invoice, "11.00", "wire 1").await.refuses(409, &[]);
    pay(&app, &invoice, "20.01", "wire 2").await.refuses(422, &["amount"]);
    let paid = pay(&app, &invoice, "20.00", "wire 2").await.expect(201);
    assert_eq!((paid.text("/invoice/status"), paid.text("/invoice/amount_remaining")), ("paid".into(), "0.00".into()));
    pay(&app, &invoice, "1.00", "wire 3").await.refuses(409, &[]);
    assert_eq!(deeds(&mut audit).await, ["invoice.paid", "invoice.paid"]);
    let read = read(&app, &invoice).await;
    assert_eq!((read["payments"].as_array().unwrap().len(), &read["lines"]), (2, &invoice["lines"]));
    post(&app, &format!("{}/void", path(&invoice)), json!({"reason": "no"})).await.refuses(409, &[]);
}

#[tokio::test]
async fn payments_add_up_to_what_is_owed_and_each_counts_once() {
    Box::pin(payments(TestApp::new().await)).await;
}

#[tokio::test]
async fn payments_add_up_to_what_is_owed_and_each_counts_once_on_postgresql() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(payments(app)).await;
}

#[tokio::test]
async fn payments_at_once_are_never_more_than_is_owed() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let invoice = issue(&app, &tenant, "2026-12").await;
    let references: Vec<String> = (0..8).map(|number| format!("wire {number}")).collect();
    let tries = references.iter().map(|reference| pay(&app, &invoice, "20.00", reference));
    let done = futures_util::future::join_all(tries).await;
    assert_eq!(done.iter().filter(|reply| reply.status == 201).count(), 1);
    assert_eq!(read(&app, &invoice).await["amount_remaining"], "10.00");
}

#[tokio::test]
async fn credit_notes_are_numbered_and_never_more_than_the_invoice() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let admin = app.admin().await;
    let rates = json!({"tax_rates": [{"name": "VAT", "percent": "19"}]});
    admin.patch(&format!("/admin/v1/tenants/{tenant}/billing"), rates).await.expect(200);
    record_units(&app, &tenant, &[("apis", 12_500)]);
    let invoice = issue(&app, &tenant, "2026-12").await;
    // 31.25 and 5.94 of VAT.
    assert_eq!(invoice["total"], "37.19");
    let notes = format!("{}/credit-notes", path(&invoice));
    let some = |amount: &str| json!({"reason": "an outage", "lines": [{"line": 1, "amount": amount}]});
    for (body, field) in [
        (some("30.01"), "lines[0].amount"),
        (some("0"), "lines[0].amount"),
        (json!({"reason": "x", "lines": [{"line": 9, "amount": "1"}]}), "lines[0].line"),
        (json!({"reason": "x", "lines": [{"line": 1, "amount": "1"}, {"line": 1, "amount": "1"}]}), "lines[1].line"),
        (json!({"reason": " "}), "reason"),
    ] {
        post(&app, &notes, body).await.refuses(422, &[field]);
    }
    let mut audit = Audit::of(&app).await;
    let first = post(&app, &notes, some("10.00")).await.expect(201);
    assert_eq!(
        (first.text("/number"), first.text("/subtotal"), first.text("/total")),
        ("CN-000001".into(), "10.00".into(), "11.90".into())
    );
    assert_eq!(first.text("/invoice/amount_remaining"), "25.29");
    assert_eq!(deeds(&mut audit).await, ["credit_note.issued"]);
    post(&app, &notes, some("20.01")).await.refuses(422, &["lines[0].amount"]);
    pay(&app, &invoice, "20.00", "wire").await.expect(201);
    // The rest: 5.29 are still owed, and 20.00 come back as a credit.
    let rest = post(&app, &notes, json!({"reason": "after all"})).await.expect(201);
    assert_eq!(
        (rest.text("/number"), rest.text("/total"), rest.text("/applied")),
        ("CN-000002".into(), "25.29".into(), "5.29".into())
    );
    assert_eq!(rest.text("/invoice/status"), "paid");
    post(&app, &notes, json!({"reason": "again"})).await.refuses(422, &["lines"]);
    let wallet = app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/credits")).await.expect(200);
    assert_eq!((wallet.text("/items/0/left"), wallet.text("/items/0/reason")), ("20.00".into(), "CN-000002".into()));
    assert_eq!(read(&app, &invoice).await["credit_notes"].as_array().unwrap().len(), 2);
    assert_eq!(issue(&app, &tenant, "2027-01").await["amount_due"], "15.70");
}

#[tokio::test]
async fn a_voided_invoice_keeps_its_number_and_another_may_take_its_place() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let credit = json!({"amount": "5.00"});
    post(&app, &format!("/admin/v1/tenants/{tenant}/credits"), credit).await.expect(201);
    record_units(&app, &tenant, &[("apis", 12_500)]);
    let first = issue(&app, &tenant, "2026-12").await;
    assert_eq!(first["amount_due"], "26.25");
    let void = |invoice: &Value| format!("{}/void", path(invoice));
    post(&app, &void(&first), json!({"reason": ""})).await.refuses(422, &["reason"]);
    let mut audit = Audit::of(&app).await;
    let voided = post(&app, &void(&first), json!({"reason": "wrong name", "reissue": true})).await.expect(200);
    assert_eq!(
        (voided.text("/status"), voided.text("/void_reason"), voided.text("/number")),
        ("void".into(), "wrong name".into(), "INV-000001".into())
    );
    assert_eq!(
        post(&app, &void(&first), json!({"reason": "twice"})).await.expect(200).text("/void_reason"),
        "wrong name"
    );
    pay(&app, &first, "1.00", "wire").await.refuses(409, &[]);
    assert_eq!(deeds(&mut audit).await, ["invoice.voided"]);
    let draft = invoices(&app, &tenant).await.pop().unwrap();
    post(&app, &void(&draft), json!({"reason": "no"})).await.refuses(409, &[]);
    close(&app).await;
    let second = invoices(&app, &tenant).await.pop().unwrap();
    assert_eq!((&second["number"], &second["lines"]), (&json!("INV-000002"), &first["lines"]));
    assert_eq!(second["amount_due"], "26.25", "what the first drew was given back");
    // Voided for good: neither the next invoice nor an adjustment has what it billed.
    post(&app, &void(&second), json!({"reason": "a gift"})).await.expect(200);
    post(&app, &void(&second), json!({"reason": "no gift", "reissue": true})).await.refuses(409, &[]);
    at(&app, "2026-11-30T12:00:00Z");
    record_units(&app, &tenant, &[("apis", 7_000)]);
    let december = issue(&app, &tenant, "2027-01").await;
    assert_eq!((&december["number"], lines(&december).len()), (&json!("INV-000003"), 5));
    assert_eq!(december["amount_due"], "25.00");
}

/// An invoice that was adjusted by the next is made anew: nothing of it is billed twice.
#[tokio::test]
async fn what_a_later_invoice_adjusted_is_not_billed_again() {
    let app = TestApp::new().await;
    plan(&app, json!({})).await;
    let tenant = app.tenant("Acme", "pro").await;
    record_units(&app, &tenant, &[("apis", 100)]);
    let november = issue(&app, &tenant, "2026-12").await;
    at(&app, "2026-11-30T12:00:00Z");
    record_units(&app, &tenant, &[("apis", 50)]);
    let december = issue(&app, &tenant, "2027-01").await;
    assert_eq!(lines(&december), ["base base 1 30.00", "usage apis 0 0.00", "adjustment apis 50 0.50"]);
    post(&app, &format!("{}/void", path(&november)), json!({"reason": "name", "reissue": true})).await.expect(200);
    close(&app).await;
    let all = invoices(&app, &tenant).await;
    let again = all.into_iter().rfind(|invoice| invoice["period"] == november["period"]).unwrap();
    assert_eq!(lines(&again), ["base base 1 30.00", "usage apis 150 1.50", "adjustment apis -50 -0.50"]);
    adds_up(&again);
}

/// The same without another in its place: the period is billed no more, and so neither is what came late to it.
#[tokio::test]
async fn what_later_invoices_adjusted_of_a_voided_period_goes_back() {
    let app = TestApp::new().await;
    plan(&app, json!({})).await;
    let tenant = app.tenant("Acme", "pro").await;
    record_units(&app, &tenant, &[("apis", 100)]);
    let november = issue(&app, &tenant, "2026-12").await;
    at(&app, "2026-11-30T12:00:00Z");
    record_units(&app, &tenant, &[("apis", 50)]);
    let december = issue(&app, &tenant, "2027-01").await;
    assert_eq!(lines(&december)[2], "adjustment apis 50 0.50");
    post(&app, &format!("{}/void", path(&november)), json!({"reason": "a gift"})).await.expect(200);
    let january = issue(&app, &tenant, "2027-02").await;
    assert_eq!(lines(&january), ["base base 1 30.00", "usage apis 0 0.00", "adjustment apis -50 -0.50"]);
    assert_eq!(january["lines"][2]["adjusts"]["number"], november["number"]);
    assert_eq!(verify_invoice(&export(&app, &january).await, Against::default()).refusal, None);
    assert_eq!(lines(&issue(&app, &tenant, "2027-03").await), ["base base 1 30.00", "usage apis 0 0.00"]);
    assert_eq!(doctor_agrees(&app, "apis").await, ("0".to_owned(), "0".to_owned()));
}

#[tokio::test]
async fn a_void_gives_back_what_a_credit_paid_that_has_expired_since() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let credits = format!("/admin/v1/tenants/{tenant}/credits");
    for (amount, expires) in [("5.00", json!("2026-12-20T00:00:00Z")), ("2.00", Value::Null)] {
        post(&app, &credits, json!({"amount": amount, "expires_at": expires})).await.expect(201);
    }
    let first = issue(&app, &tenant, "2026-12").await;
    assert_eq!(first["amount_due"], "23.00");
    at(&app, "2026-12-20T00:00:00Z");
    let void = json!({"reason": "wrong name", "reissue": true});
    post(&app, &format!("{}/void", path(&first)), void).await.expect(200);
    let wallet = app.admin().await.get(&credits).await.expect(200);
    let left = ["/items/0/left", "/items/1/left", "/items/2/left"].map(|item| wallet.text(item));
    assert_eq!(left, ["0.00", "2.00", "5.00"]);
    assert_eq!(wallet.text("/items/2/reason"), "INV-000001 was voided");
    assert_eq!(wallet.body["items"][2]["expires_at"], Value::Null);
    close(&app).await;
    assert_eq!(invoices(&app, &tenant).await.pop().unwrap()["amount_due"], "23.00");
}

#[tokio::test]
async fn a_credit_note_is_of_whoever_issued_the_invoice() {
    let app = TestApp::with("[billing]\nentity = \"northgate\"\n").await;
    let tenant = app.tenant("Acme", "standard").await;
    let november = issue(&app, &tenant, "2026-12").await;
    let note = json!({"reason": "an outage", "lines": [{"line": 1, "amount": "1.00"}]});
    let credit = async |app: &TestApp, invoice: &Value| {
        let made = post(app, &format!("{}/credit-notes", path(invoice)), note.clone()).await.expect(201);
        (made.text("/number"), made.text("/seller/name"))
    };
    assert_eq!(credit(&app, &november).await, ("CN-000001".into(), "northgate".into()));
    let app = app.restarted_with("[billing]\nentity = \"southgate\"\n").await.unwrap();
    let december = issue(&app, &tenant, "2027-01").await;
    assert_eq!(credit(&app, &december).await, ("CN-000001".into(), "southgate".into()));
    assert_eq!(credit(&app, &november).await, ("CN-000002".into(), "northgate".into()));
}

/// What was issued under one setting is not rated by another one later.
#[tokio::test]
async fn a_setting_that_is_changed_changes_nothing_that_was_issued() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    at(&app, "2026-11-16T15:00:00Z");
    post(&app, &format!("/admin/v1/tenants/{tenant}/tier"), json!({"tier": "premium"})).await.expect(200);
    let november = issue(&app, &tenant, "2026-12").await;
    assert_ne!(lines(&november)[0], "base base 1 15.00", "by the second");
    let app = app.restarted_with("[billing]\nproration = \"day\"\n").await.unwrap();
    let explained = app.admin().await.get(&format!("{}/lines/1/explain", path(&november))).await.expect(200);
    assert!(explained.text("/steps/0").contains("by the second"), "{}", explained.body);
    // And where something came late, the rest of the period stays as it was.
    at(&app, "2026-11-20T12:00:00Z");
    record_units(&app, &tenant, &[("apis", 7)]);
    let december = issue(&app, &tenant, "2027-01").await;
    let late: Vec<_> = lines(&december).into_iter().filter(|line| line.starts_with("adjustment")).collect();
    assert!(late.len() == 1 && late[0].starts_with("adjustment apis 7 "), "{late:?}");
    assert_eq!(verify_invoice(&export(&app, &december).await, Against::default()).refusal, None);
}

const SUSPENDS: &str = "[billing]\noverdue = \"suspend\"\npayment_terms_days = 10\n";

async fn dunning(app: TestApp) {
    let tenant = app.tenant("Acme", "standard").await;
    let invoice = issue(&app, &tenant, "2026-12").await;
    let of_tenant = format!("/admin/v1/tenants/{tenant}");
    at(&app, "2026-12-11T00:59:59Z");
    assert_eq!(close(&app).await.overdue, 0);
    at(&app, "2026-12-11T01:00:00Z");
    let mut audit = Audit::of(&app).await;
    let closed = close(&app).await;
    assert_eq!((closed.overdue, closed.suspended), (1, 1));
    assert_eq!(deeds(&mut audit).await, ["tenant.suspended"]);
    assert_eq!(read(&app, &invoice).await["status"], "overdue");
    let state = |reply: Reply| (reply.text("/status"), reply.body["suspended_because"].clone());
    assert_eq!(state(app.admin().await.get(&of_tenant).await), ("suspended".into(), json!("unpaid")));
    pay(&app, &invoice, "29.99", "wire 1").await.expect(201);
    assert_eq!(state(app.admin().await.get(&of_tenant).await).0, "suspended");
    pay(&app, &invoice, "0.01", "wire 2").await.expect(201);
    assert_eq!(state(app.admin().await.get(&of_tenant).await), ("active".into(), Value::Null));
    assert_eq!(deeds(&mut audit).await, ["invoice.paid", "invoice.paid", "tenant.activated"]);
    app.owner_of("Acme").await.get("/sample/hello").await.expect(200);

    // An administrator's own suspension stays, whatever is paid.
    let second = issue(&app, &tenant, "2027-01").await;
    at(&app, "2027-01-11T01:00:00Z");
    assert_eq!(close(&app).await.suspended, 1);
    post(&app, &format!("{of_tenant}/suspend"), Value::Null).await.expect(200);
    pay(&app, &second, "30.00", "wire").await.expect(201);
    assert_eq!(state(app.admin().await.get(&of_tenant).await), ("suspended".into(), json!("asked")));
    post(&app, &format!("{of_tenant}/activate"), Value::Null).await.expect(200);

    // And whom they let through is not suspended again for the same invoice. A void ends it, too.
    let third = issue(&app, &tenant, "2027-02").await;
    at(&app, "2027-02-11T01:00:00Z");
    assert_eq!(close(&app).await.suspended, 1);
    post(&app, &format!("{of_tenant}/activate"), Value::Null).await.expect(200);
    assert_eq!(close(&app).await.suspended, 0);
    issue(&app, &tenant, "2027-03").await;
    at(&app, "2027-03-11T01:00:00Z");
    assert_eq!(close(&app).await.suspended, 1);
    post(&app, &format!("{}/void", path(&third)), json!({"reason": "waived"})).await.expect(200);
    assert_eq!(state(app.admin().await.get(&of_tenant).await).0, "suspended", "another one is overdue");
    let last = invoices(&app, &tenant).await.pop().unwrap();
    post(&app, &format!("{}/credit-notes", path(&last)), json!({"reason": "waived"})).await.expect(201);
    assert_eq!(state(app.admin().await.get(&of_tenant).await).0, "active");
}

#[tokio::test]
async fn who_does_not_pay_is_suspended_and_a_payment_lifts_it() {
    Box::pin(dunning(TestApp::with(SUSPENDS).await)).await;
}

#[tokio::test]
async fn who_does_not_pay_is_suspended_and_a_payment_lifts_it_on_postgresql() {
    let Some(app) = TestApp::on_postgres_with(SUSPENDS).await else { return };
    Box::pin(dunning(app)).await;
}

#[tokio::test]
async fn a_commitment_is_made_up_and_a_trial_is_free() {
    let app = TestApp::new().await;
    plan(&app, json!({"commitment": "50.00", "trial_days": 10})).await;
    let tenant = app.tenant("Acme", "pro").await;
    record_units(&app, &tenant, &[("apis", 700)]);
    at(&app, "2026-11-25T00:00:00Z");
    record_units(&app, &tenant, &[("apis", 300)]);
    let november = issue(&app, &tenant, "2026-12").await;
    // Free until November 20 at 12:00; 10.5 of 30 days are left: 10.50, and 17.50 of the commitment.
    let expected = [
        "base base 1 0.00",
        "usage apis 700 0.00",
        "base base 1 10.50",
        "usage apis 300 3.00",
        "commitment commitment 1 4.00",
    ];
    assert_eq!(lines(&november), expected);
    record_units(&app, &tenant, &[("apis", 3_000)]);
    let december = issue(&app, &tenant, "2027-01").await;
    assert_eq!(lines(&december)[1..], ["usage apis 3000 30.00", "commitment commitment 1 0.00"]);
    assert_eq!(december["total"], "60.00");
}

#[tokio::test]
async fn a_base_can_be_split_by_days() {
    let app = TestApp::with("[billing]\nproration = \"day\"\n").await;
    let tenant = app.tenant("Acme", "standard").await;
    at(&app, "2026-11-16T15:00:00Z");
    post(&app, &format!("/admin/v1/tenants/{tenant}/tier"), json!({"tier": "premium"})).await.expect(200);
    let invoice = issue(&app, &tenant, "2026-12").await;
    let bases: Vec<_> = lines(&invoice).into_iter().filter(|line| line.contains("base")).collect();
    assert_eq!(bases, ["base base 1 15.00", "base base 1 150.00"]);
}

#[tokio::test]
async fn what_is_no_term_is_refused() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let admin = app.admin().await;
    let of = |what: &str| format!("/admin/v1/tenants/{tenant}/{what}");
    for (rates, field) in [
        (json!([{"name": "VAT", "percent": "101"}]), "tax_rates[0].percent"),
        (json!([{"name": "VAT", "percent": "-1"}]), "tax_rates[0].percent"),
        (json!([{"name": "", "percent": "1"}]), "tax_rates[0].name"),
        (json!(vec![json!({"name": "VAT", "percent": "1"}); 11]), "tax_rates"),
    ] {
        admin.patch(&of("billing"), json!({"tax_rates": rates})).await.refuses(422, &[field]);
    }
    for (coupon, field) in [
        (json!({"name": "x"}), "percent_off"),
        (json!({"name": "x", "percent_off": "1", "amount_off": "1"}), "percent_off"),
        (json!({"name": "x", "percent_off": "200"}), "percent_off"),
        (json!({"name": "x", "amount_off": "0.001"}), "amount_off"),
        (json!({"name": "x", "percent_off": "1", "periods": 0}), "periods"),
        (json!({"name": "", "percent_off": "1"}), "name"),
    ] {
        admin.post(&of("coupons"), coupon).await.refuses(422, &[field]);
    }
    for (credit, field) in [
        (json!({"amount": "0"}), "amount"),
        (json!({"amount": "-5"}), "amount"),
        (json!({"amount": "99999999999999999999"}), "amount"),
        (json!({"amount": "1", "priority": -1}), "priority"),
        (json!({"amount": "1", "expires_at": "2026-11-10T12:00:00Z"}), "expires_at"),
        (json!({"amount": "1", "expires_at": "soon"}), "expires_at"),
    ] {
        admin.post(&of("credits"), credit).await.refuses(422, &[field]);
    }
    let nobody = "/admin/v1/tenants/01900000-0000-7000-8000-000000000000";
    for what in ["billing", "coupons", "credits", "invoices"] {
        admin.get(&format!("{nobody}/{what}")).await.refuses(404, &[]);
    }
    admin.post(&format!("{nobody}/credits"), json!({"amount": "1"})).await.refuses(404, &[]);
    for plan in [json!({"commitment": "1.005"}), json!({"trial_days": 4_000})] {
        let field = plan.as_object().unwrap().keys().next().unwrap().clone();
        let mut body = json!({"isolation": "pool", "currency": "USD", "base": "1.00"});
        body.as_object_mut().unwrap().extend(plan.as_object().unwrap().clone());
        admin.put("/admin/v1/plans/standard", body).await.refuses(422, &[&field]);
    }
}
