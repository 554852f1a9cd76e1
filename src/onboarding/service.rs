//! Registering: tenant → user → billing account in one transaction, then provisioning.

use std::{future::Future, sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use super::{
    error::Error,
    model::{Entrance, Registration, RegistrationStatus, Request},
};
use crate::{
    billing::{Billing, BillingAddress},
    identity::{self, Identity, PasswordHash},
    kernel::{Act, Actor, Clock, Page, PageRequest, RegistrationId, Rng, TenantId},
    mail::Mail,
    provisioning::Provisioning,
    store::{Scope, Store, Tx},
    tenants::{self, Failure, Status, Tenant, TenantFilter, TenantPatch, Tenants},
    users::{self, Joined, KnownEmail, Role, Users},
};

/// A registration whose provisioning takes longer than this is answered with 202 while it goes on.
const PATIENCE: Duration = Duration::from_secs(10);

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
#[derive(Debug, Clone, Copy)]
pub struct SignUps {
    /// Whether anybody may.
    pub allowed: bool,
    /// Whether nothing exists until the email is verified.
    pub verify_email: bool,
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
}

impl Onboarding {
    /// Over the other services; work that outlives its request runs on `tasks`.
    pub fn new(
        store: Store,
        services: Services,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        tasks: TaskTracker,
        sign_ups: SignUps,
    ) -> Self {
        Self { store, services, clock, rng, tasks, sign_ups }
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
        let registration = self.commit_facts(scope, &request, password, link).await?;
        self.services.tenants.announce(registration.tenant_id);
        self.in_background(scope, registration).await
    }

    /// Tries a failed registration again.
    pub async fn retry(&self, scope: Scope, id: RegistrationId) -> Result<Registration, Error> {
        let registration = self.find(scope, id).await?;
        if !registration.can_be_retried() {
            return Err(Error::NothingToRetry { id, status: registration.status.name() });
        }
        self.in_background(scope, registration).await
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
        let running = self.store.read(scope).await?.registrations_running().await?;
        let mut resumed = running.len();
        for registration in running {
            self.finish(scope, registration).await?;
        }
        resumed += self.resume_named(scope).await?;
        resumed += self.resume_tier_changes(scope).await?;
        resumed += self.resume_offboardings(scope).await?;
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

    /// Tenant, user and billing account, together or not at all.
    async fn commit_facts(
        &self,
        scope: Scope,
        request: &Request,
        password: Option<PasswordHash>,
        link: Option<&[u8; 32]>,
    ) -> Result<Registration, Error> {
        let mut tx = self.store.begin(scope).await?;
        let password = match link {
            None => password,
            Some(link) => {
                let used = tx.sign_up_use(link, self.clock.now()).await?;
                Some(used.ok_or(identity::Error::InvalidLink)?.1)
            }
        };
        let mut notes = Vec::new();
        let tenant = self.create_or_join(&mut tx, request, &mut notes).await?;

        let policy = match request.entrance {
            Entrance::Administrator { allow_membership: true, .. } => KnownEmail::AnyTenant,
            Entrance::Administrator { allow_membership: false, .. } | Entrance::SignUp => KnownEmail::OnlyOwnTenant,
        };
        let first = tx.members(tenant.id, PageRequest::default()).await?.is_empty();
        let role = if first { Role::Owner } else { Role::Member };
        let joined = self.services.users.join_in(&mut tx, tenant.id, &request.email, role, policy).await;
        let joined = joined.map_err(|error| Self::told_to(request.entrance, error))?;
        if request.entrance == Entrance::SignUp && !joined.new_user {
            return Err(Error::EmailTaken);
        }
        self.note_registered(&mut tx, request, &joined, (&tenant, first)).await?;
        if link.is_some() {
            self.services.identity.email_verified_in(&mut tx, joined.user.id).await?;
        }
        match password {
            Some(hash) if joined.new_user => {
                self.services.identity.set_password_in(&mut tx, joined.user.id, &hash).await?;
            }
            Some(_) => notes.push("the user exists: the password was not changed".to_owned()),
            None => {}
        }
        let account = self.services.billing.ensure_account_in(&mut tx, tenant.id, &request.billing_address).await?;
        if account.billing_address != request.billing_address {
            notes.push("the billing account exists: its address was not changed".to_owned());
        }

        let now = self.clock.now();
        let registration = Registration {
            id: RegistrationId::generate(now, &*self.rng),
            tenant_id: tenant.id,
            user_id: joined.user.id,
            email: Some(request.email.clone()),
            customer_name: request.customer_name.clone(),
            tier: request.tier.clone(),
            status: RegistrationStatus::Running,
            steps: Registration::steps_after_facts(),
            notes,
            created_at: now,
            updated_at: now,
        };
        tx.registration_put(&registration).await?;
        tx.commit().await?;
        Ok(registration)
    }

    /// Notes a tenant that is new, and a person who is new in it.
    async fn note_registered(
        &self,
        tx: &mut Tx,
        request: &Request,
        joined: &Joined,
        (tenant, new): (&Tenant, bool),
    ) -> Result<(), Error> {
        let user = joined.user.id;
        let actor = match request.entrance {
            Entrance::Administrator { actor, .. } => actor,
            Entrance::SignUp => Actor::User(user),
        };
        let (identity, of) = (&self.services.identity, Some(tenant.id));
        if new {
            let (subject, detail) = (tenant.id.to_string(), Some(format!("on {}", tenant.tier)));
            identity.note(tx, Act { actor, action: "tenant.registered", tenant: of, subject, detail }).await?;
        }
        if joined.new_membership {
            let (subject, detail) = (user.to_string(), Some(format!("as {}", joined.membership.role.name())));
            identity.note(tx, Act { actor, action: "user.added", tenant: of, subject, detail }).await?;
        }
        Ok(())
    }

    async fn create_or_join(&self, tx: &mut Tx, request: &Request, notes: &mut Vec<String>) -> Result<Tenant, Error> {
        let Request { customer_name, tier, external_id, .. } = request;
        let created =
            self.services.tenants.create_in(tx, customer_name.clone(), tier.clone(), external_id.clone()).await;
        // With an external id that is this very tenant's, a second registration is a join like any other.
        let created = match created {
            Err(tenants::Error::ExternalIdTaken(_)) if self.is_own_external_id(tx, request).await? => None,
            created => created?,
        };
        if let Some(tenant) = created {
            return Ok(tenant);
        }
        let existing = tx.tenant_by_customer_name(customer_name).await?;
        let tenant = existing.ok_or_else(|| Error::NameTaken(customer_name.clone()))?;
        if request.entrance == Entrance::SignUp {
            return Err(Error::NameTaken(customer_name.clone()));
        }
        if matches!(tenant.status, Status::Offboarding) {
            let (id, status) = (tenant.id, tenant.status.name());
            return Err(tenants::Error::WrongState { id, status, verb: "be joined" }.into());
        }
        if tenant.tier != *tier {
            notes.push(format!("the tenant exists and keeps its tier {}", tenant.tier));
        }
        if external_id.is_some() && tenant.external_id != *external_id {
            notes.push("the tenant exists: its external id was not changed".to_owned());
        }
        Ok(tenant)
    }

    async fn is_own_external_id(&self, tx: &mut Tx, request: &Request) -> Result<bool, Error> {
        let own = tx.tenant_by_customer_name(&request.customer_name).await?;
        Ok(own.is_some_and(|tenant| tenant.external_id == request.external_id))
    }

    /// Somebody who signs up learns that the email is in use, and nothing of where.
    fn told_to(entrance: Entrance, error: users::Error) -> Error {
        match (entrance, error) {
            (Entrance::SignUp, users::Error::EmailElsewhere | users::Error::EmailOfAdministrator) => Error::EmailTaken,
            (_, error) => error.into(),
        }
    }

    /// Runs [`Self::finish`] so that a caller who goes away does not stop it.
    async fn in_background(&self, scope: Scope, registration: Registration) -> Result<Registration, Error> {
        let id = registration.id;
        let this = self.clone();
        let work = self.run_detached(async move { this.finish(scope, registration).await });
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(Some(finished)) => finished,
            Ok(None) | Err(_) => self.find(scope, id).await,
        }
    }

    /// Runs work to its end even when nobody waits for it any more; `None` when it panicked.
    pub(super) async fn run_detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.tasks.spawn(work).await.ok()
    }

    /// The rest of a registration: provisioning, then the tenant becomes active.
    async fn finish(&self, scope: Scope, registration: Registration) -> Result<Registration, Error> {
        let id = registration.tenant_id;
        let registration = self.save(scope, registration.provisioning_begins(self.clock.now())).await?;
        let made = self.provision(scope, id).await?;
        self.save(scope, registration.provisioning_ends(made, self.clock.now())).await
    }

    /// Sees to a tenant's infrastructure, with which it becomes active; why there is none, where there is none.
    pub(super) async fn provision(&self, scope: Scope, id: TenantId) -> Result<Result<(), String>, Error> {
        let tenant = self.services.tenants.find(scope, id).await?;
        let made = match self.services.billing.plan(&tenant.tier) {
            Some(plan) => self.services.provisioning.ensure(scope, id, plan.isolation).await.map_err(|error| {
                tracing::warn!(tenant_id = %id, error = crate::kernel::fault::chain(&error), "provisioning failed");
                error.to_string()
            }),
            None => Err(format!("there is no plan for the tier {}", tenant.tier)),
        };
        let outcome = made.as_ref().map(|_| ()).map_err(String::clone);
        self.services
            .tenants
            .change(scope, id, |tenant| match (outcome, &tenant.status) {
                (Ok(()), Status::Provisioning | Status::Failed(_)) => tenant.activate(),
                (Err(reason), Status::Provisioning | Status::Failed(_)) => {
                    tenant.fail(Failure { step: "provisioning".to_owned(), reason, retryable: true })
                }
                // A join of a tenant that is in use, or was suspended meanwhile, leaves its state alone.
                _ => Ok(tenant),
            })
            .await?;
        Ok(made.map(drop))
    }

    async fn save(&self, scope: Scope, registration: Registration) -> Result<Registration, Error> {
        let mut tx = self.store.begin(scope).await?;
        tx.registration_put(&registration).await?;
        tx.commit().await?;
        Ok(registration)
    }
}
