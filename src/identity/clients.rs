//! Machine clients of tenants, and the client credentials grant (RFC 6749 section 4.4).
//!
//! Their secrets are random, so a fast keyed hash keeps them as safe as a slow one would.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq as _;

use super::{
    access::{ScopeSet, Subject},
    error::Error,
    model::{Client, TokenSet},
    revocation::Revoked,
    rules,
    service::{Grant, Identity},
};
use crate::{
    kernel::{ClientId, Page, PageRequest, Secret, TenantId, rng::random_bytes},
    store::Scope,
    tenants::Status,
};

/// A machine client to be made.
#[derive(Debug, Clone)]
pub struct NewClient {
    /// Whose.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// What its tokens may be used for.
    pub scope: ScopeSet,
}

impl Identity {
    /// Makes a machine client; the secret is shown this once.
    pub async fn create_client(&self, scope: Scope, new: NewClient) -> Result<(Client, Secret), Error> {
        let secret = Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<32>(&*self.rng)));
        let now = self.clock.now();
        let mut tx = self.store.begin(scope).await?;
        let tenant = tx.tenant_by_id(new.tenant).await?.ok_or(Error::UnknownTenant(new.tenant))?;
        if matches!(tenant.status, Status::Offboarding | Status::Deleted { .. }) {
            return Err(Error::TenantNotActive(tenant.status.name()));
        }
        let client = Client {
            id: ClientId::generate(now, &*self.rng),
            tenant_id: new.tenant,
            name: new.name,
            scope: new.scope,
            secret_hash: self.master.hash(&secret),
            created_at: now,
        };
        tx.client_insert(&client).await?;
        tx.commit().await?;
        Ok((client, secret))
    }

    /// A page of machine clients, of one tenant or of all.
    pub async fn clients(
        &self,
        scope: Scope,
        tenant: Option<TenantId>,
        page: PageRequest,
    ) -> Result<Page<Client>, Error> {
        let rows = self.store.read(scope).await?.clients(tenant, page).await?;
        Ok(page.page(rows, |client| client.id.as_uuid()))
    }

    /// Deletes a machine client; its tokens die at once.
    pub async fn delete_client(&self, scope: Scope, id: ClientId) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        if !tx.client_delete(id).await? {
            return Err(Error::UnknownClient(id));
        }
        let withdrawal = self.revoke_in(&mut tx, Revoked::Client(id)).await?;
        tx.commit().await?;
        self.revoke_now(withdrawal);
        Ok(())
    }

    /// A token for a machine client. Unknown clients and wrong secrets are one error.
    pub async fn client_credentials(&self, id: &str, secret: &Secret, asked: Option<&str>) -> Result<TokenSet, Error> {
        let mut tx = self.store.read(Scope::Job("client-credentials")).await?;
        let client = match id.parse() {
            Ok(id) => tx.client(id).await?,
            Err(_) => None,
        };
        let stored = client.as_ref().map_or([0; 32], |client| client.secret_hash);
        let matches: bool = self.master.hash(secret).ct_eq(&stored).into();
        let client = client.filter(|_| matches).ok_or(Error::InvalidClient)?;
        let tenant = tx.tenant_by_id(client.tenant_id).await?.ok_or(Error::InvalidClient)?;
        rules::may_enter(&tenant, None)?;
        let scope = rules::narrowed(&client.scope, asked)?;
        let grant = Grant {
            subject: Subject::Client(client.id),
            tenant: Some(client.tenant_id),
            role: None,
            scope: scope.clone(),
            client_id: client.id.to_string(),
            session: None,
        };
        Ok(TokenSet {
            access_token: self.issue(&grant)?,
            expires_in_s: self.config.access_token_ttl_s,
            refresh_token: None,
            scope,
            tenant_id: Some(client.tenant_id),
        })
    }
}
