//! Verifying access tokens: ours, and those of foreign issuers.
//!
//! A token is ours by its `iss`, and then every claim is required by its type, `iss` and `aud` are compared whole, `typ` must
//! be `at+jwt`, each key has one algorithm, time comes from our clock without leeway for `exp`. What foreign issuers' tokens
//! must be is in `foreign`. Verified tokens are remembered by their SHA-256, within a bound of bytes; a remembered one is
//! checked for expiry, withdrawal, and what else it lives by, each time.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::{Weighter, sync::Cache};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{
    access::{Access, Place, ScopeSet, Subject, TokenError},
    foreign::{Attempt, Foreign, IssuerConfig, IssuerState, Outside, Waited},
    jws::{Jws, MAX_TOKEN, is_opaque},
    keys::{KeyRing, MasterKey},
    life::TokenLife,
    members::{Members, NotMembers},
    model::SigningAlg,
    revocation::Revocations,
};
use crate::{
    kernel::{
        ClientId, Clock, SessionId, Standing, TenantId, Timestamp, UserId,
        observer::{StandingError, TenantGate},
    },
    users::Role,
};

/// Tokens are remembered up to so many bytes: about 150,000 of ours.
const REMEMBERED_BYTES: u64 = 64 * 1024 * 1024;
/// How many that is about: sets the number of the cache's locks.
const REMEMBERED_ABOUT: usize = 131_072;
/// What a remembered token takes besides its texts: its hash, its place in the cache, what it says, three allocations.
const REMEMBERED_EACH: usize = 360;
/// A token from a node whose clock is ahead of ours by this much is taken, in seconds.
const AHEAD_S: i64 = 5;

/// Claims of RFC 9068 section 2.2, and ours.
#[derive(Debug, Serialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) sub: Uuid,
    pub(super) aud: String,
    pub(super) client_id: String,
    pub(super) iat: i64,
    pub(super) exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<i64>,
    pub(super) jti: Uuid,
    pub(super) scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tenant_id: Option<TenantId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) roles: Option<Vec<String>>,
    /// The session, for tokens of people (OIDC Back-Channel Logout section 2.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sid: Option<SessionId>,
}

/// A token may wait so often: for its issuer's keys, for its tenant, and again when one of them changed meanwhile.
const MOST_WAITS: usize = 4;

/// Verifies access tokens; cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    shared: Arc<Shared>,
}

struct Shared {
    issuer: String,
    clock: Arc<dyn Clock>,
    master: Arc<MasterKey>,
    keys: RwLock<Arc<KeyRing>>,
    revocations: Revocations,
    gate: OnceLock<Arc<dyn TenantGate>>,
    foreign: Foreign,
    /// Where it was made.
    home: Handle,
    remembered: Cache<[u8; 32], Arc<Access>, Bytes>,
}

/// What a remembered token weighs: a foreign issuer's may be long.
#[derive(Clone)]
struct Bytes;

impl Weighter<[u8; 32], Arc<Access>> for Bytes {
    fn weight(&self, _: &[u8; 32], access: &Arc<Access>) -> u64 {
        let scope: usize = access.scope.iter().map(str::len).sum();
        let sub = match &access.subject {
            Subject::Foreign(subject) => subject.sub.len(),
            Subject::User(_) | Subject::Client(_) => 0,
        };
        (REMEMBERED_EACH + access.client_id.len() + access.token_id.len() + scope + sub) as u64
    }
}

impl Verifier {
    pub(super) fn new(
        issuer: String,
        clock: Arc<dyn Clock>,
        master: Arc<MasterKey>,
        keys: KeyRing,
        foreign: Foreign,
    ) -> Self {
        let shared = Shared {
            issuer,
            clock,
            master,
            keys: RwLock::new(Arc::new(keys)),
            revocations: Revocations::default(),
            gate: OnceLock::new(),
            foreign,
            home: Handle::current(),
            remembered: Cache::with_weighter(REMEMBERED_ABOUT, REMEMBERED_BYTES, Bytes),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.shared.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes other keys; tokens of keys that are gone are dead at once.
    pub(super) fn replace_keys(&self, keys: KeyRing) {
        *self.shared.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        self.shared.remembered.clear();
    }

    pub(super) fn portal_tag(&self, content: &[u8]) -> blake3::Hash {
        self.shared.master.portal_tag(content)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Forgets what was verified, so that it is verified anew.
    pub fn forget(&self) {
        self.shared.remembered.clear();
        self.shared.revocations.changes().notify_waiters();
    }

    pub(super) fn revocations(&self) -> &Revocations {
        &self.shared.revocations
    }

    /// Says who knows whether a tenant may call; a second call changes nothing.
    pub fn connect(&self, gate: Arc<dyn TenantGate>) {
        drop(self.shared.gate.set(gate));
    }

    /// Whether a tenant may call now; as long as nobody knows, it may.
    pub async fn standing(&self, tenant: TenantId) -> Result<Standing, StandingError> {
        match self.shared.gate.get() {
            Some(gate) => gate.standing(tenant).await,
            None => Ok(Standing::Active),
        }
    }

    /// Connects what foreign issuers need of the rest of the program; a second call changes nothing.
    pub fn connect_outside(&self, outside: Arc<dyn Outside>) {
        self.shared.foreign.connect(outside);
    }

    /// Takes other foreign issuers.
    pub fn replace_issuers(&self, configs: &[IssuerConfig]) {
        self.shared.foreign.replace(configs);
        self.shared.revocations.changes().notify_waiters();
    }

    /// Every foreign issuer, by name.
    pub fn issuers(&self) -> Vec<IssuerState> {
        self.shared.foreign.states()
    }

    /// Fetches a foreign issuer's keys now; `None` when nobody has the id.
    pub async fn refresh_issuer(&self, id: &str) -> Option<IssuerState> {
        let state = self.shared.foreign.refresh(id).await;
        self.shared.revocations.changes().notify_waiters();
        state
    }

    /// Fetches foreign issuers' keys whose lifetime is nearly over.
    pub async fn keep_keys_fresh(&self) {
        if self.shared.foreign.keep_fresh().await {
            self.shared.revocations.changes().notify_waiters();
        }
    }

    /// What a token that was verified lives by, for an answer that takes long.
    pub fn life(&self, access: Arc<Access>) -> TokenLife {
        TokenLife { verifier: self.clone(), access }
    }

    /// What a token says, if it is one of ours and alive. Never waits.
    pub fn verify(&self, token: &str) -> Result<Arc<Access>, TokenError> {
        const OTHER: TokenError = TokenError::Invalid("its issuer is another");
        let is_ours = |access: Arc<Access>| if access.foreign.is_none() { Ok(access) } else { Err(OTHER) };
        let (key, now) = (hashed(token)?, self.now());
        match self.remembered(&key, now) {
            Some(known) => known.and_then(is_ours),
            None => match self.verify_anew(token, None, now)? {
                Attempt::Good(access) => self.remember(key, access).and_then(is_ours),
                Attempt::Waits(_) => Err(OTHER),
            },
        }
    }

    /// What a token says, if it is ours or one of a foreign issuer's, and alive. `None` when that cannot be told without
    /// waiting: [`Self::resolve`] does.
    pub fn decide(&self, token: &str) -> Option<Result<Arc<Access>, TokenError>> {
        self.decide_at(token, self.now())
    }

    /// The same, for whoever knows what time it is.
    pub fn decide_at(&self, token: &str, now: Timestamp) -> Option<Result<Arc<Access>, TokenError>> {
        let key = match hashed(token) {
            Ok(key) => key,
            Err(error) => return Some(Err(error)),
        };
        if let Some(known) = self.remembered(&key, now) {
            return Some(known);
        }
        match self.verify_anew(token, None, now) {
            Ok(Attempt::Good(access)) => Some(self.remember(key, access)),
            Ok(Attempt::Waits(_)) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// The same, waiting for an issuer's keys, or for a tenant that is looked up or made; where the store's connections
    /// live, whatever thread asks.
    pub async fn resolve(&self, token: &str) -> Result<Arc<Access>, TokenError> {
        let (own, token) = (self.clone(), token.to_owned());
        let resolving = self.shared.home.spawn(async move { own.resolve_here(&token).await });
        let resolved = AbortOnDropHandle::new(resolving).await;
        resolved.unwrap_or(Err(TokenError::Unavailable("the server stops")))
    }

    async fn resolve_here(&self, token: &str) -> Result<Arc<Access>, TokenError> {
        let key = hashed(token)?;
        // What an issuer is asked of a token, it is asked once for all who wait.
        let _one = if is_opaque(token) { Some(self.shared.foreign.one_of(&key).await) } else { None };
        if let Some(known) = self.remembered(&key, self.now()) {
            return known;
        }
        let (mut place, mut asked) = (None, false);
        for _ in 0..MOST_WAITS {
            match self.verify_anew(token, place.as_ref(), self.now())? {
                Attempt::Good(access) => return self.remember(key, access),
                Attempt::Waits(wait) if asked && let Some(refusal) = wait.in_vain() => return Err(refusal),
                Attempt::Waits(wait) => match self.shared.foreign.wait(wait).await? {
                    Waited::Keys { for_this } => {
                        asked = for_this;
                        // Some may be gone.
                        self.shared.revocations.changes().notify_waiters();
                    }
                    Waited::Place(name, found) => place = Some((name, found)),
                    Waited::Access(access) => return self.remember(key, *access),
                },
            }
        }
        Err(TokenError::Unavailable("its issuer's keys or its tenant change"))
    }

    /// A token that was verified before, if nothing it lives by is in doubt.
    fn remembered(&self, key: &[u8; 32], now: Timestamp) -> Option<Result<Arc<Access>, TokenError>> {
        let access = self.shared.remembered.get(key)?;
        if now >= access.expires_at {
            self.shared.remembered.remove(key);
            return Some(Err(TokenError::Expired));
        }
        if access.is_in_doubt(now) {
            self.shared.remembered.remove(key);
            return None;
        }
        Some(self.unless_withdrawn(access))
    }

    fn remember(&self, key: [u8; 32], access: Access) -> Result<Arc<Access>, TokenError> {
        let access = Arc::new(access);
        self.shared.remembered.insert(key, Arc::clone(&access));
        self.unless_withdrawn(access)
    }

    fn unless_withdrawn(&self, access: Arc<Access>) -> Result<Arc<Access>, TokenError> {
        if self.shared.revocations.covers(&access) { Err(TokenError::Revoked) } else { Ok(access) }
    }

    /// Looks at a token as if for the first time. `place` is what its tenant's name was just found to mean.
    fn verify_anew(
        &self,
        token: &str,
        place: Option<&(String, Arc<Place>)>,
        now: Timestamp,
    ) -> Result<Attempt, TokenError> {
        if is_opaque(token) {
            return self.shared.foreign.attempt_opaque(token, now);
        }
        let jws = Jws::parse(token)?;
        let claims = jws.claims()?;
        // Nobody has proved it yet: it only says whose keys to try.
        let issuer = claims.text("iss").map_err(of_claim)?.ok_or(MISSING)?;
        if issuer != self.shared.issuer {
            return self.shared.foreign.attempt(&issuer, &jws, &claims, place, now);
        }
        self.verify_own(&jws, &claims, now).map(Attempt::Good)
    }

    fn verify_own(&self, jws: &Jws<'_>, claims: &Members<'_>, now: Timestamp) -> Result<Access, TokenError> {
        use TokenError::Invalid;
        let header = &jws.header;
        header.algorithm.parse::<SigningAlg>().map_err(|_| Invalid("its algorithm is not accepted"))?;
        // RFC 9068 section 4: `at+jwt` or `application/at+jwt`, without regard to case.
        if !header.is_of_type("at+jwt") {
            return Err(Invalid("it is not an access token"));
        }
        let keys = self.keys();
        let key = header.kid.as_deref().and_then(|kid| keys.verifying(kid)).ok_or(Invalid("its key is not known"))?;
        jws.is_signed_by(key)?;
        let access = self.read_own(claims, now)?;
        if now >= access.expires_at { Err(TokenError::Expired) } else { Ok(access) }
    }

    fn read_own(&self, claims: &Members<'_>, now: Timestamp) -> Result<Access, TokenError> {
        use TokenError::Invalid;
        let text = |name| claims.text(name).map_err(of_claim);
        let time = |name| claims.seconds(name).map_err(of_claim);
        if text("aud")?.ok_or(MISSING)? != self.shared.issuer {
            return Err(Invalid("it is for another audience"));
        }
        let expires_at = time("exp")?.and_then(Timestamp::from_secs).ok_or(MISSING)?;
        let issued_at = time("iat")?.ok_or(MISSING)?;
        let ahead = now.as_secs() + AHEAD_S;
        if issued_at > ahead || time("nbf")?.is_some_and(|nbf| nbf > ahead) {
            return Err(Invalid("it is not valid yet"));
        }
        let id = |name| text(name)?.map(|text| text.parse::<Uuid>().map_err(|_| MISSING)).transpose();
        let (sub, jti) = (id("sub")?.ok_or(MISSING)?, id("jti")?.ok_or(MISSING)?);
        let (tenant, session) = (id("tenant_id")?.map(TenantId::from_uuid), id("sid")?.map(SessionId::from_uuid));
        let client_id = text("client_id")?.ok_or(MISSING)?.into_owned();
        let roles = claims.texts("roles").map_err(of_claim)?;
        Ok(Access {
            subject: subject(sub, &client_id, tenant)?,
            tenant,
            role: roles.and_then(|roles| roles.first()?.parse::<Role>().ok()),
            scope: ScopeSet::parse(&text("scope")?.ok_or(MISSING)?),
            issued_at: to_the_millisecond(issued_at, jti),
            session,
            client_id,
            token_id: jti.to_string(),
            expires_at,
            foreign: None,
        })
    }
}

const MISSING: TokenError = TokenError::Invalid("a claim is missing or malformed");

fn of_claim(_: NotMembers) -> TokenError {
    MISSING
}

fn hashed(token: &str) -> Result<[u8; 32], TokenError> {
    if token.len() > MAX_TOKEN {
        return Err(TokenError::Invalid("too long"));
    }
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    Ok(key)
}

/// A machine client's token has it as subject and as client (RFC 9068 section 2.2).
fn subject(sub: Uuid, client_id: &str, tenant: Option<TenantId>) -> Result<Subject, TokenError> {
    if client_id != sub.to_string() {
        return Ok(Subject::User(UserId::from_uuid(sub)));
    }
    match tenant {
        Some(_) => Ok(Subject::Client(ClientId::from_uuid(sub))),
        None => Err(TokenError::Invalid("a client without a tenant")),
    }
}

/// `iat` has whole seconds; the token's own id, a `UUIDv7`, has milliseconds, which tell it from a withdrawal in the same
/// second.
fn to_the_millisecond(iat: i64, jti: Uuid) -> Timestamp {
    let by_claim = Timestamp::from_secs(iat).unwrap_or(Timestamp::MIN);
    let by_id = jti.get_timestamp().and_then(|at| {
        let (secs, nanos) = at.to_unix();
        Timestamp::from_secs(i64::try_from(secs).ok()?).map(|at| at.plus_micros(i64::from(nanos / 1_000)))
    });
    by_id.filter(|at| at.as_secs() == by_claim.as_secs()).unwrap_or(by_claim)
}
