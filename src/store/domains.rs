//! Queries about the domains whose people may join a tenant.

use super::{StoreError, Tx};
use crate::kernel::{EmailDomain, TenantId, Timestamp};

/// That somebody who owns a tenant, and is in force there, has shown that an email at a domain reaches them.
const OWNER_AT_DOMAIN: &str = "SELECT 1 AS one FROM memberships m JOIN users u ON u.user_id = m.user_id
     WHERE m.tenant_id = $1 AND m.role = 'owner' AND m.status = 'active' AND u.email_verified_at IS NOT NULL
       AND u.email_key LIKE '%@' || CAST($2 AS TEXT)";

impl Tx {
    /// The domains whose people may join a tenant, in order.
    pub async fn tenant_domains(&mut self, tenant: TenantId) -> Result<Vec<EmailDomain>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT domain FROM tenant_domains WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2) ORDER BY domain",
        )
        .bind(tenant)
        .bind(scope)
        .map(|row| row.parse("domain"))
        .await
    }

    /// Sets the domains whose people may join a tenant.
    pub async fn tenant_domains_set(
        &mut self,
        tenant: TenantId,
        domains: &[EmailDomain],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.domains_forget(tenant).await?;
        for domain in domains {
            self.query("INSERT INTO tenant_domains (tenant_id, domain, created_at) VALUES ($1, $2, $3)")
                .bind(tenant)
                .bind(domain.as_str())
                .bind(now)
                .execute()
                .await?;
        }
        Ok(())
    }

    /// Forgets them.
    pub async fn domains_forget(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        self.query("DELETE FROM tenant_domains WHERE tenant_id = $1").bind(tenant).execute().await?;
        Ok(())
    }

    /// Whether an owner of a tenant has a verified email at a domain.
    pub async fn domain_is_an_owners(&mut self, tenant: TenantId, domain: &EmailDomain) -> Result<bool, StoreError> {
        self.must_cover(tenant)?;
        let row = self.query(OWNER_AT_DOMAIN).bind(tenant).bind(domain.as_str()).row().await?;
        Ok(row.is_some())
    }

    /// Whether a tenant lets people of a domain in now: it said so, and one of its owners still has an email there.
    pub async fn domain_lets_in(&mut self, tenant: TenantId, domain: &EmailDomain) -> Result<bool, StoreError> {
        Ok(self.tenant_domains(tenant).await?.contains(domain) && self.domain_is_an_owners(tenant, domain).await?)
    }
}
