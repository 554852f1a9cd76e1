//! `[identity]`: lives of tokens, who may sign up, and which foreign issuers are believed.

use super::{issuers, read::Reader};
use crate::{
    identity::{IssuerConfig, SigningAlg},
    kernel::TierName,
};

/// Life of an access token, in seconds.
const ACCESS_TOKEN_TTL_S: i64 = 600;
/// Life of a refresh token, in seconds: 30 days.
const REFRESH_TOKEN_TTL_S: i64 = 30 * 86_400;
/// A second use of a refresh token within this is a race, in seconds.
const REFRESH_GRACE_S: i64 = 10;
/// A new key is published this long before it signs, in seconds: the life of the key set in caches.
const KEY_WAIT_S: i64 = 300;
/// Entries of the audit are kept this long, in days: two years.
const AUDIT_DAYS: i64 = 730;
/// Passwords hashed at once; each takes 19 MiB.
const HASH_CONCURRENCY: i64 = 2;

/// `[identity]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentitySettings {
    /// The algorithm of access tokens.
    pub signing_alg: SigningAlg,
    /// The algorithms of which keys are published.
    pub published_algs: Vec<SigningAlg>,
    /// A new key is published this long before it signs, in seconds.
    pub key_wait_s: i64,
    /// Life of an access token, in seconds.
    pub access_token_ttl_s: i64,
    /// Life of a refresh token, in seconds.
    pub refresh_token_ttl_s: i64,
    /// A second use of a refresh token within this is a race, in seconds.
    pub refresh_grace_s: i64,
    /// Whether anybody may sign up.
    pub allow_signup: bool,
    /// To which tiers; to all of them when it is empty.
    pub signup_tiers: Vec<TierName>,
    /// Whether the account of a sign-up works only after its email was verified; where mail goes to people when absent.
    pub verify_email: Option<bool>,
    /// Passwords hashed at once.
    pub hash_concurrency: usize,
    /// Whether the token endpoint takes passwords (RFC 6749 section 4.3): in a laboratory alone.
    pub allow_password_grant: bool,
    /// Entries of the audit are kept this long, in days.
    pub audit_days: i64,
    /// Whether wrong passwords slow sign-ins down; off in a laboratory alone.
    pub login_throttle: bool,
    /// `[[identity.issuers]]`
    pub issuers: Vec<IssuerConfig>,
}

impl IdentitySettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let access = reader.number("identity.access_token_ttl_s", ACCESS_TOKEN_TTL_S, 10, 86_400);
        let refresh = reader.number("identity.refresh_token_ttl_s", REFRESH_TOKEN_TTL_S, 60, 365 * 86_400);
        let grace = reader.number("identity.refresh_grace_s", REFRESH_GRACE_S, 0, 300);
        let allow_signup = reader.switch("identity.allow_signup", true);
        let signup_tiers = reader.strings("identity.signup_tiers", &[]).and_then(|texts| {
            let tier = |text: &String| text.parse::<TierName>().map_err(|error| error.to_string());
            let tiers = texts.iter().map(tier).collect::<Result<_, String>>();
            tiers.map_err(|error| reader.fault("identity.signup_tiers", &error)).ok()
        });
        let verify_email = match reader.take("identity.verify_email") {
            None => None,
            Some(toml::Value::Boolean(value)) => Some(value),
            Some(_) => {
                reader.fault("identity.verify_email", "must be true or false");
                None
            }
        };
        let login_throttle = reader.switch("identity.login_throttle", true);
        let concurrency = reader.number("identity.hash_concurrency", HASH_CONCURRENCY, 1, 64);
        let password_grant = reader.switch("identity.allow_password_grant", false);
        let signing_alg = reader.parsed("identity.signing_alg", SigningAlg::Es256.name());
        let published = reader.strings("identity.published_algs", &SigningAlg::ALL.map(SigningAlg::name));
        let algorithm = |text: String| {
            text.parse().map_err(|error| reader.fault("identity.published_algs", &format!("{text}: {error}"))).ok()
        };
        let published_algs = published.and_then(|names| names.into_iter().map(algorithm).collect());
        let key_wait = reader.number("identity.key_wait_s", KEY_WAIT_S, 0, 86_400);
        let audit_days = reader.number("identity.audit_days", AUDIT_DAYS, 1, 36_500);
        let issuers = issuers::read(reader);
        Some(Self {
            signing_alg: signing_alg?,
            published_algs: published_algs?,
            key_wait_s: key_wait?,
            access_token_ttl_s: access?,
            refresh_token_ttl_s: refresh?,
            refresh_grace_s: grace?,
            allow_signup: allow_signup?,
            signup_tiers: signup_tiers?,
            verify_email,
            audit_days: audit_days?,
            login_throttle: login_throttle?,
            issuers: issuers?,
            hash_concurrency: usize::try_from(concurrency?).unwrap_or(1),
            allow_password_grant: password_grant?,
        })
    }
}
