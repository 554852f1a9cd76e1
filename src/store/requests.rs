//! Queries about pushed authorization requests, devices that wait, and registration of clients.

use super::{
    StoreError, Tx,
    identity::{hash, proof, scope_set},
    value::Row,
};
use crate::{
    identity::{Allowed, DeviceGrant, DeviceState, InitialToken},
    kernel::{ClientId, InitialTokenId, Timestamp, UserId},
};

fn read_state(row: &Row) -> Result<DeviceState, StoreError> {
    let status: String = row.get("status")?;
    Ok(match status.as_str() {
        "pending" => DeviceState::Pending,
        "denied" => DeviceState::Denied,
        "used" => DeviceState::Used,
        "allowed" => DeviceState::Allowed(Allowed {
            user_id: row.get("user_id")?,
            tenant_id: row.get("tenant_id")?,
            browser_id: row.get("browser_id")?,
            authenticated_at: row.get("authenticated_at")?,
            proof: proof(row)?,
        }),
        other => return Err(StoreError::Corrupt(format!("status: {other:?}"))),
    })
}

fn read_device(row: &Row) -> Result<DeviceGrant, StoreError> {
    Ok(DeviceGrant {
        hash: hash(row, "device_hash")?,
        user_code_hash: hash(row, "user_code_hash")?,
        client_id: row.get("client_id")?,
        scope: scope_set(row)?,
        state: read_state(row)?,
        interval_s: row.get("interval_s")?,
        polled_at: row.get("polled_at")?,
        expires_at: row.get("expires_at")?,
    })
}

fn read_initial_token(row: &Row) -> Result<InitialToken, StoreError> {
    Ok(InitialToken {
        id: row.get("token_id")?,
        tenant_id: row.get("tenant_id")?,
        uses_left: row.get("uses_left")?,
        expires_at: row.get("expires_at")?,
        created_at: row.get("created_at")?,
    })
}

impl Tx {
    /// Forgets what has expired. A device is still told so for ten minutes.
    pub async fn requests_forget(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let lately = now.plus_secs(-600);
        self.query("DELETE FROM pushed_requests WHERE expires_at <= $1").bind(now).execute().await?;
        self.query("DELETE FROM spent_stamps WHERE expires_at <= $1").bind(now).execute().await?;
        self.query("DELETE FROM initial_access_tokens WHERE expires_at <= $1").bind(now).execute().await?;
        self.query("DELETE FROM device_grants WHERE expires_at < $1").bind(lately).execute().await?;
        self.query("DELETE FROM device_guesses WHERE since < $1").bind(lately).execute().await?;
        Ok(())
    }

    /// Keeps a pushed request.
    pub async fn pushed_insert(
        &mut self,
        request_hash: &[u8; 32],
        client: ClientId,
        params: &str,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.query("INSERT INTO pushed_requests (request_hash, client_id, params, expires_at) VALUES ($1, $2, $3, $4)")
            .bind(&request_hash[..])
            .bind(client)
            .bind(params)
            .bind(expires_at)
            .execute()
            .await?;
        Ok(())
    }

    /// Takes a pushed request of a client that has not expired, once.
    pub async fn pushed_take(
        &mut self,
        request_hash: &[u8; 32],
        client: ClientId,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        self.query(
            "DELETE FROM pushed_requests WHERE request_hash = $1 AND client_id = $2 AND expires_at > $3
             RETURNING params",
        )
        .bind(&request_hash[..])
        .bind(client)
        .bind(now)
        .map_one(|row| row.get("params"))
        .await
    }

    /// Uses the stamp of a pushed request up; `false` when it was used before.
    pub async fn stamp_spend(&mut self, stamp_hash: &[u8; 32], expires_at: Timestamp) -> Result<bool, StoreError> {
        self.query("INSERT INTO spent_stamps (stamp_hash, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(&stamp_hash[..])
            .bind(expires_at)
            .changed_one()
            .await
    }

    /// Adds a device that waits.
    pub async fn device_insert(&mut self, grant: &DeviceGrant) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO device_grants (device_hash, user_code_hash, client_id, scope, status, interval_s, expires_at)
             VALUES ($1, $2, $3, $4, 'pending', $5, $6)",
        )
        .bind(&grant.hash[..])
        .bind(&grant.user_code_hash[..])
        .bind(grant.client_id)
        .bind(grant.scope.to_string())
        .bind(grant.interval_s)
        .bind(grant.expires_at)
        .execute()
        .await?;
        Ok(())
    }

    /// A device by its code, and no other transaction's until this one is over.
    pub async fn device_lock(&mut self, device_hash: &[u8; 32]) -> Result<Option<DeviceGrant>, StoreError> {
        self.query("UPDATE device_grants SET interval_s = interval_s WHERE device_hash = $1 RETURNING *")
            .bind(&device_hash[..])
            .map_one(read_device)
            .await
    }

    /// A device by what its person enters.
    pub async fn device_of_person(&mut self, user_code_hash: &[u8; 32]) -> Result<Option<DeviceGrant>, StoreError> {
        self.query("SELECT * FROM device_grants WHERE user_code_hash = $1")
            .bind(&user_code_hash[..])
            .map_one(read_device)
            .await
    }

    /// Notes that a device asked, and how often it may.
    pub async fn device_polled(
        &mut self,
        device_hash: &[u8; 32],
        now: Timestamp,
        interval_s: i64,
    ) -> Result<(), StoreError> {
        self.query("UPDATE device_grants SET polled_at = $2, interval_s = $3 WHERE device_hash = $1")
            .bind(&device_hash[..])
            .bind(now)
            .bind(interval_s)
            .execute()
            .await?;
        Ok(())
    }

    /// Notes that a device has its tokens.
    pub async fn device_used(&mut self, device_hash: &[u8; 32]) -> Result<bool, StoreError> {
        self.query("UPDATE device_grants SET status = 'used' WHERE device_hash = $1 AND status = 'allowed'")
            .bind(&device_hash[..])
            .changed_one()
            .await
    }

    /// Notes what a person said of a device that waits, yes (and who they are) or no; `false` when it does not wait.
    pub async fn device_decide(
        &mut self,
        user_code_hash: &[u8; 32],
        allowed: Option<&Allowed>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.query(
            "UPDATE device_grants SET status = $2, user_id = $3, tenant_id = $4, browser_id = $5, authenticated_at = $6,
                 amr = $7
             WHERE user_code_hash = $1 AND status = 'pending' AND expires_at > $8",
        )
        .bind(&user_code_hash[..])
        .bind(if allowed.is_some() { "allowed" } else { "denied" })
        .bind(allowed.map(|by| by.user_id))
        .bind(allowed.map(|by| by.tenant_id))
        .bind(allowed.map(|by| by.browser_id))
        .bind(allowed.map(|by| by.authenticated_at))
        .bind(allowed.map(|by| by.proof.name()))
        .bind(now)
        .changed_one()
        .await
    }

    /// Counts a code that a person enters as wrong; `false` when there were `most` wrong ones since an instant, and nothing is
    /// counted. Those before it are forgotten. One statement: many at once are no more guesses than one after the other.
    pub async fn device_guess(
        &mut self,
        user: UserId,
        since: Timestamp,
        now: Timestamp,
        most: i64,
    ) -> Result<bool, StoreError> {
        self.query(
            "INSERT INTO device_guesses (user_id, misses, since) VALUES ($1, 1, $3)
             ON CONFLICT (user_id) DO UPDATE SET
                misses = CASE WHEN device_guesses.since <= $2 THEN 1 ELSE device_guesses.misses + 1 END,
                since = CASE WHEN device_guesses.since <= $2 THEN $3 ELSE device_guesses.since END
             WHERE device_guesses.since <= $2 OR device_guesses.misses < $4",
        )
        .bind(user)
        .bind(since)
        .bind(now)
        .bind(most)
        .changed_one()
        .await
    }

    /// How many codes of a person were wrong lately.
    pub async fn device_misses(&mut self, user: UserId) -> Result<i64, StoreError> {
        let misses = self.query("SELECT misses FROM device_guesses WHERE user_id = $1").bind(user);
        Ok(misses.map_one(|row| row.get("misses")).await?.unwrap_or(0))
    }

    /// Adds a token that lets somebody register clients.
    pub async fn initial_token_insert(
        &mut self,
        token_hash: &[u8; 32],
        token: &InitialToken,
    ) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO initial_access_tokens (token_id, token_hash, tenant_id, uses_left, expires_at, created_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(token.id)
        .bind(&token_hash[..])
        .bind(token.tenant_id)
        .bind(token.uses_left)
        .bind(token.expires_at)
        .bind(token.created_at)
        .execute()
        .await?;
        Ok(())
    }

    /// Such a token, if it has uses left and has not expired.
    pub async fn initial_token(
        &mut self,
        token_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<InitialToken>, StoreError> {
        self.query("SELECT * FROM initial_access_tokens WHERE token_hash = $1 AND uses_left > 0 AND expires_at > $2")
            .bind(&token_hash[..])
            .bind(now)
            .map_one(read_initial_token)
            .await
    }

    /// Uses such a token once, if it has uses left and has not expired.
    pub async fn initial_token_use(
        &mut self,
        token_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<InitialToken>, StoreError> {
        self.query(
            "UPDATE initial_access_tokens SET uses_left = uses_left - 1
             WHERE token_hash = $1 AND uses_left > 0 AND expires_at > $2 RETURNING *",
        )
        .bind(&token_hash[..])
        .bind(now)
        .map_one(read_initial_token)
        .await
    }

    /// Deletes such a token; `false` when there is none.
    pub async fn initial_token_delete(&mut self, id: InitialTokenId) -> Result<bool, StoreError> {
        self.query("DELETE FROM initial_access_tokens WHERE token_id = $1").bind(id).changed_one().await
    }
}
