//! Queries about registrations: what is kept of them, and who is at which.

use serde::{Deserialize, Serialize};

use super::{StoreError, Tx, value::Row};
use crate::{
    billing::AddressBody,
    identity::PasswordHash,
    kernel::{Actor, Email, ExternalId, Faults, PageRequest, RegistrationId, TenantId, Timestamp},
    onboarding::model::{Intent, Registration, Step},
    users::{KnownEmail, Role},
};

/// An [`Intent`] as kept.
#[derive(Serialize, Deserialize)]
struct IntentRow {
    actor: Option<String>,
    any_tenant: bool,
    verified: bool,
    role: Option<String>,
    password: Option<String>,
    external_id: Option<String>,
    billing_address: AddressBody,
}

impl IntentRow {
    fn new(intent: &Intent) -> Self {
        Self {
            actor: intent.actor.map(|actor| actor.to_string()),
            any_tenant: intent.known_email == KnownEmail::AnyTenant,
            verified: intent.verified,
            role: intent.role.map(|role| role.name().to_owned()),
            password: intent.password.as_ref().map(|hash| hash.as_str().to_owned()),
            external_id: intent.external_id.as_ref().map(|id| id.as_str().to_owned()),
            billing_address: intent.billing_address.body().clone(),
        }
    }

    fn read(self) -> Option<Intent> {
        let role = match self.role {
            Some(name) => Some(name.parse::<Role>().ok()?),
            None => None,
        };
        let external_id = match self.external_id {
            Some(text) => Some(text.parse::<ExternalId>().ok()?),
            None => None,
        };
        Some(Intent {
            actor: self.actor.as_deref().map(read_actor),
            known_email: if self.any_tenant { KnownEmail::AnyTenant } else { KnownEmail::OnlyOwnTenant },
            verified: self.verified,
            role,
            password: self.password.map(PasswordHash::from_phc),
            external_id,
            billing_address: self.billing_address.parse("billing_address", &mut Faults::new())?,
        })
    }
}

/// Who asked for a registration; one of our own workers whose name is not known here is onboarding.
pub(super) fn read_actor(text: &str) -> Actor {
    let known = match text.split_once(':') {
        Some(("admin", id)) => id.parse().ok().map(Actor::Admin),
        Some(("user", id)) => id.parse().ok().map(Actor::User),
        Some(("client", id)) => id.parse().ok().map(Actor::Client),
        Some(("job", "lab")) => Some(Actor::Job("lab")),
        Some(("job", "seed")) => Some(Actor::Job("seed")),
        _ => None,
    };
    known.unwrap_or(Actor::Job("onboarding"))
}

fn read_intent(row: &Row) -> Result<Option<Intent>, StoreError> {
    let Some(text) = row.get::<Option<String>>("intent")? else { return Ok(None) };
    let corrupt = || StoreError::Corrupt("intent of a registration".into());
    let kept: IntentRow = serde_json::from_str(&text).map_err(|_| corrupt())?;
    kept.read().map(Some).ok_or_else(corrupt)
}

fn intent_text(registration: &Registration) -> Option<String> {
    // Texts, switches and options of them.
    registration.intent.as_ref().map(|intent| serde_json::to_string(&IntentRow::new(intent)).unwrap_or_default())
}

fn read_registration(row: &Row) -> Result<Registration, StoreError> {
    let email: Option<String> = row.get("email")?;
    let email = email.map(|text| text.parse().map_err(|_| StoreError::Corrupt("email".into()))).transpose()?;
    Ok(Registration {
        id: row.get("registration_id")?,
        tenant_id: row.get("tenant_id")?,
        user_id: row.get("user_id")?,
        email,
        customer_name: row.parse("customer_name")?,
        tier: row.parse("tier")?,
        status: row.parse("status")?,
        undoing: row.get("undoing")?,
        founds: row.get("founds")?,
        joined: row.get("joined")?,
        intent: read_intent(row)?,
        claims: row.get("claims")?,
        steps: Vec::new(),
        notes: row.json("notes")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn read_step(row: &Row) -> Result<Step, StoreError> {
    Ok(Step {
        name: row.parse("name")?,
        status: row.parse("status")?,
        attempts: row.get("attempts")?,
        error: row.get("error")?,
        next_try_at: row.get("next_try_at")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
    })
}

impl Tx {
    /// Adds a registration, which is its maker's until `leased_until`.
    pub async fn registration_insert(
        &mut self,
        registration: &Registration,
        key: Option<&[u8; 32]>,
        leased_until: Timestamp,
    ) -> Result<(), StoreError> {
        self.must_cover(registration.tenant_id)?;
        self.query(
            "INSERT INTO registrations (registration_id, tenant_id, user_id, email, customer_name, tier, status, notes,
                 intent, request_key, undoing, founds, joined, claims, leased_until, next_try_at, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        )
        .bind(registration.id)
        .bind(registration.tenant_id)
        .bind(registration.user_id)
        .bind(registration.email.as_ref().map(Email::as_str))
        .bind(registration.customer_name.as_str())
        .bind(registration.tier.as_str())
        .bind(registration.status.name())
        .bind(serde_json::to_string(&registration.notes).unwrap_or_default())
        .bind(intent_text(registration))
        .bind(key.map(|key| key.to_vec()))
        .bind(registration.undoing)
        .bind(registration.founds)
        .bind(registration.joined)
        .bind(registration.claims)
        .bind(leased_until)
        .bind(registration.due_at())
        .bind(registration.created_at)
        .bind(registration.updated_at)
        .execute()
        .await?;
        for (position, step) in (0_i64..).zip(&registration.steps) {
            self.registration_step_put(registration.id, position, step).await?;
        }
        Ok(())
    }

    /// Writes how a registration stands now: `false`, and nothing, unless it is still the caller's who claimed it. It stays
    /// the caller's until `leased_until`, where there is one.
    pub async fn registration_update(
        &mut self,
        before: &Registration,
        after: &Registration,
        leased_until: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        self.must_cover(after.tenant_id)?;
        let held = self
            .query(
                "UPDATE registrations SET tenant_id = $3, user_id = $4, email = $5, status = $6, notes = $7, intent = $8,
                     undoing = $9, founds = $10, joined = $11, leased_until = $12, next_try_at = $13, updated_at = $14
                 WHERE registration_id = $1 AND claims = $2 AND status IN ('running', 'failed')",
            )
            .bind(after.id)
            .bind(before.claims)
            .bind(after.tenant_id)
            .bind(after.user_id)
            .bind(after.email.as_ref().map(Email::as_str))
            .bind(after.status.name())
            .bind(serde_json::to_string(&after.notes).unwrap_or_default())
            .bind(intent_text(after))
            .bind(after.undoing)
            .bind(after.founds)
            .bind(after.joined)
            .bind(leased_until)
            .bind(after.due_at())
            .bind(after.updated_at)
            .changed_one()
            .await?;
        if held {
            for (position, step) in (0_i64..).zip(&after.steps) {
                if before.steps.get(usize::try_from(position).unwrap_or(0)) != Some(step) {
                    self.registration_step_put(after.id, position, step).await?;
                }
            }
        }
        Ok(held)
    }

    /// Whether a registration is still the caller's; its row is locked, and it stays the caller's until `leased_until`.
    pub async fn registration_hold(
        &mut self,
        held: &Registration,
        leased_until: Timestamp,
    ) -> Result<bool, StoreError> {
        self.query(
            "UPDATE registrations SET leased_until = $3
             WHERE registration_id = $1 AND claims = $2 AND status IN ('running', 'failed')",
        )
        .bind(held.id)
        .bind(held.claims)
        .bind(leased_until)
        .changed_one()
        .await
    }

    /// Takes a registration up, unless it has ended or somebody else has it.
    pub async fn registration_claim(
        &mut self,
        id: RegistrationId,
        now: Timestamp,
        leased_until: Timestamp,
    ) -> Result<Option<Registration>, StoreError> {
        let claimed = self
            .query(
                "UPDATE registrations SET claims = claims + 1, leased_until = $3
                 WHERE registration_id = $1 AND status IN ('running', 'failed')
                   AND (leased_until IS NULL OR leased_until <= $2)",
            )
            .bind(id)
            .bind(now)
            .bind(leased_until)
            .changed_one()
            .await?;
        if claimed { self.registration_by_id(id).await } else { Ok(None) }
    }

    /// Takes the registrations of a tenant that have not ended, and a change of its tier, from whoever has them, for good: the
    /// tenant is taken out.
    pub async fn registrations_stop(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        self.query(
            "UPDATE registrations SET claims = claims + 1, next_try_at = NULL
             WHERE tenant_id = $1 AND status IN ('running', 'failed')",
        )
        .bind(tenant)
        .execute()
        .await?;
        self.tier_change_stop(tenant).await
    }

    /// Writes that a registration was ended by taking its tenant out, whoever has it.
    pub async fn registration_end(&mut self, ended: &Registration) -> Result<(), StoreError> {
        self.must_cover(ended.tenant_id)?;
        self.query(
            "UPDATE registrations SET email = $2, status = $3, intent = NULL, undoing = $4, claims = claims + 1,
                 leased_until = NULL, next_try_at = NULL, updated_at = $5
             WHERE registration_id = $1",
        )
        .bind(ended.id)
        .bind(ended.email.as_ref().map(Email::as_str))
        .bind(ended.status.name())
        .bind(ended.undoing)
        .bind(ended.updated_at)
        .execute()
        .await?;
        for (position, step) in (0_i64..).zip(&ended.steps) {
            self.registration_step_put(ended.id, position, step).await?;
        }
        Ok(())
    }

    /// Lets go of what an earlier process had taken up. Only where there can be no other process: elsewhere its time runs
    /// out.
    pub async fn registrations_release(&mut self) -> Result<(), StoreError> {
        if self.is_ours_alone() {
            self.query("UPDATE registrations SET leased_until = NULL WHERE leased_until IS NOT NULL").execute().await?;
        }
        Ok(())
    }

    /// Registrations that are to be taken up now, those first that wait longest.
    pub async fn registrations_due(&mut self, now: Timestamp, most: i64) -> Result<Vec<RegistrationId>, StoreError> {
        self.query(
            "SELECT registration_id FROM registrations
             WHERE next_try_at <= $1 AND status IN ('running', 'failed') AND (leased_until IS NULL OR leased_until <= $1)
             ORDER BY next_try_at LIMIT $2",
        )
        .bind(now)
        .bind(most)
        .map(|row| row.get("registration_id"))
        .await
    }

    async fn registration_step_put(
        &mut self,
        id: RegistrationId,
        position: i64,
        step: &Step,
    ) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO registration_steps (registration_id, position, name, status, attempts, error, next_try_at,
                 started_at, ended_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (registration_id, position) DO UPDATE SET status = excluded.status,
                 attempts = excluded.attempts, error = excluded.error, next_try_at = excluded.next_try_at,
                 started_at = excluded.started_at, ended_at = excluded.ended_at",
        )
        .bind(id)
        .bind(position)
        .bind(step.name.name())
        .bind(step.status.name())
        .bind(step.attempts)
        .bind(step.error.as_deref())
        .bind(step.next_try_at)
        .bind(step.started_at)
        .bind(step.ended_at)
        .execute()
        .await?;
        Ok(())
    }

    async fn with_steps(&mut self, mut registrations: Vec<Registration>) -> Result<Vec<Registration>, StoreError> {
        for registration in &mut registrations {
            registration.steps = self
                .query("SELECT * FROM registration_steps WHERE registration_id = $1 ORDER BY position")
                .bind(registration.id)
                .map(read_step)
                .await?;
        }
        Ok(registrations)
    }

    /// One registration.
    pub async fn registration_by_id(&mut self, id: RegistrationId) -> Result<Option<Registration>, StoreError> {
        let scope = self.tenant();
        let found = self
            .query("SELECT * FROM registrations WHERE registration_id = $1 AND ($2 IS NULL OR tenant_id = $2)")
            .bind(id)
            .bind(scope)
            .map(read_registration)
            .await?;
        Ok(self.with_steps(found).await?.into_iter().next())
    }

    /// The registration that was made with a key since an instant. What has it from before gives it up.
    pub async fn registration_by_key(
        &mut self,
        key: &[u8; 32],
        since: Timestamp,
    ) -> Result<Option<Registration>, StoreError> {
        self.query("UPDATE registrations SET request_key = NULL WHERE request_key = $1 AND created_at < $2")
            .bind(&key[..])
            .bind(since)
            .execute()
            .await?;
        let scope = self.tenant();
        let found = self
            .query("SELECT * FROM registrations WHERE request_key = $1 AND ($2 IS NULL OR tenant_id = $2)")
            .bind(&key[..])
            .bind(scope)
            .map(read_registration)
            .await?;
        Ok(self.with_steps(found).await?.into_iter().next())
    }

    /// A page of registrations.
    pub async fn registrations(&mut self, page: PageRequest) -> Result<Vec<Registration>, StoreError> {
        let scope = self.tenant();
        let found = self
            .query(
                "SELECT * FROM registrations WHERE registration_id > $1 AND ($2 IS NULL OR tenant_id = $2)
                 ORDER BY registration_id LIMIT $3",
            )
            .bind(page.after())
            .bind(scope)
            .bind(page.fetch_limit())
            .map(read_registration)
            .await?;
        self.with_steps(found).await
    }

    /// Every registration that made or joined a tenant.
    pub async fn registrations_of_tenant(&mut self, tenant: TenantId) -> Result<Vec<Registration>, StoreError> {
        let scope = self.tenant();
        let found = self
            .query(
                "SELECT * FROM registrations WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2)
                 ORDER BY registration_id",
            )
            .bind(tenant)
            .bind(scope)
            .map(read_registration)
            .await?;
        self.with_steps(found).await
    }
}
