//! What each vendor's tokens look like: header and claims, by its documentation.
//!
//! Where a vendor has a claim for the customer's organisation, it has the tenant's external id, or our id when there is
//! none. Okta and Cognito have no such claim of their own; whoever uses them adds one, as `tenant_claim` does here.
//!
//! The members and their forms are compared with what vendors document: `tests/fixtures/vendor_tokens.json`. Sources:
//! - Auth0: "Access token profiles" and "Work with tokens and organizations" (auth0.com/docs).
//! - Okta: "`OpenID` Connect & OAuth 2.0 API: access token" (developer.okta.com); `scp` is an array, the header has no `typ`.
//! - Cognito: "Understanding the access token", "Understanding the identity token" (docs.aws.amazon.com).
//! - Keycloak: server administration guide, "Mapping organization claims"; its access tokens (`typ: Bearer` is a claim).
//! - Entra: "Access token claims reference", "ID token claims reference", v2.0 (learn.microsoft.com).
//! - Zitadel: "Claims in ZITADEL" (zitadel.com/docs/apis/openidoauth/claims).
//! - `WorkOS`: "Session tokens" (workos.com/docs/reference/authkit/session-tokens); no `aud` (workos/authkit-nextjs#266).

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{entra, vendors::Vendor};

/// Claims, in the order in which they are written.
pub type Claims = Map<String, Value>;

/// Whether a scope is `OpenID` Connect's (Core sections 3.1.2.1, 5.4, 11), and so no API's.
pub fn is_of_openid(value: &str) -> bool {
    ["openid", "profile", "email", "offline_access"].contains(&value)
}

/// A person who is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub id: Uuid,
    /// Their address.
    pub email: String,
    /// Their role in the organisation.
    pub role: Option<&'static str>,
    /// What that role allows at the API.
    pub permissions: Vec<String>,
    /// When they signed in, in seconds since 1970.
    pub auth_time: i64,
}

/// The organisation that a token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organisation {
    /// The tenant's external id, or its own.
    pub id: String,
    /// The tenant's own id.
    pub tenant_id: Uuid,
    /// The customer's name.
    pub name: String,
}

/// What a token says, before it is put into a vendor's words.
#[derive(Debug, Clone)]
pub struct Facts {
    /// `iss`.
    pub issuer: String,
    /// The realm in it.
    pub realm: Option<String>,
    /// One of the vendor's variants.
    pub variant: &'static str,
    /// When it is issued, in seconds since 1970.
    pub now: i64,
    /// Its life, in seconds.
    pub ttl_s: i64,
    /// For which client.
    pub client_id: String,
    /// Whether the client keeps a secret.
    pub confidential: bool,
    /// For whom; `None` for the client itself.
    pub person: Option<Person>,
    /// In which organisation.
    pub organisation: Option<Organisation>,
    /// What for, separated by spaces.
    pub scope: String,
    /// For which API.
    pub audience: String,
    /// The nonce of the request.
    pub nonce: Option<String>,
    /// A new id.
    pub token_id: Uuid,
}

/// The `typ` in the header of a vendor's access tokens.
pub fn access_typ(vendor: Vendor, variant: &str) -> Option<&'static str> {
    match vendor {
        Vendor::Okta | Vendor::Cognito | Vendor::WorkOs => None,
        Vendor::Auth0 if variant == "rfc9068" => Some("at+jwt"),
        Vendor::Auth0 | Vendor::Keycloak | Vendor::Entra | Vendor::Zitadel => Some("JWT"),
    }
}

/// The `typ` in the header of a vendor's ID tokens.
pub fn id_typ(vendor: Vendor) -> Option<&'static str> {
    match vendor {
        Vendor::Okta | Vendor::Cognito | Vendor::WorkOs => None,
        Vendor::Auth0 | Vendor::Keycloak | Vendor::Entra | Vendor::Zitadel => Some("JWT"),
    }
}

/// The claims of a vendor's access token.
pub fn access_claims(vendor: Vendor, facts: &Facts) -> Claims {
    let said = match vendor {
        Vendor::Auth0 => auth0(facts),
        Vendor::Okta => okta(facts),
        Vendor::Cognito => cognito(facts),
        Vendor::Keycloak => keycloak(facts),
        Vendor::Entra => entra(facts),
        Vendor::Zitadel => zitadel(facts),
        Vendor::WorkOs => workos(facts),
    };
    present(said)
}

/// The claims of a vendor's ID token: those of `OpenID` Connect Core section 2, and its own.
pub fn id_claims(vendor: Vendor, facts: &Facts, person: &Person, access_token: &str) -> Claims {
    let hash = digest(&SHA256, access_token.as_bytes());
    let has = |value: &str| facts.scope.split(' ').any(|own| own == value);
    let email = has("email").then_some(&person.email);
    let profile = has("profile").then_some(&person.email);
    let name = profile.map(|email| email.split('@').next().unwrap_or_default());
    let mut claims = present(json!({
        "iss": facts.issuer,
        "sub": subject(vendor, facts),
        "aud": facts.client_id,
        "iat": facts.now,
        "exp": facts.now + facts.ttl_s,
        "auth_time": person.auth_time,
        "nonce": facts.nonce,
        "at_hash": URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]),
        "email": email,
        "email_verified": email.map(|_| true),
        "name": name,
    }));
    let organisation = facts.organisation.as_ref();
    claims.extend(present(match vendor {
        Vendor::Auth0 => json!({"sid": session(facts), "org_id": organisation.map(|own| &own.id)}),
        Vendor::Okta => json!({"ver": 1, "jti": format!("ID.{}", opaque(facts, "id")), "amr": ["pwd"],
            "idp": "00olab0000000000001", "preferred_username": profile}),
        Vendor::Cognito => json!({"token_use": "id", "cognito:username": person.id, "cognito:groups": groups(person),
            "origin_jti": session(facts), "event_id": session(facts), "jti": facts.token_id}),
        Vendor::Keycloak => json!({"typ": "ID", "azp": facts.client_id, "sid": session(facts), "acr": "1",
            "jti": facts.token_id, "preferred_username": person.email, "organization": keycloak_organisation(facts)}),
        Vendor::Entra => json!({"ver": "2.0", "nbf": facts.now, "tid": directory(facts), "oid": person.id,
            "preferred_username": profile, "rh": "0.", "uti": opaque(facts, "uti")}),
        Vendor::Zitadel => json!({"azp": facts.client_id, "client_id": facts.client_id, "amr": ["pwd"],
            "sid": format!("V1_{}", number(session(facts))), "preferred_username": person.email,
            "urn:zitadel:iam:user:resourceowner:id": resource_owner(facts).map(|own| &own.id)}),
        Vendor::WorkOs => json!({"sid": format!("session_{}", crockford(session(facts))),
            "org_id": organisation.map(|own| &own.id)}),
    }));
    if vendor == Vendor::Entra {
        // Not from its token endpoint, optional, and unknown to it.
        claims.retain(|name, _| !["at_hash", "auth_time", "email_verified"].contains(&name.as_str()));
    }
    claims
}

fn auth0(facts: &Facts) -> Value {
    let of_person = facts.person.is_some();
    let openid = facts.scope.split(' ').any(|value| value == "openid");
    // With `openid` the token is for userinfo, too.
    let audience = if of_person && openid {
        json!([facts.audience, format!("{}userinfo", facts.issuer)])
    } else {
        json!(facts.audience)
    };
    let rfc9068 = facts.variant == "rfc9068";
    json!({
        "iss": facts.issuer,
        "sub": subject(Vendor::Auth0, facts),
        "aud": audience,
        "iat": facts.now,
        "exp": facts.now + facts.ttl_s,
        "scope": facts.scope,
        "org_id": facts.organisation.as_ref().map(|own| &own.id),
        "gty": (!of_person && !rfc9068).then_some("client-credentials"),
        "azp": (!rfc9068).then_some(&facts.client_id),
        "client_id": rfc9068.then_some(&facts.client_id),
        "jti": rfc9068.then_some(facts.token_id),
    })
}

fn okta(facts: &Facts) -> Value {
    json!({
        "ver": 1,
        "jti": format!("AT.{}", opaque(facts, "at")),
        "iss": facts.issuer,
        "aud": facts.audience,
        "iat": facts.now,
        "exp": facts.now + facts.ttl_s,
        "cid": facts.client_id,
        "uid": facts.person.as_ref().map(|_| subject(Vendor::Okta, facts)),
        "scp": facts.scope.split_ascii_whitespace().collect::<Vec<_>>(),
        "auth_time": facts.person.as_ref().map(|person| person.auth_time),
        // Of an access token the login, of an ID token the user's id.
        "sub": facts.person.as_ref().map_or(&facts.client_id, |person| &person.email),
    })
}

fn cognito(facts: &Facts) -> Value {
    let person = facts.person.as_ref();
    json!({
        "sub": subject(Vendor::Cognito, facts),
        "cognito:groups": person.and_then(groups),
        "iss": facts.issuer,
        "version": 2,
        "client_id": facts.client_id,
        "origin_jti": person.map(|_| session(facts)),
        "event_id": person.map(|_| session(facts)),
        "token_use": "access",
        "scope": facts.scope,
        "auth_time": person.map_or(facts.now, |person| person.auth_time),
        "exp": facts.now + facts.ttl_s,
        "iat": facts.now,
        "jti": facts.token_id,
        "username": person.map(|person| person.id),
    })
}

fn keycloak(facts: &Facts) -> Value {
    let person = facts.person.as_ref();
    let has = |value: &str| facts.scope.split(' ').any(|own| own == value);
    let roles: Vec<&str> = person
        .and_then(|person| person.role)
        .into_iter()
        .chain(["offline_access", "uma_authorization", "default-roles-lab"])
        .collect();
    json!({
        "exp": facts.now + facts.ttl_s,
        "iat": facts.now,
        "auth_time": person.map(|person| person.auth_time),
        "jti": format!("{}:{}", if person.is_some() { "onrtac" } else { "trrtcc" }, facts.token_id),
        "iss": facts.issuer,
        "aud": [facts.audience, "account"],
        "sub": subject(Vendor::Keycloak, facts),
        "typ": "Bearer",
        "azp": facts.client_id,
        "sid": person.map(|_| session(facts)),
        "acr": "1",
        "allowed-origins": ["/*"],
        "realm_access": {"roles": roles},
        "resource_access": {"account": {"roles": ["manage-account", "manage-account-links", "view-profile"]}},
        "scope": facts.scope,
        "client_id": person.is_none().then_some(&facts.client_id),
        "email_verified": has("email").then_some(person.is_some()),
        "email": person.filter(|_| has("email")).map(|person| &person.email),
        "preferred_username": person.map_or_else(|| format!("service-account-{}", facts.client_id), |own| own.email.clone()),
        "organization": keycloak_organisation(facts),
    })
}

/// For who asks for the scope `organization`, of any alias or this one: an array of aliases; an object by alias where the
/// mapper adds the id.
fn keycloak_organisation(facts: &Facts) -> Option<Value> {
    let organisation = facts.organisation.as_ref()?;
    let is_asked = |value: &str| match value.split_once(':') {
        Some(("organization", alias)) => alias == "*" || alias == organisation.id,
        _ => value == "organization",
    };
    facts.scope.split(' ').find(|value| is_asked(value))?;
    Some(match facts.variant {
        "object" => json!({organisation.id.as_str(): {"id": organisation.tenant_id}}),
        _ => json!([organisation.id]),
    })
}

fn entra(facts: &Facts) -> Value {
    let person = facts.person.as_ref();
    let own = stable(&facts.client_id);
    let permissions = Some(entra::permissions(&facts.scope)).filter(|all| !all.is_empty());
    json!({
        "aud": facts.audience,
        "iss": facts.issuer,
        "iat": facts.now,
        "nbf": facts.now,
        "exp": facts.now + facts.ttl_s,
        "aio": opaque(facts, "aio"),
        "azp": facts.client_id,
        "azpacr": if facts.confidential { "1" } else { "0" },
        "idtyp": person.is_none().then_some("app"),
        "name": person.map(|person| person.email.split('@').next().unwrap_or_default()),
        "oid": person.map_or(own, |person| person.id),
        "preferred_username": person.map(|person| &person.email),
        "rh": "0.",
        // An application has roles; for a person it is the delegated scope, in one text.
        "roles": permissions.as_ref().filter(|_| person.is_none()),
        "scp": permissions.as_ref().filter(|_| person.is_some()).map(|all| all.join(" ")),
        "sub": subject(Vendor::Entra, facts),
        "tid": directory(facts),
        "uti": opaque(facts, "uti"),
        "ver": "2.0",
    })
}

/// The organisation that owns the user, for who asks for it by the reserved scope.
fn resource_owner(facts: &Facts) -> Option<&Organisation> {
    facts.scope.split(' ').find(|value| *value == "urn:zitadel:iam:user:resourceowner")?;
    facts.organisation.as_ref()
}

fn zitadel(facts: &Facts) -> Value {
    let organisation = facts.organisation.as_ref();
    let owner = resource_owner(facts);
    let domain = |own: &Organisation| format!("{}.lab.test", own.tenant_id.simple());
    let roles = facts
        .person
        .as_ref()
        .and_then(|person| person.role)
        .zip(organisation)
        .map(|(role, own)| json!({role: {own.id.as_str(): domain(own)}}));
    json!({
        "iss": facts.issuer,
        "sub": subject(Vendor::Zitadel, facts),
        "aud": [facts.client_id, facts.audience],
        "exp": facts.now + facts.ttl_s,
        "iat": facts.now,
        "nbf": facts.now,
        "azp": facts.client_id,
        "client_id": facts.client_id,
        "jti": format!("V2_{}-at_{}", number(session(facts)), number(facts.token_id)),
        "urn:zitadel:iam:user:resourceowner:id": owner.map(|own| &own.id),
        "urn:zitadel:iam:user:resourceowner:name": owner.map(|own| &own.name),
        "urn:zitadel:iam:user:resourceowner:primary_domain": owner.map(domain),
        "urn:zitadel:iam:org:project:roles": roles,
    })
}

fn workos(facts: &Facts) -> Value {
    let person = facts.person.as_ref();
    let role = person.and_then(|person| person.role);
    json!({
        "iss": facts.issuer,
        "sub": subject(Vendor::WorkOs, facts),
        "org_id": facts.organisation.as_ref().map(|own| &own.id),
        "role": role,
        "roles": role.map(|role| [role]),
        // The role's, whatever the scope of the request.
        "permissions": role.and(person).map(|person| &person.permissions),
        "sid": person.map(|_| format!("session_{}", crockford(session(facts)))),
        "jti": crockford(facts.token_id),
        "exp": facts.now + facts.ttl_s,
        "iat": facts.now,
        // A machine's token has an audience and a scope, a session's has neither.
        "aud": person.is_none().then_some(&facts.client_id),
        "client_id": person.is_none().then_some(&facts.client_id),
        "scope": person.is_none().then_some(&facts.scope),
    })
}

/// `sub` in a vendor's form: for a person always the same, for a client its own.
fn subject(vendor: Vendor, facts: &Facts) -> String {
    let client = &facts.client_id;
    match (vendor, &facts.person) {
        (Vendor::Auth0, Some(person)) => format!("auth0|{}", person.id.simple()),
        (Vendor::Auth0, None) => format!("{client}@clients"),
        (Vendor::Okta, Some(person)) => format!("00u{}", &crockford(person.id).to_ascii_lowercase()[9..]),
        (Vendor::Cognito | Vendor::Keycloak, Some(person)) => person.id.to_string(),
        // Pairwise: another for each client.
        (Vendor::Entra, Some(person)) => URL_SAFE_NO_PAD.encode(hashed(&format!("{} {client}", person.id))),
        (Vendor::Keycloak | Vendor::Entra, None) => stable(client).to_string(),
        (Vendor::Zitadel, Some(person)) => number(person.id),
        (Vendor::Zitadel, None) => number(stable(client)),
        (Vendor::WorkOs, Some(person)) => format!("user_{}", crockford(person.id)),
        (Vendor::Okta | Vendor::Cognito | Vendor::WorkOs, None) => client.clone(),
    }
}

/// Entra's `tid`: the directory in the path, or the tenant, by its external id where that is a UUID.
fn directory(facts: &Facts) -> String {
    let of_tenant = || {
        let organisation = facts.organisation.as_ref()?;
        let external = Uuid::try_parse(&organisation.id).is_ok();
        Some(if external { organisation.id.clone() } else { organisation.tenant_id.to_string() })
    };
    facts.realm.clone().or_else(of_tenant).unwrap_or_else(|| Uuid::nil().to_string())
}

fn groups(person: &Person) -> Option<Value> {
    person.role.map(|role| json!([role]))
}

/// One session per person, client and sign-in.
fn session(facts: &Facts) -> Uuid {
    let who = facts.person.as_ref().map(|person| (person.id, person.auth_time));
    stable(&format!("session {who:?} {}", facts.client_id))
}

fn opaque(facts: &Facts, what: &str) -> String {
    URL_SAFE_NO_PAD.encode(&hashed(&format!("{what} {}", facts.token_id))[..24])
}

fn hashed(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// A UUID that is always the same for a text.
fn stable(text: &str) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hashed(text)[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// 18 digits, as Zitadel's ids have.
fn number(id: Uuid) -> String {
    format!("{:018}", id.as_u128() % 1_000_000_000_000_000_000)
}

/// 26 characters of Crockford's base 32, as a ULID is written.
fn crockford(id: Uuid) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digit = |place: u32| usize::try_from((id.as_u128() >> (place * 5)) & 31).unwrap_or(0);
    (0..26).rev().map(|place| char::from(ALPHABET[digit(place)])).collect()
}

/// The members of an object that are there.
fn present(value: Value) -> Claims {
    match value {
        Value::Object(mut members) => {
            members.retain(|_, value| !value.is_null());
            members
        }
        _ => Claims::new(),
    }
}
