//! A tenant's rows: counting them, deleting them, and carrying them from one database to another. Rows are those of tables in
//! `public` that have a column `tenant_id` of type `uuid`.

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{
    PostgresDriver,
    connecting::{self, Failed, connect_to, run},
    literal,
};
use crate::{kernel::TenantId, provisioning::model::Place};

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

impl PostgresDriver {
    pub(super) async fn count(&self, place: &Place) -> Result<u64, Failed> {
        let Some(mut own) = connect_to(&self.options, &self.database(place)).await? else { return Ok(0) };
        let mut tx = own.begin().await?;
        mean(&mut tx, place.tenant_id).await?;
        let mut rows = 0;
        for table in tables(&mut tx).await? {
            rows += sum_of(&mut tx, &table, place.tenant_id).await?.0.unsigned_abs();
        }
        tx.commit().await?;
        own.close().await?;
        Ok(rows)
    }

    /// Copies a tenant's rows, in one transaction there and as of one moment here, and compares their number and checksum. Both
    /// places have the tables of the same schema.
    pub(super) async fn copy(&self, from: &Place, to: &Place) -> Result<(), Failed> {
        let tenant = from.tenant_id;
        let Some(mut source) = connect_to(&self.options, &self.database(from)).await? else { return Ok(()) };
        let Some(mut target) = connect_to(&self.options, &self.database(to)).await? else { return Ok(()) };
        let mut reading = source.begin().await?;
        run(&mut reading, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY".to_owned()).await?;
        mean(&mut reading, tenant).await?;
        let mut writing = target.begin().await?;
        mean(&mut writing, tenant).await?;
        let all = tables(&mut reading).await?;
        for (number, table) in all.iter().enumerate() {
            carry(&mut reading, &mut writing, table, number, tenant).await?;
        }
        // A copy that was broken off is begun again from nothing.
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
        for table in &all {
            catch_up(&mut writing, table).await?;
            let source_sum = format!("{:?}", sum_of(&mut reading, table, tenant).await?);
            let target_sum = format!("{:?}", sum_of(&mut writing, table, tenant).await?);
            if source_sum != target_sum {
                return Err(Failed::Differs { table: table.name.clone(), source_sum, target_sum });
            }
        }
        writing.commit().await?;
        reading.commit().await?;
        target.close().await?;
        Ok(source.close().await?)
    }
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
