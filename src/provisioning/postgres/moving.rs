//! A tenant's rows: counting them, deleting them, and carrying them from one database to another. Rows are those of tables in
//! `public` that have a column `tenant_id` of type `uuid`.

use std::{collections::BTreeMap, fmt::Write as _};

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{
    PostgresDriver,
    connecting::{self, Failed, connect_alone, connect_to, lock_out, run},
    literal,
};
use crate::{
    kernel::{Isolation, TenantId},
    provisioning::model::{Place, Tally},
};

/// A table of tenants' rows.
pub(super) struct Table {
    /// Quoted.
    pub(super) name: String,
    /// What can be written, quoted, with commas.
    columns: String,
    /// Whether it is under forced row-level security.
    pub(super) protected: bool,
}

/// The tables of tenants' rows.
pub(super) async fn tables(connection: &mut PgConnection) -> Result<Vec<Table>, sqlx::Error> {
    let sql = "SELECT quote_ident(c.relname), c.relrowsecurity AND c.relforcerowsecurity,
            (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
        FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND t.attname = 'tenant_id' AND t.atttypid = 'uuid'::regtype AND NOT t.attisdropped
        ORDER BY c.oid";
    let rows: Vec<(String, bool, String)> = sqlx::query_as(sql).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(name, protected, columns)| Table { name, columns, protected }).collect())
}

/// Row-level security is for the owner, too: it says whose rows it means.
async fn mean(connection: &mut PgConnection, tenant: TenantId) -> Result<(), sqlx::Error> {
    run(connection, format!("SET LOCAL app.tenant = {}", literal(tenant))).await
}

/// Deletes a tenant's rows, all or none.
pub(super) async fn delete_rows(connection: &mut PgConnection, tenant: TenantId) -> Result<(), Failed> {
    let mut tx = connection.begin().await?;
    mean(&mut tx, tenant).await?;
    let all = tables(&mut tx).await?;
    in_passes(&mut tx, &all, |table, _| {
        format!("DELETE FROM public.{} WHERE tenant_id = {}", table.name, literal(tenant))
    })
    .await?;
    Ok(tx.commit().await?)
}

/// Does something to every table. Tables refer to each other: what cannot be done yet is tried again after the others.
async fn in_passes(
    connection: &mut PgConnection,
    all: &[Table],
    statement: impl Fn(&Table, usize) -> String,
) -> Result<(), Failed> {
    let mut waiting: Vec<usize> = (0..all.len()).collect();
    while !waiting.is_empty() {
        let mut left = Vec::new();
        for number in &waiting {
            run(connection, "SAVEPOINT pass".to_owned()).await?;
            match run(connection, statement(&all[*number], *number)).await {
                Ok(()) => run(connection, "RELEASE SAVEPOINT pass".to_owned()).await?,
                Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => {
                    run(connection, "ROLLBACK TO SAVEPOINT pass".to_owned()).await?;
                    left.push(*number);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if left.len() == waiting.len() {
            let names: Vec<&str> = left.iter().map(|number| all[*number].name.as_str()).collect();
            return Err(Failed::Circle(names.join(", ")));
        }
        waiting = left;
    }
    Ok(())
}

/// How many rows there are of a tenant, and what they come to: the same for the same rows in any order.
async fn sum_of(connection: &mut PgConnection, table: &Table, tenant: TenantId) -> Result<(i64, String), sqlx::Error> {
    let Table { name, columns, .. } = table;
    let sql = format!(
        "SELECT count(*), coalesce(sum(hashtextextended(r::text, 0)::numeric), 0)::text
         FROM (SELECT {columns} FROM public.{name} WHERE tenant_id = {}) r",
        literal(tenant)
    );
    sqlx::query_as(AssertSqlSafe(sql)).fetch_one(connection).await
}

/// The sums of tables, put together.
#[derive(Default)]
struct Sums(BTreeMap<String, (i64, String)>);

impl Sums {
    /// Of all tables, as of the moment of a transaction.
    async fn of(connection: &mut PgConnection, tenant: TenantId) -> Result<Tally, sqlx::Error> {
        let mut sums = Self::default();
        for table in tables(connection).await? {
            let sum = sum_of(connection, &table, tenant).await?;
            sums.0.insert(table.name, sum);
        }
        Ok(sums.tally())
    }

    fn tally(self) -> Tally {
        let mut tally = Tally::default();
        // A table without rows of the tenant's says nothing: it need not be at every place.
        for (name, (rows, sum)) in self.0.into_iter().filter(|(_, (rows, _))| *rows > 0) {
            tally.rows += rows.unsigned_abs();
            // Writing to a text does not fail.
            write!(tally.sum, "{name} {rows} {sum};").ok();
        }
        tally
    }
}

/// As of one moment, whatever others write.
async fn at_one_moment(tx: &mut PgConnection, tenant: TenantId) -> Result<(), sqlx::Error> {
    run(tx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ".to_owned()).await?;
    mean(tx, tenant).await
}

impl PostgresDriver {
    pub(super) async fn look_at_rows(&self, place: &Place) -> Result<Tally, Failed> {
        let Some(mut own) = connect_to(&self.options, &self.database(place)).await? else {
            return Ok(Tally::default());
        };
        let mut tx = own.begin().await?;
        at_one_moment(&mut tx, place.tenant_id).await?;
        let found = Sums::of(&mut tx, place.tenant_id).await?;
        tx.commit().await?;
        own.close().await?;
        Ok(found)
    }

    /// Copies a tenant's rows, in one transaction there and as of one moment here, and compares their number and checksum. Both
    /// places have the tables of the same schema.
    pub(super) async fn copy(&self, from: &Place, to: &Place) -> Result<Tally, Failed> {
        let (tenant, mut sums) = (from.tenant_id, Sums::default());
        let nowhere = |place| Failed::NoDatabase(self.database(place));
        let source = connect_to(&self.options, &self.database(from)).await?;
        let mut source = source.ok_or_else(|| nowhere(from))?;
        let target = connect_to(&self.options, &self.database(to)).await?;
        let mut target = target.ok_or_else(|| nowhere(to))?;
        let mut reading = source.begin().await?;
        at_one_moment(&mut reading, tenant).await?;
        run(&mut reading, "SET TRANSACTION READ ONLY".to_owned()).await?;
        let mut writing = target.begin().await?;
        mean(&mut writing, tenant).await?;
        let all = tables(&mut reading).await?;
        if from.isolation != Isolation::Pool {
            must_go_along(&mut reading, &mut writing).await?;
        }
        for (number, table) in all.iter().enumerate() {
            carry(&mut reading, &mut writing, table, number, tenant).await?;
        }
        // A copy that was broken off, or was made before the last, is begun again from nothing.
        in_passes(&mut writing, &all, |table, _| {
            format!("DELETE FROM public.{} WHERE tenant_id = {}", table.name, literal(tenant))
        })
        .await?;
        in_passes(&mut writing, &all, |Table { name, columns, .. }, number| {
            format!(
                "INSERT INTO public.{name} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM pg_temp.moving_{number}"
            )
        })
        .await?;
        for table in all {
            catch_up(&mut writing, &table).await?;
            let (there, here) =
                (sum_of(&mut reading, &table, tenant).await?, sum_of(&mut writing, &table, tenant).await?);
            if there != here {
                let (source_sum, target_sum) = (format!("{there:?}"), format!("{here:?}"));
                return Err(Failed::Differs { table: table.name, source_sum, target_sum });
            }
            sums.0.insert(table.name, here);
        }
        writing.commit().await?;
        reading.commit().await?;
        target.close().await?;
        source.close().await?;
        Ok(sums.tally())
    }

    /// Takes a place down unless rows are there that were not carried. Nobody logs in as the tenant any more, either way; what
    /// somebody else writes for it meanwhile is found by a second look.
    pub(super) async fn take_down_as(&self, place: &Place, carried: &Tally) -> Result<Option<Tally>, Failed> {
        let tenant = place.tenant_id;
        let role = self.role(place);
        let mut admin = connect_alone(&self.options, &role).await?;
        lock_out(&mut admin, &role).await?;
        admin.close().await?;
        if let Some(mut own) = connect_to(&self.options, &self.database(place)).await? {
            let mut tx = own.begin().await?;
            at_one_moment(&mut tx, tenant).await?;
            let found = Sums::of(&mut tx, tenant).await?;
            if found.rows > 0 && found != *carried {
                return Ok(Some(found));
            }
            if place.isolation == Isolation::Pool {
                let all = tables(&mut tx).await?;
                in_passes(&mut tx, &all, |table, _| {
                    format!("DELETE FROM public.{} WHERE tenant_id = {}", table.name, literal(tenant))
                })
                .await?;
            }
            tx.commit().await?;
            own.close().await?;
            let late =
                if place.isolation == Isolation::Pool { self.look_at_rows(place).await? } else { Tally::default() };
            if late.rows > 0 {
                return Ok(Some(late));
            }
        }
        self.take_down(place).await.map(|()| None)
    }
}

/// An error where a database of a tenant's own has tables with rows that are not carried, and that are not there where it goes.
async fn must_go_along(reading: &mut PgConnection, writing: &mut PgConnection) -> Result<(), Failed> {
    let sql = "SELECT quote_ident(c.relname) FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND NOT EXISTS (SELECT 1 FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attname = 'tenant_id'
                            AND t.atttypid = 'uuid'::regtype AND NOT t.attisdropped)
        ORDER BY c.relname";
    let own: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *reading).await?;
    let mut left = Vec::new();
    for name in own {
        let there = "SELECT to_regclass('public.' || $1) IS NOT NULL";
        let is_there: bool = sqlx::query_scalar(there).bind(&name).fetch_one(&mut *writing).await?;
        let some = AssertSqlSafe(format!("SELECT EXISTS (SELECT 1 FROM public.{name})"));
        if !is_there && sqlx::query_scalar::<_, bool>(some).fetch_one(&mut *reading).await? {
            left.push(name);
        }
    }
    if left.is_empty() { Ok(()) } else { Err(Failed::LeftBehind(left.join(", "))) }
}

/// Numbers that are given out next come after those that were brought along.
async fn catch_up(connection: &mut PgConnection, table: &Table) -> Result<(), sqlx::Error> {
    let sql = "SELECT quote_ident(a.attname), pg_get_serial_sequence('public.' || $1, a.attname) FROM pg_attribute a
        WHERE a.attrelid = ('public.' || $1)::regclass AND a.attnum > 0 AND NOT a.attisdropped
            AND pg_get_serial_sequence('public.' || $1, a.attname) IS NOT NULL";
    let numbered: Vec<(String, String)> = sqlx::query_as(sql).bind(&table.name).fetch_all(&mut *connection).await?;
    for (column, sequence) in numbered {
        let text = connecting::literal(&sequence);
        let sql = format!(
            "SELECT setval({text}, greatest((SELECT last_value FROM {sequence}),
                coalesce((SELECT max({column}) FROM public.{}), 1)))",
            table.name
        );
        run(connection, sql).await?;
    }
    Ok(())
}

/// Brings the rows of a table into a table of the other connection's own: `COPY` does not write to tables under row-level security.
async fn carry(
    reading: &mut PgConnection,
    writing: &mut PgConnection,
    table: &Table,
    number: usize,
    tenant: TenantId,
) -> Result<(), Failed> {
    let Table { name, columns, .. } = table;
    run(
        writing,
        format!("CREATE TEMP TABLE moving_{number} ON COMMIT DROP AS SELECT {columns} FROM public.{name} WITH NO DATA"),
    )
    .await?;
    let out = format!("COPY (SELECT {columns} FROM public.{name} WHERE tenant_id = {}) TO STDOUT", literal(tenant));
    let mut rows = reading.copy_out_raw(&out).await?;
    let mut sink = writing.copy_in_raw(&format!("COPY pg_temp.moving_{number} ({columns}) FROM STDIN")).await?;
    while let Some(piece) = rows.try_next().await? {
        sink.send(piece).await?;
    }
    sink.finish().await?;
    Ok(())
}
