//! Queries about links that were sent to people: resets, sign-ups to be verified, invitations.

use super::{StoreError, Tx, value::Row};
use crate::{
    identity::PasswordHash,
    kernel::{Email, InvitationId, PageRequest, TenantId, Timestamp, UserId},
    onboarding::Invitation,
};

fn read_invitation(row: &Row) -> Result<Invitation, StoreError> {
    Ok(Invitation {
        id: row.get("invitation_id")?,
        tenant_id: row.get("tenant_id")?,
        email: row.parse("email")?,
        role: row.parse("role")?,
        invited_by: row.get("invited_by")?,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
        accepted_at: row.get("accepted_at")?,
        revoked_at: row.get("revoked_at")?,
    })
}

impl Tx {
    /// Adds a link for a new password, in the place of those before.
    pub async fn reset_link_insert(
        &mut self,
        token_hash: &[u8; 32],
        user: UserId,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.reset_links_end(user, now).await?;
        self.query("INSERT INTO reset_links (token_hash, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4)")
            .bind(&token_hash[..])
            .bind(user)
            .bind(now)
            .bind(expires_at)
            .execute()
            .await?;
        Ok(())
    }

    /// Whose link for a new password this is, while it works.
    pub async fn reset_link(&mut self, token_hash: &[u8; 32], now: Timestamp) -> Result<Option<UserId>, StoreError> {
        self.query("SELECT user_id FROM reset_links WHERE token_hash = $1 AND used_at IS NULL AND expires_at > $2")
            .bind(&token_hash[..])
            .bind(now)
            .map_one(|row| row.get("user_id"))
            .await
    }

    /// Uses a link for a new password up; whose it was, unless it is not known, was used before or has expired.
    pub async fn reset_link_use(
        &mut self,
        token_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<UserId>, StoreError> {
        self.query(
            "UPDATE reset_links SET used_at = $2 WHERE token_hash = $1 AND used_at IS NULL AND expires_at > $2
             RETURNING user_id",
        )
        .bind(&token_hash[..])
        .bind(now)
        .map_one(|row| row.get("user_id"))
        .await
    }

    /// A person's links for a new password work no more.
    pub async fn reset_links_end(&mut self, user: UserId, now: Timestamp) -> Result<(), StoreError> {
        self.query("UPDATE reset_links SET used_at = $2 WHERE user_id = $1 AND used_at IS NULL")
            .bind(user)
            .bind(now)
            .execute()
            .await?;
        Ok(())
    }

    /// Forgets a letter again.
    pub async fn mail_forget(&mut self, id: uuid::Uuid) -> Result<(), StoreError> {
        self.query("DELETE FROM mails WHERE mail_id = $1").bind(id).execute().await?;
        Ok(())
    }

    /// Keeps a sign-up until its email is verified.
    pub async fn sign_up_insert(
        &mut self,
        token_hash: &[u8; 32],
        request: &str,
        password: &PasswordHash,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO sign_ups (token_hash, request, password_hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&token_hash[..])
        .bind(request)
        .bind(password.as_str())
        .bind(now)
        .bind(expires_at)
        .execute()
        .await?;
        Ok(())
    }

    /// A sign-up whose link works.
    pub async fn sign_up(&mut self, token_hash: &[u8; 32], now: Timestamp) -> Result<Option<String>, StoreError> {
        self.query("SELECT request FROM sign_ups WHERE token_hash = $1 AND used_at IS NULL AND expires_at > $2")
            .bind(&token_hash[..])
            .bind(now)
            .map_one(|row| row.get("request"))
            .await
    }

    /// Uses the link of a sign-up up; what was asked for, unless it is not known, was used before or has expired.
    pub async fn sign_up_use(
        &mut self,
        token_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<(String, PasswordHash)>, StoreError> {
        self.query(
            "UPDATE sign_ups SET used_at = $2 WHERE token_hash = $1 AND used_at IS NULL AND expires_at > $2
             RETURNING request, password_hash",
        )
        .bind(&token_hash[..])
        .bind(now)
        .map_one(|row| Ok((row.get("request")?, PasswordHash::from_phc(row.get("password_hash")?))))
        .await
    }

    /// Adds an invitation, in the place of those to the same email.
    pub async fn invitation_insert(
        &mut self,
        invitation: &Invitation,
        token_hash: &[u8; 32],
    ) -> Result<(), StoreError> {
        self.must_cover(invitation.tenant_id)?;
        self.query(
            "UPDATE invitations SET revoked_at = $3
             WHERE tenant_id = $1 AND email_key = $2 AND accepted_at IS NULL AND revoked_at IS NULL",
        )
        .bind(invitation.tenant_id)
        .bind(invitation.email.key())
        .bind(invitation.created_at)
        .execute()
        .await?;
        self.query(
            "INSERT INTO invitations (invitation_id, tenant_id, email, email_key, role, token_hash, invited_by, created_at,
                 expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(invitation.id)
        .bind(invitation.tenant_id)
        .bind(invitation.email.as_str())
        .bind(invitation.email.key())
        .bind(invitation.role.name())
        .bind(&token_hash[..])
        .bind(invitation.invited_by.as_str())
        .bind(invitation.created_at)
        .bind(invitation.expires_at)
        .execute()
        .await?;
        Ok(())
    }

    /// An invitation by its link, while it works.
    pub async fn invitation_by_token(
        &mut self,
        token_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<Invitation>, StoreError> {
        self.query(
            "SELECT * FROM invitations
             WHERE token_hash = $1 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $2",
        )
        .bind(&token_hash[..])
        .bind(now)
        .map_one(read_invitation)
        .await
    }

    /// Uses an invitation up; `false` when it does not work any more.
    pub async fn invitation_accept(&mut self, id: InvitationId, now: Timestamp) -> Result<bool, StoreError> {
        self.query(
            "UPDATE invitations SET accepted_at = $2
             WHERE invitation_id = $1 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $2",
        )
        .bind(id)
        .bind(now)
        .changed_one()
        .await
    }

    /// Takes an invitation back; the email it was for, unless there is none that is pending.
    pub async fn invitation_revoke(
        &mut self,
        tenant: TenantId,
        id: InvitationId,
        now: Timestamp,
    ) -> Result<Option<Email>, StoreError> {
        self.must_cover(tenant)?;
        self.query(
            "UPDATE invitations SET revoked_at = $3
             WHERE tenant_id = $1 AND invitation_id = $2 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $3
             RETURNING email",
        )
        .bind(tenant)
        .bind(id)
        .bind(now)
        .map_one(|row| row.parse("email"))
        .await
    }

    /// A page of a tenant's invitations that are pending.
    pub async fn invitations(
        &mut self,
        tenant: TenantId,
        now: Timestamp,
        page: PageRequest,
    ) -> Result<Vec<Invitation>, StoreError> {
        self.must_cover(tenant)?;
        self.query(
            "SELECT * FROM invitations WHERE tenant_id = $1 AND invitation_id > $2
                 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $3
             ORDER BY invitation_id LIMIT $4",
        )
        .bind(tenant)
        .bind(page.after())
        .bind(now)
        .bind(page.fetch_limit())
        .map(read_invitation)
        .await
    }

    /// Takes back every invitation of a tenant that is being taken apart, and forgets whom they were for.
    pub async fn invitations_forget(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        self.query("DELETE FROM invitations WHERE tenant_id = $1").bind(tenant).execute().await?;
        Ok(())
    }
}
