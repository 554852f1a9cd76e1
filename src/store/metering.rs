//! Queries about usage totals and how far each node's journal has gone into them.

use std::fmt::Write as _;

use uuid::Uuid;

use super::{StoreError, Tx, dialect::pieces, query::Statement, value::Row};
use crate::{
    kernel::{CalendarUnit, NodeId, TenantId, Timestamp},
    metering::model::{Cell, Cursor, Found, Last, MeterKey, Stretch, Total},
};

/// Rows of one statement: thirteen parameters each, well below either engine's limit (`SQLite` 32,766, `PostgreSQL` 65,535).
/// A power of two.
const ROWS_PER_INSERT: usize = 256;

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

    /// Everybody who has usage.
    pub async fn metered_tenants(&mut self) -> Result<Vec<TenantId>, StoreError> {
        self.query("SELECT tenant_id FROM usage_totals UNION SELECT tenant_id FROM events ORDER BY tenant_id")
            .map(|row| row.get("tenant_id"))
            .await
    }

    /// How far every journal has gone into the totals.
    pub async fn journal_cursors(&mut self) -> Result<Vec<(Uuid, Cursor)>, StoreError> {
        self.query("SELECT boot, seq, hash FROM journal_cursors ORDER BY boot")
            .map(|row| Ok((row.get("boot")?, Cursor { seq: row.get("seq")?, hash: row.get("hash")? })))
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
    pub async fn totals_put(&mut self, writer: Uuid, totals: &[(Cell, Total)]) -> Result<(), StoreError> {
        for chunk in pieces(totals, ROWS_PER_INSERT) {
            let mut sql = String::from(
                "INSERT INTO usage_totals (tenant_id, meter, unit, start, grp, writer, n, total, low, high, last_at_ns,
                     last_arrival, last_value) VALUES ",
            );
            sql.push_str(&self.engine().tuples(chunk.len(), 13));
            sql.push_str(
                " ON CONFLICT (tenant_id, meter, unit, start, grp, writer) DO UPDATE SET n = excluded.n,
                     total = excluded.total, low = excluded.low, high = excluded.high,
                     last_at_ns = excluded.last_at_ns, last_arrival = excluded.last_arrival,
                     last_value = excluded.last_value",
            );
            let mut statement = self.assembled(sql);
            for (cell, total) in chunk {
                push_cell(&mut statement, cell);
                statement.push(writer);
                statement.push(total.count);
                for quantity in [total.sum, total.low, total.high] {
                    statement.push(quantity);
                }
                statement.push(total.last.at_ns);
                statement.push(total.last.arrival);
                statement.push(total.last.value);
            }
            statement.execute().await?;
        }
        Ok(())
    }

    /// What one writer has counted for some cells.
    pub async fn totals_of_writer(&mut self, writer: Uuid, cells: &[Cell]) -> Result<Vec<(Cell, Total)>, StoreError> {
        let mut found = Vec::new();
        for chunk in pieces(cells, ROWS_PER_INSERT) {
            let mut sql = String::from(
                "SELECT tenant_id, meter, unit, start, grp, n, total, low, high, last_at_ns, last_arrival, last_value
                 FROM usage_totals WHERE (tenant_id, meter, unit, start, grp) IN (VALUES ",
            );
            sql.push_str(&self.engine().tuples(chunk.len(), 5));
            let last = chunk.len() * 5 + 1;
            let _ = write!(sql, ") AND writer = ${last}");
            let mut statement = self.assembled(sql);
            for cell in chunk {
                push_cell(&mut statement, cell);
            }
            statement.push(writer);
            found.extend(statement.map(|row| Ok((read_cell(row)?, read_total(row)?))).await?);
        }
        Ok(found)
    }

    /// What all writers have counted of a meter, for one tenant or all, in stretches of windows; in no order.
    pub async fn totals(
        &mut self,
        tenant: Option<TenantId>,
        meter: &MeterKey,
        stretches: &[Stretch],
    ) -> Result<Vec<Found>, StoreError> {
        let scope = self.tenant();
        let mut sql = String::from(
            "SELECT tenant_id, start, grp, n, total, low, high, last_at_ns, last_arrival, last_value FROM usage_totals
             WHERE meter = $1 AND ($2 IS NULL OR tenant_id = $2)",
        );
        if tenant.is_some() {
            sql.push_str(" AND tenant_id = $3");
        }
        let first = 3 + usize::from(tenant.is_some());
        let piece = |n: usize| {
            let at = first + n * 3;
            format!("(unit = ${at} AND start >= ${} AND start < ${})", at + 1, at + 2)
        };
        let pieces: Vec<String> = (0..stretches.len()).map(piece).collect();
        let _ = write!(sql, " AND ({})", pieces.join(" OR "));
        let mut statement = self.assembled(sql).bind(meter.as_str()).bind(scope);
        if let Some(tenant) = tenant {
            statement.push(tenant);
        }
        for stretch in stretches {
            statement.push(unit_number(stretch.unit));
            statement.push(stretch.period.from());
            statement.push(stretch.period.to());
        }
        let read = |row: &Row| {
            Ok(Found {
                tenant: row.get("tenant_id")?,
                start: row.get("start")?,
                group: row.get("grp")?,
                total: read_total(row)?,
            })
        };
        statement.map(read).await
    }
}

const fn unit_number(unit: CalendarUnit) -> i64 {
    match unit {
        CalendarUnit::Minute => 0,
        CalendarUnit::Hour => 1,
        CalendarUnit::Day => 2,
        CalendarUnit::Month => 3,
    }
}

fn push_cell(statement: &mut Statement<'_>, cell: &Cell) {
    statement.push(cell.tenant);
    statement.push(cell.meter.as_str());
    statement.push(unit_number(cell.unit));
    statement.push(cell.start);
    statement.push(&*cell.group);
}

fn read_cell(row: &Row) -> Result<Cell, StoreError> {
    let unit = match row.get::<i64>("unit")? {
        0 => CalendarUnit::Minute,
        1 => CalendarUnit::Hour,
        2 => CalendarUnit::Day,
        3 => CalendarUnit::Month,
        other => return Err(StoreError::Corrupt(format!("unit: {other}"))),
    };
    let group: String = row.get("grp")?;
    Ok(Cell {
        tenant: row.get("tenant_id")?,
        meter: row.parse("meter")?,
        unit,
        start: row.get("start")?,
        group: group.into(),
    })
}

fn read_total(row: &Row) -> Result<Total, StoreError> {
    Ok(Total {
        count: row.get("n")?,
        sum: row.get("total")?,
        low: row.get("low")?,
        high: row.get("high")?,
        last: Last { at_ns: row.get("last_at_ns")?, arrival: row.get("last_arrival")?, value: row.get("last_value")? },
    })
}
