//! Taking a registration in: whatever can be refused is refused before anything is made, and then everything that its steps
//! need is written, in one transaction.

use super::{
    error::Error,
    model::{Entrance, Intent, Registration, RegistrationStatus, Request},
    points::{Part, Phase},
    service::Onboarding,
};
use crate::{
    identity::{self, PasswordHash},
    kernel::RegistrationId,
    store::{Scope, Tx},
    tenants::{self, Status, Tenant},
    users::{self, KnownEmail, Role},
};

/// A key stands for its registration this long, in seconds: as long as answers are kept (`web/idempotency.rs`).
const KEY_S: i64 = 24 * 60 * 60;

/// A registration that was taken in.
pub(super) enum Accepted {
    /// Now; it is the caller's to go on with.
    New(Box<Registration>),
    /// Earlier, by a request with the same key.
    Known(RegistrationId),
}

impl Onboarding {
    /// Takes a registration in, using up the link of the sign-up that it came from.
    pub(super) async fn accept(
        &self,
        scope: Scope,
        request: &Request,
        password: Option<PasswordHash>,
        link: Option<&[u8; 32]>,
    ) -> Result<Accepted, Error> {
        self.look_ahead(scope, request).await?;
        self.points.pass(Part::Accept, Phase::Begun).await;
        let now = self.clock.now();
        let mut tx = self.store.begin(scope).await?;
        if let Some(key) = &request.key
            && let Some(known) = tx.registration_by_key(key, now.plus_secs(-KEY_S)).await?
        {
            // What the query has tidied is tidied again another time.
            return Ok(Accepted::Known(known.id));
        }
        let password = match link {
            None => password,
            Some(link) => Some(tx.sign_up_use(link, now).await?.ok_or(identity::Error::InvalidLink)?.1),
        };
        let mut registration = self.draft(request, password, link.is_some());
        self.find_tenant(&mut tx, &mut registration).await?;
        self.find_user(&mut tx, &mut registration, request).await?;
        tx.registration_insert(&registration, request.key.as_ref(), self.leased_until()).await?;
        self.points.pass(Part::Accept, Phase::Acted).await;
        tx.commit().await?;
        self.points.pass(Part::Accept, Phase::Written).await;
        Ok(Accepted::New(Box::new(registration)))
    }

    /// Asks whether there is room for a new tenant, where it would be one.
    async fn look_ahead(&self, scope: Scope, request: &Request) -> Result<(), Error> {
        let Some(plan) = self.services.billing.plan(&request.tier) else {
            return Err(Error::UnknownTier(request.tier.clone()));
        };
        if self.services.tenants.find_by_customer_name(scope, &request.customer_name).await?.is_none() {
            self.services.provisioning.preflight(plan.isolation).await?;
        }
        Ok(())
    }

    fn draft(&self, request: &Request, password: Option<PasswordHash>, verified: bool) -> Registration {
        let (actor, known_email) = match request.entrance {
            Entrance::Administrator { actor, allow_membership: true } => (Some(actor), KnownEmail::AnyTenant),
            Entrance::Administrator { actor, allow_membership: false } => (Some(actor), KnownEmail::OnlyOwnTenant),
            Entrance::SignUp => (None, KnownEmail::OnlyOwnTenant),
        };
        let intent = Intent {
            actor,
            known_email,
            verified,
            role: Some(Role::Owner),
            password,
            external_id: request.external_id.clone(),
            billing_address: request.billing_address.clone(),
        };
        let now = self.clock.now();
        Registration {
            id: RegistrationId::generate(now, &*self.rng),
            tenant_id: self.services.tenants.new_id(),
            user_id: self.services.users.new_id(),
            email: Some(request.email.clone()),
            customer_name: request.customer_name.clone(),
            tier: request.tier.clone(),
            status: RegistrationStatus::Running,
            undoing: false,
            founds: true,
            joined: false,
            intent: Some(intent),
            claims: 1,
            steps: Registration::first_steps(now),
            notes: Vec::new(),
            created_at: now,
            updated_at: now,
        }
    }

    /// Sees whether the tenant is there: then the registration joins it, if it may. Nobody takes it out until the transaction
    /// ends, and after that this registration is in the way.
    pub(super) async fn find_tenant(
        &self,
        tx: &mut Tx,
        registration: &mut Registration,
    ) -> Result<Option<Tenant>, Error> {
        let id = registration.id;
        let intent = registration.intent.as_mut().ok_or(Error::NoIntent(id))?;
        let found = tx.tenant_to_join(&registration.customer_name).await?;
        if let Some(external_id) = &intent.external_id {
            let of = tx.tenant_by_external_id(external_id).await?;
            if of.is_some_and(|of| found.as_ref().is_none_or(|found| found.id != of.id)) {
                return Err(tenants::Error::ExternalIdTaken(external_id.clone()).into());
            }
        }
        let Some(tenant) = found else { return Ok(None) };
        if intent.actor.is_none() {
            let domain = registration.email.as_ref().and_then(crate::kernel::Email::domain);
            let domain = domain.filter(|_| intent.verified);
            let let_in = match &domain {
                Some(domain) => tx.domain_lets_in(tenant.id, domain).await?,
                None => false,
            };
            if !let_in {
                return Err(Error::NameTaken(registration.customer_name.clone()));
            }
        }
        if matches!(tenant.status, Status::Offboarding) {
            let (id, status) = (tenant.id, tenant.status.name());
            return Err(tenants::Error::WrongState { id, status, verb: "be joined" }.into());
        }
        if tenant.tier != registration.tier {
            registration.notes.push(format!("the tenant exists and keeps its tier {}", tenant.tier));
        }
        if intent.external_id.is_some() && tenant.external_id != intent.external_id {
            registration.notes.push("the tenant exists: its external id was not changed".to_owned());
        }
        intent.role = intent.actor.is_none().then_some(Role::Member);
        (registration.tenant_id, registration.founds) = (tenant.id, false);
        Ok(Some(tenant))
    }

    /// Sees whether the user is there, and may come into the tenant.
    async fn find_user(&self, tx: &mut Tx, registration: &mut Registration, request: &Request) -> Result<(), Error> {
        let policy = registration.intent.as_ref().map_or(KnownEmail::OnlyOwnTenant, |intent| intent.known_email);
        let known = self.services.users.may_join_in(tx, registration.tenant_id, &request.email, policy).await;
        match known.map_err(|error| told_to(request.entrance == Entrance::SignUp, error))? {
            Some(_) if request.entrance == Entrance::SignUp => Err(Error::EmailTaken),
            Some(user) => {
                registration.user_id = user.id;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Somebody who signs up learns that the email is in use, and nothing of where.
pub(super) fn told_to(signs_up: bool, error: users::Error) -> Error {
    match error {
        users::Error::EmailElsewhere | users::Error::EmailOfAdministrator if signs_up => Error::EmailTaken,
        error => error.into(),
    }
}
