//! How a foreign issuer is set: `[[identity.issuers]]`.

use crate::{identity::jws::JwsAlgorithm, kernel::Secret};

/// Keys are fetched anew after this long, in seconds, and one that is gone from the set is dead then at the latest.
pub const KEYS_LIFETIME_S: i64 = 300;
/// While an issuer cannot be reached, the keys that were known go on for this long after that, in seconds.
pub const KEYS_STALE_S: i64 = 3_600;
/// What an introspection endpoint said of a token is believed for this long, in seconds.
pub const INTROSPECTION_CACHE_S: i64 = 60;
/// An issuer's claims of what a token may be used for, unless it is said otherwise.
pub const SCOPE_CLAIMS: [&str; 2] = ["scope", "scp"];
/// The types of access tokens, unless it is said otherwise.
pub const ACCEPT_TYP: [&str; 2] = ["at+jwt", "JWT"];

/// A foreign issuer, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerConfig {
    /// `iss`, compared whole.
    pub issuer: String,
    /// Where its keys are; its discovery says so when absent.
    pub jwks_uri: Option<String>,
    /// What its tokens may be signed with.
    pub algorithms: Vec<JwsAlgorithm>,
    /// Of whom one must be in `aud`; empty only where `client_ids` are set.
    pub audience: Vec<String>,
    /// To which clients a token must have been issued; any when empty.
    pub client_ids: Vec<String>,
    /// `typ` of its access tokens; an empty text stands for none.
    pub accept_typ: Vec<String>,
    /// Where a token names its tenant: a dotted path. Without one, its tokens speak for the only one of `tenants`.
    pub tenant_claim: Option<String>,
    /// For which tenants it may speak: ids or external ids; `None` for all.
    pub tenants: Option<Vec<String>>,
    /// What happens when there is no such tenant.
    pub on_unknown_tenant: UnknownTenant,
    /// Claims that say what a token may be used for.
    pub scope_claims: Vec<String>,
    /// Claims that its access tokens have and its other tokens have not.
    pub required_claims: Vec<String>,
    /// Keys are fetched anew after this long, in seconds.
    pub keys_lifetime_s: i64,
    /// While it cannot be reached, known keys go on for this long after that, in seconds.
    pub keys_stale_s: i64,
    /// Who tells what opaque tokens mean.
    pub introspection: Option<IntrospectionConfig>,
}

/// A token names a tenant that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownTenant {
    /// The token is refused.
    #[default]
    Refuse,
    /// The tenant is made, at the default tier.
    Create,
}

/// An endpoint of RFC 7662.
#[derive(Debug, Clone)]
pub struct IntrospectionConfig {
    /// Where it is.
    pub endpoint: String,
    /// Who we are there.
    pub client_id: String,
    /// By what we prove it.
    pub client_secret: Secret,
    /// An answer is believed for this long, in seconds.
    pub cache_s: i64,
}

impl PartialEq for IntrospectionConfig {
    fn eq(&self, other: &Self) -> bool {
        let of = |own: &Self| (own.endpoint.clone(), own.client_id.clone(), own.cache_s);
        of(self) == of(other) && self.client_secret.expose() == other.client_secret.expose()
    }
}

impl Eq for IntrospectionConfig {}

impl IssuerConfig {
    /// Whether it may speak for a tenant: by its word for it, the tenant's id, or its external id.
    pub(super) fn may_speak_for(&self, name: &str, id: &str, external_id: Option<&str>) -> bool {
        let Some(tenants) = &self.tenants else { return true };
        tenants.iter().any(|own| own == name || own == id || Some(own.as_str()) == external_id)
    }
}
