//! Use cases of tenants.

use std::sync::Arc;

use serde_json::json;

use super::{
    error::Error,
    model::{Status, Tenant, TenantFilter, TierSpan, Unavailable},
    rules,
};
use crate::{
    kernel::{
        Act, Actor, Clock, CustomerName, Event, EventName, ExternalId, Page, PageRequest, Rng, TenantId,
        TenantObserver, TierName, ids::uuid_v7,
    },
    store::{Scope, Store, StoreError, Tx},
};

/// What an administrator may change of a tenant directly; the outer `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct TenantPatch {
    /// A new customer name.
    pub customer_name: Option<CustomerName>,
    /// A new external id, or none.
    pub external_id: Option<Option<ExternalId>>,
}

/// What is noted of a change.
#[derive(Debug, Clone)]
pub struct Deed {
    /// Who made it.
    pub actor: Actor,
    /// What it was, as `noun.verb`.
    pub action: &'static str,
    /// More, in words.
    pub detail: Option<String>,
}

impl Deed {
    /// Of which its name says all.
    pub const fn new(actor: Actor, action: &'static str) -> Self {
        Self { actor, action, detail: None }
    }
}

/// The tenants service; cheap to clone.
#[derive(Clone)]
pub struct Tenants {
    store: Store,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    observer: Arc<dyn TenantObserver>,
}

impl Tenants {
    /// Over a store; `observer` hears of every change made through this service.
    pub fn new(store: Store, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>, observer: Arc<dyn TenantObserver>) -> Self {
        Self { store, clock, rng, observer }
    }

    /// A tenant by its id.
    pub async fn find(&self, scope: Scope, id: TenantId) -> Result<Tenant, Error> {
        let mut tx = self.store.read(scope).await?;
        tx.tenant_by_id(id).await?.ok_or(Error::Unknown(id))
    }

    /// The tenant that has a customer name, if one has.
    pub async fn find_by_customer_name(&self, scope: Scope, name: &CustomerName) -> Result<Option<Tenant>, Error> {
        let mut tx = self.store.read(scope).await?;
        Ok(tx.tenant_by_customer_name(name).await?)
    }

    /// A page of tenants.
    pub async fn list(&self, scope: Scope, filter: &TenantFilter, page: PageRequest) -> Result<Page<Tenant>, Error> {
        let mut tx = self.store.read(scope).await?;
        let rows = tx.tenants(filter, page).await?;
        Ok(page.page(rows, |tenant| tenant.id.as_uuid()))
    }

    /// The tiers a tenant has had, oldest first.
    pub async fn tiers(&self, scope: Scope, id: TenantId) -> Result<Vec<TierSpan>, Error> {
        let mut tx = self.store.read(scope).await?;
        Ok(tx.tenant_tiers(id).await?)
    }

    /// The id of a tenant that is to be made.
    pub fn new_id(&self) -> TenantId {
        TenantId::generate(self.clock.now(), &*self.rng)
    }

    /// A new tenant within the caller's transaction, or `None` when the customer name is taken.
    pub async fn create_in(
        &self,
        tx: &mut Tx,
        id: TenantId,
        customer_name: CustomerName,
        tier: TierName,
        external_id: Option<ExternalId>,
    ) -> Result<Option<Tenant>, Error> {
        if let Some(external_id) = &external_id
            && tx.tenant_by_external_id(external_id).await?.is_some()
        {
            return Err(Error::ExternalIdTaken(external_id.clone()));
        }
        let tenant = Tenant {
            id,
            customer_name,
            external_id,
            tier,
            status: Status::Provisioning,
            unavailable: None,
            revision: 1,
            created_at: self.clock.now(),
        };
        if !tx.tenant_insert(&tenant).await? {
            return Ok(None);
        }
        self.tell_in(tx, EventName::TenantCreated, &tenant, None).await?;
        Ok(Some(tenant))
    }

    /// Sets name and external id.
    pub async fn patch(&self, scope: Scope, actor: Actor, id: TenantId, patch: TenantPatch) -> Result<Tenant, Error> {
        let fields = [("customer_name", patch.customer_name.is_some()), ("external_id", patch.external_id.is_some())];
        let fields: Vec<&str> = fields.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
        if fields.is_empty() {
            return self.find(scope, id).await;
        }
        let deed = Deed { actor, action: "tenant.changed", detail: Some(fields.join(", ")) };
        let TenantPatch { customer_name, external_id } = patch;
        let taken_name = customer_name.clone();
        let taken_id = external_id.clone().flatten();
        let changed = self
            .change_by(scope, deed, id, |mut tenant| {
                if matches!(tenant.status, Status::Deleted { .. }) {
                    return Err(Error::WrongState { id, status: "deleted", verb: "be changed" });
                }
                tenant.customer_name = customer_name.unwrap_or(tenant.customer_name);
                tenant.external_id = external_id.unwrap_or(tenant.external_id);
                Ok(tenant)
            })
            .await;
        match (changed, taken_name, taken_id) {
            (Err(Error::Store(StoreError::Duplicate)), _, Some(external_id))
                if self.external_id_in_use(scope, &external_id, id).await? =>
            {
                Err(Error::ExternalIdTaken(external_id))
            }
            (Err(Error::Store(StoreError::Duplicate)), Some(name), _) => Err(Error::NameTaken(name)),
            (changed, _, _) => changed,
        }
    }

    async fn external_id_in_use(
        &self,
        scope: Scope,
        external_id: &ExternalId,
        by_other_than: TenantId,
    ) -> Result<bool, Error> {
        let mut tx = self.store.read(scope).await?;
        Ok(tx.tenant_by_external_id(external_id).await?.is_some_and(|tenant| tenant.id != by_other_than))
    }

    /// Lets calls through again.
    pub async fn activate(&self, scope: Scope, actor: Actor, id: TenantId) -> Result<Tenant, Error> {
        self.change_by(scope, Deed::new(actor, "tenant.activated"), id, |tenant| match tenant.status {
            Status::Suspended(_) | Status::Active => tenant.activate(),
            _ => Err(Error::WrongState { id, status: tenant.status.name(), verb: "be activated" }),
        })
        .await
    }

    /// Stops every call.
    pub async fn suspend(&self, scope: Scope, actor: Actor, id: TenantId) -> Result<Tenant, Error> {
        self.change_by(scope, Deed::new(actor, "tenant.suspended"), id, Tenant::suspend).await
    }

    /// Notes that a tenant's infrastructure does not answer, from now on unless that was known: for whoever looks after it. Calls
    /// through the gateway get 503 until it answers again; what was decided about the tenant stays.
    pub async fn note_unavailable(
        &self,
        scope: Scope,
        actor: Actor,
        id: TenantId,
        reason: String,
    ) -> Result<Tenant, Error> {
        let deed = Deed { actor, action: "tenant.unavailable", detail: Some(reason.clone()) };
        let fault = Unavailable { since: self.clock.now(), reason };
        self.change_by(scope, deed, id, |tenant| tenant.becomes_unavailable(fault)).await
    }

    /// Notes that it answers.
    pub async fn note_available(&self, scope: Scope, actor: Actor, id: TenantId) -> Result<Tenant, Error> {
        let deed = Deed::new(actor, "tenant.available");
        self.change_by(scope, deed, id, |tenant| Ok(tenant.becomes_available())).await
    }

    /// [`Self::change`], noted in the audit.
    pub async fn change_by(
        &self,
        scope: Scope,
        deed: Deed,
        id: TenantId,
        transition: impl FnOnce(Tenant) -> Result<Tenant, Error>,
    ) -> Result<Tenant, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin(scope).await?;
        let tenant = self.change_in(&mut tx, id, transition).await?;
        let Deed { actor, action, detail } = deed;
        let act = Act { actor, action, tenant: Some(id), subject: id.to_string(), detail };
        tx.audit_insert(uuid_v7(now, &*self.rng), now, &act).await?;
        tx.commit().await?;
        self.observer.tenant_changed(id);
        Ok(tenant)
    }

    /// Applies a transition of `rules.rs`, written only if nobody else changed the tenant meanwhile; refused otherwise.
    pub async fn change(
        &self,
        scope: Scope,
        id: TenantId,
        transition: impl FnOnce(Tenant) -> Result<Tenant, Error>,
    ) -> Result<Tenant, Error> {
        let mut tx = self.store.begin(scope).await?;
        let tenant = self.change_in(&mut tx, id, transition).await?;
        tx.commit().await?;
        self.observer.tenant_changed(id);
        Ok(tenant)
    }

    /// The same within the caller's transaction; the caller tells the observer by [`Self::announce`] after its commit.
    pub async fn change_in(
        &self,
        tx: &mut Tx,
        id: TenantId,
        transition: impl FnOnce(Tenant) -> Result<Tenant, Error>,
    ) -> Result<Tenant, Error> {
        let before = tx.tenant_by_id(id).await?.ok_or(Error::Unknown(id))?;
        let now = self.clock.now();
        let mut after = transition(before.clone())?;
        if after == before {
            return Ok(after);
        }
        tx.changes(Some(noted(&before)), Some(noted(&after)));
        if !tx.tenant_update(&after, now).await? {
            return Err(Error::WrongState { id, status: "being changed by somebody else", verb: "be changed now" });
        }
        if after.tier != before.tier {
            tx.tenant_tier_insert(id, now.floor_minute().max(before.created_at), &after.tier).await?;
        }
        after.revision += 1;
        for name in rules::events(&before, &after) {
            self.tell_in(tx, name, &after, Some(&before)).await?;
        }
        Ok(after)
    }

    async fn tell_in(
        &self,
        tx: &mut Tx,
        name: EventName,
        tenant: &Tenant,
        before: Option<&Tenant>,
    ) -> Result<(), Error> {
        let mut data = json!({
            "tenant_id": tenant.id,
            "customer_name": tenant.customer_name.as_str(),
            "external_id": tenant.external_id.as_ref().map(ExternalId::as_str),
            "tier": tenant.tier.as_str(),
            "status": tenant.status.name(),
        });
        match (name, before) {
            (EventName::TenantTierChanged, Some(before)) => data["previous_tier"] = before.tier.as_str().into(),
            (EventName::TenantActivated, Some(before)) => data["previous_status"] = before.status.name().into(),
            (EventName::TenantUnavailable, _) => {
                data["reason"] = tenant.unavailable.as_ref().map(|fault| fault.reason.as_str()).into();
            }
            _ => {}
        }
        let event = Event::new(name, Some(tenant.id), data, self.clock.now(), &*self.rng);
        Ok(tx.event_insert(&event).await?)
    }

    /// Tells this node that a tenant's facts may have changed.
    pub fn announce(&self, id: TenantId) {
        self.observer.tenant_changed(id);
    }
}

/// A tenant as the audit has it.
fn noted(tenant: &Tenant) -> serde_json::Value {
    let mut noted = json!({
        "customer_name": tenant.customer_name.as_str(),
        "external_id": tenant.external_id.as_ref().map(ExternalId::as_str),
        "tier": tenant.tier.as_str(),
        "status": tenant.status.name(),
    });
    if let Some(fault) = &tenant.unavailable {
        noted["unavailable"] = fault.reason.as_str().into();
    }
    noted
}
