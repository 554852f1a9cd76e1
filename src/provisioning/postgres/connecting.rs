//! Connections, and the statements that databases and roles are made with. Names are quoted, whatever they are made of.

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgDatabaseError},
};

use super::scram;
use crate::kernel::Secret;

/// A connection may take so long to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// Whoever waits for a turn does so for so long.
const TURN: Duration = Duration::from_mins(2);

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// The server did not answer.
    #[error("the server did not take a connection within {} seconds", CONNECT.as_secs())]
    Late,
    /// The server answered with an error.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A role is to be made and nobody made up its password.
    #[error("the role {0} is gone, and its password is not known here: repair makes up another")]
    NoPassword(String),
    /// What is to be carried from, or to, is not there.
    #[error("there is no database {0}")]
    NoDatabase(String),
    /// Rows that should be the same are not.
    #[error("of the table {table} {source_sum} was read and {target_sum} arrived (rows, checksum)")]
    Differs { table: String, source_sum: String, target_sum: String },
    /// Tables of a tenant's own.
    #[error("its database has tables without tenant_id that are not where it goes, and do not go along: {0}")]
    LeftBehind(String),
    /// Tables that hold each other.
    #[error("the rows of {0} refer to each other in a circle, or something else refers to them")]
    Circle(String),
}

/// `SQLSTATE` of what is there already: a database, an object (a role), a key of the catalogue.
const THERE: [&str; 3] = ["42P04", "42710", "23505"];
/// `SQLSTATE` of a database that is not there.
const NO_DATABASE: &str = "3D000";

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Failed> {
    Ok(tokio::time::timeout(CONNECT, options.connect()).await.map_err(|_| Failed::Late)??)
}

/// A connection that is alone in seeing to something, on whatever node: others wait for their turn until it is closed. The catalogue
/// cannot be changed in one place by two at once.
pub(super) async fn connect_alone(options: &PgConnectOptions, what: &str) -> Result<PgConnection, Failed> {
    let mut connection = connect(options).await?;
    run(&mut connection, format!("SET lock_timeout = '{}s'", TURN.as_secs())).await?;
    sqlx::query("SELECT pg_advisory_lock(hashtextextended($1, 7310579))").bind(what).execute(&mut connection).await?;
    Ok(connection)
}

/// A connection to another database; `None` when there is none of that name.
pub(super) async fn connect_to(options: &PgConnectOptions, database: &str) -> Result<Option<PgConnection>, Failed> {
    match connect(&options.clone().database(database)).await {
        Err(Failed::Database(error)) if code(&error).as_deref() == Some(NO_DATABASE) => Ok(None),
        connected => connected.map(Some),
    }
}

pub(super) async fn ping(options: &PgConnectOptions) -> Result<(), Failed> {
    let mut admin = connect(options).await?;
    admin.ping().await?;
    Ok(admin.close().await?)
}

/// Runs statements that were put together here, of quoted parts.
pub(super) async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

fn code(error: &sqlx::Error) -> Option<String> {
    let database = error.as_database_error()?;
    Some(database.try_downcast_ref::<PgDatabaseError>()?.code().to_owned())
}

fn unless_there(made: Result<(), sqlx::Error>) -> Result<(), sqlx::Error> {
    match made {
        Err(error) if code(&error).is_some_and(|code| THERE.contains(&code.as_str())) => Ok(()),
        made => made,
    }
}

/// How a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Database {
    Absent,
    /// What a crash of the server left of one that was made or dropped.
    Broken,
    Present,
}

pub(super) async fn database(admin: &mut PgConnection, name: &str) -> Result<Database, sqlx::Error> {
    let limit: Option<i32> = sqlx::query_scalar("SELECT datconnlimit FROM pg_database WHERE datname = $1")
        .bind(name)
        .fetch_optional(admin)
        .await?;
    Ok(match limit {
        None => Database::Absent,
        // Since PostgreSQL 15.4: "invalid database", which can only be dropped.
        Some(-2) => Database::Broken,
        Some(_) => Database::Present,
    })
}

pub(super) async fn ensure_database(admin: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    match database(admin, name).await? {
        Database::Present => return Ok(()),
        Database::Broken => drop_database(admin, name).await?,
        Database::Absent => {}
    }
    // Nobody can be connected to template0, which would be in the way.
    unless_there(run(admin, format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", quoted(name))).await)
}

pub(super) async fn drop_database(admin: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    run(admin, format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name))).await
}

pub(super) async fn role_exists(admin: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    let found = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)");
    found.bind(name).fetch_one(admin).await
}

/// A role that nobody logs in as.
pub(super) async fn ensure_group(admin: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    if role_exists(admin, name).await? {
        return Ok(());
    }
    unless_there(run(admin, format!("CREATE ROLE {} NOLOGIN", quoted(name))).await)
}

/// A role to log in as, with this password if there is one to set.
pub(super) async fn ensure_login(
    admin: &mut PgConnection,
    name: &str,
    password: Option<&Secret>,
) -> Result<(), Failed> {
    let verifier = password.map(|password| literal(&scram::verifier(name, password)));
    if !role_exists(admin, name).await? {
        let verifier = verifier.as_ref().ok_or_else(|| Failed::NoPassword(name.to_owned()))?;
        unless_there(run(admin, format!("CREATE ROLE {} LOGIN PASSWORD {verifier}", quoted(name))).await)?;
    }
    // Also after it was made: somebody else may have made it, and a removal that was broken off may have locked it.
    let password = verifier.map(|verifier| format!("PASSWORD {verifier}")).unwrap_or_default();
    Ok(run(admin, format!("ALTER ROLE {} LOGIN {password}", quoted(name))).await?)
}

/// Nobody logs in as a role any more, and whoever has is cut off; `false` when there is no such role.
pub(super) async fn lock_out(admin: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    if !role_exists(admin, name).await? {
        return Ok(false);
    }
    // Sessions of others, and what they own, are ours to end once we are of their role.
    run(admin, format!("ALTER ROLE {role} NOLOGIN; GRANT {role} TO CURRENT_USER", role = quoted(name))).await?;
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1")
        .bind(name)
        .execute(admin)
        .await?;
    Ok(true)
}

pub(super) async fn drop_role(admin: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    run(admin, format!("DROP ROLE IF EXISTS {}", quoted(name))).await
}
