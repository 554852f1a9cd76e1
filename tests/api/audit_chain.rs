//! The audit's chain: who changed what from where into what, and that nothing of it can be changed unseen.

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use tollgate::web::extract::Peer;

use crate::support::{app::TestApp, audit::Audit};

/// The hash of a text as hexadecimal digits.
fn blake3(parts: &[&[u8]]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Works the chain out from an export alone, by what docs/audit.md says; its length.
fn checked(export: &str) -> usize {
    let mut before = [0; 32];
    let lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (serial, entry) in (1..).zip(&lines) {
        let of = |names: &[&str]| names.iter().map(|name| entry[name].clone()).collect::<Vec<_>>();
        let digest = json!(of(&["address", "detail", "before", "after"])).to_string();
        assert_eq!(entry["digest"], blake3(&[digest.as_bytes()]).to_hex().as_str());
        let said = of(&["serial", "audit_id", "at", "actor", "action", "tenant_id", "subject", "digest"]);
        let hash = blake3(&[&before, json!(said).to_string().as_bytes()]);
        assert_eq!((&entry["serial"], &entry["hash"]), (&json!(serial), &json!(hash.to_hex().as_str())));
        before = *hash.as_bytes();
    }
    lines.len()
}

#[tokio::test]
async fn an_entry_says_what_was_before_and_after_and_from_where() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let (admin, mut audit) = (app.admin().await, Audit::of(&app).await);
    let path = format!("/admin/v1/tenants/{tenant}");
    let mut change = Request::patch(&path)
        .header("authorization", format!("Bearer {}", admin.token))
        .header("content-type", "application/json")
        .body(Body::from(r#"{"customer_name":"Acme Inc"}"#))
        .unwrap();
    change.extensions_mut().insert(Peer("2001:db8::7".parse().unwrap()));
    app.send(change).await.expect(200);
    let entry = audit.entries().await.remove(0);
    let named =
        |name: &str| json!({"customer_name": name, "external_id": null, "tier": "standard", "status": "active"});
    assert_eq!(
        [&entry["before"], &entry["after"], &entry["address"]],
        [&named("Acme"), &named("Acme Inc"), &json!("2001:db8::7")]
    );

    admin.post(&format!("{path}/suspend"), Value::Null).await.expect(200);
    let entry = audit.entries().await.remove(0);
    assert_eq!((&entry["before"]["status"], &entry["after"]["status"]), (&json!("active"), &json!("suspended")));
    let plan = admin.get("/admin/v1/plans/standard").await.expect(200).body;
    let mut changed = plan.clone();
    changed["base"] = json!("31.00");
    changed.as_object_mut().unwrap().remove("version");
    admin.put("/admin/v1/plans/standard", changed).await.expect(200);
    let entry = audit.entries().await.remove(0);
    assert_eq!(entry["action"], "plan.put");
    assert_eq!((&entry["before"]["base"], &entry["after"]["base"]), (&json!("30.00"), &json!("31.00")));
    let quotas = json!([{"meter": "apis", "limit": "7", "period": "day", "mode": "hard"}]);
    admin.put(&format!("{path}/quotas"), quotas.clone()).await.expect(200);
    let entry = audit.entries().await.remove(0);
    assert_eq!((&entry["before"], &entry["after"][0]["limit"]), (&Value::Null, &json!("7")));
}

#[tokio::test]
async fn meters_events_taken_back_and_settings_read_again_are_noted() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let (admin, mut audit) = (app.admin().await, Audit::of(&app).await);
    let meter = json!({"key": "tokens", "event_type": "prompt", "aggregation": "sum", "value_property": "$.tokens"});
    admin.post("/admin/v1/meters", meter).await.expect(201);
    let entry = audit.entries().await.remove(0);
    assert_eq!((&entry["action"], &entry["after"]["event_type"]), (&json!("meter.made"), &json!("prompt")));
    admin.put("/api/v1/meters/tokens", json!({"name": "Tokens"})).await.expect(200);
    assert_eq!(audit.actions().await, ["meter.changed"]);
    let event = |id: &str| json!({"specversion": "1.0", "id": id, "source": "here", "type": "prompt", "subject": tenant, "data": {"tokens": 5}});
    for id in ["1", "2"] {
        admin.post("/api/v1/events", event(id)).await.expect(204);
    }
    admin.post("/admin/v1/usage/1/void", json!({"reason": "sent twice"})).await.expect(200);
    let entry = audit.entries().await.remove(0);
    assert_eq!(
        (&entry["action"], &entry["subject"], &entry["detail"]),
        (&json!("event.voided"), &json!("1"), &json!("sent twice"))
    );
    admin.post("/admin/v1/usage/2/amend", json!({"data": {"tokens": 6}, "reason": "too few"})).await.expect(200);
    assert_eq!(audit.actions().await, ["event.amended"]);
    admin.delete("/api/v1/meters/tokens").await.expect(204);
    let entry = audit.entries().await.remove(0);
    assert_eq!((&entry["action"], &entry["after"]), (&json!("meter.deleted"), &Value::Null));
}

#[tokio::test]
async fn an_export_is_a_chain_that_anybody_can_work_out_again() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let admin = app.admin().await;
    let export = async || {
        let reply = admin.get("/admin/v1/audit/export").await.expect(200);
        assert_eq!(reply.headers["content-type"], "application/x-ndjson");
        reply.body.as_str().unwrap().to_owned()
    };
    let first = export().await;
    let length = checked(&first);
    assert!(length >= 3, "{first}");
    let page = admin.get("/admin/v1/audit?limit=500").await.expect(200).body;
    let listed = page["items"].as_array().unwrap();
    assert_eq!(listed.len(), length);
    assert!(listed.iter().all(|entry| entry["hash"].is_string()));
    app.tenant("Beta", "standard").await;
    let longer = export().await;
    assert!(longer.starts_with(&first), "what was sealed stays");
    assert!(checked(&longer) > length);
    app.tenant("Gamma", "standard").await;
    app.owner_of("Gamma").await.get("/admin/v1/audit/export").await.refuses(403, &[]);
}
