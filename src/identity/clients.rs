//! Clients, how they authenticate, and the client credentials grant (RFC 6749 section 4.4).
//!
//! Their secrets are random, so a fast keyed hash keeps them as safe as a slow one would.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq as _;

use super::{
    access::ScopeSet,
    error::Error,
    model::{AuthMethod, Client, ClientMetadata, GrantType, TokenSet},
    revocation::Revoked,
    rules,
    service::{Grant, Identity},
};
use crate::{
    kernel::{Act, Actor, ClientId, Page, PageRequest, Secret, TenantId, rng::random_bytes},
    store::{Scope, Tx},
    tenants::Status,
};

/// A client to be made.
#[derive(Debug, Clone)]
pub struct NewClient {
    /// Whose; `None` for one that people of every tenant may use.
    pub tenant: Option<TenantId>,
    /// What people call it.
    pub name: String,
    /// What its tokens may be used for.
    pub scope: ScopeSet,
    /// How it may be used.
    pub metadata: ClientMetadata,
    /// Whether it keeps a secret.
    pub kind: ClientKind,
}

/// RFC 6749 section 2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// It keeps a secret.
    Confidential,
    /// It runs where nothing can be kept secret.
    Public,
}

/// What a client says of itself.
#[derive(Debug, Clone)]
pub struct ClientCredentials {
    /// `client_id`.
    pub id: String,
    /// Its secret, if it sent one.
    pub secret: Option<Secret>,
    /// How it sent that.
    pub method: AuthMethod,
}

impl Identity {
    /// Makes a client; the secret is shown this once.
    pub async fn create_client(
        &self,
        scope: Scope,
        actor: Actor,
        new: NewClient,
    ) -> Result<(Client, Option<Secret>), Error> {
        let mut tx = self.store.begin(scope).await?;
        let made = self.create_client_in(&mut tx, actor, new).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// Makes a client within the caller's transaction.
    pub(super) async fn create_client_in(
        &self,
        tx: &mut Tx,
        actor: Actor,
        new: NewClient,
    ) -> Result<(Client, Option<Secret>), Error> {
        let secret = (new.kind == ClientKind::Confidential)
            .then(|| Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<32>(&*self.rng))));
        let id = ClientId::generate(self.clock.now(), &*self.rng);
        let client = self.client_of(id, secret.as_ref(), new);
        self.insert_client(tx, &client).await?;
        let (tenant, subject, detail) = (client.tenant_id, client.id.to_string(), Some(client.name.clone()));
        self.note(tx, Act { actor, action: "client.made", tenant, subject, detail }).await?;
        Ok((client, secret))
    }

    /// A client as it is kept.
    pub(super) fn client_of(&self, id: ClientId, secret: Option<&Secret>, new: NewClient) -> Client {
        Client {
            id,
            tenant_id: new.tenant,
            name: new.name,
            scope: new.scope,
            secret_hash: secret.map(|secret| self.master.hash(secret)),
            metadata: new.metadata,
            created_at: self.clock.now(),
        }
    }

    pub(super) async fn insert_client(&self, tx: &mut Tx, client: &Client) -> Result<(), Error> {
        if let Some(tenant) = client.tenant_id {
            let tenant = tx.tenant_by_id(tenant).await?.ok_or(Error::UnknownTenant(tenant))?;
            if matches!(tenant.status, Status::Offboarding | Status::Deleted { .. }) {
                return Err(Error::TenantNotActive(tenant.status.name()));
            }
        }
        tx.client_insert(client).await?;
        // Who keeps a secret does not live in a browser.
        if client.secret_hash.is_none() {
            for origin in client.metadata.redirect_uris.iter().filter_map(|uri| rules::web_origin(uri)) {
                tx.client_origin_insert(client.id, &origin).await?;
            }
        }
        Ok(())
    }

    /// The client that calls. Unknown clients and wrong secrets are one error; a public client sends none.
    pub async fn authenticate_client(&self, credentials: &ClientCredentials) -> Result<Client, Error> {
        let known = match credentials.id.parse() {
            Ok(id) => self.known_clients.find(&self.store, id, self.clock.now()).await?,
            Err(_) => None,
        };
        let stored = known.as_ref().and_then(|known| known.client.secret_hash);
        let sent = credentials.secret.as_ref().map(|secret| self.master.hash(secret));
        let matches: bool = stored.unwrap_or_default().ct_eq(&sent.unwrap_or_default()).into();
        let proved = matches && stored.is_some() == sent.is_some();
        // Whoever registered one way of authenticating is not let in by another.
        let registered = |client: &Client| client.metadata.auth_method.is_none_or(|own| own == credentials.method);
        match known {
            Some(known) if proved && registered(&known.client) => Ok(known.client.clone()),
            other => {
                self.note_refused_client(other.as_ref().map(|known| &known.client)).await?;
                Err(Error::InvalidClient)
            }
        }
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

    /// Deletes a client; its tokens die at once, and sign-ins with it end.
    pub async fn delete_client(&self, scope: Scope, actor: Actor, id: ClientId) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        let tenant = tx.client(id).await?.ok_or(Error::UnknownClient(id))?.tenant_id;
        if !tx.client_delete(id, self.clock.now()).await? {
            return Err(Error::UnknownClient(id));
        }
        tx.sessions_end_of_client(id, self.clock.now()).await?;
        let subject = id.to_string();
        self.note(&mut tx, Act { actor, action: "client.deleted", tenant, subject, detail: None }).await?;
        let withdrawal = self.revoke_in(&mut tx, Revoked::Client(id)).await?;
        tx.commit().await?;
        self.known_clients.changed();
        self.revoke_now(withdrawal);
        Ok(())
    }

    /// Whether a public client lives at an origin, given as browsers do.
    pub async fn is_origin_of_client(&self, origin: &str) -> Result<bool, Error> {
        let exact = url::Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == origin);
        let Some(key) = rules::web_origin(origin).filter(|_| exact) else { return Ok(false) };
        Ok(self.store.read(Scope::Job("cors")).await?.origin_is_known(&key).await?)
    }

    /// A token for a machine client that has authenticated.
    pub async fn client_credentials(&self, client: &Client, asked: Option<&ScopeSet>) -> Result<TokenSet, Error> {
        let tenant_id = client.tenant_id.filter(|_| client.secret_hash.is_some());
        let tenant_id = tenant_id.ok_or(Error::UnauthorizedClient(GrantType::ClientCredentials))?;
        client.may_use(GrantType::ClientCredentials)?;
        let known = self.known_clients.find(&self.store, client.id, self.clock.now()).await?;
        let tenant = known.as_ref().and_then(|known| known.tenant.as_ref()).ok_or(Error::InvalidClient)?;
        rules::may_enter(tenant, None)?;
        let granted = client.scope.intersect(&ScopeSet::parse(&rules::MACHINE_SCOPES.join(" ")));
        let scope = rules::narrowed(&granted, asked)?;
        let grant = Grant {
            sub: client.id.as_uuid(),
            tenant: Some(tenant_id),
            role: None,
            scope: scope.clone(),
            client_id: client.id.to_string(),
            session: None,
            expires_at: self.clock.now().plus_secs(self.config.access_token_ttl_s),
        };
        Ok(TokenSet {
            access_token: self.issue(&grant)?,
            expires_in_s: self.config.access_token_ttl_s,
            refresh_token: None,
            id_token: None,
            scope,
            tenant_id: Some(tenant_id),
        })
    }
}

impl Client {
    /// An error unless it registered a grant.
    pub(super) fn may_use(&self, grant: GrantType) -> Result<(), Error> {
        let registered = self.metadata.grant_types.contains(&grant);
        registered.then_some(()).ok_or(Error::UnauthorizedClient(grant))
    }
}
