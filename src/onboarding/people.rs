//! People of a tenant: adding, removing, disabling, with their passwords and sessions.

use super::{error::Error, service::Onboarding};
use crate::{
    identity::FactorChange,
    kernel::{Act, Actor, Email, Secret, TenantId, UserId},
    store::{Scope, Tx},
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
    pub async fn add_member(
        &self,
        scope: Scope,
        actor: Actor,
        tenant: TenantId,
        new: NewMember,
    ) -> Result<Member, Error> {
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
        let noted = Noted { actor, tenant, user: joined.user.id };
        self.note_member(&mut tx, noted, "user.added").await?;
        tx.commit().await?;
        Ok(Member { user: joined.user, membership: joined.membership })
    }

    /// Takes a person out of a tenant; their tokens for it die at once.
    pub async fn remove_member(&self, scope: Scope, actor: Actor, tenant: TenantId, user: UserId) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        self.services.users.remove_in(&mut tx, tenant, user).await?;
        let ended = self.services.identity.end_sessions_of_user_in(&mut tx, tenant, user).await?;
        self.note_member(&mut tx, Noted { actor, tenant, user }, "user.removed").await?;
        tx.commit().await?;
        self.services.identity.revoke_now(ended);
        Ok(())
    }

    /// Puts a person out of force in a tenant; their tokens for it die at once.
    pub async fn disable_member(
        &self,
        scope: Scope,
        actor: Actor,
        tenant: TenantId,
        user: UserId,
    ) -> Result<Member, Error> {
        let mut tx = self.store.begin(scope).await?;
        let member = self.services.users.disable_in(&mut tx, tenant, user).await?;
        let ended = self.services.identity.end_sessions_of_user_in(&mut tx, tenant, user).await?;
        self.note_member(&mut tx, Noted { actor, tenant, user }, "user.disabled").await?;
        tx.commit().await?;
        self.services.identity.revoke_now(ended);
        Ok(member)
    }

    /// Puts a person back in force; they sign in anew.
    pub async fn enable_member(
        &self,
        scope: Scope,
        actor: Actor,
        tenant: TenantId,
        user: UserId,
    ) -> Result<Member, Error> {
        let mut tx = self.store.begin(scope).await?;
        let member = self.services.users.enable_in(&mut tx, tenant, user).await?;
        self.note_member(&mut tx, Noted { actor, tenant, user }, "user.enabled").await?;
        tx.commit().await?;
        Ok(member)
    }

    /// Takes all of a person's second factors away: for who lost them.
    pub async fn reset_factors(&self, scope: Scope, actor: Actor, tenant: TenantId, user: UserId) -> Result<(), Error> {
        self.services.users.find(scope, tenant, user).await?;
        Ok(self.services.identity.reset_factors(FactorChange { actor, user, tenant: Some(tenant) }).await?)
    }

    async fn note_member(&self, tx: &mut Tx, noted: Noted, action: &'static str) -> Result<(), Error> {
        let Noted { actor, tenant, user } = noted;
        let act = Act { actor, action, tenant: Some(tenant), subject: user.to_string(), detail: None };
        Ok(self.services.identity.note(tx, act).await?)
    }
}

/// Who did something to whom, where.
struct Noted {
    actor: Actor,
    tenant: TenantId,
    user: UserId,
}
