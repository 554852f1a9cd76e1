//! Queries that only an export of a tenant needs: its usage by day, and how many events there are.

use uuid::Uuid;

use super::{StoreError, Tx, value::Row};
use crate::kernel::{Quantity, TenantId, Timestamp};

/// What one writer counted on a day.
#[derive(Debug, Clone)]
pub struct DayTotal {
    /// Of what.
    pub meter: String,
    /// The day's first instant, in UTC.
    pub day: Timestamp,
    /// In which group, as JSON.
    pub group: String,
    /// Who counted it.
    pub writer: Uuid,
    /// How many records or events.
    pub count: i64,
    /// Their sum.
    pub sum: Quantity,
    /// The smallest.
    pub low: Quantity,
    /// The largest.
    pub high: Quantity,
}

/// Events of a type: how many there are, and how many of them were taken back.
#[derive(Debug, Clone)]
pub struct EventCount {
    /// Their type.
    pub name: String,
    /// How many.
    pub all: i64,
    /// How many of them do not count.
    pub voided: i64,
}

fn read_day(row: &Row) -> Result<DayTotal, StoreError> {
    Ok(DayTotal {
        meter: row.get("meter")?,
        day: row.get("start")?,
        group: row.get("grp")?,
        writer: row.get("writer")?,
        count: row.get("n")?,
        sum: row.get("total")?,
        low: row.get("low")?,
        high: row.get("high")?,
    })
}

impl Tx {
    /// A tenant's usage by day, in order of meter, day, group and writer, after one of them.
    pub async fn exported_days(
        &mut self,
        tenant: TenantId,
        after: Option<&DayTotal>,
        most: i64,
    ) -> Result<Vec<DayTotal>, StoreError> {
        self.must_cover(tenant)?;
        let (meter, day, group, writer) = after.map_or(("", Timestamp::MIN, "", Uuid::nil()), |after| {
            (after.meter.as_str(), after.day, after.group.as_str(), after.writer)
        });
        self.query(
            "SELECT meter, start, grp, writer, n, total, low, high FROM usage_totals
             WHERE tenant_id = $1 AND unit = 2 AND (meter, start, grp, writer) > ($2, $3, $4, $5)
             ORDER BY meter, start, grp, writer LIMIT $6",
        )
        .bind(tenant)
        .bind(meter)
        .bind(day)
        .bind(group)
        .bind(writer)
        .bind(most)
        .map(read_day)
        .await
    }

    /// How many events a tenant has, by their type.
    pub async fn exported_events(&mut self, tenant: TenantId) -> Result<Vec<EventCount>, StoreError> {
        self.must_cover(tenant)?;
        self.query(
            "SELECT type, COUNT(*) AS n, COUNT(voided_at) AS voided FROM events WHERE tenant_id = $1
             GROUP BY type ORDER BY type",
        )
        .bind(tenant)
        .map(|row| Ok(EventCount { name: row.get("type")?, all: row.get("n")?, voided: row.get("voided")? }))
        .await
    }
}
