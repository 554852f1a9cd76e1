//! An authorization request: who asks, where the answer goes, and what it says, each checked (RFC 6749 section 4.1.1,
//! `OpenID` Connect Core section 3.1.2).

use axum::response::{IntoResponse as _, Response};

use super::Params;
use crate::{
    identity::{
        Authorization, Browser, Client, GrantType, IdTokenHint, Identity, ScopeSet, Stamp,
        pages::{failed, sorry},
        rules,
    },
    kernel::Timestamp,
    web::oauth::OAuthError,
};

/// What a base64url text of 32 bytes is made of (RFC 7636 section 4.2).
const CHALLENGE_CHARS: usize = 43;
/// The longest nonce, which goes into ID tokens.
const MAX_NONCE: usize = 1_000;
/// Parameters of ours, which say how far a request has come.
const PUSHED: &str = "tollgate_pushed";
const SENT_TO_SIGN_IN: &str = "tollgate_sent";
/// What pages of ours add to a request.
const ADDED: [&str; 5] = [PUSHED, SENT_TO_SIGN_IN, "tenant", "decision", "form_token"];

/// A pushed request that can be answered no more.
pub(super) const GONE: &str = "This request has expired or was used before. Please start again in the application.";

/// A request whose client and redirect URI are known to belong together.
pub(super) struct Known {
    pub(super) client: Client,
    pub(super) redirect_uri: String,
    pub(super) params: Params,
}

/// Why a client is sent an error.
#[derive(Debug)]
pub(super) struct Fault(pub(super) &'static str, pub(super) String);

impl Fault {
    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self("invalid_request", detail.into())
    }

    /// As an answer to the client itself.
    pub(super) fn into_error(self) -> OAuthError {
        OAuthError::new(axum::http::StatusCode::BAD_REQUEST, self.0, self.1)
    }
}

/// How a client wants the person to be asked.
pub(super) struct Wishes {
    prompt: ScopeSet,
    max_age_s: Option<i64>,
    hint: Option<IdTokenHint>,
}

impl Wishes {
    /// Nothing may be shown.
    pub(super) fn silent(&self) -> bool {
        self.prompt.contains("none")
    }

    /// The person must be asked to allow it, whatever they allowed before.
    pub(super) fn asks_anew(&self) -> bool {
        self.prompt.contains("consent")
    }

    /// Whether a sign-in will do: the person meant, and recent enough. One that followed on being sent to sign in always is.
    pub(super) fn suits(&self, browser: &Browser, sent_at: Option<Timestamp>, now: Timestamp) -> bool {
        if self.hint.is_some_and(|hint| hint.user != browser.user_id) {
            return false;
        }
        if sent_at.is_some_and(|sent_at| browser.authenticated_at >= sent_at) {
            return true;
        }
        let age_s = now.as_secs() - browser.authenticated_at.as_secs();
        let anew = self.prompt.contains("login") || self.prompt.contains("select_account");
        !anew && self.max_age_s.is_none_or(|max_age_s| age_s <= max_age_s)
    }
}

impl Known {
    /// A client's request with a redirect URI of its own; or why there is no such.
    pub(super) fn with(client: Client, mut params: Params) -> Result<Self, &'static str> {
        for own in ["decision", "form_token"] {
            params.remove(own);
        }
        let registered = &client.metadata.redirect_uris;
        let redirect_uri = match (params.text("redirect_uri"), &registered[..]) {
            (Some(given), registered) if rules::redirect_matches(registered, given) => given.to_owned(),
            (None, _) if params.text("scope").is_some_and(|scope| ScopeSet::parse(scope).contains("openid")) => {
                return Err("redirect_uri is missing, which OpenID Connect requires.");
            }
            (None, [only]) => only.clone(),
            _ => return Err("This application asked for an answer to an address that it has not registered."),
        };
        Ok(Self { client, redirect_uri, params })
    }

    /// Finds client and redirect URI, or says on a page why there is nobody to answer to.
    pub(super) async fn of(identity: &Identity, params: Params) -> Result<Self, Response> {
        let params = unfolded(identity, params).await?;
        let client = match params.text("client_id") {
            Some(id) => identity.client_by_id(id).await.map_err(|error| OAuthError::from(error).into_response())?,
            None => None,
        };
        let client = client.ok_or_else(|| sorry("This application is not known here."))?;
        Self::with(client, params).map_err(sorry)
    }

    /// What is asked for, checked.
    pub(super) fn authorization(&self) -> Result<Authorization, Fault> {
        let params = &self.params;
        for (name, error) in [
            ("request", "request_not_supported"),
            ("request_uri", "request_uri_not_supported"),
            ("registration", "registration_not_supported"),
        ] {
            if params.text(name).is_some() {
                return Err(Fault(error, format!("{name} is not taken")));
            }
        }
        match params.text("response_type") {
            Some("code") => {}
            None => return Err(Fault::bad("response_type is missing")),
            Some(_) => return Err(Fault("unsupported_response_type", "response_type must be code".into())),
        }
        if params.text("response_mode").is_some_and(|mode| !["query", "form_post"].contains(&mode)) {
            return Err(Fault::bad("response_mode must be query or form_post"));
        }
        if self.client.may_use(GrantType::AuthorizationCode).is_err() {
            return Err(Fault("unauthorized_client", "the client has not registered authorization_code".into()));
        }
        let nonce = params.text("nonce").map(str::to_owned);
        if nonce.as_ref().is_some_and(|nonce| nonce.len() > MAX_NONCE) {
            return Err(Fault::bad(format!("nonce must be {MAX_NONCE} bytes at most")));
        }
        Ok(Authorization {
            client: self.client.clone(),
            redirect_uri: self.redirect_uri.clone(),
            redirect_uri_given: params.text("redirect_uri").is_some(),
            scope: scope_of(&self.client, params)?,
            code_challenge: self.code_challenge()?,
            nonce,
        })
    }

    fn code_challenge(&self) -> Result<Option<String>, Fault> {
        let challenge = self.params.text("code_challenge");
        match (challenge, self.params.text("code_challenge_method")) {
            (None, None) if self.client.secret_hash.is_some() => Ok(None),
            (None, None) => Err(Fault::bad("code_challenge is missing; a public client must send one")),
            (None, Some(_)) => Err(Fault::bad("code_challenge is missing")),
            (Some(challenge), Some("S256")) if is_challenge(challenge) => Ok(Some(challenge.to_owned())),
            (Some(_), Some("S256")) => Err(Fault::bad("code_challenge must be 43 characters of base64url")),
            // RFC 7636 section 4.3: without a method it would be plain.
            (Some(_), _) => Err(Fault::bad("code_challenge_method must be S256")),
        }
    }

    /// How the person is to be asked, checked (`OpenID` Connect Core section 3.1.2.1).
    pub(super) fn wishes(&self, identity: &Identity) -> Result<Wishes, Fault> {
        let params = &self.params;
        let prompt = ScopeSet::parse(params.text("prompt").unwrap_or_default());
        let known = |value: &str| ["none", "login", "consent", "select_account"].contains(&value);
        if !prompt.iter().all(known) {
            return Err(Fault::bad("prompt must be none, or of login, consent and select_account"));
        }
        if prompt.contains("none") && prompt.iter().count() > 1 {
            return Err(Fault::bad("prompt none goes with no other"));
        }
        let max_age_s = match params.text("max_age").map(str::parse::<u32>) {
            None => self.client.metadata.default_max_age_s,
            Some(Ok(max_age_s)) => Some(i64::from(max_age_s)),
            Some(Err(_)) => return Err(Fault::bad("max_age must be a number of seconds")),
        };
        let hint = params.text("id_token_hint").map(|token| {
            let ours = identity.id_token_hint(token).filter(|hint| hint.client == self.client.id);
            ours.ok_or_else(|| Fault::bad("id_token_hint is no ID token of this client's"))
        });
        Ok(Wishes { prompt, max_age_s, hint: hint.transpose()? })
    }

    /// An error when the client must push its requests and has not pushed this one (RFC 9126 section 6).
    pub(super) fn check_pushed(&self, identity: &Identity) -> Result<(), Fault> {
        if self.pushed_stamp(identity).is_some() || !self.client.metadata.require_pushed {
            return Ok(());
        }
        Err(Fault::bad("this client has registered that it pushes its requests"))
    }

    /// What says that the client pushed this request.
    pub(super) fn pushed_stamp(&self, identity: &Identity) -> Option<&str> {
        let stamp = self.params.text(PUSHED)?;
        identity.stamped_at(Stamp::Pushed, &stamped_part(&self.params), stamp).map(|_| stamp)
    }

    /// When the person was last sent to sign in for this request.
    pub(super) fn sent_to_sign_in_at(&self, identity: &Identity) -> Option<Timestamp> {
        let stamp = self.params.text(SENT_TO_SIGN_IN)?;
        identity.stamped_at(Stamp::SentToSignIn, &stamped_part(&self.params), stamp)
    }

    /// The request as it is to come back from a sign-in.
    pub(super) fn after_sign_in(&self, identity: &Identity) -> String {
        let mut params = self.params.clone();
        params.set(SENT_TO_SIGN_IN, &identity.stamp(Stamp::SentToSignIn, &stamped_part(&params)));
        format!("/oauth2/authorize?{}", params.to_query())
    }
}

/// The parameters that a pushed request stands for, stamped as pushed; those beside its name count for nothing.
async fn unfolded(identity: &Identity, params: Params) -> Result<Params, Response> {
    let Some(name) = params.text("request_uri").filter(|name| name.starts_with("urn:ietf:params:oauth:")) else {
        return Ok(params);
    };
    let client = params.text("client_id").unwrap_or_default();
    let pushed = identity.take_pushed(client, name).await.map_err(failed)?.ok_or_else(|| sorry(GONE))?;
    // It was read when it was pushed.
    let mut pushed = Params::parse(pushed.as_bytes()).map_err(|_| sorry(GONE))?;
    pushed.set(PUSHED, &identity.stamp(Stamp::Pushed, &stamped_part(&pushed)));
    Ok(pushed)
}

/// The client's own part of a request.
fn stamped_part(params: &Params) -> String {
    let mut own = params.clone();
    for name in ADDED {
        own.remove(name);
    }
    own.to_query()
}

/// What a request asks for, which its client must have registered; all of that when it names nothing.
pub(super) fn scope_of(client: &Client, params: &Params) -> Result<ScopeSet, Fault> {
    let invalid = |detail: String| Fault("invalid_scope", detail);
    let scope = params.scope().map_err(|error| invalid(error.to_string()))?.unwrap_or_else(|| client.scope.clone());
    if let Some(value) = scope.iter().find(|value| !client.scope.contains(value)) {
        return Err(invalid(format!("the client has not registered {value}")));
    }
    Ok(scope)
}

fn is_challenge(text: &str) -> bool {
    text.len() == CHALLENGE_CHARS && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}
