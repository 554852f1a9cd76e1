//! Queries that erase what is about people: of a tenant that is gone, and of persons who belong nowhere any more. Each says
//! how many rows it was. Invoices and usage are not here: they are kept.

use super::{StoreError, Tx};
use crate::kernel::{TenantId, Timestamp, UserId};

/// How many rows of each kind were erased.
pub type Erased = Vec<(&'static str, u64)>;

/// What is about a tenant.
const OF_TENANT: &[(&str, &str)] = &[
    ("memberships", "DELETE FROM memberships WHERE tenant_id = $1"),
    ("invitations", "DELETE FROM invitations WHERE tenant_id = $1"),
    ("consents", "DELETE FROM consents WHERE tenant_id = $1"),
    (
        "sessions",
        "DELETE FROM refresh_tokens WHERE session_id IN (SELECT session_id FROM sessions WHERE tenant_id = $1)",
    ),
    ("sessions", "DELETE FROM sessions WHERE tenant_id = $1"),
    ("sessions", "DELETE FROM authorization_codes WHERE tenant_id = $1"),
    ("sessions", "DELETE FROM device_grants WHERE tenant_id = $1"),
    ("clients", "DELETE FROM initial_access_tokens WHERE tenant_id = $1"),
    ("clients", "DELETE FROM clients WHERE tenant_id = $1"),
    (
        "registrations",
        "UPDATE registration_steps SET error = NULL
         WHERE registration_id IN (SELECT registration_id FROM registrations WHERE tenant_id = $1) AND error IS NOT NULL",
    ),
    (
        "registrations",
        "UPDATE registrations SET email = NULL, customer_name = 'erased', intent = NULL, notes = '[]'
         WHERE tenant_id = $1
             AND (customer_name <> 'erased' OR email IS NOT NULL OR intent IS NOT NULL OR notes <> '[]')",
    ),
    (
        "webhook_attempts",
        "DELETE FROM webhook_attempts WHERE event_id IN (SELECT event_id FROM outbox WHERE lane = $1)",
    ),
    (
        "billing_terms",
        "UPDATE billing_accounts SET terms = NULL WHERE tenant_id = $1 AND terms IS NOT NULL AND closed_at IS NOT NULL",
    ),
    (
        "tenant_names",
        "UPDATE tenants SET customer_name = 'erased', external_id = NULL, unavailable_reason = NULL
         WHERE tenant_id = $1 AND deleted_at IS NOT NULL
             AND (customer_name <> 'erased' OR external_id IS NOT NULL OR unavailable_reason IS NOT NULL)",
    ),
    ("offboarding", "UPDATE offboarding_steps SET error = NULL WHERE tenant_id = $1 AND error IS NOT NULL"),
    ("kept_exports", "UPDATE offboardings SET export_claim = NULL WHERE tenant_id = $1 AND export_claim IS NOT NULL"),
    ("kept_export_pieces", "DELETE FROM kept_exports WHERE tenant_id = $1"),
    (
        "audit_entries",
        "UPDATE audit SET address = NULL, detail = NULL, before = NULL, after = NULL WHERE tenant_id = $1
             AND (address IS NOT NULL OR detail IS NOT NULL OR before IS NOT NULL OR after IS NOT NULL)",
    ),
];

/// What is about a person; the row of a person who belongs to another tenant is not there to be found.
const OF_PERSON: &[(&str, &str)] = &[
    ("sessions", "DELETE FROM refresh_tokens WHERE session_id IN (SELECT session_id FROM sessions WHERE user_id = $1)"),
    ("sessions", "DELETE FROM sessions WHERE user_id = $1"),
    ("sessions", "DELETE FROM authorization_codes WHERE user_id = $1"),
    ("sessions", "DELETE FROM device_grants WHERE user_id = $1"),
    ("sessions", "DELETE FROM device_guesses WHERE user_id = $1"),
    ("sessions", "DELETE FROM browsers WHERE user_id = $1"),
    ("sessions", "DELETE FROM pending_browsers WHERE user_id = $1"),
    ("credentials", "DELETE FROM reset_links WHERE user_id = $1"),
    ("credentials", "DELETE FROM passkey_challenges WHERE user_id = $1"),
    ("credentials", "DELETE FROM passkeys WHERE user_id = $1"),
    ("credentials", "DELETE FROM totp_factors WHERE user_id = $1"),
    ("credentials", "DELETE FROM recovery_codes WHERE user_id = $1"),
    ("credentials", "DELETE FROM credentials WHERE user_id = $1"),
    ("consents", "DELETE FROM consents WHERE user_id = $1"),
    ("registrations", "UPDATE registrations SET email = NULL WHERE user_id = $1 AND email IS NOT NULL"),
];

/// What is about an email that nobody has any more.
const OF_EMAIL: &[(&str, &str)] = &[
    ("letters", "DELETE FROM mails WHERE LOWER(recipient) = $1"),
    ("invitations", "DELETE FROM invitations WHERE email_key = $1"),
];

impl Tx {
    /// Erases what is about people and is a tenant's that is gone.
    pub async fn tenant_erase(&mut self, tenant: TenantId) -> Result<Erased, StoreError> {
        self.must_cover(tenant)?;
        let mut erased = Erased::new();
        for (kind, sql) in OF_TENANT {
            let rows = self.query(sql).bind(tenant).execute().await?;
            add(&mut erased, kind, rows);
        }
        // Whoever has not heard of an event yet learns at least whom it was about.
        let data = serde_json::json!({"tenant_id": tenant, "erased": true}).to_string();
        let sql = "UPDATE outbox SET data = $2 WHERE lane = $1 AND data <> $2";
        let rows = self.query(sql).bind(tenant).bind(data).execute().await?;
        add(&mut erased, "outbox", rows);
        self.billing_address_forget(tenant).await?;
        Ok(erased)
    }

    /// Erases what is about a person who belongs nowhere any more, but for emails.
    pub async fn person_erase(&mut self, user: UserId) -> Result<Erased, StoreError> {
        let mut erased = Erased::new();
        for (kind, sql) in OF_PERSON {
            let rows = self.query(sql).bind(user).execute().await?;
            add(&mut erased, kind, rows);
        }
        let (subject, actor) = (user.to_string(), format!("user:{user}"));
        let rows = self
            .query(
                "UPDATE audit SET address = NULL, detail = NULL, before = NULL, after = NULL
                 WHERE (subject = $1 OR actor = $2)
                     AND (address IS NOT NULL OR detail IS NOT NULL OR before IS NOT NULL OR after IS NOT NULL)",
            )
            .bind(subject)
            .bind(actor)
            .execute()
            .await?;
        add(&mut erased, "audit_entries", rows);
        Ok(erased)
    }

    /// Erases what is about an email that nobody has any more.
    pub async fn email_erase(&mut self, email_key: &str) -> Result<Erased, StoreError> {
        let mut erased = Erased::new();
        for (kind, sql) in OF_EMAIL {
            let rows = self.query(sql).bind(email_key).execute().await?;
            add(&mut erased, kind, rows);
        }
        // What is kept of a sign-up is JSON with the email as a text of its own.
        let text = serde_json::to_string(email_key).unwrap_or_default();
        let pattern = text.chars().fold(String::from("%"), |mut pattern, letter| {
            if matches!(letter, '%' | '_' | '!') {
                pattern.push('!');
            }
            pattern.push(letter);
            pattern
        }) + "%";
        let sql = "DELETE FROM sign_ups WHERE LOWER(request) LIKE $1 ESCAPE '!'";
        let rows = self.query(sql).bind(pattern).execute().await?;
        add(&mut erased, "sign_ups", rows);
        Ok(erased)
    }

    /// Whether a person is still there.
    pub async fn person_is_there(&mut self, user: UserId) -> Result<bool, StoreError> {
        Ok(self.query("SELECT user_id FROM users WHERE user_id = $1").bind(user).row().await?.is_some())
    }

    /// Whether somebody has an email.
    pub async fn email_is_had(&mut self, email_key: &str) -> Result<bool, StoreError> {
        Ok(self.query("SELECT user_id FROM users WHERE email_key = $1").bind(email_key).row().await?.is_some())
    }

    /// Forgets who belonged to a tenant.
    pub async fn offboarding_people_drop(&mut self, tenant: TenantId) -> Result<u64, StoreError> {
        self.must_cover(tenant)?;
        let sql = "UPDATE offboardings SET people_until = NULL WHERE tenant_id = $1";
        self.query(sql).bind(tenant).execute().await?;
        self.query("DELETE FROM offboarding_people WHERE tenant_id = $1").bind(tenant).execute().await
    }

    /// The certificate of an erasure.
    pub async fn erasure(&mut self, subject: uuid::Uuid) -> Result<Option<String>, StoreError> {
        let sql = "SELECT certificate FROM erasures WHERE subject = $1";
        self.query(sql).bind(subject).map_one(|row| row.get("certificate")).await
    }

    /// Keeps the certificate of an erasure; `false` when there is one.
    pub async fn erasure_insert(
        &mut self,
        subject: uuid::Uuid,
        now: Timestamp,
        certificate: &str,
    ) -> Result<bool, StoreError> {
        self.query(
            "INSERT INTO erasures (subject, erased_at, certificate) VALUES ($1, $2, $3)
             ON CONFLICT (subject) DO NOTHING",
        )
        .bind(subject)
        .bind(now)
        .bind(certificate)
        .changed_one()
        .await
    }
}

/// Adds rows of a kind.
pub fn add(erased: &mut Erased, kind: &'static str, rows: u64) {
    match erased.iter_mut().find(|(own, _)| *own == kind) {
        Some((_, all)) => *all += rows,
        None => erased.push((kind, rows)),
    }
}
