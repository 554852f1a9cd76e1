//! Taking a customer out: the reverse of registering, and whatever was interrupted goes on at the next start.

use super::{error::Error, service::Onboarding};
use crate::{
    kernel::{Actor, TenantId},
    store::Scope,
    tenants::{Deed, Status, Tenant},
};

impl Onboarding {
    /// Takes a tenant out: provisioning ← billing account ← users ← tenant. Doing it twice gives the same answer.
    /// The tombstone and the usage stay: what was used until now can still be billed.
    pub async fn offboard(&self, scope: Scope, actor: Actor, id: TenantId) -> Result<Tenant, Error> {
        let tenant = self.services.tenants.find(scope, id).await?;
        if matches!(tenant.status, Status::Deleted { .. }) {
            return Ok(tenant);
        }
        // From here on no call gets through and nobody signs in.
        let deed = Deed::new(actor, "tenant.offboarded");
        self.services.tenants.change_by(scope, deed, id, Tenant::begin_offboarding).await?;
        let this = self.clone();
        let work = self.run_detached(async move { this.take_out(scope, id).await });
        match work.await {
            Some(done) => done,
            None => Ok(self.services.tenants.find(scope, id).await?),
        }
    }

    async fn take_out(&self, scope: Scope, id: TenantId) -> Result<Tenant, Error> {
        // Whoever makes something for it just now finds that it is not theirs any more.
        let mut tx = self.store.begin(scope).await?;
        tx.registrations_stop(id).await?;
        tx.commit().await?;
        self.services.provisioning.remove(scope, id).await?;
        let now = self.clock.now();
        let mut tx = self.store.begin(scope).await?;
        self.services.billing.close_account_in(&mut tx, id).await?;
        let withdrawal = self.services.identity.forget_tenant_in(&mut tx, id).await?;
        for registration in tx.registrations_of_tenant(id).await? {
            tx.registration_end(&registration.compensated(now)).await?;
        }
        let tenant = self.bury_in(&mut tx, id).await?;
        tx.commit().await?;
        self.services.identity.revoke_now(withdrawal);
        self.services.tenants.announce(id);
        Ok(tenant)
    }

    pub(super) async fn resume_offboardings(&self, scope: Scope) -> Result<usize, Error> {
        let interrupted = self.in_state(scope, Status::Offboarding.name()).await?;
        for tenant in &interrupted {
            self.take_out(scope, tenant.id).await?;
        }
        Ok(interrupted.len())
    }
}
