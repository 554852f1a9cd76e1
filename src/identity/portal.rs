//! Portal tokens: somebody's own usage, shown in a browser for a while.
//!
//! Only this program reads them, so they are authenticated by a key derived from the key file, not signed: they outlive
//! a rotation of the signing keys, and nothing that verifies access tokens can take one for one of those. What they say
//! can be read by whoever holds them. They are not kept; they end by themselves, and with their tenant.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{access::TokenError, service::Identity, verifier::Verifier};
use crate::kernel::{Secret, TenantId, Timestamp, ids::uuid_v7};

/// What portal tokens begin with, so that people and secret scanners know them.
const PREFIX: &str = "tollgate_portal_";
/// The longest token looked at, in bytes.
const MAX_TOKEN: usize = 8 * 1024;

/// What a portal token is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalGrant {
    /// The token's own id.
    pub id: Uuid,
    /// Whose usage.
    pub tenant: TenantId,
    /// What the one who made the token called the tenant.
    pub subject: String,
    /// The meters, by key; all when absent.
    pub meters: Option<Vec<String>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Identity {
    /// Makes a portal token.
    pub fn issue_portal_token(
        &self,
        tenant: TenantId,
        subject: String,
        meters: Option<Vec<String>>,
        expires_at: Timestamp,
    ) -> (PortalGrant, Secret) {
        let now = self.clock.now();
        let grant = PortalGrant { id: uuid_v7(now, &*self.rng), tenant, subject, meters, created_at: now, expires_at };
        // Ids, times and texts are always JSON.
        let content = URL_SAFE_NO_PAD.encode(serde_json::to_string(&grant).unwrap_or_default());
        let tag = URL_SAFE_NO_PAD.encode(self.master.portal_tag(content.as_bytes()).as_bytes());
        (grant, Secret::new(format!("{PREFIX}{content}.{tag}")))
    }
}

impl Verifier {
    /// What a portal token is good for, if it is one of ours and alive.
    pub fn verify_portal(&self, token: &str) -> Result<PortalGrant, TokenError> {
        use TokenError::Invalid;
        if token.len() > MAX_TOKEN {
            return Err(Invalid("too long"));
        }
        let rest = token.strip_prefix(PREFIX).ok_or(Invalid("it is not a portal token"))?;
        let (content, tag) = rest.split_once('.').ok_or(Invalid("it is malformed"))?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok().and_then(|tag| <[u8; 32]>::try_from(tag).ok());
        let tag = tag.ok_or(Invalid("it is malformed"))?;
        // Compared in constant time: that is what a hash of this type does.
        if self.portal_tag(content.as_bytes()) != blake3::Hash::from_bytes(tag) {
            return Err(Invalid("its signature is wrong"));
        }
        let content = URL_SAFE_NO_PAD.decode(content).map_err(|_| Invalid("it is malformed"))?;
        let grant: PortalGrant = serde_json::from_slice(&content).map_err(|_| Invalid("it is malformed"))?;
        if self.now() >= grant.expires_at {
            return Err(TokenError::Expired);
        }
        Ok(grant)
    }
}
