//! ID tokens (`OpenID` Connect Core section 2), those that come back as hints, and logout tokens (Back-Channel Logout
//! section 2.4).

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    error::Error,
    jws::Jws,
    model::{Client, LogoutNotice, Session, SigningAlg},
    service::Identity,
};
use crate::kernel::{ClientId, Secret, SessionId, TenantId, UserId, ids::uuid_v7};

/// Life of a logout token, in seconds (Back-Channel Logout section 2.4 recommends two minutes at most).
const LOGOUT_TOKEN_TTL_S: i64 = 120;
/// The one event of a logout token.
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Claims of an ID token.
#[derive(Serialize)]
struct IdClaims<'a> {
    iss: &'a str,
    sub: Uuid,
    aud: ClientId,
    exp: i64,
    iat: i64,
    auth_time: i64,
    amr: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    at_hash: String,
    sid: SessionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<TenantId>,
}

/// An ID token of ours that a client sends back to say whom it means. It may have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdTokenHint {
    /// Whom.
    pub user: UserId,
    /// To whom it was issued.
    pub client: ClientId,
    /// For which session.
    pub session: SessionId,
}

impl Identity {
    pub(super) fn id_token(
        &self,
        session: &Session,
        client: &Client,
        nonce: Option<&str>,
        access_token: &Secret,
    ) -> Result<Secret, Error> {
        let algorithm = self.algorithm_for(client);
        let now = self.clock.now();
        let claims = IdClaims {
            iss: self.issuer(),
            sub: session.user_id.as_uuid(),
            aud: client.id,
            exp: now.as_secs() + self.config.access_token_ttl_s,
            iat: now.as_secs(),
            auth_time: session.authenticated_at.as_secs(),
            amr: session.proof.amr(),
            nonce,
            at_hash: half_hash(algorithm, access_token.expose()),
            sid: session.id,
            tenant_id: session.tenant_id,
        };
        self.sign(algorithm, "JWT", &claims)
    }

    /// RS256 where a client named no algorithm (`OpenID` Connect Registration section 2), unless there are no keys of it.
    fn algorithm_for(&self, client: &Client) -> SigningAlg {
        let has_rs256 = self.algorithms().any(|own| own == SigningAlg::Rs256);
        let default = if has_rs256 { SigningAlg::Rs256 } else { self.config.signing_alg };
        client.metadata.id_token_alg.unwrap_or(default)
    }

    /// What an ID token of ours says, expired or not; nothing when it is none.
    pub fn id_token_hint(&self, token: &str) -> Option<IdTokenHint> {
        let jws = Jws::parse(token).ok()?;
        // Access and logout tokens have types of their own.
        if jws.header.typ.is_some() && !jws.header.is_of_type("JWT") {
            return None;
        }
        let keys = self.verifier().keys();
        jws.is_signed_by(keys.verifying(jws.header.kid.as_deref()?)?).ok()?;
        let claims = jws.claims().ok()?;
        let text = |name| claims.text(name).ok().flatten();
        let id = |name| text(name)?.parse::<Uuid>().ok();
        let (user, client) = (UserId::from_uuid(id("sub")?), ClientId::from_uuid(id("aud")?));
        let session = SessionId::from_uuid(id("sid")?);
        (text("iss")? == self.issuer()).then_some(IdTokenHint { user, client, session })
    }

    /// Tells a client, signed, that a session is over.
    pub fn logout_token(&self, notice: &LogoutNotice) -> Result<Secret, Error> {
        let now = self.clock.now();
        let claims: Value = json!({
            "iss": self.issuer(),
            "sub": notice.user_id,
            "aud": notice.client.id,
            "iat": now.as_secs(),
            "exp": now.as_secs() + LOGOUT_TOKEN_TTL_S,
            "jti": uuid_v7(now, &*self.rng),
            "sid": notice.session_id,
            "events": { LOGOUT_EVENT: {} },
        });
        self.sign(self.algorithm_for(&notice.client), "logout+jwt", &claims)
    }
}

/// The left half of a token's hash, by the hash of the algorithm (`OpenID` Connect Core section 3.1.3.6).
fn half_hash(algorithm: SigningAlg, token: &str) -> String {
    let hash = match algorithm {
        SigningAlg::Es256 | SigningAlg::Rs256 => digest(&SHA256, token.as_bytes()),
        SigningAlg::EdDsa => digest(&SHA512, token.as_bytes()),
    };
    let bytes = hash.as_ref();
    URL_SAFE_NO_PAD.encode(&bytes[..bytes.len() / 2])
}
