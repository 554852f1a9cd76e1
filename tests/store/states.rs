//! Which state of a tenant may follow which: what the store refuses, and what the database refuses whoever writes.

use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tollgate::{
    kernel::{Secret, SeededRng, TenantId, Timestamp},
    store::{Scope, Store},
    tenants::{Failure, Status, Suspension, TRANSITIONS, Tenant},
};

use crate::support::postgres;

const JOB: Scope = Scope::Job("test");

fn now() -> Timestamp {
    "2026-11-10T12:00:00Z".parse().unwrap()
}

fn states() -> [Status; 7] {
    [
        Status::Provisioning,
        Status::Active,
        Status::Suspended(Suspension::Asked),
        Status::ChangingTier { to: "premium".parse().unwrap() },
        Status::Failed(Failure { step: "user".into(), reason: "no".into(), retryable: true }),
        Status::Offboarding,
        Status::Deleted { at: now() },
    ]
}

fn may_follow(from: &Status, to: &Status) -> bool {
    from.name() == to.name() || TRANSITIONS.contains(&(from.name(), to.name()))
}

/// A tenant of each pair of states, in the first.
async fn tenants(store: &Store) -> Vec<(Tenant, Status)> {
    let rng = SeededRng::new(7);
    let mut made = Vec::new();
    for (number, (from, to)) in states().into_iter().flat_map(|from| states().map(|to| (from.clone(), to))).enumerate()
    {
        let tenant = Tenant {
            id: TenantId::generate(now(), &rng),
            customer_name: format!("Customer {number}").parse().unwrap(),
            external_id: None,
            tier: "standard".parse().unwrap(),
            status: from,
            unavailable: None,
            revision: 1,
            created_at: now(),
        };
        let mut tx = store.begin(JOB).await.unwrap();
        assert!(tx.tenant_insert(&tenant).await.unwrap());
        tx.commit().await.unwrap();
        made.push((tenant, to));
    }
    made
}

async fn the_store_refuses(store: &Store) {
    for (tenant, to) in tenants(store).await {
        let (from, id) = (tenant.status.clone(), tenant.id);
        let mut tx = store.begin(JOB).await.unwrap();
        let written = tx.tenant_update(&Tenant { status: to.clone(), ..tenant }, now()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(written, may_follow(&from, &to), "{} to {}", from.name(), to.name());
        let kept = store.read(JOB).await.unwrap().tenant_by_id(id).await.unwrap().unwrap();
        assert_eq!(kept.status, if written { to } else { from });
    }
}

const UPDATE: &str = "UPDATE tenants SET status = $2 WHERE tenant_id = $1";
const INSERT: &str = "INSERT INTO tenants (tenant_id, customer_name, tier, status, revision, created_at, updated_at)
    SELECT $1, 'Other', tier, 'paused', revision, created_at, updated_at FROM tenants LIMIT 1";

#[tokio::test]
async fn the_embedded_store_refuses_every_pair_that_is_not_in_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.db");
    let store = Store::open_sqlite(&file).await.unwrap();
    the_store_refuses(&store).await;
}

#[tokio::test]
async fn a_postgres_store_refuses_every_pair_that_is_not_in_the_table() {
    let Some(server) = postgres::shared() else { return };
    let store = Store::open_postgres(&Secret::new(server.database().await), 5).await.unwrap();
    the_store_refuses(&store).await;
}

/// What became of a change that only the database could refuse.
fn as_it_may<T: std::fmt::Debug>(tenant: &Tenant, to: &Status, done: &Result<T, sqlx::Error>) {
    let (from, to_name) = (tenant.status.name(), to.name());
    assert_eq!(done.is_ok(), may_follow(&tenant.status, to), "{from} to {to_name}: {done:?}");
}

#[tokio::test]
async fn a_statement_of_ones_own_is_refused_by_the_embedded_database_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.db");
    let store = Store::open_sqlite(&file).await.unwrap();
    let pairs = tenants(&store).await;
    let mut raw = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    for (tenant, to) in pairs {
        let update = sqlx::query(UPDATE).bind(tenant.id.as_uuid()).bind(to.name());
        as_it_may(&tenant, &to, &update.execute(&mut raw).await);
    }
    let id = TenantId::generate(now(), &SeededRng::new(9));
    assert!(sqlx::query(INSERT).bind(id.as_uuid()).execute(&mut raw).await.is_err(), "not a state at all");
}

#[tokio::test]
async fn a_statement_of_ones_own_is_refused_by_postgres_all_the_same() {
    let Some(server) = postgres::shared() else { return };
    let address = server.database().await;
    let store = Store::open_postgres(&Secret::new(address.clone()), 5).await.unwrap();
    let pairs = tenants(&store).await;
    let mut raw = PgConnection::connect(&address).await.unwrap();
    for (tenant, to) in pairs {
        let update = sqlx::query(UPDATE).bind(tenant.id.as_uuid()).bind(to.name());
        as_it_may(&tenant, &to, &update.execute(&mut raw).await);
    }
    let id = TenantId::generate(now(), &SeededRng::new(9));
    assert!(sqlx::query(INSERT).bind(id.as_uuid()).execute(&mut raw).await.is_err(), "not a state at all");
}
