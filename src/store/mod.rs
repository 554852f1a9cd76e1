//! The one seam to a database: embedded `SQLite`, or `PostgreSQL`.
//!
//! A [`Tx`] is opened with a [`Scope`] and has one method per query; the methods live in one file per feature. Each
//! query is written once and runs on both engines (`dialect.rs` says what differs). Nothing above this module asks
//! which engine runs.
//!
//! Invariants: what a committed transaction wrote survives a crash (`synchronous = FULL`, or the server's default);
//! a dropped transaction leaves nothing; the schema is brought up to date under a lock before anything else happens.

mod dialect;
mod error;
mod migrate;
mod query;
mod scope;
mod value;

mod audit;
mod billing;
mod books;
mod cadences;
mod corrections;
mod costs;
mod domains;
mod drift;
mod erasing;
mod events;
mod evidence;
mod exported;
mod factors;
mod forgetting;
mod idempotency;
mod identity;
mod invoices;
mod links;
mod mail;
mod metering;
mod oauth;
mod offboarding;
mod onboarding;
mod outbox;
mod payment_events;
mod places;
mod provisioning;
mod requests;
mod sign_outs;
mod strays;
mod stripe;
mod stripe_usage;
mod tenants;
mod tier_changes;
mod users;
mod wallet;
mod webhooks;

use std::{os::unix::fs::OpenOptionsExt as _, path::Path, str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection as _, PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use tokio::sync::Notify;

pub use audit::{ChainEnds, acting_from, acting_still};
pub use billing::PlanRow;
pub use books::{BilledThrough, BookRow, ByTenant};
pub use cadences::{BillingProgress, DueAccount};
pub use costs::CostRow;
pub use dialect::Engine;
pub use erasing::{Erased, add as add_erased};
pub use error::StoreError;
pub use events::EventFilter;
pub use exported::DayTotal;
pub use idempotency::Claim;
pub use invoices::InvoiceFilter;
pub use query::Tx;
pub use scope::Scope;
pub use strays::{Known, Unbilled};

use crate::kernel::Secret;

/// A statement waits this long for another process's lock on the embedded store.
const SQLITE_BUSY: Duration = Duration::from_secs(10);
/// A transaction waits this long for a connection.
const ACQUIRE: Duration = Duration::from_secs(10);
/// Readers of the embedded store; WAL lets them run beside the writer.
const SQLITE_READERS: u32 = 4;
/// Pages a connection keeps in memory: a negative number is KiB (`SQLite` documentation, "PRAGMA `cache_size`").
const SQLITE_CACHE: &str = "-16384";
/// Pages of 4 KiB in the write-ahead log before they move into the database. A page that is written often moves once.
const SQLITE_CHECKPOINT: &str = "4000";
/// Statements a connection keeps prepared.
const STATEMENT_CACHE: usize = 256;

/// A handle to the database; cheap to clone.
#[derive(Clone)]
pub struct Store {
    pools: Pools,
    /// Told when a commit has left something to deliver.
    deliveries: Arc<Notify>,
}

#[derive(Clone)]
enum Pools {
    /// One writer, because `SQLite` has one; several readers.
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

impl Store {
    /// Opens the embedded store in `file`, making it when it is not there, and brings its schema up to date.
    pub async fn open_sqlite(file: &Path) -> Result<Self, StoreError> {
        // For its owner alone; SQLite makes its other files like it. Whatever is wrong with the place, SQLite says it better.
        // One that is there is opened by SQLite alone: to close it would give up locks that this process has of it.
        drop(std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(file));
        Self::sqlite(file, true).migrated().await
    }

    /// Opens the embedded store that is in `file`, to look at it: an error unless its schema is up to date.
    pub async fn look_sqlite(file: &Path) -> Result<Self, StoreError> {
        Self::sqlite(file, false).checked().await
    }

    fn sqlite(file: &Path, make: bool) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(make)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(SQLITE_BUSY)
            // What a statement that fails half-way undoes is kept in memory, not in a file of its own.
            .pragma("temp_store", "memory")
            .pragma("cache_size", SQLITE_CACHE)
            .pragma("wal_autocheckpoint", SQLITE_CHECKPOINT)
            .statement_cache_capacity(STATEMENT_CACHE);
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE)
                // After a full disk SQLite has rolled back by itself, and a connection that thinks otherwise is stuck.
                .after_release(|connection, _| {
                    Box::pin(async move {
                        connection.ping().await?;
                        Ok(!connection.is_in_transaction())
                    })
                })
                .connect_lazy_with(options.clone())
        };
        Self::over(Pools::Sqlite { writer: pool(1), readers: pool(SQLITE_READERS) })
    }

    /// Connects to `PostgreSQL` and brings its schema up to date.
    pub async fn open_postgres(url: &Secret, max_connections: u32) -> Result<Self, StoreError> {
        let (store, options) = Self::postgres(url, max_connections)?;
        connected(store.migrated().await, options).await
    }

    /// Connects to `PostgreSQL` to look at it: an error unless its schema is up to date.
    pub async fn look_postgres(url: &Secret, max_connections: u32) -> Result<Self, StoreError> {
        let (store, options) = Self::postgres(url, max_connections)?;
        connected(store.checked().await, options).await
    }

    fn postgres(url: &Secret, max_connections: u32) -> Result<(Self, PgConnectOptions), StoreError> {
        let options = PgConnectOptions::from_str(url.expose())
            .map_err(|error| StoreError::Address(error.to_string()))?
            .statement_cache_capacity(STATEMENT_CACHE)
            .application_name("tollgate");
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE)
            .connect_lazy_with(options.clone());
        Ok((Self::over(Pools::Postgres(pool)), options))
    }

    fn over(pools: Pools) -> Self {
        Self { pools, deliveries: Arc::default() }
    }

    async fn migrated(self) -> Result<Self, StoreError> {
        migrate::run(&self).await?;
        Ok(self)
    }

    async fn checked(self) -> Result<Self, StoreError> {
        migrate::check(&self).await?;
        Ok(self)
    }

    /// Which database answers; for logs and tests, not for decisions.
    pub fn engine(&self) -> Engine {
        match &self.pools {
            Pools::Sqlite { .. } => Engine::Sqlite,
            Pools::Postgres(_) => Engine::Postgres,
        }
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self, scope: Scope) -> Result<Tx, StoreError> {
        match &self.pools {
            Pools::Sqlite { writer, .. } => {
                let transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
                Ok(Tx::sqlite(scope, transaction, Arc::clone(&self.deliveries)))
            }
            Pools::Postgres(pool) => Ok(Tx::postgres(scope, pool.begin().await?, Arc::clone(&self.deliveries))),
        }
    }

    /// Begins a transaction that only reads, and sees one moment throughout.
    pub async fn read(&self, scope: Scope) -> Result<Tx, StoreError> {
        const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        match &self.pools {
            Pools::Sqlite { readers, .. } => {
                Ok(Tx::sqlite(scope, readers.begin().await?, Arc::clone(&self.deliveries)))
            }
            Pools::Postgres(pool) => {
                Ok(Tx::postgres(scope, pool.begin_with(SNAPSHOT).await?, Arc::clone(&self.deliveries)))
            }
        }
    }

    /// Resolves when a commit of this process has left something to deliver, since it last did.
    pub async fn something_to_deliver(&self) {
        self.deliveries.notified().await;
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.read(Scope::Job("ping"))
            .await?
            .query("SELECT CAST(1 AS BIGINT) AS one")
            .map_one(|row| row.get::<i64>("one"))
            .await?;
        Ok(())
    }

    /// Closes every connection after the work under way.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }
}

/// The pool says only that it waited; a connection without one says for what.
async fn connected(opened: Result<Store, StoreError>, options: PgConnectOptions) -> Result<Store, StoreError> {
    match opened {
        Err(waited @ StoreError::Database(sqlx::Error::PoolTimedOut)) => {
            match tokio::time::timeout(ACQUIRE, options.connect()).await {
                Ok(Err(reason)) => Err(reason.into()),
                _ => Err(waited),
            }
        }
        done => done,
    }
}
