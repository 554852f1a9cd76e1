//! A transaction and its statements, on either engine.

use std::sync::Arc;

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr, postgres::PgArguments, sqlite::SqliteArguments};
use tokio::sync::Notify;

use super::{
    Engine, Scope, StoreError,
    value::{Args, Bind, Row},
};
use crate::kernel::{TenantId, audit::Change};

/// One transaction. Dropped without [`commit`](Self::commit), it leaves nothing.
pub struct Tx {
    scope: Scope,
    inner: Inner,
    /// Told after the commit when `delivers`.
    deliveries: Arc<Notify>,
    delivers: bool,
    /// What was changed since the last entry of the audit.
    changed: Option<Box<Change>>,
}

enum Inner {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

impl Tx {
    pub(super) fn sqlite(
        scope: Scope,
        transaction: sqlx::Transaction<'static, sqlx::Sqlite>,
        deliveries: Arc<Notify>,
    ) -> Self {
        Self { scope, inner: Inner::Sqlite(transaction), deliveries, delivers: false, changed: None }
    }

    pub(super) fn postgres(
        scope: Scope,
        transaction: sqlx::Transaction<'static, sqlx::Postgres>,
        deliveries: Arc<Notify>,
    ) -> Self {
        Self { scope, inner: Inner::Postgres(transaction), deliveries, delivers: false, changed: None }
    }

    /// Makes what was written lasting and visible.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self.inner {
            Inner::Sqlite(transaction) => transaction.commit().await?,
            Inner::Postgres(transaction) => transaction.commit().await?,
        }
        if self.delivers {
            self.deliveries.notify_one();
        }
        Ok(())
    }

    /// Says that the commit leaves something to deliver.
    pub const fn something_to_deliver(&mut self) {
        self.delivers = true;
    }

    /// Says what this transaction changes, for its next entry of the audit.
    pub fn changes(&mut self, before: Option<serde_json::Value>, after: Option<serde_json::Value>) {
        self.changed = Some(Box::new(Change { before, after }));
    }

    pub(super) const fn take_change(&mut self) -> Option<Box<Change>> {
        self.changed.take()
    }

    /// The tenant every query of this transaction is held to; bind it as `$n IS NULL OR tenant_id = $n`.
    pub(super) const fn tenant(&self) -> Option<TenantId> {
        self.scope.tenant()
    }

    /// An error unless rows of `tenant` may be written here.
    pub(super) fn must_cover(&self, tenant: TenantId) -> Result<(), StoreError> {
        if self.scope.covers(tenant) { Ok(()) } else { Err(StoreError::OutOfScope) }
    }

    pub(super) const fn engine(&self) -> Engine {
        match self.inner {
            Inner::Sqlite(_) => Engine::Sqlite,
            Inner::Postgres(_) => Engine::Postgres,
        }
    }

    /// Whether no other process can have the database: the data folder has a lock.
    pub(super) const fn is_ours_alone(&self) -> bool {
        matches!(self.engine(), Engine::Sqlite)
    }

    /// A statement with `$1`, `$2`… for the values bound in order.
    pub(super) fn query(&mut self, sql: &'static str) -> Statement<'_> {
        self.statement(sql.into_sql_str())
    }

    /// A statement put together from parts that are all ours.
    pub(super) fn assembled(&mut self, sql: String) -> Statement<'_> {
        self.statement(AssertSqlSafe(sql).into_sql_str())
    }

    fn statement(&mut self, sql: SqlStr) -> Statement<'_> {
        let args = match self.inner {
            Inner::Sqlite(_) => Args::Sqlite(SqliteArguments::default()),
            Inner::Postgres(_) => Args::Postgres(PgArguments::default()),
        };
        Statement { tx: self, sql, args: Ok(args) }
    }

    /// Runs statements without parameters, separated by semicolons: migrations.
    pub(super) async fn script(&mut self, sql: String) -> Result<(), StoreError> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        match &mut self.inner {
            Inner::Sqlite(transaction) => {
                sql.execute(&mut **transaction).await?;
            }
            Inner::Postgres(transaction) => {
                sql.execute(&mut **transaction).await?;
            }
        }
        Ok(())
    }
}

/// A statement being given its parameters.
pub(super) struct Statement<'t> {
    tx: &'t mut Tx,
    sql: SqlStr,
    args: Result<Args, StoreError>,
}

impl Statement<'_> {
    /// Binds the next parameter; a value that cannot be encoded is reported when the statement runs.
    pub(super) fn bind(mut self, value: impl Bind) -> Self {
        self.push(value);
        self
    }

    /// Binds the next parameter, for loops.
    pub(super) fn push(&mut self, value: impl Bind) {
        if let Ok(args) = &mut self.args
            && let Err(error) = value.bind(args)
        {
            self.args = Err(error);
        }
    }

    /// Runs it; the number of rows it changed.
    pub(super) async fn execute(self) -> Result<u64, StoreError> {
        match (&mut self.tx.inner, self.args?) {
            (Inner::Sqlite(transaction), Args::Sqlite(args)) => Ok(sqlx::query_with::<sqlx::Sqlite, _>(self.sql, args)
                .execute(&mut **transaction)
                .await?
                .rows_affected()),
            (Inner::Postgres(transaction), Args::Postgres(args)) => {
                Ok(sqlx::query_with::<sqlx::Postgres, _>(self.sql, args)
                    .execute(&mut **transaction)
                    .await?
                    .rows_affected())
            }
            _ => unreachable!("parameters are made for the transaction's own engine"),
        }
    }

    /// Whether exactly one row was changed: the answer to a conditional update or a claim.
    pub(super) async fn changed_one(self) -> Result<bool, StoreError> {
        Ok(self.execute().await? == 1)
    }

    /// All rows.
    pub(super) async fn rows(self) -> Result<Vec<Row>, StoreError> {
        match (&mut self.tx.inner, self.args?) {
            (Inner::Sqlite(transaction), Args::Sqlite(args)) => {
                let rows = sqlx::query_with::<sqlx::Sqlite, _>(self.sql, args).fetch(&mut **transaction);
                Ok(rows.map_ok(Row::Sqlite).try_collect().await?)
            }
            (Inner::Postgres(transaction), Args::Postgres(args)) => {
                let rows = sqlx::query_with::<sqlx::Postgres, _>(self.sql, args).fetch(&mut **transaction);
                Ok(rows.map_ok(Row::Postgres).try_collect().await?)
            }
            _ => unreachable!("parameters are made for the transaction's own engine"),
        }
    }

    /// Every row as it comes, so that not all of them are in memory at once.
    pub(super) async fn each<E: From<StoreError>>(self, mut take: impl FnMut(&Row) -> Result<(), E>) -> Result<(), E> {
        match (&mut self.tx.inner, self.args?) {
            (Inner::Sqlite(transaction), Args::Sqlite(args)) => {
                let mut rows = sqlx::query_with::<sqlx::Sqlite, _>(self.sql, args).fetch(&mut **transaction);
                while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
                    take(&Row::Sqlite(row))?;
                }
            }
            (Inner::Postgres(transaction), Args::Postgres(args)) => {
                let mut rows = sqlx::query_with::<sqlx::Postgres, _>(self.sql, args).fetch(&mut **transaction);
                while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
                    take(&Row::Postgres(row))?;
                }
            }
            _ => unreachable!("parameters are made for the transaction's own engine"),
        }
        Ok(())
    }

    /// The first row, if any.
    pub(super) async fn row(self) -> Result<Option<Row>, StoreError> {
        Ok(self.rows().await?.into_iter().next())
    }

    /// All rows, each read by `read`.
    pub(super) async fn map<T>(self, read: impl Fn(&Row) -> Result<T, StoreError>) -> Result<Vec<T>, StoreError> {
        self.rows().await?.iter().map(read).collect()
    }

    /// The first row, read by `read`.
    pub(super) async fn map_one<T>(
        self,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.row().await?.as_ref().map(read).transpose()
    }
}
