//! The identity service: keys, passwords, and issuing access tokens.

use std::{path::PathBuf, sync::Arc};

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;
use webauthn_rs::Webauthn;
use zeroize::Zeroizing;

use super::{
    access::ScopeSet,
    error::Error,
    foreign::{Foreign, IssuerConfig, NamedTenants},
    keys::{self, KeyRing, MasterKey},
    known_clients::KnownClients,
    model::{PasswordHash, SigningAlg, StoredKey},
    passkeys,
    password::{Passwords, check_strength},
    revocation::Revoked,
    signing::compact,
    throttle::Throttle,
    verifier::{Claims, Verifier},
};
use crate::{
    kernel::{Act, Actor, Clock, Rng, Secret, SessionId, TenantId, Timestamp, UserId, ids::uuid_v7},
    mail::Mail,
    store::{Scope, Store, Tx},
    users::Role,
};

const DAY_S: i64 = 86_400;
/// A token may be signed this long after its session was seen to run, in seconds: what withdraws it is kept for that, too.
const SIGNED_LATE_S: i64 = 30;

/// How identity is set up.
#[derive(Debug, Clone)]
pub struct IdentityConfig {
    /// `iss` of every token, and its audience.
    pub issuer: String,
    /// The algorithm of access tokens.
    pub signing_alg: SigningAlg,
    /// The algorithms of which keys are made and published; `signing_alg` is always one of them.
    pub published_algs: Vec<SigningAlg>,
    /// A new key is published this long before it signs, in seconds.
    pub key_wait_s: i64,
    /// Life of an access token, in seconds.
    pub access_token_ttl_s: i64,
    /// Life of a refresh token, in seconds.
    pub refresh_token_ttl_s: i64,
    /// A second use of a refresh token within this is a race, later a theft.
    pub refresh_grace_s: i64,
    /// Passwords hashed at once.
    pub hash_concurrency: usize,
    /// Whether the token endpoint takes passwords (RFC 6749 section 4.3): in a laboratory alone.
    pub allow_password_grant: bool,
    /// Entries of the audit are kept this long, in days.
    pub audit_days: i64,
    /// Whether wrong tries are slowed down; off in a laboratory alone.
    pub login_throttle: bool,
    /// Issuers whose tokens open routes of the gateway.
    pub issuers: Vec<IssuerConfig>,
    /// The file under whose key private keys are sealed.
    pub key_file: PathBuf,
}

impl IdentityConfig {
    /// Every algorithm that has keys, that of access tokens first.
    pub fn algorithms(&self) -> impl Iterator<Item = SigningAlg> {
        let others = SigningAlg::ALL.into_iter().filter(|algorithm| self.published_algs.contains(algorithm));
        std::iter::once(self.signing_alg).chain(others.filter(|algorithm| *algorithm != self.signing_alg))
    }
}

/// The identity service; cheap to clone.
#[derive(Clone)]
pub struct Identity {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Arc<dyn Rng>,
    pub(super) config: Arc<IdentityConfig>,
    pub(super) master: Arc<MasterKey>,
    pub(super) passwords: Passwords,
    pub(super) known_clients: KnownClients,
    pub(super) throttle: Arc<Throttle>,
    pub(super) passkeys: Option<Arc<Webauthn>>,
    pub(super) mail: Mail,
    verifier: Verifier,
}

/// Who an access token is for.
pub(super) struct Grant {
    pub(super) sub: Uuid,
    pub(super) tenant: Option<TenantId>,
    pub(super) role: Option<Role>,
    pub(super) scope: ScopeSet,
    pub(super) client_id: String,
    pub(super) session: Option<SessionId>,
    pub(super) expires_at: Timestamp,
}

impl Identity {
    /// Over a store; `known_clients` and `named` must hear of every change of a tenant. The first start makes the key file and a signing key.
    pub async fn open(
        store: Store,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        mail: Mail,
        config: IdentityConfig,
        (known_clients, named): (KnownClients, NamedTenants),
    ) -> Result<Self, Error> {
        let stored = store.read(Scope::Job("identity")).await?.signing_keys().await?;
        let master = MasterKey::open(&config.key_file, stored.is_empty(), &*rng)?;
        let keys = KeyRing::open(&master, &stored)?;
        let missing: Vec<SigningAlg> = config.algorithms().filter(|algorithm| !keys.has(*algorithm)).collect();
        let keys = match missing.as_slice() {
            [] => keys,
            missing => Self::first_keys(&store, &master, missing, &*clock, &*rng).await?,
        };
        let master = Arc::new(master);
        let foreign = Foreign::new(&config.issuers, Arc::clone(&clock), store.clone(), named);
        let verifier = Verifier::new(config.issuer.clone(), Arc::clone(&clock), Arc::clone(&master), keys, foreign);
        let mut tx = store.begin(Scope::Job("identity")).await?;
        tx.token_life_begins(config.access_token_ttl_s, clock.now()).await?;
        tx.commit().await?;
        for (key, at) in store.read(Scope::Job("identity")).await?.revocations().await? {
            if let Some(revoked) = Revoked::from_key(&key) {
                verifier.revocations().add(revoked, at);
            }
        }
        let passwords = Passwords::new(config.hash_concurrency, Arc::clone(&rng));
        let throttle = Arc::new(Throttle::new(config.login_throttle));
        let passkeys = passkeys::relying_party(&config.issuer);
        let config = Arc::new(config);
        Ok(Self { store, clock, rng, config, master, passwords, known_clients, throttle, passkeys, mail, verifier })
    }

    /// Two nodes that start together each make keys; all verify, the newest sign.
    async fn first_keys(
        store: &Store,
        master: &MasterKey,
        missing: &[SigningAlg],
        clock: &dyn Clock,
        rng: &dyn Rng,
    ) -> Result<KeyRing, Error> {
        let now = clock.now();
        let made = missing.iter().map(|algorithm| keys::generate(master, *algorithm, now, now, rng));
        let made = made.collect::<Result<Vec<_>, _>>()?;
        let mut tx = store.begin(Scope::Job("identity")).await?;
        for key in &made {
            tx.signing_key_insert(key).await?;
        }
        let stored = tx.signing_keys().await?;
        tx.commit().await?;
        KeyRing::open(master, &stored)
    }

    /// Verifies access tokens.
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// `iss` of every token.
    pub fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// The algorithms of which keys are published.
    pub fn algorithms(&self) -> impl Iterator<Item = SigningAlg> {
        self.config.algorithms()
    }

    /// A digest of something that may hold a secret: without the key file nobody can guess what it was.
    pub fn keyed_digest(&self, bytes: &[u8]) -> [u8; 32] {
        self.master.digest(bytes)
    }

    /// Seals something that may hold a secret, so that it opens under the same name alone.
    pub fn seal_secret(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, Error> {
        self.master.seal(name, plain, &*self.rng)
    }

    /// Opens what [`Self::seal_secret`] sealed under a name.
    pub fn unseal_secret(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.master.unseal(name, sealed)
    }

    /// The public keys (RFC 7517).
    pub fn jwks(&self) -> Value {
        self.verifier.keys().jwks().clone()
    }

    /// All signing keys, the newest last.
    pub async fn keys(&self, scope: Scope) -> Result<Vec<StoredKey>, Error> {
        Ok(self.store.read(scope).await?.signing_keys().await?)
    }

    /// Makes new signing keys, one of each algorithm, which are published at once and sign after a wait. Those before sign
    /// until then, and verify until the last token they signed has expired. The key of access tokens comes first.
    pub async fn rotate_keys(&self, scope: Scope, actor: Actor, wait_s: Option<i64>) -> Result<Vec<StoredKey>, Error> {
        let now = self.clock.now();
        let signs_from = now.plus_secs(wait_s.unwrap_or(self.config.key_wait_s));
        let algorithms: Vec<SigningAlg> = self.config.algorithms().collect();
        let (master, rng) = (Arc::clone(&self.master), Arc::clone(&self.rng));
        let generate = move || {
            let one = |algorithm| keys::generate(&master, algorithm, now, signs_from, &*rng);
            algorithms.into_iter().map(one).collect::<Result<Vec<_>, _>>()
        };
        let made = tokio::task::spawn_blocking(generate).await.map_err(|_| Error::Stopped)??;
        let mut tx = self.store.begin(scope).await?;
        tx.signing_keys_retire(signs_from).await?;
        for key in &made {
            tx.signing_key_insert(key).await?;
            let (subject, detail) = (key.kid.clone(), Some(format!("{} signs from {signs_from}", key.algorithm)));
            self.note(&mut tx, Act { actor, action: "key.made", tenant: None, subject, detail }).await?;
        }
        tx.commit().await?;
        self.reload_keys().await?;
        Ok(made)
    }

    /// Removes keys whose last token has expired, forgets withdrawals that cover none any more, and takes over keys
    /// that another node made.
    pub async fn tidy(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin(Scope::Job("identity")).await?;
        // Tokens of before a restart may live longer than today's settings say.
        let horizon = now.plus_secs(-tx.token_life_longest(now).await?);
        let withdrawn = horizon.plus_secs(-SIGNED_LATE_S);
        tx.signing_keys_remove(horizon).await?;
        tx.revocations_forget(withdrawn).await?;
        tx.sign_ins_forget(horizon).await?;
        // A session without a refresh token may still be signed out with its browser, for half a day.
        let unused = now.plus_secs(-self.config.refresh_token_ttl_s.max(DAY_S));
        tx.sessions_forget(withdrawn, unused.min(withdrawn)).await?;
        let kept_since = now.plus_secs(-self.config.audit_days * DAY_S);
        // Only what is sealed is forgotten, from the beginning of the chain.
        while tx.audit_seal().await? > 0 {}
        tx.audit_forget(kept_since).await?;
        tx.crossings_forget(kept_since).await?;
        tx.clients_forget().await?;
        tx.requests_forget(now).await?;
        tx.commit().await?;
        self.verifier.revocations().forget_before(withdrawn);
        self.reload_keys().await
    }

    async fn reload_keys(&self) -> Result<(), Error> {
        let stored = self.store.read(Scope::Job("identity")).await?.signing_keys().await?;
        let current = self.verifier.keys();
        let ring = KeyRing::open(&self.master, &stored)?;
        if ring.state() != current.state() {
            self.verifier.replace_keys(ring);
        }
        Ok(())
    }

    /// Hashes a new password, after refusing one that is easy to guess; `hints` are what an attacker tries first.
    pub async fn hash_new_password(&self, password: &Secret, hints: &[&str]) -> Result<PasswordHash, Error> {
        check_strength(password, hints)?;
        self.passwords.hash(password).await
    }

    /// Sets a user's password within the caller's transaction.
    pub async fn set_password_in(&self, tx: &mut Tx, user: UserId, hash: &PasswordHash) -> Result<(), Error> {
        Ok(tx.credential_put(user, hash, self.clock.now()).await?)
    }

    /// The algorithm of access tokens.
    pub(super) fn signing_alg(&self) -> SigningAlg {
        self.config.signing_alg
    }

    /// Signs an access token (RFC 9068).
    pub(super) fn issue(&self, grant: &Grant) -> Result<Secret, Error> {
        self.sign(self.config.signing_alg, "at+jwt", &self.claims(grant))
    }

    /// The claims of an access token that is issued now.
    pub(super) fn claims(&self, grant: &Grant) -> Claims {
        let now = self.clock.now();
        Claims {
            iss: self.config.issuer.clone(),
            aud: self.config.issuer.clone(),
            sub: grant.sub,
            client_id: grant.client_id.clone(),
            iat: now.as_secs(),
            exp: grant.expires_at.as_secs(),
            nbf: None,
            jti: uuid_v7(now, &*self.rng),
            scope: grant.scope.to_string(),
            tenant_id: grant.tenant,
            roles: grant.role.map(|role| vec![role.name().to_owned()]),
            sid: grant.session,
        }
    }

    /// Signs claims with the key of an algorithm that signs now.
    pub(super) fn sign(&self, algorithm: SigningAlg, typ: &str, claims: &impl Serialize) -> Result<Secret, Error> {
        let keys = self.verifier.keys();
        let (kid, pair) = keys.signing(algorithm, self.clock.now()).ok_or(Error::Key("is missing"))?;
        let header = format!(r#"{{"typ":"{typ}","alg":"{algorithm}","kid":"{kid}"}}"#);
        let claims = serde_json::to_string(claims).map_err(|_| Error::Key("cannot sign"))?;
        Ok(Secret::new(compact(pair, &header, &claims)?))
    }

    /// Signs a header and claims as they are, good or bad, with the key in use: a seam for tests of who must refuse
    /// them. No request reaches it; the lab has a seam of its own.
    pub fn sign_as_is(&self, header: &str, claims: &str) -> Result<Secret, Error> {
        let keys = self.verifier.keys();
        let key = keys.signing(self.config.signing_alg, self.clock.now());
        Ok(Secret::new(compact(key.ok_or(Error::Key("is missing"))?.1, header, claims)?))
    }

    /// Notes an act within the caller's transaction.
    pub async fn note(&self, tx: &mut Tx, act: Act) -> Result<(), Error> {
        let now = self.clock.now();
        Ok(tx.audit_insert(uuid_v7(now, &*self.rng), now, &act).await?)
    }

    /// Notes withdrawals within the caller's transaction; [`Self::revoke_now`] makes them hold on this node after it.
    pub(super) async fn revoke_in(&self, tx: &mut Tx, revoked: Revoked) -> Result<Withdrawal, Error> {
        let at = self.clock.now();
        tx.revocation_put(&revoked.key(), at).await?;
        Ok(Withdrawal { revoked, at })
    }

    /// Makes a committed withdrawal hold on this node from the next request on.
    pub fn revoke_now(&self, withdrawal: Withdrawal) {
        self.verifier.revocations().add(withdrawal.revoked, withdrawal.at);
    }

    /// Makes committed withdrawals hold on this node from the next request on.
    pub(super) fn revoke_all_now(&self, withdrawals: Vec<Withdrawal>) {
        for withdrawal in withdrawals {
            self.revoke_now(withdrawal);
        }
    }

    /// Ends a user's sign-ins to a tenant within the caller's transaction.
    pub async fn end_sessions_of_user_in(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        user: UserId,
    ) -> Result<Withdrawal, Error> {
        tx.sessions_end_of_user(tenant, user, self.clock.now()).await?;
        self.revoke_in(tx, Revoked::User(tenant, user)).await
    }

    /// Ends every sign-in to a tenant and deletes its machine clients, within the caller's transaction.
    pub async fn forget_tenant_in(&self, tx: &mut Tx, tenant: TenantId) -> Result<Withdrawal, Error> {
        tx.sessions_end_of_tenant(tenant, self.clock.now()).await?;
        tx.clients_delete_of_tenant(tenant, self.clock.now()).await?;
        self.revoke_in(tx, Revoked::Tenant(tenant)).await
    }

    /// The time now, by this service's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// A withdrawal that a transaction has noted.
#[derive(Debug, Clone, Copy)]
#[must_use = "after the commit, pass it to `revoke_now`"]
pub struct Withdrawal {
    revoked: Revoked,
    at: Timestamp,
}
