//! Verifying access tokens: the one wrapper round `jsonwebtoken`, which owns its traps.
//!
//! What the library leaves to the caller is done here: every claim is required by its type, `iss` and `aud` are compared
//! whole, `typ` must be `at+jwt`, `crit` is refused, each key has one algorithm, time comes from our clock without leeway
//! for `exp`. Verified tokens are remembered by their SHA-256, within a bound of bytes; a remembered one is checked for
//! expiry and withdrawal each time.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Validation, decode, errors::ErrorKind};
use quick_cache::{Weighter, sync::Cache};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    access::{Access, ScopeSet, Subject, TokenError},
    keys::{KeyRing, MasterKey},
    model::SigningAlg,
    revocation::Revocations,
    signing::of_library,
};
use crate::{
    kernel::{
        ClientId, Clock, SessionId, Standing, TenantId, Timestamp, UserId,
        observer::{StandingError, TenantGate},
    },
    users::Role,
};

/// The longest token looked at, in bytes.
const MAX_TOKEN: usize = 8 * 1024;
/// Tokens are remembered up to so many bytes: about 150,000 of ours.
const REMEMBERED_BYTES: u64 = 64 * 1024 * 1024;
/// How many that is about: sets the number of the cache's locks.
const REMEMBERED_ABOUT: usize = 131_072;
/// What a remembered token takes besides its texts: its hash, its place in the cache, what it says, three allocations.
const REMEMBERED_EACH: usize = 360;
/// A token from a node whose clock is ahead of ours by this much is taken, in seconds.
const AHEAD_S: i64 = 5;

/// Claims of RFC 9068 section 2.2, and ours.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) sub: Uuid,
    pub(super) aud: String,
    pub(super) client_id: String,
    pub(super) iat: i64,
    pub(super) exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<i64>,
    pub(super) jti: Uuid,
    pub(super) scope: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tenant_id: Option<TenantId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) roles: Option<Vec<String>>,
    /// The session, for tokens of people (OIDC Back-Channel Logout section 2.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sid: Option<SessionId>,
}

#[derive(Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) typ: Option<String>,
    pub(super) kid: Option<String>,
    pub(super) crit: Option<Value>,
}

/// Verifies access tokens of this issuer; cheap to clone, never waits.
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
    remembered: Cache<[u8; 32], Arc<Access>, Bytes>,
}

/// What a remembered token weighs: a foreign issuer's may be long.
#[derive(Clone)]
struct Bytes;

impl Weighter<[u8; 32], Arc<Access>> for Bytes {
    fn weight(&self, _: &[u8; 32], access: &Arc<Access>) -> u64 {
        let scope: usize = access.scope.iter().map(|value| value.len() + 32).sum();
        (REMEMBERED_EACH + access.client_id.len() + access.token_id.len() + scope) as u64
    }
}

impl Verifier {
    pub(super) fn new(issuer: String, clock: Arc<dyn Clock>, master: Arc<MasterKey>, keys: KeyRing) -> Self {
        let shared = Shared {
            issuer,
            clock,
            master,
            keys: RwLock::new(Arc::new(keys)),
            revocations: Revocations::default(),
            gate: OnceLock::new(),
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

    /// What a token says, if it is one of ours and alive.
    pub fn verify(&self, token: &str) -> Result<Arc<Access>, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid("too long"));
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let now = self.shared.clock.now();
        let access = if let Some(access) = self.shared.remembered.get(&key) {
            access
        } else {
            let access = Arc::new(self.verify_anew(token, now)?);
            self.shared.remembered.insert(key, Arc::clone(&access));
            access
        };
        if now >= access.expires_at {
            self.shared.remembered.remove(&key);
            return Err(TokenError::Expired);
        }
        if self.shared.revocations.covers(&access) {
            return Err(TokenError::Revoked);
        }
        Ok(access)
    }

    fn verify_anew(&self, token: &str, now: Timestamp) -> Result<Access, TokenError> {
        use TokenError::Invalid;
        let header = header(token)?;
        let algorithm: SigningAlg = header.alg.parse().map_err(|_| Invalid("its algorithm is not accepted"))?;
        // RFC 9068 section 4: `at+jwt` or `application/at+jwt`, without regard to case.
        let typ = header.typ.unwrap_or_default().to_ascii_lowercase();
        if typ != "at+jwt" && typ != "application/at+jwt" {
            return Err(Invalid("it is not an access token"));
        }
        if header.crit.is_some() {
            return Err(Invalid("it has critical extensions"));
        }
        let keys = self.keys();
        let key = header.kid.as_deref().and_then(|kid| keys.verifying(kid)).ok_or(Invalid("its key is not known"))?;
        // Each key has one algorithm.
        let key = (key.0 == algorithm).then_some(&key.1).ok_or(Invalid("its algorithm is not its key's"))?;
        let claims = decode::<Claims>(token, key, &validation(algorithm)).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => Invalid("its signature is wrong"),
            ErrorKind::Json(_) => Invalid("a claim is missing or malformed"),
            _ => Invalid("it is malformed"),
        })?;
        self.check(claims.claims, now)
    }

    fn check(&self, claims: Claims, now: Timestamp) -> Result<Access, TokenError> {
        use TokenError::Invalid;
        if claims.iss != self.shared.issuer {
            return Err(Invalid("its issuer is another"));
        }
        if claims.aud != self.shared.issuer {
            return Err(Invalid("it is for another audience"));
        }
        let expires_at = Timestamp::from_secs(claims.exp).ok_or(Invalid("a claim is missing or malformed"))?;
        let ahead = now.as_secs() + AHEAD_S;
        if claims.iat > ahead || claims.nbf.is_some_and(|nbf| nbf > ahead) {
            return Err(Invalid("it is not valid yet"));
        }
        Ok(Access {
            subject: subject(&claims)?,
            tenant: claims.tenant_id,
            role: claims.roles.as_deref().and_then(|roles| roles.first()).and_then(|role| role.parse::<Role>().ok()),
            scope: ScopeSet::parse(&claims.scope),
            issued_at: issued_at(&claims),
            session: claims.sid,
            client_id: claims.client_id,
            token_id: claims.jti.to_string(),
            expires_at,
        })
    }
}

/// The signature by one algorithm, and nothing else: the claims are checked here, by our clock and whole.
pub(super) fn validation(algorithm: SigningAlg) -> Validation {
    let mut validation = Validation::new(of_library(algorithm));
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

/// A machine client's token has it as subject and as client (RFC 9068 section 2.2).
fn subject(claims: &Claims) -> Result<Subject, TokenError> {
    if claims.client_id != claims.sub.to_string() {
        return Ok(Subject::User(UserId::from_uuid(claims.sub)));
    }
    match claims.tenant_id {
        Some(_) => Ok(Subject::Client(ClientId::from_uuid(claims.sub))),
        None => Err(TokenError::Invalid("a client without a tenant")),
    }
}

/// `iat` has whole seconds; the token's own id, a `UUIDv7`, has milliseconds, which tell it from a withdrawal in the same
/// second.
fn issued_at(claims: &Claims) -> Timestamp {
    let by_claim = Timestamp::from_secs(claims.iat).unwrap_or(Timestamp::MIN);
    let by_id = claims.jti.get_timestamp().and_then(|at| {
        let (secs, nanos) = at.to_unix();
        Timestamp::from_secs(i64::try_from(secs).ok()?).map(|at| at.plus_micros(i64::from(nanos / 1_000)))
    });
    by_id.filter(|at| at.as_secs() == by_claim.as_secs()).unwrap_or(by_claim)
}

pub(super) fn header(token: &str) -> Result<Header, TokenError> {
    let malformed = TokenError::Invalid("it is malformed");
    let encoded = token.split('.').next().unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| malformed.clone())?;
    serde_json::from_slice(&bytes).map_err(|_| malformed)
}
