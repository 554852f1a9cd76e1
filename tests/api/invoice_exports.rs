//! Exported invoices: whoever has the file works the invoice out again, and an edited character anywhere is found.

use axum::extract::FromRef as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use tollgate::{
    billing::{Billing, audit::audit},
    kernel::Clock as _,
    metering::{Recount, Snapshot},
    store::Store,
    verification::{Against, Checked, verify_invoice},
};

use super::{
    events::{event, meter, post},
    invoices::{at, close, invoices, plan_of},
    ledger::record_units,
};
use crate::support::app::TestApp;

/// The file of an invoice, as it is served.
pub async fn export(app: &TestApp, invoice: &Value) -> Vec<u8> {
    let path = format!("/admin/v1/invoices/{}/export", invoice["invoice_id"].as_str().unwrap());
    app.admin().await.get(&path).await.expect(200).body.to_string().into_bytes()
}

fn check(file: &[u8]) -> Checked {
    verify_invoice(file, Against::default())
}

fn refused(file: &[u8]) -> (u8, String) {
    let checked = check(file);
    (checked.status(), checked.refusal.map(|refusal| refusal.to_string()).unwrap_or_default())
}

/// The files of all of a tenant's invoices, each of which is right.
async fn good_files(app: &TestApp, tenant: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = Vec::new();
    for invoice in invoices(app, tenant).await.iter().filter(|invoice| !invoice["number"].is_null()) {
        let file = export(app, invoice).await;
        let checked = check(&file);
        assert_eq!(checked.refusal, None, "{:?}\n{}", checked.lines, String::from_utf8_lossy(&file));
        files.push(file);
    }
    files
}

/// An edit of the file's JSON.
fn edited(file: &[u8], pointer: &str, edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(file).unwrap();
    edit(value.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")));
    value.to_string().into_bytes()
}

/// Every price model, tiers that change, a trial, coupons, taxes, credits, commitments, late usage, an invoice that is made
/// anew: three months of a tenant whose currency has so many digits.
async fn eventful(app: &TestApp, currency: &str, digits: usize) -> String {
    let admin = app.admin().await;
    for (key, aggregation) in [("tokens", "SUM"), ("calls", "COUNT"), ("peak", "MAX"), ("kinds", "UNIQUE_COUNT")] {
        meter(&admin, key, aggregation).await;
    }
    let money = |whole: i64| if digits == 0 { whole.to_string() } else { format!("{whole}.{:0digits$}", 5) };
    let tiers = json!([{"up_to": "50", "unit": "0.31"}, {"up_to": null, "unit": "0.17", "flat": "1.5"}]);
    let prices = json!([
        {"meter": "apis", "model": "graduated", "included": "100", "tiers": tiers, "discount_percent": "12.5"},
        {"meter": "apis", "model": "package", "price": "0.37", "size": "30", "round": "up", "minimum": "2"},
        {"meter": "tokens", "model": "volume", "tiers": tiers},
        {"meter": "tokens", "model": "percentage", "rate_percent": "2.9", "fixed_per_event": "0.3", "maximum": "40"},
        {"meter": "tokens", "model": "dynamic", "multiplier": "1.17"},
        {"meter": "calls", "model": "graduated_percentage", "tiers": tiers},
        {"meter": "peak", "model": "per_unit", "unit": "0.0333"},
        {"meter": "kinds", "model": "flat", "amount": "7"},
        {"meter": "nothing_yet", "model": "per_unit", "unit": "1"},
    ]);
    let plan = |base: i64| json!({"currency": currency, "base": money(base), "prices": prices});
    let with = |base, more: Value| {
        let mut plan = plan(base);
        plan.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        plan
    };
    plan_of(app, "pro", with(31, json!({"trial_days": 3}))).await;
    plan_of(app, "max", with(100, json!({"commitment": money(400)}))).await;
    let tenant = app.tenant("Acme", "pro").await;
    let renamed = json!({"customer_name": "Acme, \"quoted\" & Söhne"});
    admin.patch(&format!("/admin/v1/tenants/{tenant}"), renamed).await.expect(200);
    let of = |what: &str| format!("/admin/v1/tenants/{tenant}/{what}");
    let rates =
        json!({"tax_rates": [{"name": "GST", "percent": "5"}, {"name": "QST", "percent": "9.975"}], "tax_id": "CA 1"});
    admin.patch(&of("billing"), rates).await.expect(200);
    app.clock.advance_secs(1);
    admin.post(&of("coupons"), json!({"name": "A tenth", "percent_off": "10", "periods": 2})).await.expect(201);
    app.clock.advance_secs(1);
    admin.post(&of("coupons"), json!({"name": "Two", "amount_off": money(2)})).await.expect(201);
    let credit = json!({"amount": money(13), "priority": 1, "expires_at": "2027-01-20T00:00:00Z", "reason": "prepaid"});
    admin.post(&of("credits"), credit).await.expect(201);
    three_months(app, &tenant).await;
    tenant
}

/// Usage on some days, changes of tier, and what comes late or is taken back.
async fn three_months(app: &TestApp, tenant: &str) {
    let mut sent = 0;
    for (day, tier) in
        [("2026-11-11", None), ("2026-11-15", Some("max")), ("2026-11-28", Some("pro")), ("2026-12-09", None)]
    {
        at(app, &format!("{day}T10:07:31Z"));
        let admin = app.admin().await;
        if let Some(tier) = tier {
            admin.post(&format!("/admin/v1/tenants/{tenant}/tier"), json!({"tier": tier})).await.expect(200);
        }
        record_units(app, tenant, &[("apis", 170)]);
        for tokens in [33, 41] {
            sent += 1;
            let mut event = event(&sent.to_string(), tenant, tokens);
            event["time"] = format!("{day}T10:08:00Z").into();
            post(&admin, event).await.expect(204);
        }
        if day == "2026-11-28" {
            at(app, "2026-12-01T01:00:00Z");
            close(app).await;
            // Late: November comes to something else in December.
            at(app, "2026-11-12T11:00:00Z");
            record_units(app, tenant, &[("apis", 5)]);
            at(app, "2026-12-02T00:00:00Z");
            app.admin().await.post("/admin/v1/usage/3/void", json!({"reason": "sent twice"})).await.expect(200);
        }
    }
    at(app, "2027-01-01T01:00:00Z");
    close(app).await;
    // December is taken back and made anew, when it has what was late meanwhile.
    let december = invoices(app, tenant).await.pop().unwrap();
    at(app, "2026-12-30T00:00:00Z");
    record_units(app, tenant, &[("apis", 11)]);
    at(app, "2027-01-02T00:00:00Z");
    let path = format!("/admin/v1/invoices/{}/void", december["invoice_id"].as_str().unwrap());
    app.admin().await.post(&path, json!({"reason": "x", "reissue": true})).await.expect(200);
    for month in ["2027-01-03", "2027-02-01"] {
        at(app, &format!("{month}T01:00:00Z"));
        close(app).await;
    }
}

async fn eventful_invoices_are_worked_out_again(app: TestApp, currency: &str, digits: usize) {
    let tenant = eventful(&app, currency, digits).await;
    let files = good_files(&app, &tenant).await;
    assert!(files.len() >= 4, "{}", files.len());
    let all: Vec<Value> = files.iter().map(|file| serde_json::from_slice(file).unwrap()).collect();
    let kinds = |kind: &str| {
        let lines = all.iter().flat_map(|file| file["invoice"]["document"]["lines"].as_array().unwrap());
        lines.filter(|line| line["kind"] == kind).count()
    };
    for kind in ["base", "usage", "commitment", "adjustment"] {
        assert!(kinds(kind) > 0, "{kind}");
    }
    let some = |pointer: &str| all.iter().any(|file| file.pointer(pointer).is_some_and(|value| !value.is_null()));
    for pointer in [
        "/invoice/document/discounts/1",
        "/invoice/document/taxes/1",
        "/invoice/document/credits/0",
        "/evidence/usage/spans/3",
        "/evidence/usage/spans/0/usage/0/days/0",
        "/evidence/adjusted/0/usage/billed/0",
        "/evidence/journals",
        "/chain/0/journals/0",
        "/seal/previous",
    ] {
        assert!(some(pointer), "{pointer}");
    }
    assert_eq!(all[0]["evidence"]["usage"]["spans"][0]["trial"], true);
    // Each follows the one before it, and no other.
    let after = |file: &[u8], before: &[u8]| verify_invoice(file, Against { before: Some(before), keys: None });
    assert_eq!(after(&files[1], &files[0]).refusal, None);
    assert_eq!(after(files.last().unwrap(), &files[0]).status(), 1);
    assert_eq!(after(&files[0], &files[1]).status(), 1);
    // One that only says that it is.
    let renamed = edited(&files[0], "/invoice", |invoice| invoice["number"] = "INV-000666".into());
    assert_eq!(after(&files[1], &renamed).status(), 1);
    let unsigned = edited(&files[0], "/signature", |signature| signature["jws"] = "a.b.c".into());
    assert_eq!(after(&files[1], &unsigned).status(), 1);
    let shouting = edited(&files[0], "", |file| file["status"] = "paid\nall agrees".into());
    assert_eq!(check(&shouting).status(), 2);
    assert_eq!(doctor(&app).await, Vec::<String>::new());
}

#[tokio::test]
async fn whatever_is_on_an_invoice_its_file_works_it_out_again() {
    Box::pin(eventful_invoices_are_worked_out_again(TestApp::new().await, "USD", 2)).await;
}

#[tokio::test]
async fn whatever_is_on_an_invoice_its_file_works_it_out_again_on_postgresql() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(eventful_invoices_are_worked_out_again(app, "USD", 2)).await;
}

#[tokio::test]
async fn currencies_without_digits_and_with_three_are_worked_out_again() {
    for (currency, digits) in [("JPY", 0), ("KWD", 3)] {
        let folder = tempfile::tempdir().unwrap();
        let plans = folder.path().join("plans.toml");
        let free =
            format!("[[plans]]\ntier = \"free\"\nisolation = \"pool\"\ncurrency = \"{currency}\"\nbase = \"0\"\n");
        std::fs::write(&plans, free).unwrap();
        let billing = format!("[billing]\ncurrency = \"{currency}\"\nproration = \"day\"\nplans = {plans:?}\n");
        let app = TestApp::with(&billing).await;
        Box::pin(eventful_invoices_are_worked_out_again(app, currency, digits)).await;
    }
}

/// What the doctor says.
async fn doctor(app: &TestApp) -> Vec<String> {
    let (store, billing) = (Store::from_ref(app.app.state()), Billing::from_ref(app.app.state()));
    let then = Snapshot::take(&store).await.unwrap();
    let recount = Recount::open(&store, then, app.clock.now()).await.unwrap();
    let report = audit(&billing, &recount).await.unwrap();
    report.differences.iter().map(ToString::to_string).collect()
}

/// A month of a tenant with an adjustment, a discount, a tax and a credit, and little else: its second invoice.
async fn plain(app: &TestApp) -> (String, Vec<Vec<u8>>) {
    meter(&app.admin().await, "tokens", "SUM").await;
    let tiers = json!([{"up_to": "100", "unit": "1"}, {"up_to": null, "unit": "0.5"}]);
    let prices = json!([{"meter": "apis", "model": "graduated", "included": "10", "tiers": tiers}]);
    plan_of(app, "pro", json!({"prices": prices})).await;
    let tenant = app.tenant("Acme", "pro").await;
    let of = |what: &str| format!("/admin/v1/tenants/{tenant}/{what}");
    let admin = app.admin().await;
    admin.patch(&of("billing"), json!({"tax_rates": [{"name": "GST", "percent": "5"}]})).await.expect(200);
    admin.post(&of("coupons"), json!({"name": "Two", "amount_off": "2.00"})).await.expect(201);
    admin.post(&of("credits"), json!({"amount": "90.00"})).await.expect(201);
    record_units(app, &tenant, &[("apis", 130)]);
    at(app, "2026-12-01T01:00:00Z");
    close(app).await;
    at(app, "2026-11-20T00:00:00Z");
    record_units(app, &tenant, &[("apis", 7)]);
    at(app, "2026-12-20T00:00:00Z");
    record_units(app, &tenant, &[("apis", 40)]);
    at(app, "2027-01-01T01:00:00Z");
    close(app).await;
    let files = good_files(app, &tenant).await;
    (tenant, files)
}

/// RFC 8785 as somebody else would write it: members sorted, and serde's own text of everything else.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let sorted: std::collections::BTreeMap<_, _> = members.iter().collect();
            let written = sorted.into_iter().map(|(name, value)| format!("{}:{}", json!(name), canonical(value)));
            format!("{{{}}}", written.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// The hashes as docs/verify-invoices.md describes them, made without our code.
#[tokio::test]
async fn the_hashes_are_what_the_description_says() {
    let app = TestApp::new().await;
    let (_, files) = plain(&app).await;
    let hash = |purpose: &str, value: &Value| {
        blake3::hash(format!("{purpose}\n{}", canonical(value)).as_bytes()).to_hex().to_string()
    };
    let mut before = Value::Null;
    for file in &files {
        let mut file: Value = serde_json::from_slice(file).unwrap();
        let sealed =
            json!({"evidence": file["evidence"], "invoice": file["invoice"], "previous": file["seal"]["previous"]});
        assert_eq!(file["seal"]["seal"], hash("tollgate-invoice-seal/1", &sealed));
        assert_eq!((&file["seal"]["previous"], &file["evidence"]["before"]), (&before, &before));
        before = file["seal"]["seal"].clone();
        assert_eq!(file["evidence"]["plans"][0]["digest"], hash("tollgate-plan/1", &file["plans"][0]["body"]));
        let mut mark = file["chain"][0].clone();
        let of_mark = mark.as_object_mut().unwrap().remove("hash").unwrap();
        assert_eq!(of_mark, hash("tollgate-journal-mark/1", &mark));
        let jws = file["signature"].as_object_mut().unwrap().remove("jws").unwrap();
        let payload = jws.as_str().unwrap().split('.').nth(1).unwrap();
        let payload = URL_SAFE_NO_PAD.decode(payload).unwrap();
        assert_eq!(payload, json!({"digest": hash("tollgate-invoice-file/1", &file)}).to_string().into_bytes());
    }
}

/// Every digit becomes another, and every letter of hashes and signatures: nothing of it passes.
#[tokio::test]
async fn an_edited_digit_anywhere_is_found() {
    let app = TestApp::new().await;
    let (_, files) = plain(&app).await;
    let file = &files[1];
    let value: Value = serde_json::from_slice(file).unwrap();
    assert!(value["invoice"]["document"]["lines"][2]["kind"] == "adjustment", "{value}");
    // Where hashes and signatures are, letters count as well.
    let text = std::str::from_utf8(file).unwrap();
    let mut coded = vec![false; file.len()];
    let mut mark = |part: &str| {
        for (at, _) in text.match_indices(part) {
            coded[at..at + part.len()].fill(true);
        }
    };
    for pointer in ["/seal/seal", "/seal/previous", "/evidence/before", "/evidence/journals/hash", "/chain/0/hash"] {
        mark(value.pointer(pointer).unwrap().as_str().unwrap());
    }
    for pointer in ["/signature/jws", "/signature/thumbprint", "/signature/jwk/x", "/evidence/plans/0/digest"] {
        mark(value.pointer(pointer).unwrap().as_str().unwrap());
    }
    let places: Vec<usize> = (0..file.len())
        .filter(|at| file[*at].is_ascii_digit() || (coded[*at] && file[*at].is_ascii_alphabetic()))
        .collect();
    assert!(places.len() > 1_000, "{}", places.len());
    let look = |half: &[usize]| -> Vec<String> {
        let mut passed = Vec::new();
        let mut edited = file.clone();
        for &at in half {
            let own = file[at];
            edited[at] = match own {
                b'9' => b'0',
                b'z' => b'a',
                b'Z' => b'A',
                other => other + 1,
            };
            if !matches!(check(&edited).status(), 1 | 2) {
                passed.push(
                    String::from_utf8_lossy(&edited[at.saturating_sub(60)..(at + 20).min(file.len())]).into_owned(),
                );
            }
            edited[at] = own;
        }
        passed
    };
    let (one, other) = places.split_at(places.len() / 2);
    let passed = std::thread::scope(|scope| {
        let beside = scope.spawn(|| look(other));
        let mut found = look(one);
        found.extend(beside.join().unwrap());
        found
    });
    assert_eq!(passed, Vec::<String>::new());
}

#[tokio::test]
async fn what_differs_first_is_named() {
    let app = TestApp::new().await;
    let (_, files) = plain(&app).await;
    let file = &files[1];
    let line = "/invoice/document/lines/1";
    let cases: [(&str, &str, Value, &str); 10] = [
        (
            line,
            "amount",
            "31.00".into(),
            "line 2 (usage of apis), amount: the file says \"31.00\", but it comes to \"30.00\"",
        ),
        (
            line,
            "quantity",
            "41".into(),
            "line 2 (usage of apis), quantity: the file says \"41\", but it comes to \"40\"",
        ),
        ("/invoice/document", "total", "70.00".into(), "total: the file says \"70.00\""),
        ("/invoice/document", "extra", 1.into(), "extra: the file says 1, but it comes to nothing"),
        ("/invoice", "number", "INV-000003".into(), "the number: the file says INV-000003"),
        ("/invoice", "due_at", "2027-01-16T01:00:00Z".into(), "the seal: the file says"),
        (
            "/evidence/usage/spans/0/usage/0",
            "total",
            "41".into(),
            "usage of apis from 2026-12-01T00:00:00Z to 2027-01-01T00:00:00Z: the file says 41, but it comes to 40 by its days",
        ),
        // Or a month of days would take as long as ten thousand years of them.
        (
            "/evidence/usage/period",
            "to",
            "9998-12-31T00:00:00Z".into(),
            "the period from 2026-12-01T00:00:00Z to 9998-12-31T00:00:00Z is longer than every month",
        ),
        ("/plans/0/body", "base", "31.00".into(), "the hash of the plan of pro, version 1"),
        ("", "status", "paid".into(), "signature: it is of another content than the file's"),
    ];
    for (pointer, field, value, expected) in cases {
        let (status, said) = refused(&edited(file, pointer, |object| object[field] = value));
        assert!(status == 1 && said.contains(expected), "{field}: {status} {said}");
    }
}

#[tokio::test]
async fn lines_that_change_places_or_go_and_evidence_of_another_invoice_are_found() {
    let app = TestApp::new().await;
    let (_, files) = plain(&app).await;
    let other: Value = serde_json::from_slice(&files[0]).unwrap();
    let list = |value: &mut Value| value.as_array_mut().unwrap().clone();
    let file = &files[1];
    let swapped = edited(file, "/invoice/document/lines", |lines| lines.as_array_mut().unwrap().swap(0, 1));
    let gone = edited(file, "/invoice/document/lines", |lines| drop(lines.as_array_mut().unwrap().remove(1)));
    let twice = edited(file, "/invoice/document/lines", |lines| {
        let all = list(lines);
        lines.as_array_mut().unwrap().push(all[1].clone());
    });
    let foreign = edited(file, "/evidence", |evidence| *evidence = other["evidence"].clone());
    let unsealed = edited(file, "/seal", |seal| *seal = other["seal"].clone());
    let unsigned = edited(file, "/signature", |signature| *signature = other["signature"].clone());
    let unchained = edited(file, "/chain", |chain| *chain = json!([]));
    for edited in [swapped, gone, twice, foreign, unsealed, unsigned, unchained] {
        let (status, said) = refused(&edited);
        assert_eq!(status, 1, "{said}");
    }
    // What cannot be read, or says less than it must.
    let no_evidence = edited(file, "/evidence", |evidence| *evidence = Value::Null);
    let no_seal = edited(file, "/seal", |seal| *seal = Value::Null);
    let format = edited(file, "/format", |format| *format = "tollgate-invoice/2".into());
    let unknown = edited(file, "", |all| all["more"] = 1.into());
    let in_evidence = edited(file, "/evidence", |all| all["more"] = 1.into());
    let text = String::from_utf8(file.clone()).unwrap();
    let said_twice = text.replacen("\"quantity\":", "\"quantity\":\"1\",\"quantity\":", 1).into_bytes();
    let written_otherwise = text.replacen("T01:00:00Z", "T01:00:00.0Z", 1).into_bytes();
    let garbage = vec![b'x'; 50_000_000];
    let nested = vec![b'['; 1_000_000];
    for edited in [
        format,
        unknown,
        in_evidence,
        said_twice,
        written_otherwise,
        garbage,
        nested,
        Vec::new(),
        b"null".to_vec(),
        vec![0xff; 100],
        file[..file.len() / 2].to_vec(),
        file[..file.len() - 1].to_vec(),
    ] {
        let (status, said) = refused(&edited);
        assert_eq!(status, 2, "{said}");
    }
    for edited in [no_evidence, no_seal] {
        assert!(check(&edited).status() == 1, "the signature is of another content");
    }
}

#[tokio::test]
async fn the_signer_must_be_in_the_key_set_that_is_given() {
    let app = TestApp::new().await;
    let (_, files) = plain(&app).await;
    let keys = app.anon().get("/.well-known/jwks.json").await.expect(200).body.to_string().into_bytes();
    let with = |file: &[u8], keys: &[u8]| verify_invoice(file, Against { keys: Some(keys), before: None });
    let known = with(&files[1], &keys);
    assert_eq!(known.refusal, None);
    assert!(known.lines.last().unwrap().ends_with("which is in the key set"), "{:?}", known.lines);
    assert!(check(&files[1]).lines.last().unwrap().contains("whose it is was not checked"));
    // Another installation signs as well, and nobody knows its key.
    let stranger = TestApp::new().await;
    let (_, theirs) = plain(&stranger).await;
    assert_eq!((with(&theirs[1], &keys).status(), check(&theirs[1]).status()), (1, 0));
    for nonsense in ["{}", "[]", "", r#"{"keys":[]}"#, r#"{"keys":[null,{"kty":"EC"}]}"#] {
        assert_ne!(with(&files[1], nonsense.as_bytes()).status(), 0, "{nonsense}");
    }
}

#[tokio::test]
async fn a_tenant_exports_its_own_issued_invoices_and_no_other() {
    let app = TestApp::new().await;
    let (tenant, _) = plain(&app).await;
    app.tenant("Globex", "pro").await;
    let invoice = invoices(&app, &tenant).await.remove(1);
    let path = format!("/v1/invoices/{}/export", invoice["invoice_id"].as_str().unwrap());
    let own = app.owner_of("Acme").await.get(&path).await.expect(200);
    assert!(own.headers["content-disposition"].to_str().unwrap().contains("attachment"));
    assert_eq!(check(own.body.to_string().as_bytes()).refusal, None);
    app.owner_of("Globex").await.get(&path).await.refuses(404, &[]);
    at(&app, "2027-02-01T00:00:00Z");
    close(&app).await;
    let draft = invoices(&app, &tenant).await.pop().unwrap();
    let id = draft["invoice_id"].as_str().unwrap().to_owned();
    app.owner_of("Acme").await.get(&format!("/v1/invoices/{id}/export")).await.refuses(404, &[]);
    app.admin().await.get(&format!("/admin/v1/invoices/{id}/export")).await.refuses(409, &[]);
}

/// Issued before evidence was kept, as an older program left it.
#[tokio::test]
async fn an_invoice_without_evidence_says_what_was_not_checked() {
    let app = TestApp::new().await;
    let (tenant, _) = plain(&app).await;
    sql(&app, "DELETE FROM invoice_evidence").await;
    sql(&app, "UPDATE invoices SET seal = NULL").await;
    at(&app, "2027-02-01T01:00:00Z");
    close(&app).await;
    let all = invoices(&app, &tenant).await;
    let checked = check(&export(&app, &all[0]).await);
    assert_eq!(checked.status(), 2);
    assert!(checked.refusal.unwrap().to_string().contains("was issued before evidence was kept"));
    assert!(checked.lines.last().unwrap().starts_with("signed by"), "{:?}", checked.lines);
    // The series of seals begins with the next one.
    let file = export(&app, &all[2]).await;
    assert_eq!(check(&file).refusal, None);
    assert!(serde_json::from_slice::<Value>(&file).unwrap()["seal"]["previous"].is_null());
    assert_eq!(doctor(&app).await, Vec::<String>::new());
}

async fn sql(app: &TestApp, statement: &'static str) {
    let url = format!("sqlite://{}", app.folder.path().join("tollgate.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query(statement).execute(&mut connection).await.unwrap();
}

/// Whatever somebody changes in the store, the first invoice that does not fit is named.
#[tokio::test]
async fn the_doctor_names_the_first_seal_that_does_not_fit() {
    let app = TestApp::new().await;
    let (_, _) = plain(&app).await;
    assert_eq!(doctor(&app).await, Vec::<String>::new());
    let changes = [
        (
            "UPDATE invoice_evidence SET evidence = replace(evidence, '\"total\":\"130\"', '\"total\":\"120\"')",
            "INV-000001",
        ),
        ("UPDATE invoice_evidence SET evidence = replace(evidence, '\"total\":\"120\"', '\"total\":\"130\"')", ""),
        ("UPDATE invoices SET due_at = due_at + 1 WHERE serial = 2", "INV-000002"),
        ("UPDATE invoices SET due_at = due_at - 1 WHERE serial = 2", ""),
        ("UPDATE invoices SET seal = zeroblob(32) WHERE serial = 1", "INV-000001"),
        ("UPDATE invoices SET seal = NULL WHERE serial = 2", "INV-000001"),
    ];
    for (change, first) in changes {
        sql(&app, change).await;
        let found = doctor(&app).await;
        let named = format!("seal of invoice {first} of default");
        assert!(
            found.is_empty() == first.is_empty() && found.iter().all(|of| of.contains(&named)),
            "{change}: {found:?}"
        );
    }
    sql(&app, "UPDATE journal_marks SET marked_at = marked_at + 1 WHERE serial = 2").await;
    assert!(doctor(&app).await.iter().any(|of| of.contains("journal mark 2")));
}
