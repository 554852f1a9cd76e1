//! Tenants that a foreign issuer names and nobody has registered: made at the default tier, without anybody in it, when its
//! settings say so. Whoever is registered under the customer's name later is its owner.

use super::{error::Error, model::Registration, rules::DEFAULT_TIER, service::Onboarding};
use crate::{
    billing::AddressBody,
    kernel::{Act, Actor, CustomerName, ExternalId, Faults, TenantId, TierName, fault::chain, rng::random_bytes},
    store::{Scope, StoreError},
    tenants::{self, Failure, Status, Tenant},
};

/// What such a tenant has for an address until somebody knows it.
const NO_ADDRESS: &str = "not known yet";
/// Of a long external id, this much is in the customer's name.
const NAME_CHARS: usize = 150;
const SCOPE: Scope = Scope::Job("named-tenant");

/// What came of a tenant that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// It is there.
    Exists,
    /// It was taken out. A token does not bring it back; an administrator's registration does.
    Gone,
}

impl Onboarding {
    /// Sees to it that there is a tenant with an external id. Done twice, or by two at once, it makes one.
    ///
    /// # Panics
    ///
    /// Never: the default tier is a tier's name.
    pub async fn ensure_named(&self, external_id: ExternalId, issuer: &str) -> Result<Named, Error> {
        let tier: TierName = DEFAULT_TIER.parse().expect("the constant is a tier's name");
        if self.services.billing.plan(&tier).is_none() {
            return Err(Error::UnknownTier(tier));
        }
        let tenant = match self.find_named(&external_id).await? {
            Some(tenant) => tenant,
            None => match self.commit_named(&external_id, tier, issuer).await {
                Ok(Some(tenant)) => tenant,
                Ok(None) => return Ok(Named::Gone),
                // Another node was quicker.
                Err(Error::Store(StoreError::Duplicate) | Error::Tenants(tenants::Error::ExternalIdTaken(_))) => {
                    self.find_named(&external_id).await?.ok_or(StoreError::Duplicate)?
                }
                Err(error) => return Err(error),
            },
        };
        self.services.tenants.announce(tenant.id);
        if matches!(tenant.status, Status::Provisioning | Status::Failed(_)) && !self.is_registered(tenant.id).await? {
            let (this, id) = (self.clone(), tenant.id);
            // A caller who goes away does not stop it.
            if let Some(provisioned) = self.run_detached(async move { this.provision(SCOPE, id).await }).await
                && let Err(reason) = provisioned?
            {
                tracing::warn!(tenant_id = %id, reason, "a tenant that a token named has no infrastructure yet");
            }
        }
        Ok(Named::Exists)
    }

    async fn find_named(&self, external_id: &ExternalId) -> Result<Option<Tenant>, Error> {
        Ok(self.store.read(SCOPE).await?.tenant_by_external_id(external_id).await?)
    }

    /// Tenant and billing account, together or not at all; `None` when there was such a tenant before.
    async fn commit_named(
        &self,
        external_id: &ExternalId,
        tier: TierName,
        issuer: &str,
    ) -> Result<Option<Tenant>, Error> {
        let mut tx = self.store.begin(SCOPE).await?;
        if tx.external_id_is_buried(external_id).await? {
            return Ok(None);
        }
        let mut made = None;
        // A customer who has the name already is not joined: the name is an issuer's word.
        for name in self.names(external_id) {
            let (tier, id) = (tier.clone(), Some(external_id.clone()));
            let new = self.services.tenants.new_id();
            made = self.services.tenants.create_in(&mut tx, new, name, tier, id).await?;
            if made.is_some() {
                break;
            }
        }
        let tenant = made.ok_or(StoreError::Duplicate)?;
        let address = AddressBody::Text(NO_ADDRESS.to_owned()).parse("billing_address", &mut Faults::new());
        let address = address.expect("the constant is an address");
        self.services.billing.ensure_account_in(&mut tx, tenant.id, &address).await?;
        let detail = Some(format!("on {}, named by {issuer}", tenant.tier));
        let (actor, action, subject) = (Actor::Job("foreign-issuers"), "tenant.registered", tenant.id.to_string());
        let act = Act { actor, action, tenant: Some(tenant.id), subject, detail };
        self.services.identity.note(&mut tx, act).await?;
        tx.commit().await?;
        Ok(Some(tenant))
    }

    /// What such a tenant may be called, in order.
    fn names(&self, external_id: &ExternalId) -> impl Iterator<Item = CustomerName> {
        let short: String = external_id.as_str().chars().take(NAME_CHARS).collect();
        let mark = u32::from_be_bytes(random_bytes(&*self.rng));
        [external_id.as_str().to_owned(), format!("{short} ({mark:08x})")]
            .into_iter()
            .filter_map(|name| name.parse().ok())
    }

    /// Whether a registration is on its way that sees to a tenant.
    async fn is_registered(&self, id: TenantId) -> Result<bool, Error> {
        let registrations = self.store.read(SCOPE).await?.registrations_of_tenant(id).await?;
        Ok(registrations.iter().any(Registration::can_be_retried))
    }

    /// Sees to a tenant's infrastructure, with which it becomes active; why there is none, where there is none.
    async fn provision(&self, scope: Scope, id: TenantId) -> Result<Result<(), String>, Error> {
        let made = self.place(scope, id).await.map_err(|error| {
            tracing::warn!(tenant_id = %id, error = chain(&error), "provisioning failed");
            error.to_string()
        });
        let mut tx = self.store.begin(scope).await?;
        match &made {
            Ok(()) => self.activate_tenant(&mut tx, id).await?,
            Err(reason) => {
                let failure = Failure { step: "provisioning".to_owned(), reason: reason.clone(), retryable: true };
                let fail = |tenant: Tenant| match tenant.status {
                    Status::Provisioning | Status::Failed(_) => tenant.fail(failure),
                    _ => Ok(tenant),
                };
                self.services.tenants.change_in(&mut tx, id, fail).await?;
            }
        }
        tx.commit().await?;
        self.services.tenants.announce(id);
        Ok(made)
    }

    /// Goes on with such tenants whose making was interrupted.
    pub(super) async fn resume_named(&self, scope: Scope) -> Result<usize, Error> {
        let mut resumed = 0;
        for tenant in self.in_state(scope, Status::Provisioning.name()).await? {
            let id = tenant.id;
            if self.is_registered(id).await? {
                continue;
            }
            resumed += 1;
            if let Err(reason) = self.provision(scope, id).await? {
                tracing::warn!(tenant_id = %id, reason, "a tenant has no infrastructure yet");
            }
        }
        Ok(resumed)
    }
}
