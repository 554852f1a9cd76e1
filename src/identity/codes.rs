//! The authorization code grant (RFC 6749 section 4.1, RFC 7636), and browsers in which people allow it.
//!
//! A code is bound to its client, redirect URI and verifier, lives a minute, and is used up by one conditional update. Used
//! a second time by its client, it ends the session that came of the first.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq as _;

use super::{
    access::ScopeSet,
    error::Error,
    model::{AuthorizationCode, Browser, Client, GrantType, Session, TokenSet},
    rules,
    service::Identity,
    sessions::{Also, Theft},
};
use crate::{
    kernel::{Act, Actor, CustomerName, Secret, SessionId, TenantId, rng::random_bytes},
    store::{Scope, Tx},
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
    /// Whether the request said so.
    pub redirect_uri_given: bool,
    /// What for.
    pub scope: ScopeSet,
    /// The challenge of method S256.
    pub code_challenge: Option<String>,
    /// `nonce`.
    pub nonce: Option<String>,
}

/// Why a client gets what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// The person said so just now.
    Given,
    /// They have before, or the platform has.
    Standing,
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

    /// Whether a person need not be asked: they have allowed this client all of this in this tenant before, or the platform
    /// has.
    pub async fn has_consented(
        &self,
        browser: &Browser,
        request: &Authorization,
        tenant: TenantId,
    ) -> Result<bool, Error> {
        let client = &request.client;
        if client.metadata.skip_consent {
            return Ok(true);
        }
        if !rules::is_assured(client.secret_hash.is_some(), &request.redirect_uri) {
            return Ok(false);
        }
        let mut tx = self.store.read(Scope::Job("authorize")).await?;
        let before = tx.consent(browser.user_id, client.id, tenant).await?;
        Ok(before.is_some_and(|before| request.scope.iter().all(|value| before.contains(value))))
    }

    /// A code for what a person has allowed a client in a tenant; none when the request was `pushed`, which its stamp says,
    /// and has had its code.
    pub async fn authorize(
        &self,
        request: &Authorization,
        browser: &Browser,
        tenant: TenantId,
        consent: Consent,
        pushed: Option<&str>,
    ) -> Result<Option<Secret>, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin(Scope::Job("authorize")).await?;
        let secret = Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<32>(&*self.rng)));
        let code = AuthorizationCode {
            hash: self.master.hash(&secret),
            client_id: request.client.id,
            session_id: SessionId::generate(now, &*self.rng),
            user_id: browser.user_id,
            tenant_id: Some(tenant),
            browser_id: Some(browser.id),
            redirect_uri: request.redirect_uri.clone(),
            redirect_uri_given: request.redirect_uri_given,
            code_challenge: request.code_challenge.clone(),
            nonce: request.nonce.clone(),
            scope: request.scope.clone(),
            authenticated_at: browser.authenticated_at,
            proof: browser.proof,
            expires_at: now.plus_secs(CODE_TTL_S),
            used_at: None,
        };
        if let Some(stamp) = pushed
            && !self.spend_stamp_in(&mut tx, stamp).await?
        {
            return Ok(None);
        }
        let (user, client) = (browser.user_id, request.client.id);
        let before = tx.consent(user, client, tenant).await?.unwrap_or_default();
        tx.consent_put(user, client, tenant, &before.union(&request.scope), now).await?;
        tx.code_insert(&code).await?;
        if consent == Consent::Given {
            self.note(&mut tx, said(browser, request, "consent.given", Some(tenant))).await?;
        }
        tx.commit().await?;
        Ok(Some(secret))
    }

    /// Notes that a person does not let a client in.
    pub async fn deny(&self, request: &Authorization, browser: &Browser) -> Result<(), Error> {
        self.note_alone(said(browser, request, "consent.denied", request.client.tenant_id)).await
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
        // RFC 6749 section 4.1.3: named here if it was named there, and the same.
        let same_place = match redirect_uri {
            Some(named) => named == code.redirect_uri,
            None => !code.redirect_uri_given,
        };
        if now >= code.expires_at || !same_place {
            return Err(UNKNOWN);
        }
        check_verifier(code.code_challenge.as_deref(), verifier)?;
        // A code does not outlive the sign-in of its browser.
        if let Some(browser) = code.browser_id
            && !tx.browser_lock(browser).await?
        {
            return Err(UNKNOWN);
        }
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
            browser_id: code.browser_id,
            parent_id: None,
        };
        self.begin_session(tx, client, session, code.nonce.as_deref()).await
    }

    /// Begins a session of a user with a client, and gives it its tokens: the end of a transaction.
    pub(super) async fn begin_session(
        &self,
        mut tx: Tx,
        client: &Client,
        session: Session,
        nonce: Option<&str>,
    ) -> Result<TokenSet, Error> {
        let role = self.still_welcome(&mut tx, &session).await?;
        let role = role.ok_or(Error::InvalidGrant("the user belongs to no tenant"))?;
        let scope = rules::allowable(&session.scope, role);
        tx.session_insert(&session, client.logout_due_from(session.created_at)).await?;
        let refreshes = scope.contains("offline_access") && client.may_use(GrantType::RefreshToken).is_ok();
        let refresh_token = if refreshes { Some(self.new_refresh_token(&mut tx, session.id).await?) } else { None };
        tx.commit().await?;
        let id_token = scope.contains("openid").then_some((client, nonce));
        self.token_set(&session, Some(role), scope, Also { refresh_token, id_token, until: None })
    }
}

/// What a person said to a client.
fn said(browser: &Browser, request: &Authorization, action: &'static str, tenant: Option<TenantId>) -> Act {
    let (actor, subject) = (Actor::User(browser.user_id), request.client.id.to_string());
    Act { actor, action, tenant, subject, detail: Some(request.scope.to_string()) }
}

/// What a verifier is made of (RFC 7636 section 4.1).
fn is_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// RFC 7636 section 4.6; a verifier without a challenge is somebody else's code (RFC 9700 section 4.8.2).
pub(crate) fn check_verifier(challenge: Option<&str>, verifier: Option<&str>) -> Result<(), Error> {
    const WRONG: Error = Error::InvalidGrant("the code verifier does not belong to the code");
    match (challenge, verifier) {
        (None, None) => Ok(()),
        (Some(challenge), Some(verifier)) if is_verifier(verifier) => {
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
