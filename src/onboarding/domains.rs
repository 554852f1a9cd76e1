//! Joining a tenant by the domain of one's email, where its owners allow it.
//!
//! DNS is not asked. Who may speak for a domain is shown by an owner's own verified email there, now and whenever somebody
//! joins; and a domain where anybody gets an address shows nothing.

use super::{error::Error, service::Onboarding};
use crate::{
    kernel::{Act, Actor, EmailDomain, TenantId},
    store::Scope,
};

/// So many domains a tenant may have.
pub const MOST_DOMAINS: usize = 20;

/// Domains where anybody gets an address: the large ones, to keep owners from the mistake. What is not here is no promise:
/// an owner with an address at a small provider can let its other customers in, as members, if they know the tenant's name.
pub const PUBLIC_MAIL: [&str; 24] = [
    "126.com",
    "163.com",
    "aol.com",
    "fastmail.com",
    "free.fr",
    "gmail.com",
    "gmx.com",
    "gmx.de",
    "gmx.net",
    "googlemail.com",
    "hotmail.com",
    "icloud.com",
    "live.com",
    "mail.com",
    "mail.ru",
    "me.com",
    "outlook.com",
    "proton.me",
    "protonmail.com",
    "qq.com",
    "web.de",
    "yahoo.com",
    "yandex.com",
    "yandex.ru",
];

impl Onboarding {
    /// The domains whose people may join a tenant.
    pub async fn allowed_domains(&self, scope: Scope, tenant: TenantId) -> Result<Vec<EmailDomain>, Error> {
        Ok(self.store.read(scope).await?.tenant_domains(tenant).await?)
    }

    /// Sets the domains whose people may join a tenant; each must be that of an owner's verified email.
    pub async fn allow_domains(
        &self,
        scope: Scope,
        actor: Actor,
        tenant: TenantId,
        mut domains: Vec<EmailDomain>,
    ) -> Result<Vec<EmailDomain>, Error> {
        domains.sort();
        domains.dedup();
        let mut tx = self.store.begin(scope).await?;
        for domain in &domains {
            let why = if PUBLIC_MAIL.contains(&domain.as_str()) {
                "is one where anybody gets an address"
            } else if !tx.domain_is_an_owners(tenant, domain).await? {
                "is not that of a verified email of one of the tenant's owners"
            } else {
                continue;
            };
            return Err(Error::Domain { domain: domain.clone(), why });
        }
        if tx.tenant_domains(tenant).await? == domains {
            return Ok(domains);
        }
        tx.tenant_domains_set(tenant, &domains, self.clock.now()).await?;
        let names: Vec<&str> = domains.iter().map(EmailDomain::as_str).collect();
        let (action, subject, detail) = ("allowed_domains.changed", tenant.to_string(), Some(names.join(", ")));
        self.services.identity.note(&mut tx, Act { actor, action, tenant: Some(tenant), subject, detail }).await?;
        tx.commit().await?;
        Ok(domains)
    }
}
