//! The people of the tests, as types: nobody, the administrator, a tenant's user.

use axum::http::Method;
use serde_json::{Value, json};

use super::app::{ADMIN_EMAIL, ADMIN_PASSWORD, Reply, TestApp};

/// Every user's password.
pub const PASSWORD: &str = "violet-Harbour-42-lamps";

/// Somebody with a token, or nobody.
pub struct Actor<'a> {
    pub app: &'a TestApp,
    pub token: String,
}

impl Actor<'_> {
    pub async fn get(&self, path: &str) -> Reply {
        self.app.call(Method::GET, path, &self.token, Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.app.call(Method::POST, path, &self.token, body).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.app.call(Method::PUT, path, &self.token, body).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        self.app.call(Method::PATCH, path, &self.token, body).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.app.call(Method::DELETE, path, &self.token, Value::Null).await
    }
}

impl TestApp {
    /// Nobody.
    pub fn anon(&self) -> Actor<'_> {
        Actor { app: self, token: String::new() }
    }

    /// The platform administrator.
    pub async fn admin(&self) -> Actor<'_> {
        self.signed_in(ADMIN_EMAIL, ADMIN_PASSWORD).await
    }

    /// Somebody who signs in.
    pub async fn signed_in(&self, email: &str, password: &str) -> Actor<'_> {
        let login = self.anon().post("/v1/login", json!({"email": email, "password": password})).await.expect(200);
        Actor { app: self, token: login.text("/access_token") }
    }

    /// A new tenant on a tier; its id.
    pub async fn tenant(&self, name: &str, tier: &str) -> String {
        let admin = self.admin().await;
        admin.post("/admin/v1/registrations", registration(name, tier)).await.expect(201).text("/tenant_id")
    }

    /// The first user of a tenant made by [`Self::tenant`].
    pub async fn owner_of(&self, name: &str) -> Actor<'_> {
        self.signed_in(&email_of(name), PASSWORD).await
    }
}

/// The email of the first user of a tenant.
pub fn email_of(name: &str) -> String {
    format!("owner@{}.example", name.to_lowercase().replace(' ', "-"))
}

/// A registration as an administrator sends it.
pub fn registration(name: &str, tier: &str) -> Value {
    json!({
        "email": email_of(name),
        "customer_name": name,
        "billing_address": "1 Main Street",
        "tier": tier,
        "password": PASSWORD,
    })
}
