//! Queries about second factors, and browsers that owe one.

use uuid::Uuid;

use super::{StoreError, Tx, value::Row};
use crate::{
    identity::{PasskeyRow, TotpFactor},
    kernel::{Timestamp, UserId},
};

fn read_passkey(row: &Row) -> Result<PasskeyRow, StoreError> {
    Ok(PasskeyRow {
        id: row.get("passkey_id")?,
        user_id: row.get("user_id")?,
        credential_id: row.get("credential_id")?,
        name: row.get("name")?,
        passkey: row.get("passkey")?,
        created_at: row.get("created_at")?,
        used_at: row.get("used_at")?,
    })
}

impl Tx {
    /// A person's authenticator, confirmed or not.
    pub async fn totp(&mut self, user: UserId) -> Result<Option<TotpFactor>, StoreError> {
        self.query("SELECT sealed_secret, confirmed_at FROM totp_factors WHERE user_id = $1")
            .bind(user)
            .map_one(|row| {
                Ok(TotpFactor { sealed_secret: row.get("sealed_secret")?, confirmed_at: row.get("confirmed_at")? })
            })
            .await
    }

    /// Offers an authenticator that is not confirmed yet; `false` when there is one that is.
    pub async fn totp_offer(&mut self, user: UserId, sealed_secret: &[u8], now: Timestamp) -> Result<bool, StoreError> {
        self.query(
            "INSERT INTO totp_factors (user_id, sealed_secret, last_step, created_at) VALUES ($1, $2, 0, $3)
             ON CONFLICT (user_id) DO UPDATE SET sealed_secret = excluded.sealed_secret, created_at = excluded.created_at
             WHERE totp_factors.confirmed_at IS NULL",
        )
        .bind(user)
        .bind(sealed_secret)
        .bind(now)
        .changed_one()
        .await
    }

    /// Confirms an authenticator by the code of a step; `false` when it is confirmed already, or another was offered.
    pub async fn totp_confirm(
        &mut self,
        user: UserId,
        sealed_secret: &[u8],
        step: i64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.query(
            "UPDATE totp_factors SET confirmed_at = $4, last_step = $3
             WHERE user_id = $1 AND sealed_secret = $2 AND confirmed_at IS NULL",
        )
        .bind(user)
        .bind(sealed_secret)
        .bind(step)
        .bind(now)
        .changed_one()
        .await
    }

    /// Uses the code of a step up; `false` when it, or a later one, was used before.
    pub async fn totp_use(&mut self, user: UserId, step: i64) -> Result<bool, StoreError> {
        self.query(
            "UPDATE totp_factors SET last_step = $2 WHERE user_id = $1 AND last_step < $2 AND confirmed_at IS NOT NULL",
        )
        .bind(user)
        .bind(step)
        .changed_one()
        .await
    }

    /// Takes a person's authenticator away; `false` when there was none.
    pub async fn totp_delete(&mut self, user: UserId) -> Result<bool, StoreError> {
        self.query("DELETE FROM totp_factors WHERE user_id = $1").bind(user).changed_one().await
    }

    /// Puts new recovery codes in the place of all others.
    pub async fn recovery_codes_replace(&mut self, user: UserId, hashes: &[[u8; 32]]) -> Result<(), StoreError> {
        self.query("DELETE FROM recovery_codes WHERE user_id = $1").bind(user).execute().await?;
        for hash in hashes {
            self.query("INSERT INTO recovery_codes (user_id, code_hash) VALUES ($1, $2)")
                .bind(user)
                .bind(&hash[..])
                .execute()
                .await?;
        }
        Ok(())
    }

    /// Uses a recovery code up; `false` when it is not known or was used before.
    pub async fn recovery_code_use(
        &mut self,
        user: UserId,
        hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.query("UPDATE recovery_codes SET used_at = $3 WHERE user_id = $1 AND code_hash = $2 AND used_at IS NULL")
            .bind(user)
            .bind(&hash[..])
            .bind(now)
            .changed_one()
            .await
    }

    /// How many recovery codes are left.
    pub async fn recovery_codes_left(&mut self, user: UserId) -> Result<i64, StoreError> {
        let count = self
            .query("SELECT COUNT(*) AS n FROM recovery_codes WHERE user_id = $1 AND used_at IS NULL")
            .bind(user)
            .map_one(|row| row.get("n"))
            .await?;
        Ok(count.unwrap_or(0))
    }

    /// A person's passkeys, the oldest first.
    pub async fn passkeys(&mut self, user: UserId) -> Result<Vec<PasskeyRow>, StoreError> {
        self.query("SELECT * FROM passkeys WHERE user_id = $1 ORDER BY passkey_id").bind(user).map(read_passkey).await
    }

    /// Adds a passkey; `false` when somebody has it already.
    pub async fn passkey_insert(&mut self, passkey: &PasskeyRow) -> Result<bool, StoreError> {
        self.query(
            "INSERT INTO passkeys (passkey_id, user_id, credential_id, name, passkey, created_at)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (credential_id) DO NOTHING",
        )
        .bind(passkey.id)
        .bind(passkey.user_id)
        .bind(&passkey.credential_id[..])
        .bind(passkey.name.as_str())
        .bind(passkey.passkey.as_str())
        .bind(passkey.created_at)
        .changed_one()
        .await
    }

    /// Notes that a passkey was used, with its counter; `false` when another use came first.
    pub async fn passkey_use(
        &mut self,
        id: Uuid,
        before: &str,
        after: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.query("UPDATE passkeys SET passkey = $3, used_at = $4 WHERE passkey_id = $1 AND passkey = $2")
            .bind(id)
            .bind(before)
            .bind(after)
            .bind(now)
            .changed_one()
            .await
    }

    /// Takes a passkey away; `false` when the person has no such.
    pub async fn passkey_delete(&mut self, user: UserId, id: Uuid) -> Result<bool, StoreError> {
        self.query("DELETE FROM passkeys WHERE user_id = $1 AND passkey_id = $2")
            .bind(user)
            .bind(id)
            .changed_one()
            .await
    }

    /// Takes all of a person's passkeys away; how many there were.
    pub async fn passkeys_delete(&mut self, user: UserId) -> Result<u64, StoreError> {
        self.query("DELETE FROM passkeys WHERE user_id = $1").bind(user).execute().await
    }

    /// Keeps what a browser was asked to sign, in the place of what it was asked before.
    pub async fn passkey_challenge_put(
        &mut self,
        secret_hash: &[u8; 32],
        purpose: &str,
        user: UserId,
        sealed_state: &[u8],
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO passkey_challenges (secret_hash, purpose, user_id, sealed_state, expires_at)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (secret_hash) DO UPDATE SET purpose = excluded.purpose, user_id = excluded.user_id,
                 sealed_state = excluded.sealed_state, expires_at = excluded.expires_at",
        )
        .bind(&secret_hash[..])
        .bind(purpose)
        .bind(user)
        .bind(sealed_state)
        .bind(expires_at)
        .execute()
        .await?;
        Ok(())
    }

    /// Takes what a browser was asked to sign: it answers once.
    pub async fn passkey_challenge_take(
        &mut self,
        secret_hash: &[u8; 32],
        purpose: &str,
        user: UserId,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.query(
            "DELETE FROM passkey_challenges
             WHERE secret_hash = $1 AND purpose = $2 AND user_id = $3 AND expires_at > $4 RETURNING sealed_state",
        )
        .bind(&secret_hash[..])
        .bind(purpose)
        .bind(user)
        .bind(now)
        .map_one(|row| row.get("sealed_state"))
        .await
    }

    /// Notes that a browser owes a second factor.
    pub async fn pending_browser_insert(
        &mut self,
        secret_hash: &[u8; 32],
        user: UserId,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.query("INSERT INTO pending_browsers (secret_hash, user_id, expires_at) VALUES ($1, $2, $3)")
            .bind(&secret_hash[..])
            .bind(user)
            .bind(expires_at)
            .execute()
            .await?;
        Ok(())
    }

    /// Who owes a second factor with a browser.
    pub async fn pending_browser(
        &mut self,
        secret_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<UserId>, StoreError> {
        self.query("SELECT user_id FROM pending_browsers WHERE secret_hash = $1 AND expires_at > $2")
            .bind(&secret_hash[..])
            .bind(now)
            .map_one(|row| row.get("user_id"))
            .await
    }

    /// A browser owes nothing any more; `false` when it did not.
    pub async fn pending_browser_delete(&mut self, secret_hash: &[u8; 32]) -> Result<bool, StoreError> {
        self.query("DELETE FROM pending_browsers WHERE secret_hash = $1").bind(&secret_hash[..]).changed_one().await
    }
}
