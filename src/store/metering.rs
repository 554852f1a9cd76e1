//! Queries about usage totals and how far each node's journal has gone into them.

use uuid::Uuid;

use super::{StoreError, Tx, value::Row};
use crate::{
    kernel::{NodeId, Period, Quantity, TenantId, Timestamp},
    metering::model::{Cell, Cursor, MeterKey, MinuteTotal},
};

/// Rows of one `INSERT`: six parameters each, well below either engine's limit (`SQLite` 32,766, `PostgreSQL` 65,535),
/// and one size most of the time, so that the statement stays prepared.
const ROWS_PER_INSERT: usize = 256;

fn read_minute(row: &Row) -> Result<MinuteTotal, StoreError> {
    Ok(MinuteTotal { minute: row.get("minute")?, group: row.get("grp")?, value: row.get("value")? })
}

impl Tx {
    /// The last start of a node that is known.
    pub async fn journal_last_epoch(&mut self, node: NodeId) -> Result<i64, StoreError> {
        let last = self.query("SELECT epoch FROM journal_starts WHERE node_id = $1 ORDER BY epoch DESC LIMIT 1");
        Ok(last.bind(node).map_one(|row| row.get("epoch")).await?.unwrap_or(0))
    }

    /// Notes the start of a node; `false` when somebody else has that one.
    pub async fn journal_start_insert(
        &mut self,
        node: NodeId,
        epoch: i64,
        boot: Uuid,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.query(
            "INSERT INTO journal_starts (node_id, epoch, boot, started_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (node_id, epoch) DO NOTHING",
        )
        .bind(node)
        .bind(epoch)
        .bind(boot)
        .bind(now)
        .changed_one()
        .await
    }

    /// How far the journal of one process has gone into the totals; `None` when nothing of it has.
    pub async fn journal_cursor(&mut self, boot: Uuid) -> Result<Option<Cursor>, StoreError> {
        self.query("SELECT seq, hash FROM journal_cursors WHERE boot = $1")
            .bind(boot)
            .map_one(|row| Ok(Cursor { seq: row.get("seq")?, hash: row.get("hash")? }))
            .await
    }

    /// Moves a cursor from where the caller found it; `false` when somebody else moved it: the range was counted.
    pub async fn journal_cursor_move(
        &mut self,
        boot: Uuid,
        from: Option<i64>,
        to: &Cursor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let query = match from {
            None => self.query(
                "INSERT INTO journal_cursors (boot, seq, hash, updated_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (boot) DO NOTHING",
            ),
            Some(_) => self
                .query("UPDATE journal_cursors SET seq = $2, hash = $3, updated_at = $4 WHERE boot = $1 AND seq = $5"),
        };
        let query = query.bind(boot).bind(to.seq).bind(to.hash.as_slice()).bind(now);
        match from {
            None => query.changed_one().await,
            Some(seq) => query.bind(seq).changed_one().await,
        }
    }

    /// Sets the totals that one writer has counted for some cells; a writer owns its rows, so this replaces them.
    pub async fn usage_put(&mut self, writer: Uuid, totals: &[(Cell, Quantity)]) -> Result<(), StoreError> {
        for chunk in totals.chunks(ROWS_PER_INSERT) {
            let mut sql =
                String::from("INSERT INTO usage_minutes (tenant_id, meter, minute, grp, writer, value) VALUES ");
            for row in 0..chunk.len() {
                let first = row * 6 + 1;
                let separator = if row == 0 { "" } else { ", " };
                let numbers = [first, first + 1, first + 2, first + 3, first + 4, first + 5].map(|n| format!("${n}"));
                sql.push_str(separator);
                sql.push('(');
                sql.push_str(&numbers.join(", "));
                sql.push(')');
            }
            sql.push_str(" ON CONFLICT (tenant_id, meter, minute, grp, writer) DO UPDATE SET value = excluded.value");
            let mut statement = self.assembled(sql);
            for (cell, value) in chunk {
                statement.push(cell.tenant);
                statement.push(cell.meter.as_str());
                statement.push(cell.minute);
                statement.push(&*cell.group);
                statement.push(writer);
                statement.push(*value);
            }
            statement.execute().await?;
        }
        Ok(())
    }

    /// What one writer has counted for a cell.
    pub async fn usage_of_writer(&mut self, writer: Uuid, cell: &Cell) -> Result<Option<Quantity>, StoreError> {
        self.query(
            "SELECT value FROM usage_minutes
             WHERE tenant_id = $1 AND meter = $2 AND minute = $3 AND grp = $4 AND writer = $5",
        )
        .bind(cell.tenant)
        .bind(cell.meter.as_str())
        .bind(cell.minute)
        .bind(&*cell.group)
        .bind(writer)
        .map_one(|row| row.get("value"))
        .await
    }

    /// A tenant's totals of a meter by minute, in order of time.
    pub async fn usage_minutes(
        &mut self,
        tenant: TenantId,
        meter: &MeterKey,
        period: Period,
    ) -> Result<Vec<MinuteTotal>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT minute, grp, value FROM usage_minutes
             WHERE tenant_id = $1 AND meter = $2 AND minute >= $3 AND minute < $4 AND ($5 IS NULL OR tenant_id = $5)
             ORDER BY minute, grp",
        )
        .bind(tenant)
        .bind(meter.as_str())
        .bind(period.from())
        .bind(period.to())
        .bind(scope)
        .map(read_minute)
        .await
    }
}
