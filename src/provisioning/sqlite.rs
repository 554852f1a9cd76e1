//! The `sqlite` driver: `pool.db`, one file with a row space per tenant, and `silo/<tenant id>.db`, a file each.
//!
//! Both have the same two tables: `spaces`, one row per tenant that lives in the file, and `items`, the tenant's data,
//! which refers to it. Deleting a row space deletes its items; deleting a silo deletes the file and its journals.
//!
//! The pool's file stays open once something was made in it: to open and close it for each tenant costs several syncs, which
//! was more than half of what a tenant costs that a token names. A silo's is closed as soon as it is made.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions, sqlite::SqliteJournalMode};
use tokio::sync::Mutex;

use super::Error;
use crate::kernel::{Isolation, TenantId};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS spaces (tenant_id BLOB PRIMARY KEY) STRICT;
    CREATE TABLE IF NOT EXISTS items (
        tenant_id BLOB NOT NULL REFERENCES spaces ON DELETE CASCADE,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (tenant_id, key)
    ) STRICT;";

/// Makes places in a folder of `SQLite` files.
#[derive(Clone)]
pub struct SqliteDriver {
    folder: PathBuf,
    /// The pool's file, with its tables.
    pool: Arc<Mutex<Option<SqliteConnection>>>,
}

impl SqliteDriver {
    /// The name in settings and in the store.
    pub const NAME: &'static str = "sqlite";

    /// Keeps its files in `folder`, which is made when it is needed.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, pool: Arc::default() }
    }

    /// The file a tenant's data is in.
    pub fn file(&self, tenant: TenantId, isolation: Isolation) -> PathBuf {
        match isolation {
            Isolation::Pool => self.folder.join("pool.db"),
            Isolation::Silo => self.folder.join("silo").join(format!("{tenant}.db")),
        }
    }

    /// An error where the folder is none, or can only be read.
    pub(super) async fn preflight(&self, _: Isolation) -> Result<(), Error> {
        let failed = |source: io::Error| driver_error("find room", source.into());
        match tokio::fs::metadata(&self.folder).await {
            Ok(found) if !found.is_dir() => Err(failed(io::ErrorKind::NotADirectory.into())),
            Ok(found) if found.permissions().readonly() => Err(failed(io::ErrorKind::PermissionDenied.into())),
            Ok(_) => Ok(()),
            // It is made with the first tenant.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) async fn create(&self, tenant: TenantId, isolation: Isolation) -> Result<String, Error> {
        let failed = |source| driver_error("make a place", source);
        let file = self.file(tenant, isolation);
        match isolation {
            Isolation::Silo => {
                let mut db = with_tables(&file).await.map_err(failed)?;
                insert_space(&mut db, tenant).await.map_err(failed)?;
                db.close().await.map_err(|error| failed(error.into()))?;
            }
            Isolation::Pool => {
                let mut pool = self.pool.lock().await;
                // Out of its place until it is done: one that failed, or whose caller went away, is not used again.
                let kept = pool.take().filter(|_| file.exists());
                let mut db = match kept {
                    Some(db) => db,
                    None => with_tables(&file).await.map_err(failed)?,
                };
                insert_space(&mut db, tenant).await.map_err(failed)?;
                *pool = Some(db);
            }
        }
        Ok(Self::location(tenant, isolation))
    }

    /// `pool.db#<tenant>` or `silo/<tenant>.db`, below the driver's folder.
    fn location(tenant: TenantId, isolation: Isolation) -> String {
        match isolation {
            Isolation::Pool => format!("pool.db#{tenant}"),
            Isolation::Silo => format!("silo/{tenant}.db"),
        }
    }

    pub(super) async fn carry_over(&self, tenant: TenantId, from: Isolation, to: Isolation) -> Result<(), Error> {
        let failed = |source| driver_error("carry a tenant's data over", source);
        let source_file = self.file(tenant, from);
        let Some(source_name) = source_file.to_str() else {
            return Err(failed(
                io::Error::new(io::ErrorKind::InvalidInput, "the data folder's name is not UTF-8").into(),
            ));
        };
        let mut db = open(&self.file(tenant, to)).await.map_err(failed)?;
        let result = async {
            sqlx::query("ATTACH DATABASE $1 AS source").bind(source_name).execute(&mut db).await?;
            sqlx::query(
                "INSERT INTO main.items (tenant_id, key, value)
                 SELECT tenant_id, key, value FROM source.items WHERE tenant_id = $1
                 ON CONFLICT (tenant_id, key) DO UPDATE SET value = excluded.value",
            )
            .bind(tenant.as_uuid())
            .execute(&mut db)
            .await
        };
        result.await.map_err(|error| failed(error.into()))?;
        db.close().await.map_err(|error| failed(error.into()))
    }

    pub(super) async fn destroy(&self, tenant: TenantId, isolation: Isolation) -> Result<(), Error> {
        let failed = |source| driver_error("take a place down", source);
        let file = self.file(tenant, isolation);
        match isolation {
            Isolation::Silo => remove_database(&file).await.map_err(|error| failed(error.into())),
            Isolation::Pool if !file.exists() => Ok(()),
            Isolation::Pool => {
                let mut db = open(&file).await.map_err(failed)?;
                sqlx::query("DELETE FROM spaces WHERE tenant_id = $1")
                    .bind(tenant.as_uuid())
                    .execute(&mut db)
                    .await
                    .map_err(|error| failed(error.into()))?;
                db.close().await.map_err(|error| failed(error.into()))
            }
        }
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

fn driver_error(verb: &'static str, source: Cause) -> Error {
    Error::Driver { driver: SqliteDriver::NAME, verb, source }
}

async fn with_tables(file: &Path) -> Result<SqliteConnection, Cause> {
    let mut db = open(file).await?;
    sqlx::raw_sql(SCHEMA).execute(&mut db).await?;
    Ok(db)
}

async fn insert_space(db: &mut SqliteConnection, tenant: TenantId) -> Result<(), Cause> {
    let sql = "INSERT INTO spaces (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING";
    sqlx::query(sql).bind(tenant.as_uuid()).execute(db).await?;
    Ok(())
}

async fn open(file: &Path) -> Result<SqliteConnection, Cause> {
    if let Some(folder) = file.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    // For its owner alone; SQLite makes its other files like it.
    drop(tokio::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file).await?);
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(std::time::Duration::from_secs(10));
    Ok(options.connect().await?)
}

/// Removes a database file with its write-ahead log and index; what is gone already is no error.
async fn remove_database(file: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        match tokio::fs::remove_file(PathBuf::from(name)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{SeededRng, Timestamp};

    async fn items(driver: &SqliteDriver, tenant: TenantId, isolation: Isolation) -> Vec<String> {
        let mut db = open(&driver.file(tenant, isolation)).await.unwrap();
        let sql = "SELECT key FROM items WHERE tenant_id = $1 ORDER BY key";
        sqlx::query_scalar(sql).bind(tenant.as_uuid()).fetch_all(&mut db).await.unwrap()
    }

    async fn put(driver: &SqliteDriver, tenant: TenantId, key: &str) {
        let mut db = open(&driver.file(tenant, Isolation::Pool)).await.unwrap();
        let sql = "INSERT INTO items (tenant_id, key, value) VALUES ($1, $2, x'00')";
        sqlx::query(sql).bind(tenant.as_uuid()).bind(key).execute(&mut db).await.unwrap();
    }

    #[tokio::test]
    async fn a_tenant_moves_from_the_pool_to_its_silo_with_its_data_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let driver = SqliteDriver::new(folder.path().join("infrastructure"));
        let (rng, now) = (SeededRng::new(1), Timestamp::from_secs(1).unwrap());
        let (mover, stayer) = (TenantId::generate(now, &rng), TenantId::generate(now, &rng));
        for tenant in [mover, stayer] {
            driver.create(tenant, Isolation::Pool).await.unwrap();
            driver.create(tenant, Isolation::Pool).await.unwrap();
            put(&driver, tenant, "note").await;
        }
        driver.create(mover, Isolation::Silo).await.unwrap();
        driver.carry_over(mover, Isolation::Pool, Isolation::Silo).await.unwrap();
        driver.destroy(mover, Isolation::Pool).await.unwrap();
        assert_eq!(items(&driver, mover, Isolation::Silo).await, ["note"]);
        assert!(items(&driver, mover, Isolation::Pool).await.is_empty());
        assert_eq!(items(&driver, stayer, Isolation::Pool).await, ["note"]);
    }

    #[tokio::test]
    async fn taking_down_twice_is_no_error_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let driver = SqliteDriver::new(folder.path().to_owned());
        let tenant = TenantId::generate(Timestamp::from_secs(1).unwrap(), &SeededRng::new(2));
        driver.create(tenant, Isolation::Silo).await.unwrap();
        driver.destroy(tenant, Isolation::Silo).await.unwrap();
        driver.destroy(tenant, Isolation::Silo).await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join("silo")).unwrap().count(), 0);
    }
}
