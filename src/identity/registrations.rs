//! Dynamic client registration (RFC 7591), for who has an initial access token.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    clients::NewClient,
    error::Error,
    model::{Client, InitialToken},
    rules,
    service::Identity,
};
use crate::{
    kernel::{Act, Actor, InitialTokenId, Secret, TenantId, rng::random_bytes},
    store::{Scope, Tx},
};

/// An initial access token to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewInitialToken {
    /// Whose its clients are; `None` for clients of the platform.
    pub tenant: Option<TenantId>,
    /// How many it lets in.
    pub uses: i64,
    /// For how long, in seconds.
    pub ttl_s: i64,
}

impl Identity {
    /// Makes an initial access token; it is shown this once.
    pub async fn create_initial_token(
        &self,
        scope: Scope,
        actor: Actor,
        new: NewInitialToken,
    ) -> Result<(InitialToken, Secret), Error> {
        let secret = Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<32>(&*self.rng)));
        let now = self.clock.now();
        let mut tx = self.store.begin(scope).await?;
        if let Some(tenant) = new.tenant {
            let tenant = tx.tenant_by_id(tenant).await?.ok_or(Error::UnknownTenant(tenant))?;
            if rules::is_gone(&tenant) {
                return Err(Error::TenantNotActive(tenant.status.name()));
            }
        }
        let token = InitialToken {
            id: InitialTokenId::generate(now, &*self.rng),
            tenant_id: new.tenant,
            uses_left: new.uses,
            expires_at: now.plus_secs(new.ttl_s),
            created_at: now,
        };
        tx.initial_token_insert(&self.master.hash(&secret), &token).await?;
        let (tenant, subject, detail) = (new.tenant, token.id.to_string(), Some(format!("for {} clients", new.uses)));
        self.note(&mut tx, Act { actor, action: "initial_token.made", tenant, subject, detail }).await?;
        tx.commit().await?;
        Ok((token, secret))
    }

    /// Deletes an initial access token; what it let in stays.
    pub async fn delete_initial_token(&self, scope: Scope, actor: Actor, id: InitialTokenId) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        if !tx.initial_token_delete(id).await? {
            return Err(Error::UnknownInitialToken(id));
        }
        let subject = id.to_string();
        self.note(&mut tx, Act { actor, action: "initial_token.deleted", tenant: None, subject, detail: None }).await?;
        Ok(tx.commit().await?)
    }

    /// What an initial access token lets in, if it does.
    pub async fn initial_token(&self, token: &Secret) -> Result<InitialToken, Error> {
        let (hash, now) = (self.master.hash(token), self.clock.now());
        let mut tx = self.store.read(Scope::Job("register")).await?;
        let found = tx.initial_token(&hash, now).await?.ok_or(Error::InvalidInitialToken)?;
        must_let_in(&mut tx, &found).await?;
        Ok(found)
    }

    /// Registers a client; the use of the token and the client are one transaction.
    pub async fn register(&self, token: &Secret, new: NewClient) -> Result<(Client, Option<Secret>), Error> {
        let mut tx = self.store.begin(Scope::Job("register")).await?;
        let used = tx.initial_token_use(&self.master.hash(token), self.clock.now()).await?;
        let used = used.filter(|used| used.tenant_id == new.tenant).ok_or(Error::InvalidInitialToken)?;
        must_let_in(&mut tx, &used).await?;
        let made = self.create_client_in(&mut tx, Actor::Anonymous, new).await?;
        tx.commit().await?;
        Ok(made)
    }
}

/// An error while the tenant of an initial access token lets nobody in.
async fn must_let_in(tx: &mut Tx, token: &InitialToken) -> Result<(), Error> {
    let Some(tenant) = token.tenant_id else { return Ok(()) };
    let tenant = tx.tenant_by_id(tenant).await?.ok_or(Error::InvalidInitialToken)?;
    if tenant.status.is_usable() { Ok(()) } else { Err(Error::InvalidInitialToken) }
}
