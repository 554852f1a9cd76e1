//! What tenants would owe by another plan: the figures are worked out by hand beside each, and nothing is written.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::{
    invoices::{at, close, plan_of},
    ledger::record_units,
};
use crate::support::{
    actors::Actor,
    app::{Reply, TestApp},
};

const PATH: &str = "/admin/v1/what-if";

/// 10 and a cent for each request.
fn cheap() -> Value {
    json!({"isolation": "pool", "currency": "USD", "base": "10.00",
        "prices": [{"meter": "apis", "model": "per_unit", "unit": "0.01"}]})
}

/// As billed, as it would be, and the difference.
#[track_caller]
fn sums(value: &Value) -> [&str; 3] {
    ["as_billed", "would_be", "difference"].map(|name| value[name].as_str().unwrap())
}

/// Everything in the embedded store.
async fn dump(app: &TestApp) -> Vec<String> {
    let file = app.folder.path().join("tollgate.db");
    let mut store = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name");
    let tables: Vec<String> = tables.fetch_all(&mut store).await.unwrap().iter().map(|row| row.get(0)).collect();
    let mut rows = Vec::new();
    for table in tables.iter().filter(|name| !name.starts_with("sqlite_")) {
        let columns = sqlx::query("SELECT name FROM pragma_table_info($1)").bind(table);
        let columns = columns.fetch_all(&mut store).await.unwrap();
        let columns: Vec<String> = columns.iter().map(|row| format!("quote(\"{}\")", row.get::<&str, _>(0))).collect();
        let sql = format!("SELECT '{table}:' || {} FROM \"{table}\"", columns.join(" || ',' || "));
        let found = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut store).await.unwrap();
        rows.extend(found.iter().map(|row| row.get::<String, _>(0)));
    }
    rows.sort_unstable();
    store.close().await.unwrap();
    rows
}

/// As a file.
async fn whole(admin: &Actor<'_>, accept: &str, body: &Value) -> Reply {
    let request = Request::post(PATH)
        .header(header::AUTHORIZATION, format!("Bearer {}", admin.token))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, accept)
        .body(Body::from(body.to_string()));
    admin.app.send(request.unwrap()).await
}

async fn past_and_running(app: TestApp) {
    let tenant = app.tenant("Acme", "standard").await;
    record_units(&app, &tenant, &[("apis", 12_500)]);
    let admin = app.admin().await;
    let asked = json!({"plan": cheap(), "tenant_id": tenant, "lines": true});
    let now = admin.post(PATH, asked.clone()).await.expect(200);
    // 30 and 2,500 × 0.0005; 10 and 12,500 × 0.01.
    assert_eq!(sums(&now.body["items"][0]), ["31.25", "135.00", "103.75"]);
    assert_eq!(sums(&now.body["totals"]), ["31.25", "135.00", "103.75"]);
    let period = &now.body["items"][0]["periods"][0];
    assert_eq!((&period["status"], &period["period"]["from"]), (&json!("open"), &json!("2026-11-01T00:00:00Z")));
    let line = |of: &str, place: usize| {
        let line = &period["lines"][of][place];
        ["kind", "meter", "quantity", "amount"].map(|name| line[name].as_str().unwrap().to_owned()).join(" ")
    };
    assert_eq!(
        (line("as_billed", 1), line("would_be", 1)),
        ("usage apis 12500 1.25".into(), "usage apis 12500 125.00".into())
    );
    // The same of the past, when it is invoiced, and of two months at once; December had no usage.
    at(&app, "2027-01-02T00:00:00Z");
    close(&app).await;
    let admin = app.admin().await;
    let mut past = asked.clone();
    past["period"] = "2026-11".into();
    let past = admin.post(PATH, past).await.expect(200);
    assert_eq!(sums(&past.body["items"][0]), ["31.25", "135.00", "103.75"]);
    assert_eq!(past.body["items"][0]["periods"][0]["status"], "closed");
    let mut both = asked;
    (both["from"], both["to"]) = ("2026-11-05T00:00:00Z".into(), "2027-01-01T00:00:00Z".into());
    let both = admin.post(PATH, both).await.expect(200);
    assert_eq!(sums(&both.body["items"][0]), ["61.25", "145.00", "83.75"]);
    assert_eq!(both.body["items"][0]["periods"].as_array().unwrap().len(), 2);
    // By its own plan nothing is another.
    let own = json!({"tier": "standard", "tenant_id": tenant, "period": "2026-11"});
    assert_eq!(sums(&admin.post(PATH, own).await.expect(200).body["totals"]), ["31.25", "31.25", "0.00"]);
}

#[tokio::test]
async fn a_past_or_running_period_is_rated_by_another_plan() {
    Box::pin(past_and_running(TestApp::new().await)).await;
}

#[tokio::test]
async fn a_past_or_running_period_is_rated_by_another_plan_on_postgresql() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(past_and_running(app)).await;
}

#[tokio::test]
async fn asking_changes_nothing_in_the_store() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    record_units(&app, &tenant, &[("apis", 12_500)]);
    at(&app, "2026-12-01T02:00:00Z");
    close(&app).await;
    let admin = app.admin().await;
    // What was recorded is counted first; any question does that.
    admin.get(&format!("/admin/v1/tenants/{tenant}/bill?period=2026-11")).await.expect(200);
    let before = dump(&app).await;
    assert!(before.len() > 20, "{} rows", before.len());
    for body in [
        json!({"plan": cheap(), "period": "2026-11", "lines": true}),
        json!({"tier": "premium", "from": "2026-11-01T00:00:00Z"}),
        json!({"plan": {"base": "1.001", "isolation": "pool", "currency": "USD"}}),
    ] {
        admin.post(PATH, body.clone()).await;
        whole(&admin, "text/csv", &body).await;
    }
    admin.get("/admin/v1/margin?period=2026-11&sort=margin").await.expect(200);
    assert_eq!(dump(&app).await, before);
}

#[tokio::test]
async fn a_plan_is_in_place_of_one_tiers_or_of_all() {
    let app = TestApp::new().await;
    // The first half on free, the second on standard.
    at(&app, "2026-11-01T00:00:00Z");
    let tenant = app.tenant("Acme", "free").await;
    record_units(&app, &tenant, &[("apis", 900)]);
    at(&app, "2026-11-16T00:00:00Z");
    let admin = app.admin().await;
    admin.post(&format!("/admin/v1/tenants/{tenant}/tier"), json!({"tier": "standard"})).await.expect(200);
    record_units(&app, &tenant, &[("apis", 12_000)]);
    let ask = async |more: Value| {
        let mut body = json!({"tenant_id": tenant, "lines": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        app.admin().await.post(PATH, body).await.expect(200)
    };
    // 15 for half a month, and 2,000 × 0.0005.
    for (more, would_be) in [
        // 5 for half a month and 12,000 × 0.01.
        (json!({"plan": cheap(), "replace": "standard"}), "125.00"),
        // 5 for half a month and 900 × 0.01; 16 of standard.
        (json!({"plan": cheap(), "replace": "free"}), "30.00"),
        // 10 and 12,900 × 0.01: one plan for the whole period.
        (json!({"plan": cheap(), "replace": "all"}), "139.00"),
        (json!({"plan": cheap()}), "139.00"),
        // 30, and 2,900 × 0.0005.
        (json!({"tier": "standard"}), "31.45"),
        // Nothing, and nothing of what is on free already.
        (json!({"tier": "free", "replace": "standard"}), "0.00"),
        // It is of nobody here.
        (json!({"plan": cheap(), "replace": "premium"}), "16.00"),
    ] {
        let answer = ask(more.clone()).await;
        assert_eq!(sums(&answer.body["totals"])[..2], ["16.00", would_be], "{more}");
    }
    let mut named = cheap();
    (named["tier"], named["effective"]) = ("free".into(), "now".into());
    assert_eq!(sums(&ask(json!({"plan": named})).await.body["totals"])[1], "30.00", "in place of its tier's");
    let one = ask(json!({"plan": cheap()})).await;
    assert_eq!(one.body["items"][0]["periods"][0]["lines"]["would_be"].as_array().unwrap().len(), 2);
    assert_eq!(one.body["items"][0]["periods"][0]["lines"]["as_billed"].as_array().unwrap().len(), 7);
}

#[tokio::test]
async fn all_tenants_are_asked_about_in_pages_or_as_one_file() {
    let app = TestApp::new().await;
    let mut expected = Vec::new();
    for (name, calls) in [("Acme", 100), ("Globex", 200), ("Initech", 300)] {
        let tenant = app.tenant(name, "standard").await;
        record_units(&app, &tenant, &[("apis", calls)]);
        expected.push((tenant, format!("{}.00", 10 + calls / 100)));
    }
    expected.sort_unstable();
    let admin = app.admin().await;
    let mut body = json!({"plan": cheap(), "limit": 2});
    let mut found = Vec::new();
    loop {
        let page = admin.post(PATH, body.clone()).await.expect(200).body;
        assert_eq!(page["totals"]["tenants"], json!(page["items"].as_array().unwrap().len()));
        found.extend(page["items"].as_array().unwrap().iter().map(|item| {
            (item["tenant_id"].as_str().unwrap().to_owned(), item["would_be"].as_str().unwrap().to_owned())
        }));
        body["cursor"] = page["next_cursor"].clone();
        if body["cursor"].is_null() {
            break;
        }
    }
    assert_eq!(found, expected);
    let all = json!({"plan": cheap()});
    let csv = whole(&admin, "text/csv", &all).await.expect(200);
    assert!(csv.headers["content-type"].to_str().unwrap().starts_with("text/csv"));
    let records: Vec<&str> = csv.body.as_str().unwrap().split("\r\n").collect();
    assert_eq!(records[0], "tenant_id,currency,as_billed,would_be,difference,error");
    let (first, would_be) = &expected[0];
    let less = 30 - would_be.trim_end_matches(".00").parse::<i64>().unwrap();
    assert_eq!(records[1], format!("{first},USD,30.00,{would_be},-{less}.00,"));
    assert_eq!(records[4..], ["total,USD,90.00,36.00,-54.00,", ""]);
    let lines = whole(&admin, "application/x-ndjson", &all).await.expect(200);
    let lines: Vec<Value> =
        lines.body.as_str().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        (sums(&lines[0]), sums(&lines[3]["totals"])),
        (["30.00", would_be, &format!("-{less}.00")], ["90.00", "36.00", "-54.00"])
    );
}

#[tokio::test]
async fn one_tenants_trouble_does_not_keep_the_others() {
    let app = TestApp::new().await;
    plan_of(&app, "pro", json!({"base": "0.00"})).await;
    let tenants = [app.tenant("Acme", "pro").await, app.tenant("Globex", "pro").await];
    record_units(&app, &tenants[0], &[("apis", 1_234_567)]);
    record_units(&app, &tenants[1], &[("apis", 1)]);
    // More digits than an exact amount can have.
    let mut fine = cheap();
    fine["prices"][0]["unit"] = "0.1234567890123456789012345".into();
    let admin = app.admin().await;
    let all = admin.post(PATH, json!({"plan": fine, "replace": "pro"})).await.expect(200).body;
    let of = |tenant: &String| {
        let items = all["items"].as_array().unwrap();
        items.iter().find(|item| item["tenant_id"] == json!(tenant)).unwrap().clone()
    };
    assert!(of(&tenants[0])["error"].is_string(), "{all}");
    assert_eq!((sums(&of(&tenants[1])), all["totals"]["failed"].as_u64()), (["0.01", "10.12", "10.11"], Some(1)));
    assert_eq!(sums(&all["totals"])[1], "10.12");
}

#[tokio::test]
async fn a_question_that_is_none_is_refused_by_its_field() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let admin = app.admin().await;
    let mut other = cheap();
    other["currency"] = "EUR".into();
    let mut negative = cheap();
    negative["base"] = "-1".into();
    for (body, fields) in [
        (json!({}), &["plan"] as &[&str]),
        (json!({"plan": cheap(), "tier": "free"}), &["plan"]),
        (json!({"tier": "gold"}), &["tier"]),
        (json!({"tier": "Gold!"}), &["tier"]),
        (json!({"plan": cheap(), "replace": "gold"}), &["replace"]),
        (json!({"plan": other}), &["plan"]),
        (json!({"plan": negative}), &["plan.base"]),
        (json!({"tier": "free", "tenant_id": "x"}), &["tenant_id"]),
        (json!({"tier": "free", "period": "November"}), &["period"]),
        (json!({"tier": "free", "period": "2026-11", "from": "2026-11-01T00:00:00Z"}), &["period"]),
        (json!({"tier": "free", "to": "2026-11-01T00:00:00Z"}), &["from"]),
        (json!({"tier": "free", "from": "2026-11-02T00:00:00Z", "to": "2026-11-01T00:00:00Z"}), &["to"]),
        (json!({"tier": "free", "from": "2020-11-02T00:00:00Z"}), &["to"]),
        (json!({"tier": "free", "period": "2027-11"}), &["from"]),
        (json!({"tier": "free", "limit": 0}), &["limit"]),
        (json!({"tier": "free", "cursor": "x"}), &["cursor"]),
    ] {
        admin.post(PATH, body).await.refuses(422, fields);
    }
    let unknown = json!({"tier": "free", "tenant_id": "01900000-0000-7000-8000-000000000000"});
    admin.post(PATH, unknown.clone()).await.refuses(404, &[]);
    whole(&admin, "text/csv", &unknown).await.refuses(404, &[]);
    // Before its account was opened nobody owes anything by any plan.
    let before = json!({"tier": "premium", "tenant_id": tenant, "period": "2026-10"});
    let before = admin.post(PATH, before).await.expect(200).body;
    assert_eq!((sums(&before["totals"]), &before["items"][0]["periods"]), (["0.00", "0.00", "0.00"], &json!([])));
}

#[tokio::test]
async fn a_plan_in_another_currency_is_worked_out_for_those_who_owe_in_it_and_said_of_the_others() {
    let app = TestApp::new().await;
    plan_of(&app, "tokyo", json!({"currency": "JPY", "base": "3000", "prices": []})).await;
    let (acme, tokyo) = (app.tenant("Acme", "standard").await, app.tenant("Tokyo", "tokyo").await);
    let admin = app.admin().await;
    let yen = json!({"isolation": "pool", "currency": "JPY", "base": "5000"});
    let of = |answer: &Value, tenant: &str| {
        answer["items"].as_array().unwrap().iter().find(|item| item["tenant_id"] == *tenant).unwrap().clone()
    };
    let all = admin.post(PATH, json!({"plan": yen})).await.expect(200).body;
    let failed = of(&all, &acme);
    assert_eq!(failed["error"], "the plan of whatif is in JPY, and this tenant owes in USD");
    assert!(failed["as_billed"].is_null() && failed["currency"].is_null());
    assert_eq!(
        (sums(&of(&all, &tokyo)), of(&all, &tokyo)["currency"].as_str()),
        (["3000", "5000", "2000"], Some("JPY"))
    );
    assert_eq!((&all["totals"]["tenants"], &all["totals"]["failed"]), (&json!(1), &json!(1)));
    assert_eq!(sums(&all["other_currencies"][0]), ["3000", "5000", "2000"]);
    // Whose plan stays owes the same.
    let other = json!({"plan": cheap(), "replace": "standard"});
    let all = admin.post(PATH, other.clone()).await.expect(200).body;
    assert_eq!(
        (sums(&of(&all, &acme)), sums(&of(&all, &tokyo))),
        (["30.00", "10.00", "-20.00"], ["3000", "3000", "0"])
    );
    assert_eq!((sums(&all["totals"]), &all["totals"]["failed"]), (["30.00", "10.00", "-20.00"], &json!(0)));
    let file = whole(&admin, "text/csv", &other).await.expect(200);
    let records: Vec<&str> = file.body.as_str().unwrap().split("\r\n").collect();
    assert_eq!(records[3..], ["total,USD,30.00,10.00,-20.00,", "total,JPY,3000,3000,0,", ""]);
}
