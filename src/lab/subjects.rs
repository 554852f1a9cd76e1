//! For whom tokens are: people and clients that the store has, and the organisation they are in.

use super::{
    Lab,
    dialects::{Organisation, Person, is_of_openid},
};
use crate::{
    identity::{Client, ScopeSet, rules::user_scope},
    kernel::{ExternalId, TenantId},
    store::{Scope, StoreError},
    tenants::Tenant,
    users::{Role, User},
};

/// Somebody, and where they are.
#[derive(Debug, Clone)]
pub struct Somebody {
    /// The person.
    pub user: User,
    /// Their tenant and role; `None` for the platform administrator.
    pub place: Option<(Tenant, Role)>,
}

impl Somebody {
    /// As dialects see them.
    pub fn person(&self, auth_time: i64) -> Person {
        let permissions = self.place.as_ref().map(|(_, role)| user_scope(*role));
        let permissions = permissions.iter().flat_map(ScopeSet::iter).filter(|value| !is_of_openid(value));
        Person {
            id: self.user.id.as_uuid(),
            email: self.user.email.to_string(),
            role: self.place.as_ref().map(|(_, role)| role.name()),
            permissions: permissions.map(str::to_owned).collect(),
            auth_time,
        }
    }
}

/// A tenant as dialects see it.
pub fn organisation(tenant: &Tenant) -> Organisation {
    Organisation {
        id: tenant.external_id.as_ref().map_or_else(|| tenant.id.to_string(), ToString::to_string),
        tenant_id: tenant.id.as_uuid(),
        name: tenant.customer_name.to_string(),
    }
}

/// Whether a text is a tenant's id or external id.
fn is_meant(tenant: &Tenant, text: &str) -> bool {
    tenant.id.to_string() == text || tenant.external_id.as_ref().is_some_and(|own| own.as_str() == text)
}

/// Whoever is asked about here was named by an administrator, or has authenticated as a client.
pub(super) const LAB: Scope = Scope::Job("lab");

impl Lab {
    /// A person by email or id, in the tenant that is named, or the first of theirs.
    pub async fn somebody(&self, who: &str, tenant: Option<&str>) -> Result<Option<Somebody>, StoreError> {
        let mut tx = self.store().read(LAB).await?;
        let user = match (who.parse(), who.parse()) {
            (Ok(id), _) => tx.user_by_id(id).await?,
            (_, Ok(email)) => tx.user_by_email(&email).await?,
            _ => None,
        };
        let Some(user) = user else { return Ok(None) };
        for membership in tx.memberships_of_user(user.id).await? {
            let found = tx.tenant_by_id(membership.tenant_id).await?;
            if let Some(found) = found.filter(|found| tenant.is_none_or(|text| is_meant(found, text))) {
                return Ok(Some(Somebody { user, place: Some((found, membership.role)) }));
            }
        }
        let of_nobody = user.platform_admin && tenant.is_none();
        Ok(of_nobody.then_some(Somebody { user, place: None }))
    }

    /// A tenant by its id or external id.
    pub async fn tenant(&self, text: &str) -> Result<Option<Tenant>, StoreError> {
        let mut tx = self.store().read(LAB).await?;
        if let Ok(id) = text.parse::<TenantId>()
            && let Some(tenant) = tx.tenant_by_id(id).await?
        {
            return Ok(Some(tenant));
        }
        match text.parse::<ExternalId>() {
            Ok(id) => tx.tenant_by_external_id(&id).await,
            Err(_) => Ok(None),
        }
    }

    /// The tenant of a client, or the one that is named for a client of none; `None` where there is no such.
    pub async fn tenant_of(&self, client: &Client, asked: Option<&str>) -> Result<Option<Tenant>, StoreError> {
        match (client.tenant_id, asked) {
            (Some(own), asked) => {
                let tenant = self.store().read(LAB).await?.tenant_by_id(own).await?;
                Ok(tenant.filter(|tenant| asked.is_none_or(|text| is_meant(tenant, text))))
            }
            (None, Some(asked)) => self.tenant(asked).await,
            (None, None) => Ok(None),
        }
    }
}
