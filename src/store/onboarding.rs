//! Queries about registrations.

use super::{StoreError, Tx, value::Row};
use crate::{
    kernel::{Email, PageRequest, RegistrationId, TenantId},
    onboarding::model::{Registration, Step},
};

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
    })
}

impl Tx {
    /// Writes a registration with its steps, new or changed.
    pub async fn registration_put(&mut self, registration: &Registration) -> Result<(), StoreError> {
        self.must_cover(registration.tenant_id)?;
        self.query(
            "INSERT INTO registrations (registration_id, tenant_id, user_id, email, customer_name, tier, status, notes,
                                        created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (registration_id) DO UPDATE SET email = excluded.email, status = excluded.status,
                 notes = excluded.notes, updated_at = excluded.updated_at",
        )
        .bind(registration.id)
        .bind(registration.tenant_id)
        .bind(registration.user_id)
        .bind(registration.email.as_ref().map(Email::as_str))
        .bind(registration.customer_name.as_str())
        .bind(registration.tier.as_str())
        .bind(registration.status.name())
        .bind(serde_json::to_string(&registration.notes).unwrap_or_default())
        .bind(registration.created_at)
        .bind(registration.updated_at)
        .execute()
        .await?;
        for (position, step) in (0_i64..).zip(&registration.steps) {
            self.registration_step_put(registration.id, position, step).await?;
        }
        Ok(())
    }

    async fn registration_step_put(
        &mut self,
        id: RegistrationId,
        position: i64,
        step: &Step,
    ) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO registration_steps (registration_id, position, name, status, attempts, error)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (registration_id, position) DO UPDATE SET status = excluded.status,
                 attempts = excluded.attempts, error = excluded.error",
        )
        .bind(id)
        .bind(position)
        .bind(step.name.name())
        .bind(step.status.name())
        .bind(step.attempts)
        .bind(step.error.as_deref())
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

    /// All registrations of a tenant.
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

    /// Registrations whose work was not finished.
    pub async fn registrations_running(&mut self) -> Result<Vec<Registration>, StoreError> {
        let found = self
            .query("SELECT * FROM registrations WHERE status = 'running' ORDER BY registration_id")
            .map(read_registration)
            .await?;
        self.with_steps(found).await
    }
}
