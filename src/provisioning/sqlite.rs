//! The `sqlite` driver: `pool.db`, one file with a row space per tenant, and `silo/<tenant id>.db`, a file each. Other pools
//! than the default one are `pools/<name>.db`; a bridge is a file of the tenant's own as a silo is, `bridge/<tenant id>.db`.
//!
//! All have the same two tables: `spaces`, one row per tenant that lives in the file, and `items`, the tenant's data,
//! which refers to it. Deleting a row space deletes its items; deleting a silo deletes the file and its journals.
//!
//! A pool's file stays open once something was made in it: to open and close it for each tenant costs several syncs, which
//! was more than half of what a tenant costs that a token names. A silo's is closed as soon as it is made.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions,
    sqlite::SqliteJournalMode,
};
use tokio::sync::Mutex;

use super::{
    Error,
    driver::{Driver, Work},
    model::{Finding, Made, Place, Pool, Tally},
};
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
    /// The pools' files, with their tables.
    pools: Arc<Mutex<HashMap<PathBuf, SqliteConnection>>>,
}

impl SqliteDriver {
    /// The name in settings and in the store.
    pub const NAME: &'static str = "sqlite";

    /// Keeps its files in `folder`, which is made when it is needed.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, pools: Arc::default() }
    }

    /// The file a tenant's data is in, below the driver's folder.
    fn name_of(place: &Place) -> String {
        let tenant = place.tenant_id;
        match place.isolation {
            Isolation::Pool if place.pool == Pool::DEFAULT => "pool.db".to_owned(),
            Isolation::Pool => format!("pools/{}.db", place.pool),
            Isolation::Bridge => format!("bridge/{tenant}.db"),
            Isolation::Silo => format!("silo/{tenant}.db"),
        }
    }

    fn file(&self, place: &Place) -> PathBuf {
        self.folder.join(Self::name_of(place))
    }

    /// `pool.db#<tenant>` or `silo/<tenant>.db`, below the driver's folder.
    fn location(place: &Place) -> String {
        let name = Self::name_of(place);
        if place.isolation == Isolation::Pool { format!("{name}#{}", place.tenant_id) } else { name }
    }

    async fn make(&self, place: &Place) -> Result<(), Cause> {
        let file = self.file(place);
        if place.isolation != Isolation::Pool {
            let mut db = with_tables(&file).await?;
            insert_space(&mut db, place.tenant_id).await?;
            return Ok(db.close().await?);
        }
        let mut pools = self.pools.lock().await;
        // Out of its place until it is done: one that failed, or whose caller went away, is not used again.
        let kept = pools.remove(&file).filter(|_| file.exists());
        let mut db = match kept {
            Some(db) => db,
            None => with_tables(&file).await?,
        };
        insert_space(&mut db, place.tenant_id).await?;
        pools.insert(file, db);
        Ok(())
    }

    async fn find(&self, place: &Place) -> Result<Finding, Cause> {
        let file = self.file(place);
        if !file.exists() {
            return Ok(Finding::Absent);
        }
        let mut db = open(&file).await?;
        let has = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('spaces', 'items')";
        let tables: i64 = sqlx::query_scalar(has).fetch_one(&mut db).await?;
        let spaces: i64 = if tables == 2 {
            let has = "SELECT COUNT(*) FROM spaces WHERE tenant_id = $1";
            sqlx::query_scalar(has).bind(place.tenant_id.as_uuid()).fetch_one(&mut db).await?
        } else {
            0
        };
        db.close().await?;
        Ok(match (spaces, place.isolation) {
            (1.., _) => Finding::Present,
            (_, Isolation::Pool) => Finding::Absent,
            _ => Finding::Drifted("the file has no space for the tenant".to_owned()),
        })
    }

    /// Has the same rows there as here, in one transaction.
    async fn copy(&self, from: &Place, to: &Place) -> Result<Tally, Cause> {
        let source_file = self.file(from);
        let unfit = || io::Error::new(io::ErrorKind::InvalidInput, "the data folder's name is not UTF-8");
        let source_name = source_file.to_str().ok_or_else(unfit)?;
        if from.isolation != Isolation::Pool {
            let mut db = open(&source_file).await?;
            let others = others(&mut db).await?;
            db.close().await?;
            if !others.is_empty() {
                let names: Vec<String> = others.into_iter().map(|(name, _)| name).collect();
                return Err(
                    format!("its file has tables besides items, which do not go along: {}", names.join(", ")).into()
                );
            }
        }
        let mut db = open(&self.file(to)).await?;
        sqlx::query("ATTACH DATABASE $1 AS source").bind(source_name).execute(&mut db).await?;
        let mut tx = db.begin_with("BEGIN IMMEDIATE").await?;
        for sql in [
            "DELETE FROM main.items WHERE tenant_id = $1
                 AND key NOT IN (SELECT key FROM source.items WHERE tenant_id = $1)",
            "INSERT INTO main.items (tenant_id, key, value)
                 SELECT tenant_id, key, value FROM source.items WHERE tenant_id = $1
                 ON CONFLICT (tenant_id, key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
        ] {
            sqlx::query(sql).bind(from.tenant_id.as_uuid()).execute(&mut *tx).await?;
        }
        let read = "SELECT key, value FROM source.items WHERE tenant_id = $1 ORDER BY key";
        let (there, here) = (tally(&mut tx, read, from).await?, tally(&mut tx, ROWS, to).await?);
        if there != here {
            return Err(format!("{} rows were read and {} arrived, or others", there.rows, here.rows).into());
        }
        tx.commit().await?;
        db.close().await?;
        Ok(here)
    }

    async fn look_at_rows(&self, place: &Place) -> Result<Tally, Cause> {
        if self.find(place).await? != Finding::Present {
            return Ok(Tally::default());
        }
        let mut db = open(&self.file(place)).await?;
        let mut found = tally(&mut db, ROWS, place).await?;
        if place.isolation != Isolation::Pool {
            found.rows += others(&mut db).await?.iter().map(|(_, rows)| rows).sum::<u64>();
        }
        db.close().await?;
        Ok(found)
    }

    /// The places of a folder, each a file of a tenant's own.
    async fn own_files(&self, isolation: Isolation) -> Result<Vec<Place>, Cause> {
        let names = names_in(&self.folder.join(isolation.name())).await?;
        let tenants = names.iter().filter_map(|name| name.strip_suffix(".db")?.parse::<TenantId>().ok());
        Ok(tenants.map(|tenant| Place::new(tenant, isolation, String::new())).map(located).collect())
    }

    /// The row spaces of all pools.
    async fn spaces(&self) -> Result<Vec<Place>, Cause> {
        let own = names_in(&self.folder.join("pools")).await?;
        let own = own.iter().filter_map(|name| name.strip_suffix(".db").map(str::to_owned));
        let mut found = Vec::new();
        for pool in [Pool::DEFAULT.to_owned()].into_iter().chain(own) {
            let file = self.file(&Place::new(TenantId::from_uuid(uuid::Uuid::nil()), Isolation::Pool, pool.clone()));
            if !file.exists() {
                continue;
            }
            let mut db = open(&file).await?;
            let has = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'spaces'";
            let tables: i64 = sqlx::query_scalar(has).fetch_one(&mut db).await?;
            if tables == 1 {
                let all: Vec<uuid::Uuid> =
                    sqlx::query_scalar("SELECT tenant_id FROM spaces").fetch_all(&mut db).await?;
                let place = |id| located(Place::new(TenantId::from_uuid(id), Isolation::Pool, pool.clone()));
                found.extend(all.into_iter().map(place));
            }
            db.close().await?;
        }
        Ok(found)
    }

    async fn all(&self) -> Result<Vec<Place>, Cause> {
        let mut found = self.spaces().await?;
        for isolation in [Isolation::Bridge, Isolation::Silo] {
            found.extend(self.own_files(isolation).await?);
        }
        Ok(found)
    }

    async fn take_down(&self, place: &Place) -> Result<(), Cause> {
        let file = self.file(place);
        if place.isolation != Isolation::Pool {
            return Ok(remove_database(&file).await?);
        }
        if self.find(place).await? == Finding::Absent {
            return Ok(());
        }
        let mut db = open(&file).await?;
        let gone = "DELETE FROM spaces WHERE tenant_id = $1";
        sqlx::query(gone).bind(place.tenant_id.as_uuid()).execute(&mut db).await?;
        Ok(db.close().await?)
    }

    /// Takes a row space away in the transaction that looks at it: whoever comes to write then finds none to write to, also with a
    /// file that is still open.
    async fn take_down_as(&self, place: &Place, carried: &Tally) -> Result<Option<Tally>, Cause> {
        if self.find(place).await? == Finding::Present {
            let mut db = open(&self.file(place)).await?;
            let mut tx = db.begin_with("BEGIN IMMEDIATE").await?;
            let found = tally(&mut tx, ROWS, place).await?;
            if found.rows > 0 && found != *carried {
                return Ok(Some(found));
            }
            let gone = if place.isolation == Isolation::Pool {
                "DELETE FROM spaces WHERE tenant_id = $1"
            } else {
                "DROP TABLE items; DROP TABLE spaces"
            };
            if place.isolation == Isolation::Pool {
                sqlx::query(gone).bind(place.tenant_id.as_uuid()).execute(&mut *tx).await?;
            } else {
                sqlx::raw_sql(gone).execute(&mut *tx).await?;
            }
            tx.commit().await?;
            db.close().await?;
        }
        self.take_down(place).await.map(|()| None)
    }
}

/// A tenant's rows.
const ROWS: &str = "SELECT key, value FROM main.items WHERE tenant_id = $1 ORDER BY key";

/// Tables with rows that are not this driver's, and how many: of what an application made in a file of its tenant's own.
async fn others(db: &mut SqliteConnection) -> Result<Vec<(String, u64)>, Cause> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('spaces', 'items')
        AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *db).await?;
    let mut found = Vec::new();
    for name in names {
        let count = AssertSqlSafe(format!("SELECT COUNT(*) FROM \"{}\"", name.replace('"', "\"\"")));
        let rows: i64 = sqlx::query_scalar(count).fetch_one(&mut *db).await?;
        if rows > 0 {
            found.push((name, rows.unsigned_abs()));
        }
    }
    Ok(found)
}

/// What rows come to: their number, and a digest of all of them in the order of their keys.
async fn tally(db: &mut SqliteConnection, rows: &'static str, place: &Place) -> Result<Tally, Cause> {
    let mut digest = digest::Context::new(&digest::SHA256);
    let mut count = 0;
    let mut found = sqlx::query_as::<_, (String, Vec<u8>)>(rows).bind(place.tenant_id.as_uuid()).fetch(db);
    while let Some((key, value)) = found.try_next().await? {
        count += 1;
        for part in [key.as_bytes(), &value] {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    }
    Ok(Tally { rows: count, sum: URL_SAFE_NO_PAD.encode(digest.finish()) })
}

impl Driver for SqliteDriver {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    /// An error where the folder is none, or can only be read.
    fn reachable(&self) -> Work<'_, ()> {
        Box::pin(async {
            let failed = |kind: io::ErrorKind| failed("find room", io::Error::from(kind).into());
            match tokio::fs::metadata(&self.folder).await {
                Ok(found) if !found.is_dir() => Err(failed(io::ErrorKind::NotADirectory)),
                Ok(found) if found.permissions().readonly() => Err(failed(io::ErrorKind::PermissionDenied)),
                Ok(_) => Ok(()),
                // It is made with the first tenant.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(failed(error.kind())),
            }
        })
    }

    fn plan<'a>(&'a self, place: &'a Place) -> Work<'a, Vec<String>> {
        Box::pin(async {
            let found = self.find(place).await.map_err(|source| failed("look at a place", source))?;
            Ok(match (found, place.isolation) {
                (Finding::Present, _) => Vec::new(),
                (_, Isolation::Pool) => vec![format!("make a row space in {}", Self::name_of(place))],
                _ => vec![format!("make the file {}", Self::name_of(place))],
            })
        })
    }

    fn apply<'a>(&'a self, place: &'a Place) -> Work<'a, Made> {
        Box::pin(async {
            self.make(place).await.map_err(|source| failed("make a place", source))?;
            Ok(Made { location: Self::location(place), upstream: None, credentials: None })
        })
    }

    fn verify<'a>(&'a self, place: &'a Place) -> Work<'a, Finding> {
        Box::pin(async { self.find(place).await.map_err(|source| failed("look at a place", source)) })
    }

    fn destroy<'a>(&'a self, place: &'a Place) -> Work<'a, ()> {
        Box::pin(async { self.take_down(place).await.map_err(|source| failed("take a place down", source)) })
    }

    fn keeps_rows(&self) -> bool {
        true
    }

    fn list(&self) -> Work<'_, Vec<Place>> {
        Box::pin(async { self.all().await.map_err(|source| failed("see what is there", source)) })
    }

    fn tally<'a>(&'a self, place: &'a Place) -> Work<'a, Tally> {
        Box::pin(async { self.look_at_rows(place).await.map_err(|source| failed("look at a tenant's rows", source)) })
    }

    fn carry_over<'a>(&'a self, from: &'a Place, to: &'a Place) -> Work<'a, Tally> {
        Box::pin(async { self.copy(from, to).await.map_err(|source| failed("carry a tenant's data over", source)) })
    }

    fn destroy_unless_changed<'a>(&'a self, place: &'a Place, carried: &'a Tally) -> Work<'a, Option<Tally>> {
        Box::pin(async {
            self.take_down_as(place, carried).await.map_err(|source| failed("take a place down", source))
        })
    }
}

fn failed(verb: &'static str, source: Cause) -> Error {
    Error::of(SqliteDriver::NAME, verb, source)
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A place that is there is somewhere.
fn located(place: Place) -> Place {
    Place { location: SqliteDriver::location(&place), ..place }
}

/// The names of what is in a folder; nothing where there is none.
async fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut entries = match tokio::fs::read_dir(folder).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
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
    // For its owner alone; SQLite makes its other files like it. A file that is there is not opened but by SQLite: closing it would
    // give up the locks that other connections of this process have of it (fcntl), and another program would take it for its own.
    match tokio::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(file).await {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What a tenant deletes, or leaves, is gone from the file as well.
        .pragma("secure_delete", "on")
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
#[path = "sqlite_tests.rs"]
mod tests;
