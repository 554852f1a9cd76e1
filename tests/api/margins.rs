//! Cost rates and what is left of bills: the figures are worked out by hand beside each.

use axum::{
    body::Body,
    http::{Request, header},
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    invoices::{at, close, invoices, plan_of},
    ledger::record_units,
};
use crate::support::app::TestApp;

const COSTS: &str = "/admin/v1/costs";

fn costs() -> Value {
    json!({"currency": "USD",
        "meters": [{"meter": "apis", "unit": "0.0001"}, {"meter": "apis", "tier": "premium", "unit": "0.00001"},
            {"meter": "compute", "unit": "0.00001"}],
        "fixed": [{"amount": "1.00"}, {"tier": "premium", "amount": "60.00"}]})
}

async fn margin(app: &TestApp, query: &str) -> Value {
    app.admin().await.get(&format!("/admin/v1/margin{query}")).await.expect(200).body
}

/// Revenue, cost, margin and percent.
fn figures(item: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let revenue = if item["revenue"].is_object() { &item["revenue"]["total"] } else { &item["revenue"] };
    [revenue, &item["cost"], &item["margin"], &item["margin_percent"]].map(text).to_vec()
}

async fn by_hand(app: TestApp) {
    let admin = app.admin().await;
    let tenant = app.tenant("Acme", "standard").await;
    record_units(&app, &tenant, &[("apis", 12_500), ("compute", 70_055), ("egress_bytes", 5)]);
    let of = format!("?tenant_id={tenant}");
    // Nobody said what anything costs: it is unknown, not nothing.
    let unknown = margin(&app, &of).await;
    let item = &unknown["items"][0];
    assert_eq!(figures(item), ["31.25", "0.00", "31.25", "100"]);
    assert_eq!((&item["complete"], &unknown["totals"]["incomplete"]), (&json!(false), &json!(1)));
    assert_eq!(item["meters_without_cost"], json!(["apis", "compute", "egress_bytes"]));
    let version = admin.put(COSTS, costs()).await.expect(200);
    assert_eq!(
        (version.text("/version"), version.text("/effective_from")),
        ("1".into(), "2026-11-10T12:00:00Z".into())
    );
    // 1.25 for requests, 0.70055 for compute, 1 for being there; the first version holds before, too.
    let known = margin(&app, &of).await;
    let item = &known["items"][0];
    assert_eq!(figures(item), ["31.25", "2.95", "28.30", "90.56"]);
    assert_eq!((&item["cost_exact"], &item["meters_without_cost"]), (&json!("2.95055"), &json!(["egress_bytes"])));
    let lines = item["lines"].as_array().unwrap();
    let costs_of = |meter: &str| {
        let line = lines.iter().find(|line| line["meter"].as_str().unwrap_or_default() == meter).unwrap();
        (line["unit"].clone(), line["cost"].clone())
    };
    assert_eq!(costs_of("compute"), (json!("0.00001"), json!("0.70055")));
    assert_eq!((costs_of(""), costs_of("egress_bytes")), ((json!("1"), json!("1")), (Value::Null, Value::Null)));
    // A coupon is off what comes in, in the running period and when it is invoiced.
    let coupon = json!({"name": "Half", "percent_off": "50", "periods": 1});
    admin.post(&format!("/admin/v1/tenants/{tenant}/coupons"), coupon).await.expect(201);
    let rates = json!({"tax_rates": [{"name": "VAT", "percent": "19"}]});
    admin.patch(&format!("/admin/v1/tenants/{tenant}/billing"), rates).await.expect(200);
    // Half of 31.25 is 15.625.
    assert_eq!(margin(&app, &of).await["items"][0]["revenue"]["discounts"], "15.63");
    at(&app, "2026-12-01T02:00:00Z");
    close(&app).await;
    let issued = margin(&app, &format!("{of}&period=2026-11")).await;
    assert_eq!(figures(&issued["items"][0]), ["15.62", "2.95", "12.67", "81.11"]);
    let december = margin(&app, &of).await;
    assert_eq!(figures(&december["items"][0]), ["30.00", "1.00", "29.00", "96.67"]);
    // What was taken back brings nothing, and costs what it cost.
    let invoice = invoices(&app, &tenant).await[0]["invoice_id"].as_str().unwrap().to_owned();
    let admin = app.admin().await;
    admin.post(&format!("/admin/v1/invoices/{invoice}/void"), json!({"reason": "gift"})).await.expect(200);
    let void = margin(&app, &format!("{of}&period=2026-11")).await;
    assert_eq!(figures(&void["items"][0]), ["0.00", "2.95", "-2.95", "null"]);
    assert_eq!(void["items"][0]["revenue"]["voided"], "31.25");
}

#[tokio::test]
async fn a_margin_is_the_bill_without_coupons_and_costs() {
    Box::pin(by_hand(TestApp::new().await)).await;
}

#[tokio::test]
async fn a_margin_is_the_bill_without_coupons_and_costs_on_postgresql() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(by_hand(app)).await;
}

#[tokio::test]
async fn tiers_and_versions_of_rates_cut_costs_where_they_change() {
    let app = TestApp::new().await;
    at(&app, "2026-11-01T00:00:00Z");
    app.admin().await.put(COSTS, costs()).await.expect(200);
    let tenant = app.tenant("Acme", "standard").await;
    record_units(&app, &tenant, &[("apis", 1_000)]);
    // Ten days of thirty at a tenth of a cent, ten at ten times that, ten on premium.
    at(&app, "2026-11-11T00:00:00Z");
    let mut dearer = costs();
    dearer["meters"][0]["unit"] = "0.001".into();
    dearer["fixed"][0]["amount"] = "10.00".into();
    app.admin().await.put(COSTS, dearer.clone()).await.expect(200);
    record_units(&app, &tenant, &[("apis", 1_000)]);
    at(&app, "2026-11-21T00:00:00Z");
    let admin = app.admin().await;
    admin.post(&format!("/admin/v1/tenants/{tenant}/tier"), json!({"tier": "premium"})).await.expect(200);
    record_units(&app, &tenant, &[("apis", 100_000)]);
    let item = margin(&app, &format!("?tenant_id={tenant}")).await["items"][0].clone();
    let lines: Vec<String> = item["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            let from = &line["period"]["from"].as_str().unwrap()[8..10];
            let (meter, cost) = (line["meter"].as_str().unwrap_or("fixed"), line["cost"].as_str().unwrap());
            format!("{from} {} {} {meter} {cost}", line["tier"].as_str().unwrap(), line["version"])
        })
        .collect();
    let expected = [
        "01 standard 1 fixed 0.33",
        "01 standard 1 apis 0.1",
        "11 standard 2 fixed 3.34",
        "11 standard 2 apis 1",
        "21 premium 2 fixed 20",
        "21 premium 2 apis 1",
    ];
    assert_eq!(lines, expected);
    // Two thirds of 30 and a third of 300.
    assert_eq!(figures(&item), ["120.00", "25.77", "94.23", "78.53"]);
    // A version that holds from earlier on takes the place of what others said of the time.
    dearer["effective_from"] = "2026-10-01T00:00:30Z".into();
    let third = app.admin().await.put(COSTS, dearer).await.expect(200);
    assert_eq!((third.text("/version"), third.text("/effective_from")), ("3".into(), "2026-10-01T00:00:00Z".into()));
    let item = margin(&app, &format!("?tenant_id={tenant}")).await["items"][0].clone();
    // 20 of 60 for premium's third, 6.67 for two thirds of 10, 2 and 1 for requests.
    assert_eq!((item["cost_exact"].as_str(), item["lines"].as_array().unwrap().len()), (Some("29.67"), 4));
    let list = app.admin().await.get(COSTS).await.expect(200).body;
    assert_eq!((list["items"].as_array().unwrap().len(), &list["in_force"]["version"]), (3, &json!(3)));
}

#[tokio::test]
async fn margins_are_listed_in_order_in_pages_and_as_a_file() {
    let app = TestApp::new().await;
    app.admin().await.put(COSTS, costs()).await.expect(200);
    let mut tenants = Vec::new();
    // Each brings 30 and costs 1, and a cent for a hundred requests; two are alike.
    for (name, calls) in [("Acme", 300), ("Globex", 100), ("Initech", 900), ("Umbrella", 300)] {
        let tenant = app.tenant(name, "standard").await;
        record_units(&app, &tenant, &[("apis", calls)]);
        tenants.push(tenant);
    }
    let of = |place: usize, margin: &str| (tenants[place].clone(), margin.to_owned());
    let mut alike = [of(0, "28.97"), of(3, "28.97")];
    alike.sort_unstable();
    let [one, other] = alike;
    let lowest = vec![of(2, "28.91"), one, other, of(1, "28.99")];
    for (sort, expected) in [
        ("margin", lowest.clone()),
        ("-margin", { vec![lowest[3].clone(), lowest[1].clone(), lowest[2].clone(), lowest[0].clone()] }),
    ] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = margin(&app, &format!("?sort={sort}&limit=2{cursor}")).await;
            assert_eq!((&page["totals"]["tenants"], &page["totals"]["margin"]), (&json!(4), &json!("115.84")));
            found.extend(page["items"].as_array().unwrap().iter().map(|item| {
                (item["tenant_id"].as_str().unwrap().to_owned(), item["margin"].as_str().unwrap().to_owned())
            }));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, expected, "{sort}");
    }
    let page = margin(&app, "?limit=3").await;
    assert_eq!((page["items"].as_array().unwrap().len(), &page["totals"]["tenants"]), (3, &json!(3)));
    assert!(page["items"][0]["lines"].is_null());
    let admin = app.admin().await;
    let csv = async |query: &str| {
        let request = Request::get(format!("/admin/v1/margin{query}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", admin.token))
            .header(header::ACCEPT, "text/csv");
        let reply = app.send(request.body(Body::empty()).unwrap()).await.expect(200);
        assert!(reply.headers["content-type"].to_str().unwrap().starts_with("text/csv"));
        reply.body.as_str().unwrap().split("\r\n").map(str::to_owned).collect::<Vec<_>>()
    };
    let all = csv("").await;
    assert_eq!(all.len(), 7, "head, four, totals and the end");
    let columns = all[0].split(',').count();
    assert!(all[1..6].iter().all(|record| record.split(',').count() == columns), "{all:?}");
    assert_eq!(all[5], "total,,,USD,,,,,,120.00,4.16,,115.84,96.53,true,,");
    let lowest = csv("?sort=margin&limit=1").await;
    let period = "2026-11-01T00:00:00Z,2026-12-01T00:00:00Z";
    let first = format!("{},{period},USD,30.00,0.00,0.00,0.00,0.00,30.00,1.09,1.09,28.91,96.37,true,,", tenants[2]);
    assert_eq!(lowest[1..], [first, String::new()]);
}

#[tokio::test]
async fn what_is_no_rate_and_no_question_is_refused_by_its_field() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let with = |path: &str, value: Value| {
        let mut body = costs();
        *body.pointer_mut(path).unwrap() = value;
        body
    };
    for (body, fields) in [
        (with("/currency", json!("EUR")), &["currency", "fixed[1].amount"][..1]),
        (with("/currency", json!("dollars")), &["currency"]),
        (with("/meters/0/unit", json!("-1")), &["meters[0].unit"]),
        (with("/meters/0/unit", json!("one")), &["meters[0].unit"]),
        (with("/meters/2/meter", json!("apis")), &["meters[2].meter"]),
        (with("/meters/1/tier", json!("gold")), &["tier"]),
        (with("/fixed/1/amount", json!("1.001")), &["fixed[1].amount"]),
        (json!({"currency": "USD", "fixed": [{"amount": "1"}, {"amount": "2"}]}), &["fixed[1].tier"]),
        (json!({"currency": "USD", "effective_from": "yesterday"}), &["effective_from"]),
    ] {
        admin.put(COSTS, body).await.refuses(422, fields);
    }
    assert_eq!(admin.get(COSTS).await.expect(200).body["items"], json!([]));
    for (query, field) in [
        ("?period=x", "period"),
        ("?sort=name", "sort"),
        ("?limit=501", "limit"),
        ("?cursor=x", "cursor"),
        ("?sort=margin&cursor=1", "cursor"),
        ("?tenant_id=x", "tenant_id"),
    ] {
        admin.get(&format!("/admin/v1/margin{query}")).await.refuses(422, &[field]);
    }
    admin.get("/admin/v1/margin?tenant_id=01900000-0000-7000-8000-000000000000").await.refuses(404, &[]);
    // Two at once are two versions, or one of them is told.
    let answers = join_all((0..4).map(|_| admin.put(COSTS, costs()))).await;
    let made = answers.iter().filter(|answer| answer.status == 200).count();
    assert!(made >= 1 && answers.iter().all(|answer| [200, 409].contains(&answer.status.as_u16())));
    assert_eq!(admin.get(COSTS).await.expect(200).body["items"].as_array().unwrap().len(), made);
    let noted = admin.get(&["/admin/v1/audit?action=", "costs.changed"].concat()).await.expect(200);
    assert_eq!(noted.body["items"].as_array().unwrap().len(), made);
}

#[tokio::test]
async fn tenants_that_owe_in_another_currency_have_margins_totals_and_rates_of_their_own() {
    let app = TestApp::new().await;
    plan_of(&app, "tokyo", json!({"currency": "JPY", "base": "3000", "prices": []})).await;
    let (acme, tokyo) = (app.tenant("Acme", "standard").await, app.tenant("Tokyo", "tokyo").await);
    let admin = app.admin().await;
    admin.put(COSTS, costs()).await.expect(200);
    let one_by_one = async || {
        let mut found = Vec::new();
        for tenant in [&acme, &tokyo] {
            let item = margin(&app, &format!("?tenant_id={tenant}")).await["items"][0].clone();
            found.push((item["currency"].as_str().unwrap().to_owned(), figures(&item), item["complete"].clone()));
        }
        found
    };
    let figure = |texts: [&str; 4]| texts.map(str::to_owned).to_vec();
    let dollars = ("USD".to_owned(), figure(["30.00", "1.00", "29.00", "96.67"]), json!(true));
    // A dollar is no yen: what the tenant costs is unknown.
    let yen = ("JPY".to_owned(), figure(["3000", "0", "3000", "100"]), json!(false));
    assert_eq!(one_by_one().await, [dollars.clone(), yen]);
    let all = margin(&app, "").await;
    let totals = |view: &Value| (view["currency"].clone(), view["tenants"].clone(), view["incomplete"].clone());
    assert_eq!(totals(&all["totals"]), (json!("USD"), json!(1), json!(0)));
    assert_eq!(all["other_currencies"].as_array().unwrap().len(), 1);
    assert_eq!(totals(&all["other_currencies"][0]), (json!("JPY"), json!(1), json!(1)));
    assert_eq!(figures(&all["totals"]), figure(["30.00", "1.00", "29.00", "96.67"]));

    let rates = json!({"currency": "JPY", "fixed": [{"amount": "1000"}]});
    admin.put(COSTS, rates).await.expect(200);
    let yen = ("JPY".to_owned(), figure(["3000", "1000", "2000", "66.67"]), json!(true));
    assert_eq!(one_by_one().await, [dollars, yen], "and those in dollars hold on");
    assert_eq!(admin.get(COSTS).await.expect(200).body["in_force"]["currency"], "USD");
    // In order each currency by itself, the settings' first: 2000 yen are not less than 29 dollars.
    for sort in ["margin", "-margin"] {
        let first = margin(&app, &format!("?sort={sort}&limit=1")).await;
        let after = format!("?sort={sort}&limit=1&cursor={}", first["next_cursor"].as_str().unwrap());
        let second = margin(&app, &after).await;
        let tenants = [&first, &second].map(|page| page["items"][0]["tenant_id"].as_str().unwrap().to_owned());
        assert_eq!((tenants, &second["next_cursor"]), ([acme.clone(), tokyo.clone()], &Value::Null), "{sort}");
        assert_eq!(second["other_currencies"][0]["margin"], "2000");
    }
    let request = Request::get("/admin/v1/margin")
        .header(header::AUTHORIZATION, format!("Bearer {}", admin.token))
        .header(header::ACCEPT, "text/csv");
    let reply = app.send(request.body(Body::empty()).unwrap()).await.expect(200);
    let records: Vec<&str> = reply.body.as_str().unwrap().split("\r\n").collect();
    let last = ["total,,,USD,,,,,,30.00,1.00,,29.00,96.67,true,,", "total,,,JPY,,,,,,3000,1000,,2000,66.67,true,,", ""];
    assert_eq!(records[3..], last);
}

#[tokio::test]
async fn amounts_that_are_too_large_to_be_added_up_do_not_keep_the_others() {
    let app = TestApp::new().await;
    plan_of(&app, "vast", json!({"base": "92233720368547758.07", "prices": []})).await;
    app.tenant("Acme", "vast").await;
    app.tenant("Bolt", "vast").await;
    app.tenant("Cask", "standard").await;
    at(&app, "2026-12-15T00:00:00Z");
    let all = margin(&app, "").await;
    assert_eq!((all["items"].as_array().unwrap().len(), &all["totals"]["tenants"]), (3, &json!(3)));
    assert!(all["totals"]["incomplete"].as_i64().unwrap() >= 1, "{all}");
    let cheap = json!({"isolation": "pool", "currency": "USD", "base": "1.00", "prices": []});
    let asked = app.admin().await.post("/admin/v1/what-if", json!({"plan": cheap})).await.expect(200);
    assert!(asked.body["totals"]["failed"].as_i64().unwrap() >= 1, "{}", asked.body);
}
