//! Tenants that are taken out: the steps in their order, the last invoice, and what interrupts them.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};
use tollgate::{
    onboarding::{Onboarding, Rig, Rigged, StepName},
    store::Store,
};

use super::{
    billing_periods::doctor_agrees,
    invoices::{at, close, invoices, plan_of},
    ledger::record_units,
};
use crate::support::{
    actors::{Actor, PASSWORD, email_of, registration},
    app::{Reply, TestApp},
    audit::Audit,
};

pub const STEPS: [&str; 7] = ["suspend", "final_invoice", "export", "infrastructure", "account", "people", "tombstone"];

pub fn onboarding(app: &TestApp) -> Onboarding {
    axum::extract::FromRef::from_ref(app.app.state())
}

fn halts(point: &str) -> Rig {
    Rig { halt_at: Some(point.parse().unwrap()), fails: None }
}

/// Name and status of each step.
fn steps(offboarding: &Value) -> Vec<(String, String)> {
    let text = |step: &Value, member: &str| step[member].as_str().unwrap().to_owned();
    offboarding["steps"].as_array().unwrap().iter().map(|step| (text(step, "name"), text(step, "status"))).collect()
}

pub async fn delete(admin: &Actor<'_>, tenant: &str) -> Reply {
    admin.delete(&format!("/admin/v1/tenants/{tenant}")).await
}

async fn offboarding(app: &TestApp, tenant: &str) -> Reply {
    app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/offboarding")).await
}

async fn leaves_in_order(app: TestApp) {
    let tenant = app.tenant("Acme", "standard").await;
    record_units(&app, &tenant, &[("apis", 12_500)]);
    let (owner, admin, mut audit) = (app.owner_of("Acme").await, app.admin().await, Audit::of(&app).await);
    offboarding(&app, &tenant).await.refuses(404, &[]);
    let gone = delete(&admin, &tenant).await.expect(200);
    assert_eq!(gone.text("/status"), "deleted");
    owner.get("/v1/me").await.refuses(401, &[]);
    let done = offboarding(&app, &tenant).await.expect(200);
    assert_eq!(steps(&done.body), STEPS.map(|name| (name.to_owned(), "done".to_owned())));
    let times = |step: &Value| [&step["started_at"], &step["ended_at"]].map(Value::is_string);
    for step in done.body["steps"].as_array().unwrap() {
        assert_eq!((&step["attempts"], times(step)), (&json!(1), [true, true]), "{step}");
    }
    assert_eq!((done.text("/status"), done.text("/export_kept_until")), ("done".into(), "2026-12-10T12:00:00Z".into()));
    // The month ends with the minute: 13,681 minutes of 43,200 of the base, and all that was used.
    let found = invoices(&app, &tenant).await;
    let invoice = &found[0];
    assert_eq!(invoice["period"], json!({"from": "2026-11-01T00:00:00Z", "to": "2026-11-10T12:01:00Z"}));
    assert_eq!(
        (found.len(), &invoice["total"], &invoice["number"], &invoice["status"]),
        (1, &json!("10.75"), &json!("INV-000001"), &json!("finalized"))
    );
    let noted: Vec<_> = audit.actions().await.into_iter().filter(|action| action != "sign_in.succeeded").collect();
    assert_eq!(noted, ["invoice.finalized", "tenant.offboarded"]);
    // Twice gives the same answer, and nothing happens twice.
    assert_eq!(delete(&admin, &tenant).await.expect(200).body, gone.body);
    let retried = admin.post(&format!("/admin/v1/tenants/{tenant}/offboarding/retry"), Value::Null).await;
    retried.refuses(409, &[]);
    at(&app, "2027-03-05T00:00:00Z");
    close(&app).await;
    assert_eq!(invoices(&app, &tenant).await.len(), 1);
    assert_eq!(doctor_agrees(&app, "apis").await, ("12500".to_owned(), "0".to_owned()));
}

#[tokio::test]
async fn a_tenant_leaves_in_steps_and_its_last_invoice_is_issued_at_once() {
    Box::pin(leaves_in_order(TestApp::new().await)).await;
}

#[tokio::test]
async fn a_tenant_leaves_in_steps_and_its_last_invoice_is_issued_at_once_on_postgres() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(leaves_in_order(app)).await;
}

#[tokio::test]
async fn periods_that_are_over_have_their_invoices_before_the_last_one() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    record_units(&app, &tenant, &[("apis", 12_500)]);
    at(&app, "2026-12-16T00:00:00Z");
    record_units(&app, &tenant, &[("apis", 7)]);
    delete(&app.admin().await, &tenant).await.expect(200);
    let found = invoices(&app, &tenant).await;
    let said: Vec<_> = found.iter().map(|own| [&own["number"], &own["total"], &own["period"]["to"]]).collect();
    // Half of December's base, but for a minute.
    let expected = [
        [json!("INV-000001"), json!("31.25"), json!("2026-12-01T00:00:00Z")],
        [json!("INV-000002"), json!("14.52"), json!("2026-12-16T00:01:00Z")],
    ];
    assert_eq!(said, expected.each_ref().map(<[Value; 3]>::each_ref));
    assert_eq!(doctor_agrees(&app, "apis").await, ("12507".to_owned(), "0".to_owned()));
}

#[tokio::test]
async fn a_year_is_paid_for_as_long_as_it_lasted() {
    let app = TestApp::with("[billing]\ninterval = \"year\"\nanchor = \"2026-11-01\"").await;
    plan_of(&app, "yearly", json!({"base": "365.00", "interval": "year", "commitment": "730.00", "prices": []})).await;
    at(&app, "2026-11-10T11:59:59Z");
    let tenant = app.tenant("Acme", "yearly").await;
    at(&app, "2026-11-11T23:59:30Z");
    delete(&app.admin().await, &tenant).await.expect(200);
    let found = invoices(&app, &tenant).await;
    // Eleven days of 365, of the base as of the commitment.
    assert_eq!((found.len(), &found[0]["total"]), (1, &json!("22.00")));
    assert_eq!(found[0]["lines"][0]["amount"], "11.00");
}

#[tokio::test]
async fn a_tenant_that_was_never_in_use_owes_nothing() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    onboarding(&app).points().rig(Rig {
        fails: Some(Rigged { step: StepName::Provisioning, lasting: false, left: Some(1) }),
        halt_at: None,
    });
    let made = admin.post("/admin/v1/registrations", registration("Acme", "premium")).await.expect(201);
    let tenant = made.text("/tenant_id");
    assert_eq!(made.text("/status"), "failed");
    delete(&admin, &tenant).await.expect(200);
    at(&app, "2027-02-01T02:00:00Z");
    close(&app).await;
    assert_eq!(invoices(&app, &tenant).await, Vec::<Value>::new());
    let account = app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/billing-account")).await.expect(200);
    assert_eq!((account.text("/status"), account.text("/billing_address")), ("closed".into(), "closed".into()));
}

#[tokio::test]
async fn a_registration_that_was_taken_back_owes_nothing_whenever_that_was() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    for (name, late) in [("Acme", false), ("Bolt", true)] {
        let fails =
            |lasting| Rig { fails: Some(Rigged { step: StepName::Provisioning, lasting, left: None }), halt_at: None };
        onboarding(&app).points().rig(fails(!late));
        admin.post("/admin/v1/registrations", registration(name, "premium")).await;
        let made = admin.get("/admin/v1/registrations?limit=500").await.expect(200).body;
        let items = made["items"].as_array().unwrap();
        let made = items.iter().find(|made| (made["status"] == "failed") == late);
        let id = made.unwrap()["registration_id"].as_str().unwrap().to_owned();
        if late {
            // It waits past the end of the month, and is refused then.
            at(&app, "2027-02-01T02:00:00Z");
            close(&app).await;
            onboarding(&app).points().rig(fails(true));
        }
        let app_admin = app.admin().await;
        app_admin.post(&format!("/admin/v1/registrations/{id}/retry"), Value::Null).await;
    }
    let all = app.admin().await.get("/admin/v1/registrations?limit=500").await.expect(200).body;
    assert!(all["items"].as_array().unwrap().iter().all(|made| made["status"] == "compensated"), "{all}");
    at(&app, "2027-04-01T02:00:00Z");
    close(&app).await;
    let list = app.admin().await.get("/admin/v1/invoices").await.expect(200).body;
    assert_eq!(list["items"], json!([]));
}

/// A change of tier whose tenant leaves meanwhile takes nothing down before it is time.
#[tokio::test]
async fn a_place_stays_until_its_step_though_a_change_of_tier_is_broken_off() {
    let app = TestApp::new().await;
    let (tenant, admin) = (app.tenant("Acme", "standard").await, app.admin().await);
    let path = format!("/admin/v1/tenants/{tenant}");
    let (points, changes) = (onboarding(&app).points().clone(), onboarding(&app).points().changes.clone());
    changes.halt_at(Some("copy:begun".into()));
    let (asked, to) = (format!("{path}/tier"), json!({"tier": "premium"}));
    let change = admin.post(&asked, to);
    let leaves = async {
        let copying = |list: &Value| list["items"][0]["steps"].to_string().contains("running");
        while !copying(&admin.get(&format!("{path}/tier-changes")).await.body) {
            tokio::task::yield_now().await;
        }
        points.rig(halts("leave_export:begun"));
        let goes_on = async {
            while !steps(&offboarding(&app, &tenant).await.body).contains(&("export".into(), "running".into())) {
                tokio::task::yield_now().await;
            }
            changes.halt_at(None);
        };
        let (left, ()) = tokio::join!(delete(&admin, &tenant), goes_on);
        left.expect(202);
    };
    let (answer, ()) = tokio::join!(change, leaves);
    assert_ne!(answer.status, 200, "{}", answer.body);
    admin.get(&format!("{path}/infrastructure")).await.expect(200);
    points.rig(Rig::default());
    while offboarding(&app, &tenant).await.text("/status") != "done" {
        tokio::task::yield_now().await;
    }
    admin.get(&format!("{path}/infrastructure")).await.refuses(404, &[]);
}

#[tokio::test]
async fn the_name_of_who_left_is_free_for_another_tenant() {
    let app = TestApp::new().await;
    let first = app.tenant("Acme", "standard").await;
    delete(&app.admin().await, &first).await.expect(200);
    let second = app.tenant("Acme", "standard").await;
    assert_ne!(first, second);
    app.owner_of("Acme").await.get("/v1/me").await.expect(200);
    let admin = app.admin().await;
    assert_eq!(delete(&admin, &first).await.expect(200).text("/tenant_id"), first);
    assert_eq!(admin.get(&format!("/admin/v1/tenants/{second}")).await.expect(200).text("/status"), "active");
    assert_eq!(invoices(&app, &second).await.len(), 0);
}

/// What nobody took up is taken up by another node, once.
async fn goes_on_elsewhere(app: TestApp) {
    let tenant = app.tenant("Acme", "premium").await;
    onboarding(&app).points().rig(halts("leave_export:begun"));
    let path = format!("/admin/v1/tenants/{tenant}");
    let request = Request::delete(&path).header(header::AUTHORIZATION, format!("Bearer {}", app.admin().await.token));
    let mut sent = Box::pin(tower::ServiceExt::oneshot(app.router.clone(), request.body(Body::empty()).unwrap()));
    loop {
        tokio::select! {
            answer = &mut sent => panic!("it does not halt: {answer:?}"),
            found = async {
                let mut found = offboarding(&app, &tenant).await;
                found.body["steps"].take()
            } => if found[1]["status"] == "done" { break },
        }
    }
    let beside = app.beside().await;
    assert_eq!(onboarding(&beside).resume_offboardings().await.unwrap(), 0, "somebody has it");
    app.clock.advance_secs(31);
    assert_eq!(onboarding(&beside).resume_offboardings().await.unwrap(), 1);
    assert_eq!(beside.admin().await.get(&path).await.expect(200).text("/status"), "deleted");
    // The first one comes to, and finds that it is not its own any more.
    onboarding(&app).points().rig(Rig::default());
    let answer = sent.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(invoices(&app, &tenant).await.len(), 1);
    let done = offboarding(&app, &tenant).await.expect(200);
    assert_eq!((done.text("/status"), done.text("/steps/2/attempts")), ("done".into(), "2".into()));
    let store: Store = axum::extract::FromRef::from_ref(app.app.state());
    let mut tx = store.read(tollgate::store::Scope::Job("test")).await.unwrap();
    let id = tenant.parse().unwrap();
    assert!(tx.kept_export_piece((id, 1, 0)).await.unwrap().is_none(), "one export");
    assert!(tx.kept_export_piece((id, 2, 0)).await.unwrap().is_some());
}

#[tokio::test]
async fn what_a_node_left_is_taken_up_by_another_once_on_postgres() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(goes_on_elsewhere(app)).await;
}

#[tokio::test]
async fn two_who_delete_at_once_get_the_same_answer_and_there_is_one_invoice() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "premium").await;
    let token = app.admin().await.token;
    let request = || {
        let request = Request::delete(format!("/admin/v1/tenants/{tenant}"));
        request.header(header::AUTHORIZATION, format!("Bearer {token}")).body(Body::empty()).unwrap()
    };
    let answers = app.send_together((0..8).map(|_| request()).collect()).await;
    for answer in answers {
        assert_eq!((answer.status.as_u16(), answer.text("/status")), (200, "deleted".into()));
    }
    assert_eq!(invoices(&app, &tenant).await.len(), 1);
    assert_eq!(offboarding(&app, &tenant).await.expect(200).text("/steps/1/attempts"), "1");
}

#[tokio::test]
async fn who_leaves_while_calls_are_under_way_has_them_on_the_last_invoice() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let request =
        Request::get("/sample/stream?events=3").header(header::AUTHORIZATION, format!("Bearer {}", owner.token));
    let under_way = tower::ServiceExt::oneshot(app.router.clone(), request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(under_way.status(), 200);
    let admin = app.admin().await;
    let waits = delete(&admin, &tenant).await.expect(202);
    assert_eq!(waits.headers[header::LOCATION], format!("/admin/v1/tenants/{tenant}/offboarding"));
    let expected = ["done", "failed", "pending", "pending", "pending", "pending", "pending"];
    assert_eq!(steps(&waits.body).into_iter().map(|(_, status)| status).collect::<Vec<_>>(), expected);
    assert_eq!(waits.text("/steps/1/error"), "1 calls of the tenant are still under way");
    owner.get("/sample/hello").await.refuses(401, &[]);
    app.anon().post("/v1/login", json!({"email": email_of("Acme"), "password": PASSWORD})).await.refuses(401, &[]);
    assert_eq!(invoices(&app, &tenant).await.len(), 0);
    // It ends, and is counted.
    drop(under_way);
    app.clock.advance_secs(2);
    assert_eq!(onboarding(&app).resume_offboardings().await.unwrap(), 1);
    assert_eq!(offboarding(&app, &tenant).await.expect(200).text("/status"), "done");
    assert_eq!(doctor_agrees(&app, "apis").await, ("1".to_owned(), "0".to_owned()));
}
