//! The vendors whose issuers the lab plays, and where each has its endpoints.
//!
//! An issuer's identifier is the address from which its discovery was read, so a vendor that has many issuers on one host
//! (Keycloak's realms, Okta's authorization servers, Cognito's pools, Entra's directories, `WorkOS`'s clients) has them
//! here too: every realm under `/lab/issuers/{name}` exists, and the bare address is an issuer as well.

/// A vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Vendor {
    /// Auth0 (auth0.com).
    Auth0,
    /// Okta, a custom authorization server (okta.com).
    Okta,
    /// Amazon Cognito, a user pool.
    Cognito,
    /// Keycloak, a realm.
    Keycloak,
    /// Microsoft Entra ID, v2.0.
    Entra,
    /// Zitadel (zitadel.com).
    Zitadel,
    /// `WorkOS` `AuthKit`.
    WorkOs,
}

/// An endpoint of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `OpenID` Connect Discovery.
    Discovery,
    /// The key set.
    Jwks,
    /// The authorization endpoint.
    Authorize,
    /// The token endpoint.
    Token,
}

/// Where an issuer and its endpoints are, below the vendor's address; without a slash in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The issuer's identifier.
    pub issuer: String,
    /// The key set.
    pub jwks: String,
    /// The authorization endpoint.
    pub authorize: String,
    /// The token endpoint.
    pub token: String,
}

/// What discovery is below the issuer (`OpenID` Connect Discovery section 4).
const DISCOVERY: &str = ".well-known/openid-configuration";
/// The longest name of a realm.
const MAX_REALM: usize = 64;

impl Vendor {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Auth0, Self::Okta, Self::Cognito, Self::Keycloak, Self::Entra, Self::Zitadel, Self::WorkOs];

    /// The name under `/lab/issuers/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth0 => "auth0",
            Self::Okta => "okta",
            Self::Cognito => "cognito",
            Self::Keycloak => "keycloak",
            Self::Entra => "entra",
            Self::Zitadel => "zitadel",
            Self::WorkOs => "workos",
        }
    }

    /// By its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|vendor| vendor.name() == name)
    }

    /// The forms its tokens may have; the first unless another is asked for.
    pub const fn variants(self) -> &'static [&'static str] {
        match self {
            Self::Auth0 => &["auth0", "rfc9068"],
            Self::Keycloak => &["array", "object"],
            _ => &["default"],
        }
    }

    /// The audience of tokens whose request names no API.
    pub const fn audience(self) -> &'static str {
        match self {
            Self::Okta => "api://default",
            // The client id of an API: in v2.0 tokens nothing else is an audience.
            Self::Entra => "01900000-0000-7000-8000-000000000003",
            _ => "https://api.example.test",
        }
    }

    /// The scope of a minted token whose request names none.
    pub const fn scope(self) -> &'static str {
        match self {
            // Their tokens name the organization for these scopes alone.
            Self::Keycloak => "openid profile email organization",
            Self::Zitadel => "openid profile email urn:zitadel:iam:user:resourceowner",
            _ => "openid profile email",
        }
    }

    /// Life of an access token, in seconds, as the vendor ships it.
    pub const fn access_token_ttl_s(self) -> i64 {
        match self {
            Self::Auth0 => 86_400,
            Self::Okta | Self::Cognito => 3_600,
            Self::Entra => 4_500,
            Self::Keycloak | Self::WorkOs => 300,
            Self::Zitadel => 43_200,
        }
    }

    /// Whether a client gets a refresh token only where it asks for `offline_access`.
    ///
    /// Sources: Auth0 "Refresh tokens", Okta "Refresh access tokens", Microsoft "Scopes and permissions", Zitadel "Scopes"
    /// say so. A code of Cognito's is worth one always (AWS "Token endpoint"), a session of `WorkOS`'s has one ("Session
    /// tokens"); Keycloak's `offline_access` makes one that outlives the session ("Offline access").
    pub const fn refreshes_when_asked(self) -> bool {
        match self {
            Self::Auth0 | Self::Okta | Self::Entra | Self::Zitadel => true,
            Self::Cognito | Self::Keycloak | Self::WorkOs => false,
        }
    }

    /// Whether its authorization responses say who answers (RFC 9207) and its discovery says that they do: Keycloak's do since
    /// version 23 ("Upgrading guide"); the others document no such member.
    pub const fn says_who_answers(self) -> bool {
        matches!(self, Self::Keycloak)
    }

    /// The scopes that its discovery names.
    pub const fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Cognito => &["openid", "email", "phone", "profile"],
            Self::Keycloak => &["openid", "profile", "email", "offline_access", "organization"],
            Self::Zitadel => &["openid", "profile", "email", "offline_access", "urn:zitadel:iam:user:resourceowner"],
            _ => &["openid", "profile", "email", "offline_access"],
        }
    }

    /// The path of a realm, by its name; `None` for a vendor with one issuer a host.
    fn realm_path(self, realm: &str) -> Option<String> {
        match self {
            Self::Auth0 | Self::Zitadel => None,
            Self::Okta => Some(format!("oauth2/{realm}")),
            Self::Cognito | Self::Entra => Some(realm.to_owned()),
            Self::Keycloak => Some(format!("realms/{realm}")),
            Self::WorkOs => Some(format!("user_management/{realm}")),
        }
    }

    /// The realm that a path below the vendor's address may be in.
    fn realm_in(self, path: &str) -> Option<&str> {
        let rest = match self {
            Self::Auth0 | Self::Zitadel => return None,
            Self::Okta => path.strip_prefix("oauth2/")?,
            Self::Cognito | Self::Entra => path,
            Self::Keycloak => path.strip_prefix("realms/")?,
            Self::WorkOs => path.strip_prefix("user_management/")?,
        };
        rest.split('/').next().filter(|realm| is_realm(realm))
    }

    /// Where everything of a realm's issuer is; of the bare one, without a realm.
    ///
    /// Sources: the vendors' discovery documents; Auth0 "OIDC discovery", Okta "Well-known endpoints", AWS "OIDC user
    /// pool endpoints", Keycloak "Securing applications: endpoints", Microsoft "`OpenID` Connect on the Microsoft identity
    /// platform", Zitadel "`OpenID` Connect endpoints", `WorkOS` "Session tokens".
    pub fn places(self, realm: Option<&str>) -> Places {
        let base = realm.and_then(|realm| self.realm_path(realm)).unwrap_or_default();
        let below = |path: &str| if base.is_empty() { path.to_owned() } else { format!("{base}/{path}") };
        let (issuer, jwks, authorize, token) = match self {
            // Its identifier ends with a slash.
            Self::Auth0 => ("/".to_owned(), below(".well-known/jwks.json"), below("authorize"), below("oauth/token")),
            Self::Okta => (base.clone(), below("v1/keys"), below("v1/authorize"), below("v1/token")),
            // The real one has its OAuth endpoints on another host.
            Self::Cognito => {
                (base.clone(), below(".well-known/jwks.json"), below("oauth2/authorize"), below("oauth2/token"))
            }
            Self::Keycloak => {
                let endpoint = |name: &str| below(&format!("protocol/openid-connect/{name}"));
                (base.clone(), endpoint("certs"), endpoint("auth"), endpoint("token"))
            }
            Self::Entra => {
                let issuer = if base.is_empty() { String::new() } else { format!("{base}/v2.0") };
                (issuer, below("discovery/v2.0/keys"), below("oauth2/v2.0/authorize"), below("oauth2/v2.0/token"))
            }
            Self::Zitadel => {
                (base.clone(), below("oauth/v2/keys"), below("oauth/v2/authorize"), below("oauth/v2/token"))
            }
            Self::WorkOs => (base.clone(), below("oauth2/jwks"), below("oauth2/authorize"), below("oauth2/token")),
        };
        Places { issuer, jwks, authorize, token }
    }

    /// Which endpoint of which realm a path below the vendor's address is.
    pub fn endpoint(self, path: &str) -> Option<(Option<&str>, Endpoint)> {
        [None, self.realm_in(path)].into_iter().find_map(|realm| {
            let places = self.places(realm);
            let discovery = format!("{}/{DISCOVERY}", places.issuer.trim_end_matches('/'));
            let endpoints = [
                (discovery.trim_start_matches('/'), Endpoint::Discovery),
                (&*places.jwks, Endpoint::Jwks),
                (&*places.authorize, Endpoint::Authorize),
                (&*places.token, Endpoint::Token),
            ];
            let found = endpoints.into_iter().find(|(own, _)| *own == path);
            found.map(|(_, endpoint)| (realm, endpoint))
        })
    }
}

/// What can stand in a path as one segment.
pub fn is_realm(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_REALM).contains(&text.len()) && text.bytes().all(fine) && !text.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_found_where_discovery_says_it_is() {
        for vendor in Vendor::ALL {
            for realm in [None, vendor.realm_path("lab_1").map(|_| "lab_1")] {
                let places = vendor.places(realm);
                assert_eq!(vendor.endpoint(&places.jwks), Some((realm, Endpoint::Jwks)), "{vendor:?}");
                assert_eq!(vendor.endpoint(&places.authorize), Some((realm, Endpoint::Authorize)), "{vendor:?}");
                assert_eq!(vendor.endpoint(&places.token), Some((realm, Endpoint::Token)), "{vendor:?}");
                let discovery = format!("{}/{DISCOVERY}", places.issuer.trim_end_matches('/'));
                let discovery = discovery.trim_start_matches('/');
                assert_eq!(vendor.endpoint(discovery), Some((realm, Endpoint::Discovery)), "{vendor:?}");
            }
        }
    }

    #[test]
    fn paths_have_the_vendors_shapes() {
        let issuer = |vendor: Vendor, realm| vendor.places(Some(realm)).issuer;
        assert_eq!(issuer(Vendor::Keycloak, "acme"), "realms/acme");
        assert_eq!(issuer(Vendor::Okta, "default"), "oauth2/default");
        assert_eq!(issuer(Vendor::Cognito, "eu-central-1_Lab"), "eu-central-1_Lab");
        let directory = "72f988bf-86f1-41af-91ab-2d7cd011db47";
        assert_eq!(issuer(Vendor::Entra, directory), format!("{directory}/v2.0"));
        assert_eq!(Vendor::Entra.places(Some(directory)).token, format!("{directory}/oauth2/v2.0/token"));
        for wrong in ["", "realms//certs", "realms/../protocol/openid-connect/certs", "realms/a/protocol", "nothing"] {
            assert_eq!(Vendor::Keycloak.endpoint(wrong), None, "{wrong}");
        }
    }
}
