//! Brings the schema up to date, under a lock that both engines know: the row lock of an `UPDATE`.
//!
//! Two nodes that start together queue on the one row of `schema_version`; the second finds nothing left to do. A
//! migration and its version are one transaction. Migrations are never edited once released, only added.

use std::cmp::Ordering;

use super::{Scope, Store, StoreError, Tx};

/// All migrations, in order; the version of the schema is how many of them ran.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_first.sql"),
    include_str!("migrations/0002_events.sql"),
    include_str!("migrations/0003_oauth.sql"),
    include_str!("migrations/0004_clients.sql"),
    include_str!("migrations/0005_audit.sql"),
    include_str!("migrations/0006_amendments.sql"),
    include_str!("migrations/0007_meters_version.sql"),
    include_str!("migrations/0008_journal_counted.sql"),
    include_str!("migrations/0009_mail.sql"),
    include_str!("migrations/0010_links.sql"),
    include_str!("migrations/0011_factors.sql"),
    include_str!("migrations/0012_protocol.sql"),
    include_str!("migrations/0013_totals.sql"),
    include_str!("migrations/0014_profiles.sql"),
    include_str!("migrations/0015_clients_deleted.sql"),
    include_str!("migrations/0016_client_origins.sql"),
    include_str!("migrations/0017_token_lives.sql"),
    include_str!("migrations/0018_browsers_seen.sql"),
    include_str!("migrations/0019_forgetting.sql"),
    include_str!("migrations/0020_answers.sql"),
    include_str!("migrations/0021_consents_by_tenant.sql"),
    include_str!("migrations/0022_spent_stamps.sql"),
    include_str!("migrations/0023_quota_crossings.sql"),
    include_str!("migrations/0030_webhooks.sql"),
    include_str!("migrations/0040_invoices.sql"),
    include_str!("migrations/0041_cadences.sql"),
    include_str!("migrations/0042_plan_effects.sql"),
    include_str!("migrations/0043_billing_due.sql"),
    include_str!("migrations/0044_invoice_evidence.sql"),
    include_str!("migrations/0046_stripe.sql"),
    include_str!("migrations/0047_payment_events.sql"),
    include_str!("migrations/0048_costs.sql"),
    include_str!("migrations/0049_limited.sql"),
    include_str!("migrations/0050_saga.sql"),
    include_str!("migrations/0051_states.sql"),
    include_str!("migrations/0052_places.sql"),
    include_str!("migrations/0053_provisioning_requests.sql"),
    include_str!("migrations/0060_audit_chain.sql"),
    include_str!("migrations/0061_plan_bills.sql"),
    include_str!("migrations/0070_tier_changes.sql"),
    include_str!("migrations/0075_offboarding.sql"),
    include_str!("migrations/0080_drift.sql"),
    include_str!("migrations/0081_webhook_format.sql"),
];

/// `CREATE TABLE IF NOT EXISTS` by two sessions at once fails for one of them on `PostgreSQL` (a unique index of the
/// catalogue refuses it, or the tuple was concurrently updated); it succeeds when tried again.
const CREATE_ATTEMPTS: usize = 5;

/// An error unless the schema is the one that this program makes. Changes nothing.
pub(super) async fn check(store: &Store) -> Result<(), StoreError> {
    let mut tx = store.read(Scope::Job("migrate")).await?;
    let version = tx.query("SELECT version FROM schema_version WHERE id = 1").map_one(|row| row.get("version"));
    let found: i64 = version.await?.unwrap_or(0);
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    match found.cmp(&known) {
        Ordering::Less => Err(StoreError::Older { found, known }),
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(StoreError::Newer { found, known }),
    }
}

pub(super) async fn run(store: &Store) -> Result<(), StoreError> {
    for attempt in 1..=CREATE_ATTEMPTS {
        match create_version_table(store).await {
            Err(StoreError::Duplicate | StoreError::Database(sqlx::Error::Database(_)))
                if attempt < CREATE_ATTEMPTS => {}
            done => {
                done?;
                break;
            }
        }
    }
    let mut tx = store.begin(Scope::Job("migrate")).await?;
    let found = lock_version(&mut tx).await?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        let ddl = tx.engine().ddl(migration);
        tx.script(ddl).await?;
    }
    tx.query("UPDATE schema_version SET version = $1 WHERE id = 1").bind(known).execute().await?;
    tx.commit().await
}

async fn create_version_table(store: &Store) -> Result<(), StoreError> {
    let mut tx = store.begin(Scope::Job("migrate")).await?;
    tx.query("CREATE TABLE IF NOT EXISTS schema_version (id BIGINT PRIMARY KEY, version BIGINT NOT NULL)")
        .execute()
        .await?;
    tx.query("INSERT INTO schema_version (id, version) VALUES (1, 0) ON CONFLICT DO NOTHING").execute().await?;
    tx.commit().await
}

async fn lock_version(tx: &mut Tx) -> Result<i64, StoreError> {
    let version = tx
        .query("UPDATE schema_version SET version = version WHERE id = 1 RETURNING version")
        .map_one(|row| row.get("version"))
        .await?;
    version.ok_or_else(|| StoreError::Corrupt("schema_version: no row".into()))
}
