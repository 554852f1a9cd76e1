//! Queries about usage totals and how far each node's journal has gone into them.

use std::fmt::Write as _;

use uuid::Uuid;

use super::{StoreError, Tx, dialect::pieces, query::Statement, value::Row};
use crate::{
    kernel::{CalendarUnit, NodeId, TenantId, Timestamp},
    metering::model::{Cell, Counted, Cursor, Found, Last, MeterKey, Stretch, Total},
};

/// Rows of one statement: thirteen parameters each, well below either engine's limit (`SQLite` 32,766, `PostgreSQL` 65,535).
/// A power of two.
const ROWS_PER_INSERT: usize = 256;

/// Searches put together into one statement, well below `SQLite`'s 500 terms of a compound one.
const STRETCHES_PER_QUERY: usize = 64;

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

    /// How many events were taken back.
    pub async fn events_voided(&mut self) -> Result<i64, StoreError> {
        let count = self.query("SELECT COUNT(*) AS n FROM events WHERE voided_at IS NOT NULL");
        Ok(count.map_one(|row| row.get("n")).await?.unwrap_or(0))
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

    /// What each process's journal has put into the totals of each meter, all in all.
    pub async fn journal_counted(&mut self, boot: Option<Uuid>) -> Result<Vec<(Uuid, Counted)>, StoreError> {
        let of_one = if boot.is_some() { " WHERE boot = $1" } else { "" };
        let sql = format!("SELECT boot, meter, n, total FROM journal_counted{of_one}");
        let mut statement = self.assembled(sql);
        if let Some(boot) = boot {
            statement.push(boot);
        }
        let read = |row: &Row| {
            let counted = Counted { meter: row.parse("meter")?, count: row.get("n")?, sum: row.get("total")? };
            Ok((row.get("boot")?, counted))
        };
        statement.map(read).await
    }

    /// Sets what a process's journal has put into the totals of a meter. Its cursor is moved in the same transaction.
    pub async fn journal_counted_put(&mut self, boot: Uuid, counted: &Counted) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO journal_counted (boot, meter, n, total) VALUES ($1, $2, $3, $4)
             ON CONFLICT (boot, meter) DO UPDATE SET n = excluded.n, total = excluded.total",
        )
        .bind(boot)
        .bind(counted.meter.as_str())
        .bind(counted.count)
        .bind(counted.sum)
        .execute()
        .await
        .map(drop)
    }

    /// Notes what the totals of a meter had before journals had their counts, unless another node did.
    pub async fn journal_counted_before(&mut self, counted: &Counted) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO journal_counted (boot, meter, n, total) VALUES ($1, $2, $3, $4)
             ON CONFLICT (boot, meter) DO NOTHING",
        )
        .bind(Uuid::nil())
        .bind(counted.meter.as_str())
        .bind(counted.count)
        .bind(counted.sum)
        .execute()
        .await
        .map(drop)
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
        let mut all = Vec::new();
        let take = |found| {
            all.push(found);
            Ok::<(), StoreError>(())
        };
        self.totals_each(tenant, meter, stretches, take).await?;
        Ok(all)
    }

    /// The same, one at a time: a month by minute is not in memory at once.
    pub async fn totals_each<E: From<StoreError>>(
        &mut self,
        tenant: Option<TenantId>,
        meter: &MeterKey,
        stretches: &[Stretch],
        mut take: impl FnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        let own = self.tenant();
        let tenant = match (tenant, own) {
            (Some(asked), Some(own)) if asked != own => return Ok(()),
            (asked, own) => asked.or(own),
        };
        for stretches in stretches.chunks(STRETCHES_PER_QUERY) {
            self.totals_in(tenant, meter, stretches).each(|row| take(read_found(row)?)).await?;
        }
        Ok(())
    }

    /// What all writers have counted of a meter, for some tenants, in stretches of windows; in no order.
    pub async fn totals_of(
        &mut self,
        tenants: &[TenantId],
        meter: &MeterKey,
        stretches: &[Stretch],
    ) -> Result<Vec<Found>, StoreError> {
        let mut all = Vec::new();
        for stretch in stretches {
            for piece in pieces(tenants, ROWS_PER_INSERT) {
                let (these, at) = (self.engine().tuples(piece.len(), 1), piece.len());
                let mut statement = self.assembled(format!(
                    "WITH these AS (VALUES {these})
                     SELECT tenant_id, start, grp, n, total, low, high, last_at_ns, last_arrival, last_value FROM usage_totals
                     WHERE tenant_id IN (SELECT column1 FROM these) AND meter = ${} AND unit = ${} AND start >= ${} AND start < ${}",
                    at + 1,
                    at + 2,
                    at + 3,
                    at + 4
                ));
                for tenant in piece {
                    statement.push(*tenant);
                }
                statement.push(meter.as_str());
                statement.push(unit_number(stretch.unit));
                statement.push(stretch.period.from());
                statement.push(stretch.period.to());
                all.extend(statement.map(read_found).await?);
            }
        }
        Ok(all)
    }

    /// One search of the primary key a stretch: from three alternatives in one condition on, `SQLite` reads all of a meter.
    fn totals_in(&mut self, tenant: Option<TenantId>, meter: &MeterKey, stretches: &[Stretch]) -> Statement<'_> {
        let of_tenant = if tenant.is_some() { " AND tenant_id = $2" } else { "" };
        let first = 2 + usize::from(tenant.is_some());
        let search = |n: usize| {
            let at = first + n * 3;
            format!(
                "SELECT tenant_id, start, grp, n, total, low, high, last_at_ns, last_arrival, last_value FROM usage_totals
                 WHERE meter = $1{of_tenant} AND unit = ${at} AND start >= ${} AND start < ${}",
                at + 1,
                at + 2
            )
        };
        let searches: Vec<String> = (0..stretches.len()).map(search).collect();
        let mut statement = self.assembled(searches.join(" UNION ALL ")).bind(meter.as_str());
        if let Some(tenant) = tenant {
            statement.push(tenant);
        }
        for stretch in stretches {
            statement.push(unit_number(stretch.unit));
            statement.push(stretch.period.from());
            statement.push(stretch.period.to());
        }
        statement
    }
}

fn read_found(row: &Row) -> Result<Found, StoreError> {
    Ok(Found {
        tenant: row.get("tenant_id")?,
        start: row.get("start")?,
        group: row.get("grp")?,
        total: read_total(row)?,
    })
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
