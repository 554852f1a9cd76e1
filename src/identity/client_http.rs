//! How clients are registered and shown, with the names of RFC 7591.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Client, ClientKind, ClientMetadata, GrantType, NewClient, ScopeSet, SigningAlg,
    model::{About, AuthMethod},
    rules,
};
use crate::{
    kernel::{ClientId, Fault, Faults, Secret, TenantId, Timestamp, names::plain_text},
    web::Problem,
};

/// The longest URI, and the most of them.
const MAX_URI: usize = 2_000;
const MAX_URIS: usize = 50;
/// The most contacts.
const MAX_CONTACTS: usize = 10;

/// A client to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientRequest {
    /// Whose; only in the administrator's call. Without it, people of every tenant may use the client.
    tenant_id: Option<String>,
    /// What people call it.
    client_name: Option<String>,
    /// Space-separated; everything that fits its grants when absent.
    scope: Option<String>,
    /// `client_credentials` when absent; or `authorization_code` and `refresh_token` when there are redirect URIs.
    grant_types: Option<Vec<String>>,
    /// Where answers of the authorization endpoint may go, compared whole.
    redirect_uris: Option<Vec<String>>,
    /// `code` alone.
    response_types: Option<Vec<String>>,
    /// `client_secret_basic` or `client_secret_post`, and then the client is let in by no other; both work when absent.
    /// `none` for a public client.
    token_endpoint_auth_method: Option<String>,
    /// `RS256` when absent.
    id_token_signed_response_alg: Option<String>,
    /// Where a sign-out may lead on to, compared whole.
    post_logout_redirect_uris: Option<Vec<String>>,
    /// Where the client hears that a session is over.
    backchannel_logout_uri: Option<String>,
    /// Whether it must hear which one; it always does.
    backchannel_logout_session_required: Option<bool>,
    /// Whether its authorization requests must be pushed (RFC 9126).
    require_pushed_authorization_requests: Option<bool>,
    /// `max_age` of requests that name none, in seconds.
    default_max_age: Option<u32>,
    /// Whether people are not asked to allow it; only in the administrator's call.
    skip_consent: Option<bool>,
    /// Its home page; `https`.
    client_uri: Option<String>,
    /// Its logo; `https`.
    logo_uri: Option<String>,
    /// How it uses data; `https`.
    policy_uri: Option<String>,
    /// Its terms of service; `https`.
    tos_uri: Option<String>,
    /// Whom to ask about it.
    contacts: Option<Vec<String>>,
}

/// Who registers a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Registrar {
    /// The platform's administrator, who names whose it is.
    Administrator,
    /// A tenant, for itself.
    Tenant(TenantId),
    /// Somebody with an initial access token (RFC 7591).
    Stranger(Option<TenantId>),
}

impl ClientRequest {
    /// What the names of all fields are, for who must ignore others.
    pub(super) const OPEN_FIELDS: [&str; 17] = [
        "client_name",
        "scope",
        "grant_types",
        "redirect_uris",
        "response_types",
        "token_endpoint_auth_method",
        "id_token_signed_response_alg",
        "post_logout_redirect_uris",
        "backchannel_logout_uri",
        "backchannel_logout_session_required",
        "require_pushed_authorization_requests",
        "default_max_age",
        "client_uri",
        "logo_uri",
        "policy_uri",
        "tos_uri",
        "contacts",
    ];

    /// For our own API.
    pub(super) fn parse(self, registrar: Registrar) -> Result<NewClient, Problem> {
        self.read(registrar).map_err(|faults| Problem::invalid(&faults))
    }

    /// For who names a tenant or none, with every fault as it is.
    pub fn check(self, own: Option<TenantId>) -> Result<NewClient, Vec<Fault>> {
        self.read(own.map_or(Registrar::Administrator, Registrar::Tenant))
    }

    /// A client, or every field that is wrong.
    pub(super) fn read(mut self, registrar: Registrar) -> Result<NewClient, Vec<Fault>> {
        let mut faults = Faults::new();
        let tenant = self.tenant(registrar, &mut faults);
        let name = faults.check("client_name", plain_text(self.client_name.as_deref().unwrap_or("client"), 200));
        let method = self.token_endpoint_auth_method.as_deref();
        let auth_method = method.and_then(|text| faults.parse::<AuthMethod>("token_endpoint_auth_method", text));
        let kind = match auth_method {
            Some(AuthMethod::None) => ClientKind::Public,
            None | Some(AuthMethod::Basic | AuthMethod::Post) => ClientKind::Confidential,
        };
        let redirect_uris = redirect_uris("redirect_uris", self.redirect_uris.take(), &mut faults);
        let grant_types = self.grant_types(registrar, !redirect_uris.is_empty(), &mut faults);
        let has = |grant| grant_types.contains(&grant);
        if has(GrantType::AuthorizationCode) && redirect_uris.is_empty() {
            faults.add("redirect_uris", "is required for authorization_code");
        }
        if has(GrantType::ClientCredentials) && kind == ClientKind::Public {
            faults.add("grant_types", "a public client cannot have client_credentials");
        }
        if has(GrantType::ClientCredentials) && tenant.is_none() {
            faults.add("tenant_id", "is required for client_credentials: a machine belongs to a tenant");
        }
        let of_people = has(GrantType::AuthorizationCode) || has(GrantType::DeviceCode);
        let scope = self.scope(of_people, &mut faults);
        let algorithm = self.id_token_signed_response_alg.as_deref();
        let id_token_alg = algorithm.and_then(|text| faults.parse::<SigningAlg>("id_token_signed_response_alg", text));
        let metadata = ClientMetadata {
            grant_types,
            redirect_uris,
            id_token_alg,
            auth_method,
            post_logout_redirect_uris: redirect_uris_of_logout(self.post_logout_redirect_uris.take(), &mut faults),
            backchannel_logout_uri: self.backchannel_logout_uri.take().filter(|uri| is_callback(uri, &mut faults)),
            backchannel_logout_session_required: self.backchannel_logout_session_required.unwrap_or(false),
            require_pushed: self.require_pushed_authorization_requests.unwrap_or(false),
            default_max_age_s: self.default_max_age.map(i64::from),
            skip_consent: self.skip_consent.unwrap_or(false),
            about: self.about(&mut faults),
        };
        faults.finish(name.map(|name| NewClient { tenant, name, scope, metadata, kind }))
    }

    fn tenant(&self, registrar: Registrar, faults: &mut Faults) -> Option<TenantId> {
        match registrar {
            Registrar::Administrator => self.tenant_id.as_deref().and_then(|text| faults.parse("tenant_id", text)),
            Registrar::Tenant(own) => {
                if self.tenant_id.as_deref().is_some_and(|asked| asked != own.to_string()) {
                    faults.add("tenant_id", "is not your tenant");
                }
                if self.skip_consent == Some(true) {
                    faults.add("skip_consent", "is the administrator's to say");
                }
                Some(own)
            }
            Registrar::Stranger(own) => own,
        }
    }

    fn grant_types(&self, registrar: Registrar, has_redirects: bool, faults: &mut Faults) -> Vec<GrantType> {
        if self.response_types.as_ref().is_some_and(|types| types.iter().any(|name| name != "code")) {
            faults.add("response_types", "must be [\"code\"]");
        }
        match (&self.grant_types, registrar) {
            (Some(names), _) => names.iter().filter_map(|name| faults.parse("grant_types", name)).collect(),
            // RFC 7591 section 2.
            (None, Registrar::Stranger(_)) => vec![GrantType::AuthorizationCode],
            (None, _) if has_redirects => vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
            (None, _) => vec![GrantType::ClientCredentials],
        }
    }

    fn scope(&self, of_people: bool, faults: &mut Faults) -> ScopeSet {
        let offered = if of_people { rules::CLIENT_SCOPES.to_vec() } else { rules::MACHINE_SCOPES.to_vec() };
        let all = || ScopeSet::parse(&offered.join(" "));
        let scope = match self.scope.as_deref() {
            None | Some("") => all(),
            Some(text) => ScopeSet::parse_strictly(text).unwrap_or_else(|| {
                faults.add("scope", "must be scope values separated by single spaces");
                all()
            }),
        };
        if let Some(value) = scope.iter().find(|value| !offered.contains(value)) {
            faults.add("scope", format!("{value} cannot be registered; offered: {}", offered.join(" ")));
        }
        scope
    }

    fn about(&mut self, faults: &mut Faults) -> About {
        let mut page = |name: &str, uri: Option<String>| {
            let uri = uri?;
            if is_uri(&uri, |parsed| parsed.scheme() == "https") {
                return Some(uri);
            }
            faults.add(name, "must be an https address");
            None
        };
        let client_uri = page("client_uri", self.client_uri.take());
        let logo_uri = page("logo_uri", self.logo_uri.take());
        let policy_uri = page("policy_uri", self.policy_uri.take());
        let tos_uri = page("tos_uri", self.tos_uri.take());
        let contacts = self.contacts.take().unwrap_or_default();
        if contacts.len() > MAX_CONTACTS || contacts.iter().any(|contact| plain_text(contact, 200).is_err()) {
            faults.add("contacts", format!("must be {MAX_CONTACTS} texts at most, of 200 characters at most"));
        }
        About { client_uri, logo_uri, policy_uri, tos_uri, contacts }
    }
}

fn is_uri(text: &str, good: impl FnOnce(&url::Url) -> bool) -> bool {
    let plain = |uri: &url::Url| uri.fragment().is_none() && uri.username().is_empty() && uri.password().is_none();
    text.len() <= MAX_URI
        && rules::is_uri_text(text)
        && url::Url::parse(text).is_ok_and(|uri| plain(&uri) && good(&uri))
}

/// `https`, or a loopback address by `http`.
fn is_web(uri: &url::Url) -> bool {
    let host = uri.host_str().unwrap_or_default();
    match uri.scheme() {
        "https" => !host.is_empty(),
        "http" => ["127.0.0.1", "[::1]", "localhost"].contains(&host),
        _ => false,
    }
}

/// Absolute, without a fragment (RFC 6749 section 3.1.2), and safe: `https`, a loopback address by `http`, or a private
/// scheme of an app with a dot in it (RFC 8252 section 7.1).
fn redirect_uris(field: &str, texts: Option<Vec<String>>, faults: &mut Faults) -> Vec<String> {
    let texts = texts.unwrap_or_default();
    if texts.len() > MAX_URIS {
        faults.add(field, format!("must be {MAX_URIS} at most"));
    }
    for text in &texts {
        if !is_uri(text, |uri| is_web(uri) || uri.scheme().contains('.')) {
            let detail = format!(
                "{text:?} must be https, http on a loopback address, or a private scheme such as com.example.app"
            );
            faults.add(field, detail);
        }
    }
    texts
}

fn redirect_uris_of_logout(texts: Option<Vec<String>>, faults: &mut Faults) -> Vec<String> {
    redirect_uris("post_logout_redirect_uris", texts, faults)
}

fn is_callback(uri: &str, faults: &mut Faults) -> bool {
    let good = is_uri(uri, is_web);
    if !good {
        faults.add("backchannel_logout_uri", "must be https, or http on a loopback address, without a fragment");
    }
    good
}

/// A client.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClientView {
    client_id: ClientId,
    /// Shown once, when the client is made; a public client has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    client_name: String,
    /// Absent for a client that people of every tenant may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<TenantId>,
    scope: String,
    grant_types: Vec<&'static str>,
    redirect_uris: Vec<String>,
    response_types: Vec<&'static str>,
    token_endpoint_auth_method: &'static str,
    id_token_signed_response_alg: &'static str,
    post_logout_redirect_uris: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backchannel_logout_uri: Option<String>,
    backchannel_logout_session_required: bool,
    require_pushed_authorization_requests: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_max_age: Option<i64>,
    skip_consent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logo_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tos_uri: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contacts: Vec<String>,
    created_at: Timestamp,
}

impl ClientView {
    pub(super) fn new(client: Client, secret: Option<&Secret>) -> Self {
        let metadata = client.metadata;
        let by_code = metadata.grant_types.contains(&GrantType::AuthorizationCode);
        let default = if client.secret_hash.is_some() { AuthMethod::Basic } else { AuthMethod::None };
        let About { client_uri, logo_uri, policy_uri, tos_uri, contacts } = metadata.about;
        Self {
            client_id: client.id,
            client_secret: secret.map(|secret| secret.expose().to_owned()),
            client_name: client.name,
            tenant_id: client.tenant_id,
            scope: client.scope.to_string(),
            grant_types: metadata.grant_types.into_iter().map(GrantType::name).collect(),
            redirect_uris: metadata.redirect_uris,
            response_types: if by_code { vec!["code"] } else { Vec::new() },
            token_endpoint_auth_method: metadata.auth_method.unwrap_or(default).name(),
            id_token_signed_response_alg: metadata.id_token_alg.unwrap_or(SigningAlg::Rs256).name(),
            post_logout_redirect_uris: metadata.post_logout_redirect_uris,
            backchannel_logout_uri: metadata.backchannel_logout_uri,
            backchannel_logout_session_required: metadata.backchannel_logout_session_required,
            require_pushed_authorization_requests: metadata.require_pushed,
            default_max_age: metadata.default_max_age_s,
            skip_consent: metadata.skip_consent,
            client_uri,
            logo_uri,
            policy_uri,
            tos_uri,
            contacts,
            created_at: client.created_at,
        }
    }
}
