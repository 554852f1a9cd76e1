//! Queries about webhooks: whose they are, how they fare, their secrets.

use uuid::Uuid;

use super::{StoreError, Tx, value::Row};
use crate::{
    kernel::{EventName, PageRequest, TenantId, Timestamp, WebhookId},
    webhooks::model::{Events, Failing, SealedSecret, Webhook, WebhookState},
};

fn read_webhook(row: &Row) -> Result<Webhook, StoreError> {
    let state = match row.get::<Option<Timestamp>>("disabled_at")? {
        None => WebhookState::On,
        Some(at) => WebhookState::Off { at, reason: row.parse("disabled_reason")? },
    };
    let failures = row.get("failures")?;
    Ok(Webhook {
        id: row.get("webhook_id")?,
        tenant: row.get("tenant_id")?,
        url: row.get("url")?,
        events: Events::All,
        format: row.parse("format")?,
        created_at: row.get("created_at")?,
        state,
        failing: row.get::<Option<Timestamp>>("failing_since")?.map(|since| Failing { since, failures }),
    })
}

const fn off(state: WebhookState) -> (Option<Timestamp>, Option<&'static str>) {
    match state {
        WebhookState::On => (None, None),
        WebhookState::Off { at, reason } => (Some(at), Some(reason.name())),
    }
}

impl Tx {
    /// Adds a webhook.
    pub async fn webhook_insert(&mut self, webhook: &Webhook) -> Result<(), StoreError> {
        if let Some(tenant) = webhook.tenant {
            self.must_cover(tenant)?;
        }
        let (disabled_at, reason) = off(webhook.state);
        self.query(
            "INSERT INTO webhooks (webhook_id, tenant_id, url, created_at, disabled_at, disabled_reason, failures, tried_at,
                                   format)
             VALUES ($1, $2, $3, $4, $5, $6, 0, $4, $7)",
        )
        .bind(webhook.id)
        .bind(webhook.tenant)
        .bind(webhook.url.as_str())
        .bind(webhook.created_at)
        .bind(disabled_at)
        .bind(reason)
        .bind(webhook.format.name())
        .execute()
        .await?;
        self.webhook_events_put(webhook).await
    }

    async fn webhook_events_put(&mut self, webhook: &Webhook) -> Result<(), StoreError> {
        self.query("DELETE FROM webhook_events WHERE webhook_id = $1").bind(webhook.id).execute().await?;
        for name in webhook.events.names() {
            self.query("INSERT INTO webhook_events (webhook_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(webhook.id)
                .bind(name)
                .execute()
                .await?;
        }
        Ok(())
    }

    async fn with_events(&mut self, mut webhooks: Vec<Webhook>) -> Result<Vec<Webhook>, StoreError> {
        for webhook in &mut webhooks {
            let names: Vec<String> = self
                .query("SELECT name FROM webhook_events WHERE webhook_id = $1 ORDER BY name")
                .bind(webhook.id)
                .map(|row| row.get("name"))
                .await?;
            if !names.iter().any(|name| name == Events::STAR) {
                // A name that this version does not know is never written.
                webhook.events =
                    Events::Named(names.iter().filter_map(|name| name.parse::<EventName>().ok()).collect());
            }
        }
        Ok(webhooks)
    }

    /// How many webhooks a tenant has, or the platform.
    pub async fn webhooks_count(&mut self, tenant: Option<TenantId>) -> Result<i64, StoreError> {
        let scope = self.tenant();
        let count = self
            .query(
                "SELECT COUNT(*) AS count FROM webhooks
                 WHERE (tenant_id = $1 OR ($1 IS NULL AND tenant_id IS NULL)) AND ($2 IS NULL OR tenant_id = $2)",
            )
            .bind(tenant)
            .bind(scope)
            .map_one(|row| row.get("count"))
            .await?;
        Ok(count.unwrap_or(0))
    }

    /// A page of webhooks, of one tenant or of all.
    pub async fn webhooks(&mut self, tenant: Option<TenantId>, page: PageRequest) -> Result<Vec<Webhook>, StoreError> {
        let scope = self.tenant();
        let found = self
            .query(
                "SELECT * FROM webhooks
                 WHERE webhook_id > $1 AND ($2 IS NULL OR tenant_id = $2) AND ($3 IS NULL OR tenant_id = $3)
                 ORDER BY webhook_id LIMIT $4",
            )
            .bind(page.after())
            .bind(tenant)
            .bind(scope)
            .bind(page.fetch_limit())
            .map(read_webhook)
            .await?;
        self.with_events(found).await
    }

    /// One webhook.
    pub async fn webhook(&mut self, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        let scope = self.tenant();
        let found = self
            .query("SELECT * FROM webhooks WHERE webhook_id = $1 AND ($2 IS NULL OR tenant_id = $2)")
            .bind(id)
            .bind(scope)
            .map(read_webhook)
            .await?;
        Ok(self.with_events(found).await?.into_iter().next())
    }

    /// Keeps others from changing a webhook until this transaction ends; `false` when there is none within reach.
    pub async fn webhook_hold(&mut self, id: WebhookId) -> Result<bool, StoreError> {
        let scope = self.tenant();
        self.query("UPDATE webhooks SET url = url WHERE webhook_id = $1 AND ($2 IS NULL OR tenant_id = $2)")
            .bind(id)
            .bind(scope)
            .changed_one()
            .await
    }

    /// Writes a changed webhook.
    pub async fn webhook_update(&mut self, webhook: &Webhook) -> Result<(), StoreError> {
        let scope = self.tenant();
        let (disabled_at, reason) = off(webhook.state);
        let changed = self
            .query(
                "UPDATE webhooks SET url = $3, disabled_at = $4, disabled_reason = $5
                 WHERE webhook_id = $1 AND ($2 IS NULL OR tenant_id = $2)",
            )
            .bind(webhook.id)
            .bind(scope)
            .bind(webhook.url.as_str())
            .bind(disabled_at)
            .bind(reason)
            .changed_one()
            .await?;
        if changed { self.webhook_events_put(webhook).await } else { Err(StoreError::OutOfScope) }
    }

    /// Forgets how a webhook failed.
    pub async fn webhook_pardon(&mut self, id: WebhookId) -> Result<(), StoreError> {
        self.query("UPDATE webhooks SET failing_since = NULL, failures = 0, not_before = NULL WHERE webhook_id = $1")
            .bind(id)
            .execute()
            .await?;
        Ok(())
    }

    /// Notes that a webhook took something.
    pub async fn webhook_succeeded(&mut self, id: WebhookId, now: Timestamp) -> Result<(), StoreError> {
        self.webhook_pardon(id).await?;
        self.query("UPDATE webhooks SET tried_at = $2 WHERE webhook_id = $1").bind(id).bind(now).execute().await?;
        Ok(())
    }

    /// Notes that a webhook failed once more; how it fails now.
    pub async fn webhook_failed(&mut self, id: WebhookId, now: Timestamp) -> Result<Failing, StoreError> {
        let failing = self
            .query(
                "UPDATE webhooks SET failures = failures + 1, failing_since = COALESCE(failing_since, $2), tried_at = $2
                 WHERE webhook_id = $1 RETURNING failures, failing_since",
            )
            .bind(id)
            .bind(now)
            .map_one(|row| Ok(Failing { since: row.get("failing_since")?, failures: row.get("failures")? }))
            .await?;
        Ok(failing.unwrap_or(Failing { since: now, failures: 1 }))
    }

    /// Leaves a webhook alone until an instant.
    pub async fn webhook_leave_alone(&mut self, id: WebhookId, until: Timestamp) -> Result<(), StoreError> {
        self.query("UPDATE webhooks SET not_before = $2 WHERE webhook_id = $1").bind(id).bind(until).execute().await?;
        Ok(())
    }

    /// Deletes a webhook within reach, with all that is kept of it.
    pub async fn webhook_delete(&mut self, id: WebhookId) -> Result<(), StoreError> {
        let scope = self.tenant();
        let deleted = self
            .query("DELETE FROM webhooks WHERE webhook_id = $1 AND ($2 IS NULL OR tenant_id = $2)")
            .bind(id)
            .bind(scope)
            .changed_one()
            .await?;
        if !deleted {
            return Err(StoreError::OutOfScope);
        }
        for sql in [
            "DELETE FROM webhook_events WHERE webhook_id = $1",
            "DELETE FROM webhook_secrets WHERE webhook_id = $1",
            "DELETE FROM webhook_deliveries WHERE webhook_id = $1",
            "DELETE FROM webhook_attempts WHERE webhook_id = $1",
        ] {
            self.query(sql).bind(id).execute().await?;
        }
        Ok(())
    }

    /// Deletes all webhooks of a tenant.
    pub async fn webhooks_forget(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        let theirs: Vec<WebhookId> = self
            .query("SELECT webhook_id FROM webhooks WHERE tenant_id = $1")
            .bind(tenant)
            .map(|row| row.get("webhook_id"))
            .await?;
        for webhook in theirs {
            self.webhook_delete(webhook).await?;
        }
        Ok(())
    }

    /// Adds a secret; `id` is in order of time.
    pub async fn webhook_secret_insert(
        &mut self,
        id: Uuid,
        webhook: WebhookId,
        sealed: &[u8],
    ) -> Result<(), StoreError> {
        self.query("INSERT INTO webhook_secrets (secret_id, webhook_id, sealed) VALUES ($1, $2, $3)")
            .bind(id)
            .bind(webhook)
            .bind(sealed)
            .execute()
            .await?;
        Ok(())
    }

    /// The secrets that sign now, the one in force first.
    pub async fn webhook_secrets(
        &mut self,
        webhook: WebhookId,
        now: Timestamp,
    ) -> Result<Vec<SealedSecret>, StoreError> {
        self.query(
            "SELECT sealed, signs_until FROM webhook_secrets
             WHERE webhook_id = $1 AND (signs_until IS NULL OR signs_until > $2)
             ORDER BY CASE WHEN signs_until IS NULL THEN 0 ELSE 1 END, secret_id DESC",
        )
        .bind(webhook)
        .bind(now)
        .map(|row| Ok(SealedSecret { sealed: row.get("sealed")?, signs_until: row.get("signs_until")? }))
        .await
    }

    /// Lets all secrets of a webhook sign until an instant and no longer.
    pub async fn webhook_secrets_retire(&mut self, webhook: WebhookId, until: Timestamp) -> Result<(), StoreError> {
        self.query(
            "UPDATE webhook_secrets SET signs_until = $2
             WHERE webhook_id = $1 AND (signs_until IS NULL OR signs_until > $2)",
        )
        .bind(webhook)
        .bind(until)
        .execute()
        .await?;
        Ok(())
    }
}
