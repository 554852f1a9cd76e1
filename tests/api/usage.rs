//! Usage as it is asked for: its shape, its windows, whose it is, and that it outlives the process.

use serde_json::{Value, json};

use super::{
    gateway::used,
    ledger::{record, record_units},
};
use crate::support::{
    actors::Actor,
    app::{NOW, TestApp},
};

/// The windows of an answer, one a line.
async fn windows(who: &Actor<'_>, query: &str) -> Vec<String> {
    let usage = who.get(&format!("/v1/usage?{query}")).await.expect(200);
    let line = |window: &Value| {
        let text = |name: &str| window[name].as_str().unwrap().to_owned();
        format!("{} {} {}", text("window_start"), text("window_end"), text("value"))
    };
    usage.body["data"].as_array().unwrap().iter().map(line).collect()
}

#[tokio::test]
async fn usage_has_one_shape_for_the_tenant_and_the_administrator() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let query = "from=2026-11-10T00:00:00Z&to=2026-11-11T00:00:00Z&window=hour";
    let empty = json!({"meter": "apis", "from": "2026-11-10T00:00:00Z", "to": "2026-11-11T00:00:00Z", "data": []});
    assert_eq!(owner.get(&format!("/v1/usage?{query}")).await.expect(200).body, empty);
    for _ in 0..3 {
        owner.get("/sample/hello").await.expect(200);
    }
    let own = owner.get(&format!("/v1/usage?{query}&meter=apis&group_by=route")).await.expect(200);
    let hour = json!([{
        "window_start": "2026-11-10T12:00:00Z",
        "window_end": "2026-11-10T13:00:00Z",
        "value": "3",
        "group": {"route": "/sample/"},
    }]);
    assert_eq!(own.body["data"], hour);
    let admins = format!("/admin/v1/tenants/{tenant}/usage?{query}&group_by=route");
    assert_eq!(app.admin().await.get(&admins).await.expect(200).body, own.body);
    // Without a period it is this month, in one window.
    assert_eq!(windows(&owner, "").await, ["2026-11-01T00:00:00Z 2026-12-01T00:00:00Z 3"]);
}

#[tokio::test]
async fn windows_are_cut_by_the_utc_calendar_and_add_up() {
    let app = TestApp::with("[identity]\naccess_token_ttl_s = 86400").await;
    let tenant = app.tenant("Acme", "standard").await;
    for (at, units) in [
        ("2026-11-10T12:00:00Z", 1),
        ("2026-11-10T12:00:59.999999Z", 2),
        ("2026-11-10T12:01:00Z", 4),
        ("2026-11-10T13:00:00Z", 8),
        ("2026-11-11T00:00:00Z", 16),
        ("2026-12-01T00:00:00Z", 32),
    ] {
        app.clock.set(at.parse().unwrap());
        record_units(&app, &tenant, &[("apis", units)]);
    }
    let owner = app.owner_of("Acme").await;
    let whole = "from=2026-11-01T00:00:00Z&to=2027-01-01T00:00:00Z";
    let of = async |window: &str| windows(&owner, &format!("{whole}&window={window}")).await;
    assert_eq!(
        of("month").await,
        ["2026-11-01T00:00:00Z 2026-12-01T00:00:00Z 31", "2026-12-01T00:00:00Z 2027-01-01T00:00:00Z 32"]
    );
    assert_eq!(
        of("day").await,
        [
            "2026-11-10T00:00:00Z 2026-11-11T00:00:00Z 15",
            "2026-11-11T00:00:00Z 2026-11-12T00:00:00Z 16",
            "2026-12-01T00:00:00Z 2026-12-02T00:00:00Z 32",
        ]
    );
    let hours = of("hour").await;
    assert_eq!((hours.len(), &*hours[0]), (4, "2026-11-10T12:00:00Z 2026-11-10T13:00:00Z 7"));
    let minutes = of("minute").await;
    assert_eq!((minutes.len(), &*minutes[0]), (5, "2026-11-10T12:00:00Z 2026-11-10T12:01:00Z 3"));
    assert_eq!(windows(&owner, whole).await, ["2026-11-01T00:00:00Z 2027-01-01T00:00:00Z 63"]);
    // Half open: what happens at `from` is in, what happens at `to` is not.
    let part = "from=2026-11-10T12:01:00Z&to=2026-11-11T00:00:00Z";
    assert_eq!(windows(&owner, part).await, ["2026-11-10T12:01:00Z 2026-11-11T00:00:00Z 12"]);
    let offset = "from=2026-11-10T13:01:00%2B01:00&to=2026-11-11T01:00:00%2B01:00";
    assert_eq!(windows(&owner, offset).await, ["2026-11-10T12:01:00Z 2026-11-11T00:00:00Z 12"]);
}

#[tokio::test]
async fn usage_is_told_by_route() {
    let settings = "[[gateway.routes]]\npath = \"/sample/echo\"\nupstream = \"builtin:sample\"\n\
                    [[gateway.routes]]\npath = \"/sample/\"\nupstream = \"builtin:sample\"\n";
    let app = TestApp::with(settings).await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    for path in ["/sample/echo", "/sample/hello", "/sample/echo/", "/sample/echo"] {
        owner.get(path).await;
    }
    let usage = owner.get("/v1/usage?group_by=route").await.expect(200);
    let data = usage.body["data"].as_array().unwrap();
    let found: Vec<_> = data.iter().map(|w| (w["group"]["route"].as_str().unwrap(), &w["value"])).collect();
    assert_eq!(found, [("/sample/", &json!("1")), ("/sample/echo", &json!("3"))]);
}

#[tokio::test]
async fn a_faulty_usage_query_says_which_parameter_and_why() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let (owner, admin) = (app.owner_of("Acme").await, app.admin().await);
    let cases = [
        ("from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", "from"),
        ("from=2026-11-01T00:00:00Z&to=2026-11-01T00:00:00Z", "from"),
        ("from=2027-01-01T00:00:00Z", "from"),
        ("from=yesterday", "from"),
        ("to=2026-13-01T00:00:00Z", "to"),
        ("meter=unknown", "meter"),
        ("meter=Not%20A%20Key", "meter"),
        ("window=week", "window"),
        ("group_by=user", "group_by"),
        ("windw=day", "windw"),
    ];
    for (query, field) in cases {
        owner.get(&format!("/v1/usage?{query}")).await.refuses(422, &[field]);
        admin.get(&format!("/admin/v1/tenants/{tenant}/usage?{query}")).await.refuses(422, &[field]);
    }
    let two = owner.get("/v1/usage?window=week&time_zone=Mars").await;
    two.refuses(422, &["window", "time_zone"]);
}

#[tokio::test]
async fn nobody_sees_another_tenants_usage() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    app.tenant("Globex", "standard").await;
    let (owner, other) = (app.owner_of("Acme").await, app.owner_of("Globex").await);
    owner.get("/sample/hello").await.expect(200);
    assert_eq!((used(&owner, "apis").await, used(&other, "apis").await), ("1".into(), "0".into()));
    other.get(&format!("/v1/usage?tenant_id={tenant}")).await.refuses(422, &["tenant_id"]);
    other.get(&format!("/admin/v1/tenants/{tenant}/usage")).await.refuses(403, &[]);
    let admin = app.admin().await;
    for unknown in ["01900000-0000-7000-8000-000000000000", "acme"] {
        admin.get(&format!("/admin/v1/tenants/{unknown}/usage")).await.refuses(404, &[]);
    }
}

#[tokio::test]
async fn quantities_are_exact() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    for _ in 0..10 {
        record(&app, &tenant, &[("memory", 100), ("compute", 333)]);
    }
    record_units(&app, &tenant, &[("egress_bytes", 9_000_000_000_000_000)]);
    let owner = app.owner_of("Acme").await;
    assert_eq!(used(&owner, "memory").await, "1");
    assert_eq!(used(&owner, "compute").await, "3.33");
    assert_eq!(used(&owner, "egress_bytes").await, "9000000000000000");
}

fn bearer<'a>(app: &'a TestApp, token: &str) -> Actor<'a> {
    Actor { app, token: token.to_owned() }
}

/// Usage before and after two restarts, the first with records that no query and no roller had counted yet.
async fn outlives_the_process(app: TestApp) {
    let tenant = app.tenant("Acme", "standard").await;
    let token = app.owner_of("Acme").await.token;
    for _ in 0..3 {
        bearer(&app, &token).get("/sample/hello").await.expect(200);
    }
    assert_eq!(used(&bearer(&app, &token), "apis").await, "3");
    for _ in 0..4 {
        bearer(&app, &token).get("/sample/hello").await.expect(200);
    }
    let app = app.restarted().await;
    assert_eq!(used(&bearer(&app, &token), "apis").await, "7", "what the journal had was counted by the next start");
    bearer(&app, &token).get("/sample/hello").await.expect(200);
    let app = app.restarted().await;
    assert_eq!(used(&bearer(&app, &token), "apis").await, "8", "and nothing twice");
    let admins = app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/usage?window=minute")).await;
    assert_eq!(admins.text("/data/0/window_start"), NOW);
    assert_eq!(admins.text("/data/0/value"), "8");
}

#[tokio::test]
async fn usage_outlives_the_process() {
    Box::pin(outlives_the_process(TestApp::new().await)).await;
}

#[tokio::test]
async fn usage_outlives_the_process_on_postgresql() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(outlives_the_process(app)).await;
}

#[tokio::test]
async fn a_late_query_and_an_early_one_agree() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    // One asks between any two records, the clock going back and forth; the other asks once at the end.
    for (step, secs) in [0, 61, -30, 300, -400, 90].into_iter().enumerate() {
        app.clock.advance_secs(secs);
        record_units(&app, &tenant, &[("apis", 1)]);
        assert_eq!(used(&owner, "apis").await, (step + 1).to_string());
    }
    let restarted = app.restarted().await;
    assert_eq!(used(&restarted.owner_of("Acme").await, "apis").await, "6");
}
