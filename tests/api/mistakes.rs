//! Mistakes of an earlier system of this kind, each a test: registering twice, unregistering, who gets in where.

use serde_json::{Value, json};

use crate::support::{
    actors::{Actor, PASSWORD, email_of, registration},
    app::TestApp,
};

/// A registration with some of its fields changed; `null` takes a field away.
fn changed(name: &str, tier: &str, changes: &Value) -> Value {
    let mut body = registration(name, tier);
    for (field, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(body.as_object_mut().unwrap().remove(field)),
            value => body[field] = value.clone(),
        }
    }
    body
}

async fn register(admin: &Actor<'_>, body: Value) -> Value {
    admin.post("/admin/v1/registrations", body).await.expect(201).body
}

/// How many tenants and registrations there are.
async fn counts(admin: &Actor<'_>) -> [usize; 2] {
    let mut counts = [0; 2];
    for (count, list) in counts.iter_mut().zip(["tenants", "registrations"]) {
        let page = admin.get(&format!("/admin/v1/{list}?limit=500")).await.expect(200);
        *count = page.body["items"].as_array().unwrap().len();
    }
    counts
}

/// The database files of tenants, shared and own.
fn database_files(app: &TestApp) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![app.folder.path().join("infrastructure")];
    while let Some(folder) = folders.pop() {
        // Made with the first tenant.
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if !name.ends_with("-wal") && !name.ends_with("-shm") {
                names.push(name);
            }
        }
    }
    names.sort();
    names
}

#[tokio::test]
async fn a_second_registration_with_another_tier_keeps_tier_and_infrastructure_and_says_so() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let first = register(&admin, registration("Acme", "standard")).await;
    let id = first["tenant_id"].as_str().unwrap();
    let before = admin.get(&format!("/admin/v1/tenants/{id}/infrastructure")).await.expect(200).body;
    let files = database_files(&app);

    let second = register(&admin, changed("Acme", "premium", &json!({"email": "second@acme.example"}))).await;

    assert_eq!(second["tenant_id"], id);
    assert!(second["notes"].to_string().contains("tier"), "{second}");
    assert_eq!(admin.get(&format!("/admin/v1/tenants/{id}")).await.text("/tier"), "standard");
    let after = admin.get(&format!("/admin/v1/tenants/{id}/infrastructure")).await.expect(200).body;
    assert_eq!(after, before);
    assert_eq!(database_files(&app), files, "nothing was provisioned twice");
}

#[tokio::test]
async fn the_same_registration_twice_makes_nothing_twice() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let first = register(&admin, registration("Acme", "premium")).await;
    let second = register(&admin, registration("Acme", "premium")).await;
    assert_eq!((&first["tenant_id"], &first["user_id"]), (&second["tenant_id"], &second["user_id"]));
    let id = first["tenant_id"].as_str().unwrap();
    let users = admin.get(&format!("/admin/v1/tenants/{id}/users")).await.expect(200);
    assert_eq!(users.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(counts(&admin).await[0], 1);
}

#[tokio::test]
async fn another_billing_address_makes_no_second_account() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let first = register(&admin, registration("Acme", "free")).await;
    let account = format!("/admin/v1/tenants/{}/billing-account", first["tenant_id"].as_str().unwrap());
    let before = admin.get(&account).await.expect(200).body;
    register(&admin, changed("Acme", "free", &json!({"billing_address": "2 Other Street", "email": "b@acme.example"})))
        .await;
    assert_eq!(admin.get(&account).await.expect(200).body, before);
}

#[tokio::test]
async fn unregistering_leaves_nothing_behind() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let pooled = database_files(&app);
    let id = app.tenant("Acme", "premium").await;
    assert!(database_files(&app).len() > pooled.len(), "premium has a file of its own");
    let owner = app.owner_of("Acme").await;
    owner.get("/v1/me").await.expect(200);

    let gone = admin.delete(&format!("/admin/v1/tenants/{id}")).await.expect(200);

    assert_eq!(gone.text("/status"), "deleted");
    assert_eq!(database_files(&app), pooled);
    admin.get(&format!("/admin/v1/tenants/{id}/infrastructure")).await.refuses(404, &[]);
    let account = admin.get(&format!("/admin/v1/tenants/{id}/billing-account")).await.expect(200);
    assert_eq!(account.text("/status"), "closed");
    let users = admin.get(&format!("/admin/v1/tenants/{id}/users")).await.expect(200);
    assert_eq!(users.body["items"], json!([]));
    owner.get("/v1/me").await.refuses(401, &[]);
    owner.get("/sample/hello").await.refuses(401, &[]);
    let login = json!({"email": email_of("Acme"), "password": PASSWORD});
    app.anon().post("/v1/login", login).await.refuses(401, &[]);
}

#[tokio::test]
async fn unregistering_twice_gives_the_same_answer_and_an_unknown_tenant_is_404() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let path = format!("/admin/v1/tenants/{}", app.tenant("Acme", "standard").await);
    let first = admin.delete(&path).await.expect(200);
    let second = admin.delete(&path).await.expect(200);
    assert_eq!(first.body, second.body);
    admin.delete("/admin/v1/tenants/0190a0a0-0000-7000-8000-000000000000").await.refuses(404, &[]);
    admin.delete("/admin/v1/tenants/not-an-id").await.refuses(404, &[]);
}

#[tokio::test]
async fn a_deleted_customers_name_can_be_used_again_with_a_new_id() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let first = app.tenant("Acme", "standard").await;
    admin.delete(&format!("/admin/v1/tenants/{first}")).await.expect(200);
    let second = app.tenant("Acme", "free").await;
    assert_ne!(first, second);
    let found = admin.get("/admin/v1/tenants?customer_name=Acme").await.expect(200);
    assert_eq!(found.text("/items/0/tenant_id"), second);
    assert_eq!(found.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_email_of_another_customer_is_refused_unless_membership_is_meant() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "free").await;
    let before = counts(&admin).await;
    let body = changed("Bolt", "free", &json!({"email": email_of("Acme")}));
    admin.post("/admin/v1/registrations", body.clone()).await.refuses(409, &[]);
    assert_eq!(counts(&admin).await, before, "a refused registration leaves no tenant");

    let mut meant = body;
    meant["allow_membership"] = true.into();
    let bolt = register(&admin, meant).await;
    assert_ne!(bolt["tenant_id"].as_str().unwrap(), acme);
    let login = json!({"email": email_of("Acme"), "password": PASSWORD});
    let choice = app.anon().post("/v1/login", login).await.refuses(409, &[]);
    assert!(choice.body.to_string().contains(&acme), "{}", choice.body);
}

#[tokio::test]
async fn signing_in_looks_at_the_password() {
    let app = TestApp::new().await;
    app.tenant("Acme", "free").await;
    for wrong in ["", "violet-harbour-42-lamps", "violet-Harbour-42-lamps "] {
        let login = json!({"email": email_of("Acme"), "password": wrong});
        let refused = app.anon().post("/v1/login", login).await;
        assert!([401, 422].contains(&refused.status.as_u16()), "{wrong:?}: {}", refused.body);
    }
    app.owner_of("Acme").await.get("/v1/me").await.expect(200);
}

#[tokio::test]
async fn a_missing_tier_makes_no_half_of_a_tenant() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let before = counts(&admin).await;
    admin.post("/admin/v1/registrations", changed("Acme", "", &json!({"tier": null}))).await.refuses(422, &["tier"]);
    admin.post("/admin/v1/registrations", registration("Acme", "gold")).await.refuses(422, &["tier"]);
    assert_eq!(counts(&admin).await, before);
    let login = json!({"email": email_of("Acme"), "password": PASSWORD});
    app.anon().post("/v1/login", login).await.refuses(401, &[]);
}

#[tokio::test]
async fn an_unknown_tenant_gets_no_bill() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    for what in ["bill", "billing-account", "infrastructure", "users", "usage?meter=apis"] {
        admin.get(&format!("/admin/v1/tenants/0190a0a0-0000-7000-8000-000000000000/{what}")).await.refuses(404, &[]);
    }
}

#[tokio::test]
async fn public_sign_up_never_enters_an_existing_tenant() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "premium").await;
    let before = counts(&admin).await;
    let sign_up = |name: &str, email: &str| json!({"email": email, "password": PASSWORD, "customer_name": name, "billing_address": "3 Side Street"});
    app.anon().post("/v1/signup", sign_up("Acme", "intruder@evil.example")).await.refuses(409, &[]);
    app.anon().post("/v1/signup", sign_up(" Acme ", "intruder@evil.example")).await.refuses(409, &[]);
    app.anon().post("/v1/signup", sign_up("Other", &email_of("Acme").to_uppercase())).await.refuses(409, &[]);
    assert_eq!(counts(&admin).await, before);
    let users = admin.get(&format!("/admin/v1/tenants/{acme}/users")).await.expect(200);
    assert_eq!(users.body["items"].as_array().unwrap().len(), 1);

    let new = app.anon().post("/v1/signup", sign_up("Bolt", "owner@bolt.example")).await.expect(201);
    assert_ne!(new.text("/tenant_id"), acme);
    let own = app.signed_in("owner@bolt.example", PASSWORD).await.get("/v1/me").await.expect(200);
    assert_eq!((own.text("/tenant/tier"), own.text("/user/role")), ("free".into(), "owner".into()));
}

#[tokio::test]
async fn sign_up_can_be_closed() {
    let app = TestApp::with("[identity]\nallow_signup = false").await;
    let body = json!({"email": "a@b.example", "password": PASSWORD, "customer_name": "B", "billing_address": "1 Way"});
    app.anon().post("/v1/signup", body).await.refuses(403, &[]);
}
