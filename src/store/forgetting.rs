//! Queries that forget sign-ins that are over and old marks of quotas, so that neither grows without bound.

use super::{StoreError, Tx};
use crate::kernel::Timestamp;

impl Tx {
    /// Forgets refresh tokens that expired before an instant, sessions that ended before it, once their clients have heard, and
    /// sessions that nothing can renew and nobody has used since `unused`.
    pub async fn sessions_forget(&mut self, before: Timestamp, unused: Timestamp) -> Result<(), StoreError> {
        self.query("DELETE FROM refresh_tokens WHERE expires_at < $1").bind(before).execute().await?;
        self.query(
            "DELETE FROM refresh_tokens WHERE session_id IN
                 (SELECT session_id FROM sessions WHERE ended_at < $1 AND logout_due_at IS NULL)",
        )
        .bind(before)
        .execute()
        .await?;
        self.query("DELETE FROM sessions WHERE ended_at < $1 AND logout_due_at IS NULL").bind(before).execute().await?;
        self.query(
            "DELETE FROM sessions WHERE ended_at IS NULL AND COALESCE(renewed_at, created_at) < $1
                 AND NOT EXISTS (SELECT 1 FROM refresh_tokens r WHERE r.session_id = sessions.session_id)",
        )
        .bind(unused)
        .execute()
        .await?;
        Ok(())
    }

    /// Forgets the marks of quotas that were exceeded before an instant.
    pub async fn crossings_forget(&mut self, before: Timestamp) -> Result<(), StoreError> {
        self.query("DELETE FROM quota_crossings WHERE start < $1").bind(before).execute().await?;
        Ok(())
    }
}
