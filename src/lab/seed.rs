//! Fixtures: tenants with their people, and clients, made at start through the services that make them for everybody.
//!
//! Seeds make what is not there. What is there and is what the seed would make is left alone, so a second start does
//! nothing. What may have changed since in the ordinary way of things (a tier, a state, a password) is the run's, not the
//! seed's. What contradicts a seed (an email of somebody who is elsewhere, a client of another tenant or with another
//! secret) keeps the server from starting, and every contradiction is named.

use super::Error;
use crate::{
    identity::{Identity, NewClient},
    kernel::{Actor, TenantId},
    onboarding::{self, Entrance, NewMember, Onboarding, RegistrationStatus, Request},
    settings::{SeedClient, SeedSettings, SeedTenant, SeedUser},
    store::Scope,
    tenants::{Tenant, Tenants},
    users::{self, KnownEmail, Users},
};

/// The services that fixtures are made through.
#[derive(Clone)]
pub struct Services {
    /// Registers tenants, adds people.
    pub onboarding: Onboarding,
    /// Finds tenants.
    pub tenants: Tenants,
    /// Finds people.
    pub users: Users,
    /// Makes clients, sets passwords.
    pub identity: Identity,
}

const SEED: Scope = Scope::Job("seed");

/// Makes what of the fixtures is not there.
pub async fn apply(services: &Services, seeds: &SeedSettings) -> Result<(), Error> {
    let mut contradictions = Vec::new();
    for tenant in &seeds.tenants {
        services.apply_tenant(tenant, &mut contradictions).await?;
    }
    for client in &seeds.clients {
        services.apply_client(client, &mut contradictions).await?;
    }
    if contradictions.is_empty() { Ok(()) } else { Err(Error::Seeds(contradictions)) }
}

fn failed(path: &str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Seed { path: path.to_owned(), source: Box::new(source) }
}

impl Services {
    async fn apply_tenant(&self, seed: &SeedTenant, contradictions: &mut Vec<String>) -> Result<(), Error> {
        let path = &seed.path;
        let known = self.tenants.find_by_customer_name(SEED, &seed.customer_name).await;
        let tenant = match known.map_err(|error| failed(path, error))? {
            Some(tenant) => tenant,
            None => match self.register(seed, contradictions).await? {
                Some(tenant) => tenant,
                None => return Ok(()),
            },
        };
        if tenant.external_id != seed.external_id {
            let other = tenant.external_id.as_ref().map_or("none", |own| own.as_str());
            contradictions.push(format!("{path}.external_id: the tenant has {other}"));
        }
        for user in &seed.users {
            self.apply_user(&tenant, user, contradictions).await?;
        }
        Ok(())
    }

    /// Registers a tenant with its owner, without a password yet.
    async fn register(&self, seed: &SeedTenant, contradictions: &mut Vec<String>) -> Result<Option<Tenant>, Error> {
        let path = &seed.path;
        // The settings see to it that there is an owner.
        let Some(owner) = seed.users.first() else { return Ok(None) };
        let request = Request {
            email: owner.email.clone(),
            customer_name: seed.customer_name.clone(),
            billing_address: seed.billing_address.clone(),
            tier: seed.tier.clone(),
            password: None,
            external_id: seed.external_id.clone(),
            entrance: Entrance::Administrator { actor: Actor::Job("lab"), allow_membership: true },
            key: None,
        };
        let registration = match self.onboarding.register(SEED, request).await {
            Ok(registration) => registration,
            Err(onboarding::Error::Store(error)) => return Err(failed(path, error)),
            Err(refused) => {
                contradictions.push(format!("{path}: {refused}"));
                return Ok(None);
            }
        };
        if registration.status != RegistrationStatus::Active {
            tracing::warn!(tenant_id = %registration.tenant_id, path, "a seeded tenant is not active yet");
        }
        let made = self.tenants.find(SEED, registration.tenant_id).await;
        made.map(Some).map_err(|error| failed(path, error))
    }

    async fn apply_user(
        &self,
        tenant: &Tenant,
        seed: &SeedUser,
        contradictions: &mut Vec<String>,
    ) -> Result<(), Error> {
        let path = &seed.path;
        let new = NewMember {
            email: seed.email.clone(),
            role: seed.role,
            password: None,
            known_email: KnownEmail::AnyTenant,
        };
        let user = match self.onboarding.add_member(SEED, Actor::Job("seed"), tenant.id, new).await {
            Ok(member) => member.user.id,
            Err(onboarding::Error::Users(users::Error::AlreadyMember(user))) => {
                let member = self.users.find(SEED, tenant.id, user).await.map_err(|error| failed(path, error))?;
                if member.membership.role != seed.role {
                    let role = member.membership.role.name();
                    contradictions.push(format!("{path}.role: the user is {role}"));
                }
                user
            }
            Err(onboarding::Error::Store(error)) => return Err(failed(path, error)),
            Err(refused) => {
                contradictions.push(format!("{path}: {refused}"));
                return Ok(());
            }
        };
        match &seed.password {
            Some(password) => {
                let set = self.identity.set_first_password(SEED, user, password).await;
                set.map_err(|error| failed(path, error))
            }
            None => Ok(()),
        }
    }

    async fn apply_client(&self, seed: &SeedClient, contradictions: &mut Vec<String>) -> Result<(), Error> {
        let path = &seed.path;
        let tenant = match &seed.tenant {
            Some(name) => {
                let found =
                    self.tenants.find_by_customer_name(SEED, name).await.map_err(|error| failed(path, error))?;
                let Some(found) = found else {
                    contradictions.push(format!("{path}.tenant: there is no tenant {name}"));
                    return Ok(());
                };
                Some(found.id)
            }
            None => None,
        };
        let new = || NewClient { tenant, ..seed.client.clone() };
        let made = self.identity.ensure_client(SEED, seed.id, seed.secret.as_ref(), new()).await;
        let client = match made {
            Ok(client) => client,
            Err(crate::identity::Error::TenantNotActive(status)) => {
                contradictions.push(format!("{path}.tenant: the tenant is {status}"));
                return Ok(());
            }
            Err(error) => return Err(failed(path, error)),
        };
        if !self.identity.is_client(&client, seed.secret.as_ref(), new()) {
            let whose = |tenant: Option<TenantId>| tenant.map_or_else(|| "no tenant".to_owned(), |id| id.to_string());
            let told = if client.tenant_id == tenant {
                format!("{path}: the client {} is there with another secret or other metadata", seed.id)
            } else {
                format!("{path}: the client {} is there, of {}", seed.id, whose(client.tenant_id))
            };
            contradictions.push(told);
        }
        Ok(())
    }
}
