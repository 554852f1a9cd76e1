//! The authorization code grant (RFC 6749 section 4.1, RFC 7636) and ID tokens (`OpenID` Connect Core section 2).
//!
//! A code is bound to its client, redirect URI and verifier, lives a minute, and is used up by one conditional update. Used
//! a second time by its client, it ends the session that came of the first.

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{
    access::ScopeSet,
    error::Error,
    model::{AuthorizationCode, Browser, Client, GrantType, Session, SigningAlg, TokenSet},
    rules,
    service::Identity,
    sessions::Theft,
};
use crate::{
    kernel::{ClientId, CustomerName, Secret, SessionId, TenantId, rng::random_bytes},
    store::Scope,
};

/// Life of a code, in seconds.
const CODE_TTL_S: i64 = 60;

/// What a client asks a person for, after its own part has been checked.
#[derive(Debug, Clone)]
pub struct Authorization {
    /// Who asks.
    pub client: Client,
    /// Where the answer goes.
    pub redirect_uri: String,
    /// What for.
    pub scope: ScopeSet,
    /// The challenge of method S256.
    pub code_challenge: Option<String>,
    /// `nonce`.
    pub nonce: Option<String>,
}

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

impl Identity {
    /// A client by its id, for the authorization endpoint, where it has not authenticated.
    pub async fn client_by_id(&self, id: &str) -> Result<Option<Client>, Error> {
        let Ok(id) = id.parse() else { return Ok(None) };
        Ok(self.store.read(Scope::Job("authorize")).await?.client(id).await?)
    }

    /// The tenants that a person may enter with a client.
    pub async fn tenants_to_enter(
        &self,
        browser: &Browser,
        client: &Client,
    ) -> Result<Vec<(TenantId, CustomerName)>, Error> {
        let mut tx = self.store.read(Scope::Job("authorize")).await?;
        let mut places = Vec::new();
        for place in tx.memberships_of_user(browser.user_id).await? {
            let tenant = tx.tenant_by_id(place.tenant_id).await?;
            let open = |tenant: &_| rules::may_enter(tenant, Some(&place)).is_ok();
            let meant = client.tenant_id.is_none_or(|own| own == place.tenant_id);
            places
                .extend(tenant.filter(|tenant| meant && open(tenant)).map(|tenant| (tenant.id, tenant.customer_name)));
        }
        Ok(places)
    }

    /// Whether a person has allowed a client all of this before.
    pub async fn has_consented(&self, browser: &Browser, client: &Client, scope: &ScopeSet) -> Result<bool, Error> {
        let mut tx = self.store.read(Scope::Job("authorize")).await?;
        let before = tx.consent(browser.user_id, client.id).await?;
        Ok(before.is_some_and(|before| scope.iter().all(|value| before.contains(value))))
    }

    /// A code for what a person has allowed a client in a tenant.
    pub async fn authorize(
        &self,
        request: &Authorization,
        browser: &Browser,
        tenant: TenantId,
    ) -> Result<Secret, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin(Scope::Job("authorize")).await?;
        let secret = Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<32>(&*self.rng)));
        let code = AuthorizationCode {
            hash: self.master.hash(&secret),
            client_id: request.client.id,
            session_id: SessionId::generate(now, &*self.rng),
            user_id: browser.user_id,
            tenant_id: Some(tenant),
            redirect_uri: request.redirect_uri.clone(),
            code_challenge: request.code_challenge.clone(),
            nonce: request.nonce.clone(),
            scope: request.scope.clone(),
            authenticated_at: browser.authenticated_at,
            proof: browser.proof,
            expires_at: now.plus_secs(CODE_TTL_S),
            used_at: None,
        };
        tx.consent_put(browser.user_id, request.client.id, &request.scope, now).await?;
        tx.code_insert(&code).await?;
        tx.commit().await?;
        Ok(secret)
    }

    /// Tokens for a code.
    pub async fn redeem(
        &self,
        client: &Client,
        code: &Secret,
        redirect_uri: Option<&str>,
        verifier: Option<&str>,
    ) -> Result<TokenSet, Error> {
        const UNKNOWN: Error = Error::InvalidGrant("the code is not valid");
        client.may_use(GrantType::AuthorizationCode)?;
        let (now, hash) = (self.clock.now(), self.master.hash(code));
        let mut tx = self.store.begin(Scope::Job("redeem")).await?;
        let used_now = tx.code_use(&hash, now).await?;
        let code = tx.code(&hash).await?.filter(|code| code.client_id == client.id).ok_or(UNKNOWN)?;
        if !used_now {
            let (session, tenant) = (code.session_id, code.tenant_id);
            let theft = Theft { session, client: Some(client.id), tenant, secret: "authorization_code" };
            self.end_stolen(tx, theft).await?;
            return Err(UNKNOWN);
        }
        if now >= code.expires_at || redirect_uri != Some(&code.redirect_uri) {
            return Err(UNKNOWN);
        }
        check_verifier(code.code_challenge.as_deref(), verifier)?;
        let session = Session {
            id: code.session_id,
            user_id: code.user_id,
            tenant_id: code.tenant_id,
            client_id: Some(client.id),
            scope: code.scope.clone(),
            authenticated_at: code.authenticated_at,
            proof: code.proof,
            created_at: now,
            renewed_at: None,
            ended_at: None,
        };
        let role = self.still_welcome(&mut tx, &session).await?.ok_or(UNKNOWN)?;
        let scope = rules::allowable(&session.scope, role);
        tx.session_insert(&session).await?;
        let refreshes = scope.contains("offline_access") && client.may_use(GrantType::RefreshToken).is_ok();
        let refresh_token = if refreshes { Some(self.new_refresh_token(&mut tx, session.id).await?) } else { None };
        tx.commit().await?;
        let id_token = scope.contains("openid").then_some((client, code.nonce.as_deref()));
        self.token_set(&session, Some(role), scope, refresh_token, id_token)
    }

    pub(super) fn id_token(
        &self,
        session: &Session,
        client: &Client,
        nonce: Option<&str>,
        access_token: &Secret,
    ) -> Result<Secret, Error> {
        let algorithm = client.metadata.id_token_alg.unwrap_or(SigningAlg::Rs256);
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

/// RFC 7636 section 4.6; a verifier without a challenge is somebody else's code (RFC 9700 section 4.8.2).
fn check_verifier(challenge: Option<&str>, verifier: Option<&str>) -> Result<(), Error> {
    const WRONG: Error = Error::InvalidGrant("the code verifier does not belong to the code");
    match (challenge, verifier) {
        (None, None) => Ok(()),
        (Some(challenge), Some(verifier)) => {
            let made = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
            let same: bool = made.as_bytes().ct_eq(challenge.as_bytes()).into();
            if same { Ok(()) } else { Err(WRONG) }
        }
        _ => Err(WRONG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_of_rfc_7636_appendix_b_fits_its_challenge() {
        let (verifier, challenge) =
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(check_verifier(Some(challenge), Some(verifier)).is_ok());
        assert!(check_verifier(Some(challenge), Some(challenge)).is_err());
        assert!(check_verifier(Some(challenge), None).is_err());
        assert!(check_verifier(None, Some(verifier)).is_err());
    }
}
