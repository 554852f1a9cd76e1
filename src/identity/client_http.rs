//! How clients are registered and shown, with the names of RFC 7591.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Client, ClientKind, ClientMetadata, GrantType, NewClient, ScopeSet, SigningAlg, rules};
use crate::{
    kernel::{ClientId, Fault, Faults, Secret, TenantId, Timestamp, names::plain_text},
    web::Problem,
};

/// The longest redirect URI, and the most of them.
const MAX_URI: usize = 2_000;
const MAX_URIS: usize = 50;

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
    /// `client_secret_basic`, `client_secret_post`, or `none` for a public client.
    token_endpoint_auth_method: Option<String>,
    /// `RS256` when absent.
    id_token_signed_response_alg: Option<String>,
}

impl ClientRequest {
    /// For a tenant, or for the one that is named.
    pub(super) fn parse(self, own: Option<TenantId>) -> Result<NewClient, Problem> {
        self.check(own).map_err(|faults| Problem::invalid(&faults))
    }

    /// The same, with every fault as it is.
    pub fn check(self, own: Option<TenantId>) -> Result<NewClient, Vec<Fault>> {
        let mut faults = Faults::new();
        let tenant = match own {
            Some(own) => {
                if self.tenant_id.as_deref().is_some_and(|asked| asked != own.to_string()) {
                    faults.add("tenant_id", "is not your tenant");
                }
                Some(own)
            }
            None => self.tenant_id.as_deref().and_then(|text| faults.parse("tenant_id", text)),
        };
        let name = faults.check("client_name", plain_text(self.client_name.as_deref().unwrap_or("client"), 200));
        let kind = match self.token_endpoint_auth_method.as_deref() {
            None | Some("client_secret_basic" | "client_secret_post") => ClientKind::Confidential,
            Some("none") => ClientKind::Public,
            Some(_) => {
                faults.add("token_endpoint_auth_method", "must be client_secret_basic, client_secret_post or none");
                ClientKind::Confidential
            }
        };
        let redirect_uris = redirect_uris(self.redirect_uris.unwrap_or_default(), &mut faults);
        let grant_types = match self.grant_types {
            None if redirect_uris.is_empty() => vec![GrantType::ClientCredentials],
            None => vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
            Some(names) => names.iter().filter_map(|name| faults.parse::<GrantType>("grant_types", name)).collect(),
        };
        let by_code = grant_types.contains(&GrantType::AuthorizationCode);
        let by_itself = grant_types.contains(&GrantType::ClientCredentials);
        if by_code && redirect_uris.is_empty() {
            faults.add("redirect_uris", "is required for authorization_code");
        }
        if by_itself && kind == ClientKind::Public {
            faults.add("grant_types", "a public client cannot have client_credentials");
        }
        if by_itself && tenant.is_none() {
            faults.add("tenant_id", "is required for client_credentials: a machine belongs to a tenant");
        }
        if self.response_types.is_some_and(|types| types.iter().any(|name| name != "code")) {
            faults.add("response_types", "must be [\"code\"]");
        }
        let algorithm = self.id_token_signed_response_alg.as_deref();
        let id_token_alg = algorithm.and_then(|text| faults.parse::<SigningAlg>("id_token_signed_response_alg", text));
        let offered = if by_code { rules::CLIENT_SCOPES.to_vec() } else { rules::MACHINE_SCOPES.to_vec() };
        let scope = self.scope.as_deref().map_or_else(|| ScopeSet::parse(&offered.join(" ")), ScopeSet::parse);
        if let Some(value) = scope.iter().find(|value| !offered.contains(value)) {
            faults.add("scope", format!("{value} cannot be registered; offered: {}", offered.join(" ")));
        }
        let metadata = ClientMetadata { grant_types, redirect_uris, id_token_alg };
        let new = name.map(|name| NewClient { tenant, name, scope, metadata, kind });
        faults.finish(new)
    }
}

/// Absolute, without a fragment (RFC 6749 section 3.1.2), and safe: `https`, a loopback address by `http`, or a private
/// scheme of an app with a dot in it (RFC 8252 section 7.1).
fn redirect_uris(texts: Vec<String>, faults: &mut Faults) -> Vec<String> {
    if texts.len() > MAX_URIS {
        faults.add("redirect_uris", format!("must be {MAX_URIS} at most"));
    }
    for text in &texts {
        let good = text.len() <= MAX_URI
            && url::Url::parse(text).is_ok_and(|uri| {
                let host = uri.host_str().unwrap_or_default();
                let safe = match uri.scheme() {
                    "https" => !host.is_empty(),
                    "http" => ["127.0.0.1", "[::1]", "localhost"].contains(&host),
                    scheme => scheme.contains('.'),
                };
                safe && uri.fragment().is_none() && uri.username().is_empty() && uri.password().is_none()
            });
        if !good {
            let detail = format!(
                "{text:?} must be https, http on a loopback address, or a private scheme such as com.example.app"
            );
            faults.add("redirect_uris", detail);
        }
    }
    texts
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
    token_endpoint_auth_method: &'static str,
    id_token_signed_response_alg: &'static str,
    created_at: Timestamp,
}

impl ClientView {
    pub(super) fn new(client: Client, secret: Option<&Secret>) -> Self {
        let ClientMetadata { grant_types, redirect_uris, id_token_alg } = client.metadata;
        Self {
            client_id: client.id,
            client_secret: secret.map(|secret| secret.expose().to_owned()),
            client_name: client.name,
            tenant_id: client.tenant_id,
            scope: client.scope.to_string(),
            grant_types: grant_types.into_iter().map(GrantType::name).collect(),
            redirect_uris,
            token_endpoint_auth_method: if client.secret_hash.is_some() { "client_secret_basic" } else { "none" },
            id_token_signed_response_alg: id_token_alg.unwrap_or(SigningAlg::Rs256).name(),
            created_at: client.created_at,
        }
    }
}
