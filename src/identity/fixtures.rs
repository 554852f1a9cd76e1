//! Seams for tests and the lab: claims as a good token has them, keys to sign anything with, passwords and clients that
//! nobody would choose. No request of a server that is not in lab mode reaches them.

use serde_json::Value;

use super::{
    access::ScopeSet,
    clients::NewClient,
    error::Error,
    model::{Client, SigningAlg},
    rules::{self, FIRST_PARTY},
    service::{Grant, Identity},
    signing::SigningPair,
};
use crate::{
    kernel::{ClientId, Secret, TenantId, UserId},
    store::Scope,
    users::Role,
};

/// Which of our keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyChoice<'a> {
    /// The one that signs now, of an algorithm or of access tokens.
    Current(Option<SigningAlg>),
    /// The one with an id, whether it signs or only verifies.
    Id(&'a str),
}

impl Identity {
    /// The claims of a person's access token: in a tenant with a role, or as platform administrator.
    pub fn claims_of_person(&self, user: UserId, place: Option<(TenantId, Role)>) -> Result<Value, Error> {
        let grant = Grant {
            sub: user.as_uuid(),
            tenant: place.map(|(tenant, _)| tenant),
            role: place.map(|(_, role)| role),
            scope: place.map_or_else(rules::admin_scope, |(_, role)| rules::user_scope(role)),
            client_id: FIRST_PARTY.to_owned(),
            session: None,
            expires_at: self.clock.now().plus_secs(self.config.access_token_ttl_s),
        };
        self.claims_as_json(&grant)
    }

    /// The claims of a client's access token of its own.
    pub fn claims_of_client(&self, client: &Client) -> Result<Value, Error> {
        let grant = Grant {
            sub: client.id.as_uuid(),
            tenant: client.tenant_id,
            role: None,
            scope: client.scope.intersect(&ScopeSet::parse(&rules::MACHINE_SCOPES.join(" "))),
            client_id: client.id.to_string(),
            session: None,
            expires_at: self.clock.now().plus_secs(self.config.access_token_ttl_s),
        };
        self.claims_as_json(&grant)
    }

    fn claims_as_json(&self, grant: &Grant) -> Result<Value, Error> {
        serde_json::to_value(self.claims(grant)).map_err(|_| Error::Key("cannot sign"))
    }

    /// Does something with one of our keys, its id and its algorithm; `None` when there is no such key.
    pub(crate) fn with_key<T>(
        &self,
        choice: KeyChoice<'_>,
        act: impl FnOnce(&str, SigningAlg, &SigningPair) -> T,
    ) -> Option<T> {
        let keys = self.verifier().keys();
        match choice {
            KeyChoice::Current(algorithm) => {
                let algorithm = algorithm.unwrap_or(self.config.signing_alg);
                keys.signing(algorithm, self.clock.now()).map(|(kid, pair)| act(kid, algorithm, pair))
            }
            KeyChoice::Id(id) => keys.by_id(id).map(|(algorithm, pair)| act(id, algorithm, pair)),
        }
    }

    /// Gives a password to a user who has none, however easy it is to guess.
    pub async fn set_first_password(&self, scope: Scope, user: UserId, password: &Secret) -> Result<(), Error> {
        if self.store.read(scope).await?.credential(user).await?.is_some() {
            return Ok(());
        }
        let hash = self.passwords.hash(password).await?;
        let mut tx = self.store.begin(scope).await?;
        self.set_password_in(&mut tx, user, &hash).await?;
        Ok(tx.commit().await?)
    }

    /// Makes a client with an id and a secret that somebody chose, unless there is one with that id: then that one.
    /// Whether it is the same is for the caller to see, by [`Self::is_client`].
    pub async fn ensure_client(
        &self,
        scope: Scope,
        id: ClientId,
        secret: Option<&Secret>,
        new: NewClient,
    ) -> Result<Client, Error> {
        if let Some(known) = self.store.read(scope).await?.client(id).await? {
            return Ok(known);
        }
        let client = self.client_of(id, secret, new);
        let mut tx = self.store.begin(scope).await?;
        self.insert_client(&mut tx, &client).await?;
        tx.commit().await?;
        Ok(client)
    }

    /// Whether a client is what it would be if it were made so now.
    pub fn is_client(&self, known: &Client, secret: Option<&Secret>, new: NewClient) -> bool {
        let made = self.client_of(known.id, secret, new);
        *known == Client { created_at: known.created_at, ..made }
    }
}
