//! Queries about idempotency keys.

use super::{StoreError, Tx};
use crate::kernel::Timestamp;

/// What claiming a key found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The key is the caller's now.
    New,
    /// It was used with the same body, and this was the answer, as it was kept.
    Answered(String),
    /// It was used with another body.
    OtherBody,
    /// It was used with the same body, and there is no answer yet.
    Running,
}

impl Tx {
    /// Claims a key. A claim made before `stale` that has no answer is taken over; what was claimed before `old` is forgotten.
    pub async fn idempotency_claim(
        &mut self,
        owner: &str,
        key: &str,
        digest: &[u8],
        now: Timestamp,
        stale: Timestamp,
        old: Timestamp,
    ) -> Result<Claim, StoreError> {
        self.query("DELETE FROM idempotency_keys WHERE claimed_at < $1").bind(old).execute().await?;
        let claimed = self
            .query(
                "INSERT INTO idempotency_keys (owner, key, digest, claimed_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (owner, key) DO UPDATE SET claimed_at = excluded.claimed_at
                 WHERE idempotency_keys.answer IS NULL AND idempotency_keys.digest = excluded.digest
                   AND idempotency_keys.claimed_at < $5",
            )
            .bind(owner)
            .bind(key)
            .bind(digest)
            .bind(now)
            .bind(stale)
            .changed_one()
            .await?;
        if claimed {
            return Ok(Claim::New);
        }
        let found = self
            .query("SELECT digest, answer FROM idempotency_keys WHERE owner = $1 AND key = $2")
            .bind(owner)
            .bind(key)
            .map_one(|row| Ok((row.get::<Vec<u8>>("digest")?, row.get::<Option<String>>("answer")?)))
            .await?;
        Ok(match found {
            Some((known, _)) if known != digest => Claim::OtherBody,
            Some((_, Some(answer))) => Claim::Answered(answer),
            _ => Claim::Running,
        })
    }

    /// Keeps the answer to a claimed key.
    pub async fn idempotency_answer(&mut self, owner: &str, key: &str, answer: &str) -> Result<(), StoreError> {
        self.query("UPDATE idempotency_keys SET answer = $3 WHERE owner = $1 AND key = $2")
            .bind(owner)
            .bind(key)
            .bind(answer)
            .execute()
            .await?;
        Ok(())
    }

    /// Gives a claimed key back.
    pub async fn idempotency_release(&mut self, owner: &str, key: &str) -> Result<(), StoreError> {
        self.query("DELETE FROM idempotency_keys WHERE owner = $1 AND key = $2 AND answer IS NULL")
            .bind(owner)
            .bind(key)
            .execute()
            .await?;
        Ok(())
    }
}
