//! People of a tenant: adding, removing, disabling, with their passwords and sessions.

use super::{error::Error, service::Onboarding};
use crate::{
    kernel::{Email, Secret, TenantId, UserId},
    store::Scope,
    tenants::{self, Status},
    users::{self, KnownEmail, Member, Role},
};

/// A person to be added to a tenant.
#[derive(Debug, Clone)]
pub struct NewMember {
    /// How they sign in.
    pub email: Email,
    /// As what.
    pub role: Role,
    /// Their password, when they are new here and one is known.
    pub password: Option<Secret>,
    /// Whether somebody who belongs to another tenant may be added.
    pub known_email: KnownEmail,
}

impl Onboarding {
    /// Adds a person to a tenant.
    pub async fn add_member(&self, scope: Scope, tenant: TenantId, new: NewMember) -> Result<Member, Error> {
        let status = self.services.tenants.find(scope, tenant).await?.status;
        if matches!(status, Status::Offboarding | Status::Deleted { .. }) {
            let status = status.name();
            return Err(tenants::Error::WrongState { id: tenant, status, verb: "get new users" }.into());
        }
        let password = match &new.password {
            Some(password) => Some(self.services.identity.hash_new_password(password, &[new.email.as_str()]).await?),
            None => None,
        };
        // Whether an email belongs elsewhere cannot be seen from within one tenant; the caller's right to this
        // tenant was checked just now.
        let mut tx = self.store.begin(Scope::Job("add-member")).await?;
        let joined = self.services.users.join_in(&mut tx, tenant, &new.email, new.role, new.known_email).await?;
        if !joined.new_membership {
            return Err(users::Error::AlreadyMember(joined.user.id).into());
        }
        if let Some(hash) = password.filter(|_| joined.new_user) {
            self.services.identity.set_password_in(&mut tx, joined.user.id, &hash).await?;
        }
        tx.commit().await?;
        Ok(Member { user: joined.user, membership: joined.membership })
    }

    /// Takes a person out of a tenant; their tokens for it die at once.
    pub async fn remove_member(&self, scope: Scope, tenant: TenantId, user: UserId) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        self.services.users.remove_in(&mut tx, tenant, user).await?;
        let ended = self.services.identity.end_sessions_of_user_in(&mut tx, tenant, user).await?;
        tx.commit().await?;
        self.services.identity.revoke_now(ended);
        Ok(())
    }

    /// Puts a person out of force in a tenant; their tokens for it die at once.
    pub async fn disable_member(&self, scope: Scope, tenant: TenantId, user: UserId) -> Result<Member, Error> {
        let mut tx = self.store.begin(scope).await?;
        let member = self.services.users.disable_in(&mut tx, tenant, user).await?;
        let ended = self.services.identity.end_sessions_of_user_in(&mut tx, tenant, user).await?;
        tx.commit().await?;
        self.services.identity.revoke_now(ended);
        Ok(member)
    }

    /// Puts a person back in force; they sign in anew.
    pub async fn enable_member(&self, scope: Scope, tenant: TenantId, user: UserId) -> Result<Member, Error> {
        let mut tx = self.store.begin(scope).await?;
        let member = self.services.users.enable_in(&mut tx, tenant, user).await?;
        tx.commit().await?;
        Ok(member)
    }
}
