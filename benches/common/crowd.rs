//! Many tenants with a token each, made straight through the library before the server starts: over HTTP a hundred thousand
//! registrations take longer than what is measured.

use std::{path::Path, sync::Arc};

use axum::extract::FromRef as _;
use tollgate::{
    app::{App, Deps},
    identity::{Client, GrantType, Identity, ScopeSet},
    kernel::{ClientId, Clock as _, SystemClock, SystemRng, TenantId},
    settings::{Flags, Settings, Sources},
    store::{Scope, Store},
    tenants::{Status, Tenant},
};

use crate::support::app::ADMIN_PASSWORD;

/// A tenant and a token of a machine client of its own.
#[derive(Debug, Clone)]
pub struct Member {
    pub id: String,
    pub token: String,
}

/// What a bench's server is told besides its upstreams: tokens outlive the bench, and `iss` needs no port.
pub const SETTINGS: &str = "[server]\nissuer = \"http://bench\"\n[identity]\naccess_token_ttl_s = 86400\n";

/// Makes so many tenants of the tier `standard` in a data folder.
pub async fn make(data: &Path, settings: &str, count: usize) -> Vec<Member> {
    let sources = Sources {
        file: Some(("bench".into(), settings.to_owned())),
        env: vec![("TOLLGATE_ADMIN_PASSWORD".into(), ADMIN_PASSWORD.into())],
        flags: Flags { data: Some(data.display().to_string()), ..Flags::default() },
    };
    let deps = Deps { clock: Arc::new(SystemClock), rng: Arc::new(SystemRng) };
    let app = App::build(Settings::load(&sources).unwrap(), deps).await.unwrap();
    let (store, identity) = (Store::from_ref(app.state()), Identity::from_ref(app.state()));
    let (now, rng) = (SystemClock.now(), SystemRng);
    let tenant = |number| Tenant {
        id: TenantId::generate(now, &rng),
        customer_name: format!("Customer {number}").parse().unwrap(),
        external_id: None,
        tier: "standard".parse().unwrap(),
        status: Status::Active,
        unavailable: None,
        revision: 1,
        created_at: now,
    };
    let mut ids = Vec::with_capacity(count);
    let mut tx = store.begin(Scope::Job("bench")).await.unwrap();
    for tenant in (0..count).map(tenant) {
        assert!(tx.tenant_insert(&tenant).await.unwrap());
        ids.push(tenant.id);
    }
    tx.commit().await.unwrap();
    let client = |id| Client {
        id: ClientId::generate(now, &rng),
        tenant_id: Some(id),
        name: String::new(),
        scope: ScopeSet::parse("usage:read usage:write"),
        secret_hash: Some([0; 32]),
        metadata: tollgate::identity::ClientMetadata {
            grant_types: vec![GrantType::ClientCredentials],
            ..Default::default()
        },
        created_at: now,
    };
    let clients: Vec<Client> = ids.into_iter().map(client).collect();
    let mut tx = store.begin(Scope::Job("bench")).await.unwrap();
    for client in &clients {
        tx.client_insert(client).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut members = Vec::with_capacity(count);
    for client in clients {
        let token = identity.client_credentials(&client, None).await.unwrap().access_token;
        let id = client.tenant_id.unwrap().to_string();
        members.push(Member { id, token: token.expose().to_owned() });
    }
    let listeners = app.listen().await.unwrap();
    app.run(listeners, std::future::ready(())).await.unwrap();
    members
}
