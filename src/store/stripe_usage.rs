//! Queries about meter events of Stripe's, as they were planned and sent.

use super::{StoreError, Tx, value::Row};
use crate::{
    kernel::{TenantId, Timestamp},
    metering::MeterKey,
    stripe::model::UsageEvent,
};

fn read_event(row: &Row) -> Result<UsageEvent, StoreError> {
    Ok(UsageEvent {
        tenant: row.get("tenant_id")?,
        meter: row.parse("meter")?,
        hour: row.get("hour")?,
        revision: row.get("revision")?,
        event: row.get("event")?,
        value: row.get("value")?,
        sent_at: row.get("sent_at")?,
        cancelled: row.get::<i64>("cancelled")? != 0,
    })
}

impl Tx {
    /// Notes an event that is to be sent; `false` when somebody else noted one in its place.
    pub async fn stripe_usage_insert(&mut self, event: &UsageEvent) -> Result<bool, StoreError> {
        self.must_cover(event.tenant)?;
        self.query(
            "INSERT INTO stripe_usage (tenant_id, meter, hour, revision, event, value, cancelled)
             VALUES ($1, $2, $3, $4, $5, $6, 0) ON CONFLICT (tenant_id, meter, hour, revision) DO NOTHING",
        )
        .bind(event.tenant)
        .bind(event.meter.as_str())
        .bind(event.hour)
        .bind(event.revision)
        .bind(event.event.as_str())
        .bind(event.value)
        .changed_one()
        .await
    }

    /// Notes that an event holds no more; `false` when that is known.
    pub async fn stripe_usage_cancel(&mut self, event: &UsageEvent) -> Result<bool, StoreError> {
        self.query(
            "UPDATE stripe_usage SET cancelled = 1
             WHERE tenant_id = $1 AND meter = $2 AND hour = $3 AND revision = $4 AND cancelled = 0",
        )
        .bind(event.tenant)
        .bind(event.meter.as_str())
        .bind(event.hour)
        .bind(event.revision)
        .changed_one()
        .await
    }

    /// Notes that Stripe has an event.
    pub async fn stripe_usage_sent(&mut self, event: &UsageEvent, now: Timestamp) -> Result<(), StoreError> {
        self.query(
            "UPDATE stripe_usage SET sent_at = $5
             WHERE tenant_id = $1 AND meter = $2 AND hour = $3 AND revision = $4 AND sent_at IS NULL",
        )
        .bind(event.tenant)
        .bind(event.meter.as_str())
        .bind(event.hour)
        .bind(event.revision)
        .bind(now)
        .execute()
        .await?;
        Ok(())
    }

    /// One event.
    pub async fn stripe_usage_event(
        &mut self,
        (tenant, meter): (TenantId, &str),
        hour: Timestamp,
        revision: i64,
    ) -> Result<Option<UsageEvent>, StoreError> {
        self.query("SELECT * FROM stripe_usage WHERE tenant_id = $1 AND meter = $2 AND hour = $3 AND revision = $4")
            .bind(tenant)
            .bind(meter)
            .bind(hour)
            .bind(revision)
            .map_one(read_event)
            .await
    }

    /// A tenant's events of a meter, of hours from an instant on.
    pub async fn stripe_usage(
        &mut self,
        tenant: TenantId,
        meter: &MeterKey,
        from: Timestamp,
    ) -> Result<Vec<UsageEvent>, StoreError> {
        self.query(
            "SELECT * FROM stripe_usage WHERE tenant_id = $1 AND meter = $2 AND hour >= $3 ORDER BY hour, revision",
        )
        .bind(tenant)
        .bind(meter.as_str())
        .bind(from)
        .map(read_event)
        .await
    }

    /// Forgets events of hours before an instant that nothing waits for, and the settled jobs about meter events of before it.
    pub async fn stripe_usage_forget(&mut self, before: Timestamp) -> Result<(), StoreError> {
        self.query(
            "DELETE FROM stripe_jobs WHERE settled_at IS NOT NULL AND settled_at < $1 AND kind IN ('usage', 'cancel')",
        )
        .bind(before)
        .execute()
        .await?;
        self.query(
            "DELETE FROM stripe_usage WHERE hour < $1 AND NOT EXISTS
                 (SELECT 1 FROM stripe_jobs j WHERE j.tenant_id = stripe_usage.tenant_id AND j.settled_at IS NULL)",
        )
        .bind(before)
        .execute()
        .await?;
        Ok(())
    }
}
