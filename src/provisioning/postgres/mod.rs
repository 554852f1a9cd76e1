//! The `postgres` driver. In a pool all tenants are in one database, each with a login role that owns nothing, and every table is
//! under forced row-level security; a silo, or a bridge, is a database and a role of the tenant's own.
//!
//! `CREATE DATABASE` and `DROP DATABASE` cannot be in a transaction, so nothing here relies on one: each step looks at what is
//! there, and what a crash left is made whole, or taken down, by the next call. Passwords leave this process as SCRAM verifiers, so
//! that they are in no log of the server's.

mod connecting;
mod moving;
mod pooled;
mod scram;
mod siloed;

use std::{collections::HashSet, sync::Arc};

use serde_json::json;
use sqlx::{Connection as _, postgres::PgConnectOptions};
use tokio::sync::Mutex;

use super::{
    Error,
    driver::{Driver, Work},
    model::{Finding, Made, Place, Pool, Tally},
};
use crate::kernel::{Isolation, Secret, TenantId};
use connecting::{Failed, ping};

/// What a tenant's database has when settings name no schema.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS items (
    tenant_id uuid NOT NULL,
    key text NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (tenant_id, key)
);";

/// `[provisioning.postgres]`
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// As whom databases and roles are made, and with which database that begins.
    pub url: Secret,
    /// What the names of databases and roles begin with.
    pub prefix: String,
    /// SQL that makes the product's tables; can be run again.
    pub schema: Option<String>,
}

/// Makes places on a `PostgreSQL` server.
#[derive(Clone)]
pub struct PostgresDriver {
    options: PgConnectOptions,
    prefix: Arc<str>,
    schema: Arc<str>,
    /// Pools whose tables this process has seen to.
    prepared: Arc<Mutex<HashSet<String>>>,
}

impl PostgresDriver {
    /// The name in settings and in the store.
    pub const NAME: &'static str = "postgres";

    /// On the server of an address; an error when that is not one.
    pub fn new(config: &PostgresConfig) -> Result<Self, String> {
        let options: PgConnectOptions = config.url.expose().parse().map_err(|error: sqlx::Error| error.to_string())?;
        Ok(Self {
            options: options.application_name("tollgate"),
            prefix: config.prefix.as_str().into(),
            schema: config.schema.as_deref().unwrap_or(SCHEMA).into(),
            prepared: Arc::default(),
        })
    }

    /// The role of a place. A tenant that moves has two for a while, so their names differ.
    fn role(&self, place: &Place) -> String {
        let kind = match place.isolation {
            Isolation::Pool => "p",
            Isolation::Bridge => "b",
            Isolation::Silo => "s",
        };
        format!("{}_{kind}_{}", self.prefix, place.tenant_id.as_uuid().simple())
    }

    /// The database of a place: of its own, with its role's name, or the pool's.
    fn database(&self, place: &Place) -> String {
        match place.isolation {
            Isolation::Pool => format!("{}_pool_{}", self.prefix, place.pool),
            Isolation::Bridge | Isolation::Silo => self.role(place),
        }
    }

    fn made(&self, place: &Place) -> Made {
        let (role, database) = (self.role(place), self.database(place));
        let credentials = place.password.as_ref().map(|password| {
            let (host, port) = (self.options.get_host(), self.options.get_port());
            // Made up of characters that stand for themselves in an address.
            let url = format!("postgres://{role}:{}@{host}:{port}/{database}", password.expose());
            let all = json!({
                "url": url, "host": host, "port": port, "database": database, "user": role, "password": password.expose(),
            });
            Secret::new(all.to_string())
        });
        let location = if place.isolation == Isolation::Pool { format!("{database}#{role}") } else { database };
        Made { location, upstream: None, credentials }
    }

    async fn make(&self, place: &Place) -> Result<Made, Failed> {
        match place.isolation {
            Isolation::Pool => self.make_pooled(place).await?,
            Isolation::Bridge | Isolation::Silo => self.make_siloed(place).await?,
        }
        Ok(self.made(place))
    }

    async fn find(&self, place: &Place) -> Result<Finding, Failed> {
        let missing = match place.isolation {
            Isolation::Pool => self.missing_of_pooled(place).await?,
            Isolation::Bridge | Isolation::Silo => self.missing_of_siloed(place).await?,
        };
        Ok(match missing {
            Missing::Nothing => Finding::Present,
            Missing::Everything => Finding::Absent,
            Missing::Something(what) => Finding::Drifted(what),
        })
    }

    async fn steps(&self, place: &Place) -> Result<Vec<String>, Failed> {
        let (role, database) = (self.role(place), self.database(place));
        Ok(match (self.find(place).await?, place.isolation) {
            (Finding::Present, _) => Vec::new(),
            (Finding::Drifted(what) | Finding::Unwell(what), _) => vec![format!("mend {database}: {what}")],
            (Finding::Absent, Isolation::Pool) => vec![format!("create the role {role}, in {database}")],
            (Finding::Absent, _) => vec![
                format!("create the role {role}"),
                format!("create the database {database}"),
                "make the schema".to_owned(),
            ],
        })
    }

    /// What a name of a role or database of ours says.
    fn read_name(&self, name: &str) -> Option<(Isolation, TenantId)> {
        let rest = name.strip_prefix(&*self.prefix)?.strip_prefix('_')?;
        let (kind, id) = rest.split_once('_')?;
        let isolation = match kind {
            "p" => Isolation::Pool,
            "b" => Isolation::Bridge,
            "s" => Isolation::Silo,
            _ => return None,
        };
        // As it is written by us, and not otherwise.
        let id = (id.len() == 32).then(|| uuid::Uuid::try_parse(id).ok()).flatten()?;
        (id.simple().to_string() == rest[2..]).then(|| (isolation, TenantId::from_uuid(id)))
    }

    async fn all(&self) -> Result<Vec<Place>, Failed> {
        let mut admin = connecting::connect(&self.options).await?;
        let sql = "SELECT r.rolname, g.rolname FROM pg_roles r LEFT JOIN pg_auth_members m ON m.member = r.oid
                LEFT JOIN pg_roles g ON g.oid = m.roleid AND starts_with(g.rolname, $1 || '_pool_')
            WHERE starts_with(r.rolname, $1 || '_')
            UNION SELECT datname, NULL FROM pg_database WHERE starts_with(datname, $1 || '_') ORDER BY 1, 2";
        let names: Vec<(String, Option<String>)> =
            sqlx::query_as(sql).bind(&*self.prefix).fetch_all(&mut admin).await?;
        admin.close().await?;
        let mut found: Vec<Place> = Vec::new();
        for (name, group) in names {
            let Some((isolation, tenant)) = self.read_name(&name) else { continue };
            let pool = group.as_deref().and_then(|group| group.strip_prefix(&format!("{}_pool_", self.prefix)));
            let pool = match isolation {
                Isolation::Pool => pool.unwrap_or(Pool::DEFAULT).to_owned(),
                Isolation::Bridge | Isolation::Silo => String::new(),
            };
            // A role and its database are one place, and so is a role that is in other groups, too.
            if !found.iter().any(|place| (place.tenant_id, place.isolation) == (tenant, isolation)) {
                let place = Place::new(tenant, isolation, pool);
                found.push(Place { location: self.made(&place).location, ..place });
            }
        }
        Ok(found)
    }

    async fn take_down(&self, place: &Place) -> Result<(), Failed> {
        match place.isolation {
            Isolation::Pool => self.take_down_pooled(place).await,
            Isolation::Bridge | Isolation::Silo => self.take_down_siloed(place).await,
        }
    }
}

/// What is not there of a place.
enum Missing {
    Nothing,
    Everything,
    Something(String),
}

/// A tenant's id as a literal: hexadecimal digits and hyphens.
fn literal(tenant: TenantId) -> String {
    format!("'{tenant}'")
}

impl Driver for PostgresDriver {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn wants_password(&self) -> bool {
        true
    }

    fn plan<'a>(&'a self, place: &'a Place) -> Work<'a, Vec<String>> {
        Box::pin(async { self.steps(place).await.map_err(|source| of("look at a place", source)) })
    }

    fn apply<'a>(&'a self, place: &'a Place) -> Work<'a, Made> {
        Box::pin(async { self.make(place).await.map_err(|source| of("make a place", source)) })
    }

    fn verify<'a>(&'a self, place: &'a Place) -> Work<'a, Finding> {
        Box::pin(async { self.find(place).await.map_err(|source| of("look at a place", source)) })
    }

    fn destroy<'a>(&'a self, place: &'a Place) -> Work<'a, ()> {
        Box::pin(async { self.take_down(place).await.map_err(|source| of("take a place down", source)) })
    }

    fn reachable(&self) -> Work<'_, ()> {
        Box::pin(async { ping(&self.options).await.map_err(|source| of("reach the server", source)) })
    }

    fn keeps_rows(&self) -> bool {
        true
    }

    fn list(&self) -> Work<'_, Vec<Place>> {
        Box::pin(async { self.all().await.map_err(|source| of("see what is there", source)) })
    }

    fn tally<'a>(&'a self, place: &'a Place) -> Work<'a, Tally> {
        Box::pin(async { self.look_at_rows(place).await.map_err(|source| of("look at a tenant's rows", source)) })
    }

    fn carry_over<'a>(&'a self, from: &'a Place, to: &'a Place) -> Work<'a, Tally> {
        Box::pin(async { self.copy(from, to).await.map_err(|source| of("carry a tenant's rows over", source)) })
    }

    fn destroy_unless_changed<'a>(&'a self, place: &'a Place, carried: &'a Tally) -> Work<'a, Option<Tally>> {
        Box::pin(async { self.take_down_as(place, carried).await.map_err(|source| of("take a place down", source)) })
    }
}

fn of(verb: &'static str, source: Failed) -> Error {
    Error::of(PostgresDriver::NAME, verb, source)
}
