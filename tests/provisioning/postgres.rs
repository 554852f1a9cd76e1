//! A PostgreSQL server that asks for passwords, whoever makes places on it, and a client of a tenant's own.

use std::process::Command;

use serde_json::Value;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions,
};
use tokio::sync::OnceCell;

use crate::support::{actors::Actor, postgres};

/// The server's own superuser, who is trusted; the address of its database `postgres`.
pub struct Cluster {
    pub superuser: String,
    /// As whom places are made: no superuser.
    pub provisioner: String,
}

static READY: OnceCell<Cluster> = OnceCell::const_new();

/// The server of this process, with passwords asked for of everybody but its superuser; `None` where PostgreSQL is not installed.
pub async fn cluster() -> Option<&'static Cluster> {
    let server = postgres::shared()?;
    Some(READY.get_or_init(|| async { prepare(&server.database().await).await }).await)
}

async fn prepare(address: &str) -> Cluster {
    let mut admin = connect(address).await;
    let hba: String = sqlx::query_scalar("SHOW hba_file").fetch_one(&mut admin).await.unwrap();
    let rules = "host all tollgate 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\nlocal all all reject\n";
    std::fs::write(hba, rules).unwrap();
    let create = "CREATE ROLE provisioner LOGIN CREATEDB CREATEROLE PASSWORD 'provision'; SELECT pg_reload_conf()";
    sqlx::raw_sql(create).execute(&mut admin).await.unwrap();
    let (host, _) = address.rsplit_once('/').unwrap();
    let as_provisioner =
        |password: &str| format!("{}/postgres", host.replace("tollgate@", &format!("provisioner:{password}@")));
    // The rules are in force once a wrong password is refused.
    let wrong: PgConnectOptions = as_provisioner("wrong").parse().unwrap();
    while wrong.connect().await.is_ok() {}
    Cluster { superuser: format!("{host}/postgres"), provisioner: as_provisioner("provision") }
}

impl Cluster {
    /// Settings with which every kind of place is made here, under names that begin so.
    pub fn settings(&self, prefix: &str) -> String {
        let url = &self.provisioner;
        format!(
            "[provisioning]\ndriver = \"postgres\"\n[provisioning.postgres]\nurl = \"{url}\"\nprefix = \"{prefix}\"\n"
        )
    }

    /// One text of everything, as the superuser, in a database.
    pub async fn look(&self, database: &str, sql: &str) -> Vec<String> {
        let address = format!("{}/{database}", self.superuser.rsplit_once('/').unwrap().0);
        let mut admin = connect(&address).await;
        let found = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        found
    }

    /// Does something as the superuser, in a database.
    pub async fn run(&self, database: &str, sql: &str) {
        let address = format!("{}/{database}", self.superuser.rsplit_once('/').unwrap().0);
        let mut admin = connect(&address).await;
        admin.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
        admin.close().await.unwrap();
    }

    /// The databases and roles whose names begin so.
    pub async fn all_of(&self, prefix: &str) -> Vec<String> {
        let sql = format!(
            "SELECT 'database ' || datname FROM pg_database WHERE starts_with(datname, '{prefix}_')
             UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE starts_with(rolname, '{prefix}_') ORDER BY 1"
        );
        self.look("postgres", &sql).await
    }
}

pub async fn connect(address: &str) -> PgConnection {
    address.parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
}

/// A tenant's own way in, as its credentials have it.
pub struct Client {
    pub url: String,
    pub user: String,
    pub database: String,
}

impl Client {
    /// With the credentials that are shown once.
    pub async fn of(admin: &Actor<'_>, tenant: &str) -> Self {
        let shown = admin.post(&format!("/admin/v1/tenants/{tenant}/infrastructure/credentials"), Value::Null).await;
        Self::from(&shown.expect(200).body["credentials"])
    }

    pub fn from(credentials: &Value) -> Self {
        let text =
            |name: &str| credentials[name].as_str().unwrap_or_else(|| panic!("no {name}: {credentials}")).to_owned();
        Self { url: text("url"), user: text("user"), database: text("database") }
    }

    /// What psql prints, or what it complains of.
    pub fn psql(&self, sql: &str) -> Result<String, String> {
        psql(&self.url, sql)
    }

    /// The same in another database.
    pub fn psql_in(&self, database: &str, sql: &str) -> Result<String, String> {
        psql(&format!("{}/{database}", self.url.rsplit_once('/').unwrap().0), sql)
    }
}

fn psql(url: &str, sql: &str) -> Result<String, String> {
    let mut command = Command::new("psql");
    command.args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-c", sql, url]).env_clear();
    #[expect(clippy::disallowed_methods, reason = "where the client is")]
    command.env("PATH", std::env::var("PATH").unwrap());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
