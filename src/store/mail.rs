//! Queries about the outbox.

use uuid::Uuid;

use super::{StoreError, Tx, value::Row};
use crate::{
    kernel::{PageRequest, Timestamp},
    mail::{Letter, OutboxLetter},
};

fn read_mail(row: &Row) -> Result<OutboxLetter, StoreError> {
    Ok(OutboxLetter {
        id: row.get("mail_id")?,
        letter: Letter { to: row.parse("recipient")?, subject: row.get("subject")?, text: row.get("text")? },
        created_at: row.get("created_at")?,
        next_try_at: row.get("next_try_at")?,
        attempts: row.get("attempts")?,
        sent_at: row.get("sent_at")?,
        given_up_at: row.get("given_up_at")?,
        error: row.get("error")?,
    })
}

impl Tx {
    /// Adds a letter, due now.
    pub async fn mail_insert(&mut self, id: Uuid, letter: &Letter, now: Timestamp) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO mails (mail_id, recipient, subject, text, created_at, next_try_at, attempts)
             VALUES ($1, $2, $3, $4, $5, $5, 0)",
        )
        .bind(id)
        .bind(letter.to.as_str())
        .bind(letter.subject.as_str())
        .bind(letter.text.as_str())
        .bind(now)
        .execute()
        .await?;
        Ok(())
    }

    /// Letters that are due, the oldest first.
    pub async fn mails_due(&mut self, now: Timestamp, most: i64) -> Result<Vec<OutboxLetter>, StoreError> {
        self.query(
            "SELECT * FROM mails WHERE sent_at IS NULL AND given_up_at IS NULL AND next_try_at <= $1
             ORDER BY next_try_at LIMIT $2",
        )
        .bind(now)
        .bind(most)
        .map(read_mail)
        .await
    }

    /// Takes a letter to try it; `false` when somebody else did.
    pub async fn mail_claim(&mut self, id: Uuid, attempts: i64, next_try_at: Timestamp) -> Result<bool, StoreError> {
        self.query(
            "UPDATE mails SET attempts = attempts + 1, next_try_at = $3
             WHERE mail_id = $1 AND attempts = $2 AND sent_at IS NULL AND given_up_at IS NULL",
        )
        .bind(id)
        .bind(attempts)
        .bind(next_try_at)
        .changed_one()
        .await
    }

    /// Notes that a letter was sent, and forgets what it said unless that is to be kept.
    pub async fn mail_sent(&mut self, id: Uuid, now: Timestamp, keep_text: bool) -> Result<(), StoreError> {
        self.query(
            "UPDATE mails SET sent_at = $2, error = NULL, text = CASE WHEN $3 THEN text ELSE '' END WHERE mail_id = $1",
        )
        .bind(id)
        .bind(now)
        .bind(keep_text)
        .execute()
        .await?;
        Ok(())
    }

    /// Notes that a try failed, and since when the letter is given up, if it is.
    pub async fn mail_failed(
        &mut self,
        id: Uuid,
        error: &str,
        given_up_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.query("UPDATE mails SET error = $2, given_up_at = $3 WHERE mail_id = $1")
            .bind(id)
            .bind(error)
            .bind(given_up_at)
            .execute()
            .await?;
        Ok(())
    }

    /// A page of letters, the newest first.
    pub async fn mails(&mut self, page: PageRequest) -> Result<Vec<OutboxLetter>, StoreError> {
        let before = if page.after().is_nil() { Uuid::max() } else { page.after() };
        self.query("SELECT * FROM mails WHERE mail_id < $1 ORDER BY mail_id DESC LIMIT $2")
            .bind(before)
            .bind(page.fetch_limit())
            .map(read_mail)
            .await
    }

    /// Whether there is a letter from before an instant.
    pub async fn mail_is_older(&mut self, before: Timestamp) -> Result<bool, StoreError> {
        let row = self.query("SELECT mail_id FROM mails WHERE created_at < $1 LIMIT 1").bind(before).row().await?;
        Ok(row.is_some())
    }

    /// Forgets letters from before an instant.
    pub async fn mails_forget(&mut self, before: Timestamp) -> Result<(), StoreError> {
        self.query("DELETE FROM mails WHERE created_at < $1").bind(before).execute().await?;
        Ok(())
    }
}
