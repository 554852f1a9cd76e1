//! What each step of a registration does, and how it is taken back. All but the making of infrastructure is done in the
//! transaction that notes it, so it is done once; infrastructure is made and taken down as often as need be.

use super::{
    accept::told_to,
    error::Error,
    model::{Intent, Registration, RegistrationStatus, StepName},
    service::Onboarding,
};
use crate::{
    kernel::{Act, Actor, PageRequest, TenantId},
    store::{Scope, Tx},
    tenants::{self, Status, Tenant},
    users::Role,
};

impl Onboarding {
    /// What a step does outside of any transaction.
    pub(super) async fn act_outside(
        &self,
        scope: Scope,
        registration: &Registration,
        step: StepName,
    ) -> Result<(), Error> {
        match step {
            StepName::Provisioning => self.place(scope, registration.tenant_id).await,
            StepName::Tenant | StepName::User | StepName::BillingAccount | StepName::Activation => Ok(()),
        }
    }

    /// What a step does within the transaction that notes that it is done.
    pub(super) async fn act_in(
        &self,
        tx: &mut Tx,
        registration: &mut Registration,
        step: StepName,
    ) -> Result<(), Error> {
        match step {
            StepName::Tenant => self.make_tenant(tx, registration).await,
            StepName::User => self.make_user(tx, registration).await,
            StepName::BillingAccount => self.make_account(tx, registration).await,
            // Made already; whoever took the tenant out meanwhile has not seen it.
            StepName::Provisioning => self.must_stand(tx, registration).await,
            StepName::Activation => self.activate_tenant(tx, registration.tenant_id).await,
        }
    }

    /// The infrastructure that a tenant's tier wants.
    pub(super) async fn place(&self, scope: Scope, id: TenantId) -> Result<(), Error> {
        let tenant = self.services.tenants.find(scope, id).await?;
        let plan = self.services.billing.plan(&tenant.tier).ok_or_else(|| Error::UnknownTier(tenant.tier.clone()))?;
        self.services.provisioning.ensure(scope, id, plan.isolation).await?;
        Ok(())
    }

    async fn make_tenant(&self, tx: &mut Tx, registration: &mut Registration) -> Result<(), Error> {
        if !registration.founds {
            return self.must_stand(tx, registration).await;
        }
        let id = registration.id;
        let intent = registration.intent.clone().ok_or(Error::NoIntent(id))?;
        let (name, tier) = (registration.customer_name.clone(), registration.tier.clone());
        let tenants = &self.services.tenants;
        let made = tenants.create_in(tx, registration.tenant_id, name, tier, intent.external_id.clone()).await;
        let made = match made {
            // It may be this very tenant's, if somebody was quicker.
            Err(tenants::Error::ExternalIdTaken(_)) => None,
            made => made?,
        };
        let Some(tenant) = made else {
            let joined = self.find_tenant(tx, registration).await?;
            return if joined.is_some() { Ok(()) } else { Err(Error::NameTaken(registration.customer_name.clone())) };
        };
        let (subject, detail) = (tenant.id.to_string(), Some(format!("on {}", tenant.tier)));
        let (actor, action) = (actor(&intent, registration), "tenant.registered");
        Ok(self.services.identity.note(tx, Act { actor, action, tenant: Some(tenant.id), subject, detail }).await?)
    }

    async fn make_user(&self, tx: &mut Tx, registration: &mut Registration) -> Result<(), Error> {
        let (id, tenant) = (registration.id, registration.tenant_id);
        let intent = registration.intent.clone().ok_or(Error::NoIntent(id))?;
        let email = registration.email.clone().ok_or(Error::NoIntent(id))?;
        // Of two who come at once, one is the first.
        tx.tenant_lock(tenant).await?;
        self.must_stand(tx, registration).await?;
        let role = match intent.role {
            Some(role) => role,
            None if self.has_owner_to_be(tx, tenant).await? => Role::Member,
            None => Role::Owner,
        };
        let whom = (tenant, registration.user_id);
        let joined = self.services.users.join_as_in(tx, whom, &email, role, intent.known_email).await;
        let joined = joined.map_err(|error| told_to(intent.actor.is_none(), error))?;
        if intent.actor.is_none() && !joined.new_user {
            return Err(Error::EmailTaken);
        }
        (registration.user_id, registration.joined) = (joined.user.id, joined.new_membership);
        let identity = &self.services.identity;
        if joined.new_membership {
            let (subject, detail) = (joined.user.id.to_string(), Some(format!("as {}", joined.membership.role.name())));
            let (actor, action) = (actor(&intent, registration), "user.added");
            identity.note(tx, Act { actor, action, tenant: Some(tenant), subject, detail }).await?;
        }
        if intent.verified {
            identity.email_verified_in(tx, joined.user.id).await?;
        }
        match &intent.password {
            Some(hash) if joined.new_user => identity.set_password_in(tx, joined.user.id, hash).await?,
            Some(_) => registration.notes.push("the user exists: the password was not changed".to_owned()),
            None => {}
        }
        Ok(())
    }

    /// Whether a tenant has people, or somebody on the way who made it.
    async fn has_owner_to_be(&self, tx: &mut Tx, tenant: TenantId) -> Result<bool, Error> {
        if !tx.members(tenant, PageRequest::default()).await?.is_empty() {
            return Ok(true);
        }
        let all = tx.registrations_of_tenant(tenant).await?;
        Ok(all.iter().any(|other| other.founds && other.can_be_retried() && !other.undoing))
    }

    async fn make_account(&self, tx: &mut Tx, registration: &mut Registration) -> Result<(), Error> {
        self.must_stand(tx, registration).await?;
        let intent = registration.intent.as_ref().ok_or(Error::NoIntent(registration.id))?;
        let billing = &self.services.billing;
        let account = billing.ensure_account_in(tx, registration.tenant_id, &intent.billing_address).await?;
        if account.billing_address != intent.billing_address {
            registration.notes.push("the billing account exists: its address was not changed".to_owned());
        }
        Ok(())
    }

    /// A tenant whose making waited for this can be used; one that is in use, or was suspended meanwhile, is left alone.
    pub(super) async fn activate_tenant(&self, tx: &mut Tx, id: TenantId) -> Result<(), Error> {
        let activate = |tenant: Tenant| match tenant.status {
            Status::Active | Status::Suspended(_) | Status::ChangingTier { .. } => Ok(tenant),
            // Refused where it is being taken out.
            Status::Provisioning | Status::Failed(_) | Status::Offboarding | Status::Deleted { .. } => {
                tenant.activate()
            }
        };
        // Somebody who changes it just now is waited for, not run into.
        tx.tenant_lock(id).await?;
        self.services.tenants.change_in(tx, id, activate).await?;
        Ok(())
    }

    /// An error when the tenant is being taken out, or is not there.
    async fn must_stand(&self, tx: &mut Tx, registration: &Registration) -> Result<(), Error> {
        let id = registration.tenant_id;
        let tenant = tx.tenant_by_id(id).await?.ok_or(tenants::Error::Unknown(id))?;
        match tenant.status {
            Status::Offboarding | Status::Deleted { .. } => {
                Err(tenants::Error::WrongState { id, status: tenant.status.name(), verb: "be joined" }.into())
            }
            _ => Ok(()),
        }
    }

    /// What taking a step back does outside of any transaction.
    pub(super) async fn undo_outside(
        &self,
        scope: Scope,
        registration: &Registration,
        step: StepName,
    ) -> Result<(), Error> {
        match step {
            StepName::Provisioning if registration.founds => {
                Ok(self.services.provisioning.remove(scope, registration.tenant_id).await?)
            }
            _ => Ok(()),
        }
    }

    /// What taking a step back does within the transaction that notes it. A tenant that others have come into stays, and
    /// with it all but the user's place in it.
    pub(super) async fn undo_in(&self, tx: &mut Tx, registration: &Registration, step: StepName) -> Result<(), Error> {
        let (tenant, services) = (registration.tenant_id, &self.services);
        match step {
            StepName::BillingAccount if registration.founds => {
                Ok(services.billing.abandon_account_in(tx, tenant).await?)
            }
            StepName::User if registration.joined => {
                let heir = services.users.unjoin_in(tx, tenant, registration.user_id).await?;
                let Some(heir) = heir else { return Ok(()) };
                let detail = Some("as owner, in the place of who registered the tenant".to_owned());
                let (actor, action, subject) = (Actor::Job("registrations"), "user.added", heir.to_string());
                let act = Act { actor, action, tenant: Some(tenant), subject, detail };
                Ok(services.identity.note(tx, act).await?)
            }
            StepName::Tenant if registration.founds => self.bury_in(tx, tenant).await.map(drop),
            StepName::BillingAccount
            | StepName::User
            | StepName::Tenant
            | StepName::Activation
            | StepName::Provisioning => Ok(()),
        }
    }

    /// Whatever is still a tenant's goes, and its name is free.
    pub(super) async fn bury_in(&self, tx: &mut Tx, tenant: TenantId) -> Result<Tenant, Error> {
        let now = self.clock.now();
        tx.tenant_lock(tenant).await?;
        self.services.users.remove_all_in(tx, tenant).await?;
        tx.invitations_forget(tenant).await?;
        tx.webhooks_forget(tenant).await?;
        tx.domains_forget(tenant).await?;
        let bury = |tenant: Tenant| match tenant.status {
            Status::Deleted { .. } => Ok(tenant),
            _ => tenant.bury(now),
        };
        Ok(self.services.tenants.change_in(tx, tenant, bury).await?)
    }

    /// Gives a tenant that a failed registration made to whoever came into it meanwhile; if nobody did, nobody will.
    pub(super) async fn part_in(&self, tx: &mut Tx, registration: &mut Registration) -> Result<(), Error> {
        if !registration.founds {
            return Ok(());
        }
        let id = registration.tenant_id;
        tx.tenant_lock(id).await?;
        if tx.tenant_by_id(id).await?.is_none() {
            registration.founds = false;
            return Ok(());
        }
        let members = tx.members(id, PageRequest::default()).await?;
        let registrations = tx.registrations_of_tenant(id).await?;
        let others = members.iter().any(|member| member.user.id != registration.user_id)
            || registrations
                .iter()
                .any(|other| other.id != registration.id && other.status != RegistrationStatus::Compensated);
        if others {
            registration.founds = false;
            return Ok(());
        }
        self.services.tenants.change_in(tx, id, Tenant::begin_offboarding).await?;
        Ok(())
    }
}

/// Who did what a registration does.
fn actor(intent: &Intent, registration: &Registration) -> Actor {
    intent.actor.unwrap_or(Actor::User(registration.user_id))
}
