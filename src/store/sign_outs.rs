//! Queries about what ends together with a browser or a sign-in, and about telling clients of it.

use super::{StoreError, Tx, identity::read_session, oauth::read_client};
use crate::{
    identity::{LogoutNotice, Session},
    kernel::{BrowserId, ClientId, SessionId, Timestamp},
};

impl Tx {
    /// A session, over or not.
    pub async fn session(&mut self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let scope = self.tenant();
        self.query("SELECT * FROM sessions WHERE session_id = $1 AND ($2 IS NULL OR tenant_id = $2)")
            .bind(id)
            .bind(scope)
            .map_one(read_session)
            .await
    }

    /// The sessions that came out of a browser and are not over.
    pub async fn sessions_of_browser(&mut self, browser: BrowserId) -> Result<Vec<SessionId>, StoreError> {
        self.query("SELECT session_id FROM sessions WHERE browser_id = $1 AND ended_at IS NULL")
            .bind(browser)
            .map(|row| row.get("session_id"))
            .await
    }

    /// The sessions that were switched from one, and are not over.
    pub async fn sessions_of_parent(&mut self, parent: SessionId) -> Result<Vec<SessionId>, StoreError> {
        self.query("SELECT session_id FROM sessions WHERE parent_id = $1 AND ended_at IS NULL")
            .bind(parent)
            .map(|row| row.get("session_id"))
            .await
    }

    /// Ends all sessions with a client.
    pub async fn sessions_end_of_client(&mut self, client: ClientId, now: Timestamp) -> Result<u64, StoreError> {
        self.query(
            "UPDATE sessions SET ended_at = $2, end_reason = 'client deleted' WHERE client_id = $1 AND ended_at IS NULL",
        )
        .bind(client)
        .bind(now)
        .execute()
        .await
    }

    /// Sessions that are over and whose clients are to be told now, at most so many.
    pub async fn logouts_due(&mut self, now: Timestamp, limit: i64) -> Result<Vec<LogoutNotice>, StoreError> {
        self.query(
            "SELECT s.session_id, s.user_id, s.logout_attempts, c.*
             FROM sessions s JOIN clients c ON c.client_id = s.client_id
             WHERE s.ended_at IS NOT NULL AND s.logout_due_at IS NOT NULL AND s.logout_due_at <= $1
             ORDER BY s.logout_due_at LIMIT $2",
        )
        .bind(now)
        .bind(limit)
        .map(|row| {
            Ok(LogoutNotice {
                session_id: row.get("session_id")?,
                user_id: row.get("user_id")?,
                attempts: row.get::<Option<i64>>("logout_attempts")?.unwrap_or(0),
                client: read_client(row)?,
            })
        })
        .await
    }

    /// Notes one more attempt, and when the next is due; `false` when somebody else made it.
    pub async fn logout_attempt(
        &mut self,
        notice: &LogoutNotice,
        next_at: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        self.query(
            "UPDATE sessions SET logout_due_at = $2, logout_attempts = $3
             WHERE session_id = $1 AND logout_due_at IS NOT NULL AND COALESCE(logout_attempts, 0) = $4",
        )
        .bind(notice.session_id)
        .bind(next_at)
        .bind(notice.attempts + 1)
        .bind(notice.attempts)
        .changed_one()
        .await
    }

    /// Notes that a client knows of the end of a session.
    pub async fn logout_told(&mut self, id: SessionId) -> Result<(), StoreError> {
        self.query("UPDATE sessions SET logout_due_at = NULL WHERE session_id = $1").bind(id).execute().await?;
        Ok(())
    }
}
