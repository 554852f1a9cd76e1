//! Registering: what is asked for is taken in, and then gone on with, here or wherever somebody takes it up (`saga.rs`).

use std::{future::Future, sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use super::{
    accept::Accepted,
    error::Error,
    model::{Entrance, Registration, Request},
    points::Points,
    rules::Retries,
    saga::Went,
    tier_change::Moves,
};
use crate::{
    billing::{Billing, BillingAddress},
    identity::{Identity, PasswordHash},
    kernel::{Actor, Clock, Page, PageRequest, RegistrationId, Rng, TenantId, TierName},
    mail::Mail,
    provisioning::Provisioning,
    store::{Scope, Store},
    tenants::{Tenant, TenantFilter, TenantPatch, Tenants},
    users::Users,
};

/// A registration whose provisioning takes longer than this is answered with 202 while it goes on.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The services that onboarding orchestrates.
#[derive(Clone)]
pub struct Services {
    /// Who the tenants are.
    pub tenants: Tenants,
    /// People.
    pub users: Users,
    /// Passwords and sessions.
    pub identity: Identity,
    /// Accounts and plans.
    pub billing: Billing,
    /// Infrastructure.
    pub provisioning: Provisioning,
    /// Letters.
    pub mail: Mail,
}

/// Who may sign up by themselves, and how.
#[derive(Debug, Clone)]
pub struct SignUps {
    /// Whether anybody may.
    pub allowed: bool,
    /// To which tiers; to all of them when it is empty.
    pub tiers: Vec<TierName>,
    /// Whether nothing exists until the email is verified.
    pub verify_email: bool,
}

/// How many calls of a tenant are under way on this node.
pub type UnderWay = Arc<dyn Fn(TenantId) -> u32 + Send + Sync>;

/// How tenants are taken out.
#[derive(Clone)]
pub struct Leaving {
    /// Their exports are kept for so many days; 0 for not at all.
    pub export_days: i64,
    /// Calls that are under way are waited for.
    pub under_way: UnderWay,
}

/// The onboarding service; cheap to clone.
#[derive(Clone)]
pub struct Onboarding {
    pub(super) store: Store,
    pub(super) services: Services,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Arc<dyn Rng>,
    pub(super) tasks: TaskTracker,
    pub(super) sign_ups: SignUps,
    pub(super) retries: Retries,
    pub(super) leaving: Leaving,
    pub(super) points: Points,
    pub(super) moves: Moves,
}

impl Onboarding {
    /// Over the other services; work that outlives its request runs on `tasks`.
    pub fn new(
        store: Store,
        services: Services,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        (tasks, (sign_ups, retries, leaving, moves)): (TaskTracker, (SignUps, Retries, Leaving, Moves)),
    ) -> Self {
        let points = Points::default();
        Self { store, services, clock, rng, tasks, sign_ups, retries, leaving, points, moves }
    }

    /// Where a laboratory halts registrations and lets them fail.
    pub const fn points(&self) -> &Points {
        &self.points
    }

    /// Registers a customer. Refused input changes nothing. The answer is the registration as it stands when it is
    /// done, or after a few seconds, while it goes on in the background.
    pub async fn register(&self, scope: Scope, request: Request) -> Result<Registration, Error> {
        let password = self.checked_password(&request).await?;
        self.begin(scope, request, password, None).await
    }

    /// The hash of a request's password, after what can be refused without looking at people was refused.
    pub(super) async fn checked_password(&self, request: &Request) -> Result<Option<PasswordHash>, Error> {
        if request.entrance == Entrance::SignUp && !self.sign_ups.allowed {
            return Err(Error::SignUpClosed);
        }
        let is_open = self.sign_ups.tiers.is_empty() || self.sign_ups.tiers.contains(&request.tier);
        if request.entrance == Entrance::SignUp && !is_open {
            return Err(Error::TierClosed(request.tier.clone()));
        }
        if self.services.billing.plan(&request.tier).is_none() {
            return Err(Error::UnknownTier(request.tier.clone()));
        }
        let Some(password) = &request.password else { return Ok(None) };
        let hints = [request.email.as_str(), request.customer_name.as_str()];
        Ok(Some(self.services.identity.hash_new_password(password, &hints).await?))
    }

    /// Makes a registration, using up the link of the sign-up that it came from.
    pub(super) async fn begin(
        &self,
        scope: Scope,
        request: Request,
        password: Option<PasswordHash>,
        link: Option<&[u8; 32]>,
    ) -> Result<Registration, Error> {
        match Box::pin(self.accept(scope, &request, password, link)).await? {
            Accepted::New(registration) => {
                let (id, this) = (registration.id, self.clone());
                let work = Box::pin(async move { this.run(scope, *registration).await });
                self.in_background(scope, id, work).await
            }
            Accepted::Known(id) => Box::pin(self.take_up(scope, id)).await,
        }
    }

    /// Tries a registration again that failed, whatever it waits for.
    pub async fn retry(&self, scope: Scope, actor: Actor, id: RegistrationId) -> Result<Registration, Error> {
        let registration = self.find(scope, id).await?;
        if !registration.can_be_retried() {
            return Err(Error::NothingToRetry { id, status: registration.status.name() });
        }
        let mut tx = self.store.begin(scope).await?;
        self.note_registration(&mut tx, &registration, actor, "registration.retried").await?;
        tx.commit().await?;
        self.take_up(scope, id).await
    }

    /// Goes on with a registration now, unless it has ended or somebody has it: then it is as it stands.
    async fn take_up(&self, scope: Scope, id: RegistrationId) -> Result<Registration, Error> {
        match self.claim(scope, id).await? {
            Some(registration) => {
                let this = self.clone();
                let work = Box::pin(async move { this.try_again(scope, registration).await });
                self.in_background(scope, id, work).await
            }
            None => self.find(scope, id).await,
        }
    }

    /// One registration.
    pub async fn find(&self, scope: Scope, id: RegistrationId) -> Result<Registration, Error> {
        let mut tx = self.store.read(scope).await?;
        tx.registration_by_id(id).await?.ok_or(Error::Unknown(id))
    }

    /// A page of registrations.
    pub async fn list(&self, scope: Scope, page: PageRequest) -> Result<Page<Registration>, Error> {
        let mut tx = self.store.read(scope).await?;
        let rows = tx.registrations(page).await?;
        Ok(page.page(rows, |registration| registration.id.as_uuid()))
    }

    /// Sets a tenant's name, external id and billing address.
    pub async fn update_tenant(
        &self,
        scope: Scope,
        actor: Actor,
        id: TenantId,
        patch: TenantPatch,
        address: Option<BillingAddress>,
    ) -> Result<Tenant, Error> {
        let tenant = self.services.tenants.patch(scope, actor, id, patch).await?;
        if let Some(address) = address {
            self.services.billing.set_address(scope, actor, id, &address).await?;
        }
        Ok(tenant)
    }

    /// Goes on with whatever a crash interrupted: registrations, tier changes, removals.
    pub async fn resume(&self) -> Result<usize, Error> {
        let scope = Scope::Job("resume");
        let mut tx = self.store.begin(scope).await?;
        tx.registrations_release().await?;
        tx.commit().await?;
        let mut resumed = 0;
        loop {
            match self.resume_due().await? {
                0 => break,
                more => resumed += more,
            }
        }
        resumed += self.resume_named(scope).await?;
        resumed += self.resume_all_changes(scope).await?;
        resumed += self.resume_offboardings_at_start().await?;
        resumed += self.services.provisioning.sweep().await?;
        Ok(resumed)
    }

    /// Tenants in a state, for resuming.
    pub(super) async fn in_state(&self, scope: Scope, status: &str) -> Result<Vec<Tenant>, Error> {
        let filter = TenantFilter { status: Some(status.to_owned()), ..TenantFilter::default() };
        let mut tx = self.store.read(scope).await?;
        let most = PageRequest::new(Some(PageRequest::MAX_LIMIT), None).unwrap_or_default();
        Ok(tx.tenants(&filter, most).await?)
    }

    /// Goes on with a registration so that a caller who goes away does not stop it.
    async fn in_background(
        &self,
        scope: Scope,
        id: RegistrationId,
        work: impl Future<Output = Result<Went, Error>> + Send + 'static,
    ) -> Result<Registration, Error> {
        let went = match tokio::time::timeout(PATIENCE, self.run_detached(work)).await {
            Ok(Some(went)) => went?,
            Ok(None) | Err(_) => return self.find(scope, id).await,
        };
        match went.refusal {
            Some(refusal) => Err(refusal),
            None => Ok(went.registration),
        }
    }

    /// Runs work to its end even when nobody waits for it any more; `None` when it panicked.
    pub(super) async fn run_detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.tasks.spawn(work).await.ok()
    }
}
