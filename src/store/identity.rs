//! Queries about passwords, signing keys, sessions and withdrawn tokens.

use super::{StoreError, Tx, value::Row};
use crate::{
    identity::{PasswordHash, Proof, RefreshToken, ScopeSet, Session, StoredKey},
    kernel::{PageRequest, SessionId, TenantId, Timestamp, UserId},
};

pub(super) fn hash(row: &Row, name: &str) -> Result<[u8; 32], StoreError> {
    let bytes: Vec<u8> = row.get(name)?;
    bytes.try_into().map_err(|_| StoreError::Corrupt(format!("{name}: not 32 bytes")))
}

pub(super) fn scope_set(row: &Row) -> Result<ScopeSet, StoreError> {
    Ok(ScopeSet::parse(&row.get::<String>("scope")?))
}

/// Sign-ins from before there were second factors have none.
pub(super) fn proof(row: &Row) -> Result<Proof, StoreError> {
    match row.get::<Option<String>>("amr")? {
        Some(_) => row.parse("amr"),
        None => Ok(Proof::Password),
    }
}

fn read_key(row: &Row) -> Result<StoredKey, StoreError> {
    let (created_at, signs_from): (Timestamp, Option<Timestamp>) = (row.get("created_at")?, row.get("signs_from")?);
    Ok(StoredKey {
        kid: row.get("kid")?,
        algorithm: row.parse("algorithm")?,
        public_jwk: row.get("public_jwk")?,
        sealed_private: row.get("sealed_private")?,
        created_at,
        signs_from: signs_from.unwrap_or(created_at),
        retired_at: row.get("retired_at")?,
    })
}

pub(super) fn read_session(row: &Row) -> Result<Session, StoreError> {
    Ok(Session {
        id: row.get("session_id")?,
        user_id: row.get("user_id")?,
        tenant_id: row.get("tenant_id")?,
        client_id: row.get("client_id")?,
        scope: scope_set(row)?,
        authenticated_at: row.get::<Option<Timestamp>>("authenticated_at")?.unwrap_or(row.get("created_at")?),
        proof: proof(row)?,
        renewed_at: row.get("renewed_at")?,
        created_at: row.get("created_at")?,
        ended_at: row.get("ended_at")?,
        browser_id: row.get("browser_id")?,
        parent_id: row.get("parent_id")?,
    })
}

impl Tx {
    /// A user's password hash.
    pub async fn credential(&mut self, user: UserId) -> Result<Option<PasswordHash>, StoreError> {
        self.query("SELECT password_hash FROM credentials WHERE user_id = $1")
            .bind(user)
            .map_one(|row| Ok(PasswordHash::from_phc(row.get("password_hash")?)))
            .await
    }

    /// Sets a user's password hash.
    pub async fn credential_put(
        &mut self,
        user: UserId,
        hash: &PasswordHash,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO credentials (user_id, password_hash, updated_at) VALUES ($1, $2, $3)
             ON CONFLICT (user_id) DO UPDATE SET password_hash = excluded.password_hash, updated_at = excluded.updated_at",
        )
        .bind(user)
        .bind(hash.as_str())
        .bind(now)
        .execute()
        .await?;
        Ok(())
    }

    /// The signing keys that verify, oldest first.
    pub async fn signing_keys(&mut self) -> Result<Vec<StoredKey>, StoreError> {
        self.query("SELECT * FROM signing_keys ORDER BY created_at, kid").map(read_key).await
    }

    /// Adds a signing key.
    pub async fn signing_key_insert(&mut self, key: &StoredKey) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO signing_keys (kid, algorithm, public_jwk, sealed_private, created_at, signs_from)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(key.kid.as_str())
        .bind(key.algorithm.name())
        .bind(key.public_jwk.as_str())
        .bind(&key.sealed_private[..])
        .bind(key.created_at)
        .bind(key.signs_from)
        .execute()
        .await?;
        Ok(())
    }

    /// Every key signs no more from an instant on.
    pub async fn signing_keys_retire(&mut self, from: Timestamp) -> Result<(), StoreError> {
        self.query("UPDATE signing_keys SET retired_at = $1 WHERE retired_at IS NULL").bind(from).execute().await?;
        Ok(())
    }

    /// Removes keys that were retired before an instant.
    pub async fn signing_keys_remove(&mut self, retired_before: Timestamp) -> Result<(), StoreError> {
        self.query("DELETE FROM signing_keys WHERE retired_at < $1").bind(retired_before).execute().await?;
        Ok(())
    }

    /// Adds a session; with when its client is to be told of its end, if it is to be told at all.
    pub async fn session_insert(
        &mut self,
        session: &Session,
        logout_due_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO sessions (session_id, user_id, tenant_id, client_id, scope, authenticated_at, amr, created_at,
                 browser_id, parent_id, logout_due_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(session.id)
        .bind(session.user_id)
        .bind(session.tenant_id)
        .bind(session.client_id)
        .bind(session.scope.to_string())
        .bind(session.authenticated_at)
        .bind(session.proof.name())
        .bind(session.created_at)
        .bind(session.browser_id)
        .bind(session.parent_id)
        .bind(logout_due_at)
        .execute()
        .await?;
        Ok(())
    }

    /// Ends a session; `false` when there is none that runs.
    pub async fn session_end(&mut self, id: SessionId, now: Timestamp, reason: &str) -> Result<bool, StoreError> {
        let scope = self.tenant();
        self.query(
            "UPDATE sessions SET ended_at = $2, end_reason = $3
             WHERE session_id = $1 AND ended_at IS NULL AND ($4 IS NULL OR tenant_id = $4)",
        )
        .bind(id)
        .bind(now)
        .bind(reason)
        .bind(scope)
        .changed_one()
        .await
    }

    /// Ends all sessions of a user in a tenant.
    pub async fn sessions_end_of_user(
        &mut self,
        tenant: TenantId,
        user: UserId,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.must_cover(tenant)?;
        self.query(
            "UPDATE sessions SET ended_at = $3, end_reason = 'user removed or disabled'
             WHERE tenant_id = $1 AND user_id = $2 AND ended_at IS NULL",
        )
        .bind(tenant)
        .bind(user)
        .bind(now)
        .execute()
        .await
    }

    /// Notes that a session's tokens were renewed.
    pub async fn session_renewed(&mut self, id: SessionId, now: Timestamp) -> Result<(), StoreError> {
        self.query("UPDATE sessions SET renewed_at = $2 WHERE session_id = $1").bind(id).bind(now).execute().await?;
        Ok(())
    }

    /// A person's sessions that run, within the scope's reach, the oldest first.
    pub async fn sessions_of_user(&mut self, user: UserId) -> Result<Vec<Session>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM sessions WHERE user_id = $1 AND ended_at IS NULL AND ($2 IS NULL OR tenant_id = $2)
             ORDER BY session_id",
        )
        .bind(user)
        .bind(scope)
        .map(read_session)
        .await
    }

    /// Ends all of a person's sessions everywhere, signs their browsers out and takes back what they allowed but nobody has
    /// redeemed yet.
    pub async fn sign_ins_end_of_person(
        &mut self,
        user: UserId,
        now: Timestamp,
        reason: &str,
    ) -> Result<(), StoreError> {
        self.allowances_delete(user).await?;
        self.query("DELETE FROM browsers WHERE user_id = $1").bind(user).execute().await?;
        self.query("DELETE FROM pending_browsers WHERE user_id = $1").bind(user).execute().await?;
        self.query("UPDATE sessions SET ended_at = $2, end_reason = $3 WHERE user_id = $1 AND ended_at IS NULL")
            .bind(user)
            .bind(now)
            .bind(reason)
            .execute()
            .await?;
        Ok(())
    }

    /// Ends all sessions of a tenant.
    pub async fn sessions_end_of_tenant(&mut self, tenant: TenantId, now: Timestamp) -> Result<u64, StoreError> {
        self.must_cover(tenant)?;
        self.query(
            "UPDATE sessions SET ended_at = $2, end_reason = 'tenant removed' WHERE tenant_id = $1 AND ended_at IS NULL",
        )
        .bind(tenant)
        .bind(now)
        .execute()
        .await
    }

    /// A page of sessions that run, of one tenant or of all.
    pub async fn sessions(&mut self, tenant: Option<TenantId>, page: PageRequest) -> Result<Vec<Session>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM sessions
             WHERE session_id > $1 AND ended_at IS NULL AND ($2 IS NULL OR tenant_id = $2) AND ($3 IS NULL OR tenant_id = $3)
             ORDER BY session_id LIMIT $4",
        )
        .bind(page.after())
        .bind(tenant)
        .bind(scope)
        .bind(page.fetch_limit())
        .map(read_session)
        .await
    }

    /// Adds a refresh token.
    pub async fn refresh_token_insert(&mut self, token: &RefreshToken) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO refresh_tokens (token_hash, session_id, issued_at, expires_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(&token.hash[..])
        .bind(token.session_id)
        .bind(token.issued_at)
        .bind(token.expires_at)
        .execute()
        .await?;
        Ok(())
    }

    /// Uses a refresh token up; `false` when it is not known or was used before.
    pub async fn refresh_token_use(&mut self, hash: &[u8; 32], now: Timestamp) -> Result<bool, StoreError> {
        self.query("UPDATE refresh_tokens SET used_at = $2 WHERE token_hash = $1 AND used_at IS NULL")
            .bind(&hash[..])
            .bind(now)
            .changed_one()
            .await
    }

    /// A refresh token and its session.
    pub async fn refresh_token(
        &mut self,
        token_hash: &[u8; 32],
    ) -> Result<Option<(RefreshToken, Session)>, StoreError> {
        self.query(
            "SELECT r.token_hash, r.issued_at, r.expires_at, r.used_at,
                    s.session_id, s.user_id, s.tenant_id, s.client_id, s.scope, s.authenticated_at, s.created_at,
                    s.ended_at, s.amr, s.renewed_at, s.browser_id, s.parent_id
             FROM refresh_tokens r JOIN sessions s ON s.session_id = r.session_id WHERE r.token_hash = $1",
        )
        .bind(&token_hash[..])
        .map_one(|row| {
            let session = read_session(row)?;
            let token = RefreshToken {
                hash: hash(row, "token_hash")?,
                session_id: session.id,
                issued_at: row.get("issued_at")?,
                expires_at: row.get("expires_at")?,
                used_at: row.get("used_at")?,
            };
            Ok((token, session))
        })
        .await
    }

    /// Notes how long access tokens live from now on, and that those of other lives are not issued any more.
    pub async fn token_life_begins(&mut self, ttl_s: i64, now: Timestamp) -> Result<(), StoreError> {
        self.query("UPDATE access_token_lives SET ended_at = $2 WHERE ttl_s <> $1 AND ended_at IS NULL")
            .bind(ttl_s)
            .bind(now)
            .execute()
            .await?;
        self.query(
            "INSERT INTO access_token_lives (ttl_s) VALUES ($1) ON CONFLICT (ttl_s) DO UPDATE SET ended_at = NULL",
        )
        .bind(ttl_s)
        .execute()
        .await?;
        Ok(())
    }

    /// The longest life that an access token may have which has not expired, in seconds. Lives of which none is left are
    /// forgotten.
    pub async fn token_life_longest(&mut self, now: Timestamp) -> Result<i64, StoreError> {
        let lives: Vec<(i64, Option<Timestamp>)> = self
            .query("SELECT ttl_s, ended_at FROM access_token_lives")
            .map(|row| Ok((row.get("ttl_s")?, row.get("ended_at")?)))
            .await?;
        let mut longest = 0;
        for (ttl_s, ended_at) in lives {
            if ended_at.is_some_and(|ended| ended.plus_secs(ttl_s) < now) {
                self.query("DELETE FROM access_token_lives WHERE ttl_s = $1 AND ended_at IS NOT NULL")
                    .bind(ttl_s)
                    .execute()
                    .await?;
            } else {
                longest = longest.max(ttl_s);
            }
        }
        Ok(longest)
    }

    /// Notes that tokens issued up to now are withdrawn.
    pub async fn revocation_put(&mut self, key: &str, at: Timestamp) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO revocations (subject, revoked_at) VALUES ($1, $2)
             ON CONFLICT (subject) DO UPDATE SET revoked_at = excluded.revoked_at",
        )
        .bind(key)
        .bind(at)
        .execute()
        .await?;
        Ok(())
    }

    /// All withdrawals.
    pub async fn revocations(&mut self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.query("SELECT subject, revoked_at FROM revocations")
            .map(|row| Ok((row.get("subject")?, row.get("revoked_at")?)))
            .await
    }

    /// Forgets withdrawals before an instant.
    pub async fn revocations_forget(&mut self, before: Timestamp) -> Result<(), StoreError> {
        self.query("DELETE FROM revocations WHERE revoked_at < $1").bind(before).execute().await?;
        Ok(())
    }
}
