//! Queries about users and memberships.

use super::{StoreError, Tx, value::Row};
use crate::{
    kernel::{Email, PageRequest, PersonName, TenantId, Timestamp, UserId},
    users::model::{Member, Membership, MembershipStatus, User},
};

fn read_user(row: &Row) -> Result<User, StoreError> {
    let created_at = row.get("created_at")?;
    let name: Option<String> = row.get("name")?;
    Ok(User {
        id: row.get("user_id")?,
        email: row.parse("email")?,
        email_verified_at: row.get("email_verified_at")?,
        // It was checked when it was given.
        name: name.and_then(|name| name.parse().ok()),
        platform_admin: row.get("platform_admin")?,
        created_at,
        updated_at: row.get::<Option<Timestamp>>("updated_at")?.unwrap_or(created_at),
    })
}

fn read_membership(row: &Row) -> Result<Membership, StoreError> {
    Ok(Membership {
        tenant_id: row.get("tenant_id")?,
        user_id: row.get("user_id")?,
        role: row.parse("role")?,
        status: row.parse("status")?,
        created_at: row.get("created_at")?,
    })
}

/// A member's person and place, with the place's own time under another name.
const MEMBER_COLUMNS: &str =
    "u.user_id, u.email, u.email_verified_at, u.name, u.platform_admin, u.created_at, u.updated_at,
    m.tenant_id, m.role, m.status, m.created_at AS joined_at";

fn read_member(row: &Row) -> Result<Member, StoreError> {
    let mut membership = read_membership(row)?;
    membership.created_at = row.get("joined_at")?;
    Ok(Member { user: read_user(row)?, membership })
}

impl Tx {
    /// Adds a person; `false` when the email address is taken.
    pub async fn user_insert(&mut self, user: &User) -> Result<bool, StoreError> {
        self.query(
            "INSERT INTO users (user_id, email, email_key, platform_admin, created_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (email_key) DO NOTHING",
        )
        .bind(user.id)
        .bind(user.email.as_str())
        .bind(user.email.key())
        .bind(user.platform_admin)
        .bind(user.created_at)
        .changed_one()
        .await
    }

    /// Notes that a person's email reaches them, unless that is known.
    pub async fn user_email_verified(&mut self, id: UserId, now: Timestamp) -> Result<bool, StoreError> {
        self.query(
            "UPDATE users SET email_verified_at = $2, updated_at = $2 WHERE user_id = $1 AND email_verified_at IS NULL",
        )
        .bind(id)
        .bind(now)
        .changed_one()
        .await
    }

    /// Calls a person otherwise.
    pub async fn user_rename(
        &mut self,
        id: UserId,
        name: Option<&PersonName>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.query("UPDATE users SET name = $2, updated_at = $3 WHERE user_id = $1")
            .bind(id)
            .bind(name.map(PersonName::as_str))
            .bind(now)
            .execute()
            .await?;
        Ok(())
    }

    /// The person with an email address. Not held to a scope: signing in and joining begin with the address alone.
    pub async fn user_by_email(&mut self, email: &Email) -> Result<Option<User>, StoreError> {
        self.query("SELECT * FROM users WHERE email_key = $1").bind(email.key()).map_one(read_user).await
    }

    /// A person who belongs to the scope's tenant (anybody, for a scope that reaches everything).
    pub async fn user_by_id(&mut self, id: UserId) -> Result<Option<User>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM users WHERE user_id = $1 AND ($2 IS NULL OR EXISTS
             (SELECT 1 FROM memberships m WHERE m.user_id = users.user_id AND m.tenant_id = $2))",
        )
        .bind(id)
        .bind(scope)
        .map_one(read_user)
        .await
    }

    /// Whether any platform administrator exists.
    pub async fn platform_admin_exists(&mut self) -> Result<bool, StoreError> {
        let row = self.query("SELECT user_id FROM users WHERE platform_admin = $1 LIMIT 1").bind(true).row().await?;
        Ok(row.is_some())
    }

    /// Adds a membership; `false` when it is there already.
    pub async fn membership_insert(&mut self, membership: &Membership) -> Result<bool, StoreError> {
        self.must_cover(membership.tenant_id)?;
        self.query(
            "INSERT INTO memberships (tenant_id, user_id, role, status, created_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant_id, user_id) DO NOTHING",
        )
        .bind(membership.tenant_id)
        .bind(membership.user_id)
        .bind(membership.role.name())
        .bind(membership.status.name())
        .bind(membership.created_at)
        .changed_one()
        .await
    }

    /// A person's memberships within the scope's reach, oldest tenant first.
    pub async fn memberships_of_user(&mut self, id: UserId) -> Result<Vec<Membership>, StoreError> {
        let scope = self.tenant();
        self.query("SELECT * FROM memberships WHERE user_id = $1 AND ($2 IS NULL OR tenant_id = $2) ORDER BY tenant_id")
            .bind(id)
            .bind(scope)
            .map(read_membership)
            .await
    }

    /// One member of a tenant.
    pub async fn member(&mut self, tenant: TenantId, id: UserId) -> Result<Option<Member>, StoreError> {
        let scope = self.tenant();
        self.assembled(format!(
            "SELECT {MEMBER_COLUMNS} FROM memberships m JOIN users u ON u.user_id = m.user_id
             WHERE m.tenant_id = $1 AND m.user_id = $2 AND ($3 IS NULL OR m.tenant_id = $3)"
        ))
        .bind(tenant)
        .bind(id)
        .bind(scope)
        .map_one(read_member)
        .await
    }

    /// A page of a tenant's members.
    pub async fn members(&mut self, tenant: TenantId, page: PageRequest) -> Result<Vec<Member>, StoreError> {
        let scope = self.tenant();
        self.assembled(format!(
            "SELECT {MEMBER_COLUMNS} FROM memberships m JOIN users u ON u.user_id = m.user_id
             WHERE m.tenant_id = $1 AND m.user_id > $2 AND ($3 IS NULL OR m.tenant_id = $3)
             ORDER BY m.user_id LIMIT $4"
        ))
        .bind(tenant)
        .bind(page.after())
        .bind(scope)
        .bind(page.fetch_limit())
        .map(read_member)
        .await
    }

    /// The owners of a tenant, locked until the end of the transaction, so that two cannot leave at once.
    pub async fn owners_locked(&mut self, tenant: TenantId) -> Result<Vec<Member>, StoreError> {
        self.must_cover(tenant)?;
        // Rewriting the rows takes their locks on both engines.
        self.query("UPDATE memberships SET role = role WHERE tenant_id = $1 AND role = 'owner'")
            .bind(tenant)
            .execute()
            .await?;
        self.assembled(format!(
            "SELECT {MEMBER_COLUMNS} FROM memberships m JOIN users u ON u.user_id = m.user_id
             WHERE m.tenant_id = $1 AND m.role = 'owner'"
        ))
        .bind(tenant)
        .map(read_member)
        .await
    }

    /// Puts a membership in or out of force; `false` when there is none.
    pub async fn membership_set_status(
        &mut self,
        tenant: TenantId,
        id: UserId,
        status: MembershipStatus,
    ) -> Result<bool, StoreError> {
        self.must_cover(tenant)?;
        self.query("UPDATE memberships SET status = $3 WHERE tenant_id = $1 AND user_id = $2")
            .bind(tenant)
            .bind(id)
            .bind(status.name())
            .changed_one()
            .await
    }

    /// Makes whoever is in force in a tenant for longest its owner; `None` when nobody is.
    pub async fn membership_heir(&mut self, tenant: TenantId) -> Result<Option<UserId>, StoreError> {
        self.must_cover(tenant)?;
        self.query(
            "UPDATE memberships SET role = 'owner' WHERE tenant_id = $1 AND user_id =
                 (SELECT m.user_id FROM memberships m WHERE m.tenant_id = $1 AND m.status = 'active'
                  ORDER BY m.created_at, m.user_id LIMIT 1)
             RETURNING user_id",
        )
        .bind(tenant)
        .map_one(|row| row.get("user_id"))
        .await
    }

    /// Ends a membership; `false` when there was none.
    pub async fn membership_delete(&mut self, tenant: TenantId, id: UserId) -> Result<bool, StoreError> {
        self.must_cover(tenant)?;
        self.query("DELETE FROM memberships WHERE tenant_id = $1 AND user_id = $2")
            .bind(tenant)
            .bind(id)
            .changed_one()
            .await
    }

    /// Forgets a person who belongs nowhere any more, with their password; `false` when they still belong somewhere.
    pub async fn user_forget_if_homeless(&mut self, id: UserId) -> Result<bool, StoreError> {
        let forgotten = self
            .query(
                "DELETE FROM users WHERE user_id = $1 AND platform_admin = $2
                 AND NOT EXISTS (SELECT 1 FROM memberships m WHERE m.user_id = $1)",
            )
            .bind(id)
            .bind(false)
            .changed_one()
            .await?;
        if forgotten {
            for sql in [
                "DELETE FROM credentials WHERE user_id = $1",
                "DELETE FROM totp_factors WHERE user_id = $1",
                "DELETE FROM recovery_codes WHERE user_id = $1",
                "DELETE FROM passkeys WHERE user_id = $1",
                "DELETE FROM browsers WHERE user_id = $1",
                "DELETE FROM consents WHERE user_id = $1",
            ] {
                self.query(sql).bind(id).execute().await?;
            }
        }
        Ok(forgotten)
    }
}
