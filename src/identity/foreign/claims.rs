//! What a foreign issuer's token says: everything that can be refused without asking anybody.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::config::IssuerConfig;
use crate::{
    identity::{
        access::TokenError,
        jws::{Header, of_members},
        members::{self, Members, NotMembers},
    },
    kernel::Timestamp,
};

use TokenError::Invalid;

/// A token of an issuer whose clock is ahead of ours by this much is taken, in seconds. `exp` has no such leeway.
const AHEAD_S: i64 = 30;
/// The longest word for a tenant, in bytes.
const MAX_NAME: usize = 1_024;
/// The longest `sub`, in bytes; `OpenID` Connect Core section 2 has 255 characters.
const MAX_SUB: usize = 1_024;
/// Who a token was issued to, by the names that vendors have for it.
const CLIENT_CLAIMS: [&str; 4] = ["client_id", "azp", "cid", "appid"];

/// What a token says that is for us and good now.
pub(super) struct Said<'a> {
    /// The issuer's word for the tenant.
    pub(super) tenant: Cow<'a, str>,
    pub(super) sub: Cow<'a, str>,
    pub(super) client_id: Cow<'a, str>,
    pub(super) token_id: Cow<'a, str>,
    /// Values separated by spaces.
    pub(super) scope: Cow<'a, str>,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

/// Whether a header is of an access token.
pub(super) fn check_type(config: &IssuerConfig, header: &Header) -> Result<(), TokenError> {
    let good = config.accept_typ.iter().any(|wanted| header.is_of_type(wanted));
    good.then_some(()).ok_or(Invalid("it is not an access token"))
}

/// Reads claims, the issuer's own and signed, or said by its introspection.
pub(super) fn read<'a>(config: &IssuerConfig, claims: &Members<'a>, now: Timestamp) -> Result<Said<'a>, TokenError> {
    check_purpose(config, claims)?;
    let client_id = check_recipients(config, claims)?;
    let time = |name| claims.seconds(name).map_err(of_claim);
    let instant = |secs: Option<i64>| secs.map(|secs| Timestamp::from_secs(secs).ok_or(MALFORMED)).transpose();
    let expires_at = instant(time("exp")?)?.ok_or(MALFORMED)?;
    let (issued_at, not_before) = (instant(time("iat")?)?, instant(time("nbf")?)?);
    let ahead = now.plus_secs(AHEAD_S);
    if issued_at.is_some_and(|at| at > ahead) || not_before.is_some_and(|at| at > ahead) {
        return Err(Invalid("it is not valid yet"));
    }
    let sub = claims.text("sub").map_err(of_claim)?.unwrap_or_else(|| client_id.clone());
    if sub.is_empty() || sub.len() > MAX_SUB {
        return Err(MALFORMED);
    }
    Ok(Said {
        tenant: tenant(config, claims)?,
        sub,
        client_id,
        token_id: claims.text("jti").map_err(of_claim)?.unwrap_or_default(),
        scope: scope(config, claims)?,
        // Without it, every withdrawal covers the token.
        issued_at: issued_at.unwrap_or(Timestamp::MIN),
        expires_at,
    })
}

const MALFORMED: TokenError = Invalid("a claim is missing or malformed");

const fn of_claim(error: NotMembers) -> TokenError {
    match error {
        NotMembers::Malformed => MALFORMED,
        NotMembers::Duplicate => of_members(error),
    }
}

/// ID tokens and others that are no access tokens: by what `OpenID` Connect (Core section 3.1.3.6, Back-Channel Logout section
/// 2.4) and vendors (Cognito's `token_use`, Keycloak's claim `typ`) put into them.
fn check_purpose(config: &IssuerConfig, claims: &Members<'_>) -> Result<(), TokenError> {
    const OTHER: TokenError = Invalid("it is not an access token");
    let typ = claims.text("typ").map_err(of_claim)?;
    // Keycloak's access tokens repeat the nonce of the request.
    let is_bearer = typ.as_deref() == Some("Bearer");
    let is_other = |typ: &str| ["ID", "Refresh", "Offline", "Logout"].contains(&typ);
    let of_other_use = claims.text("token_use").map_err(of_claim)?.is_some_and(|used| used != "access");
    let is_hashed = claims.has("at_hash") || claims.has("c_hash") || claims.has("s_hash");
    if typ.as_deref().is_some_and(is_other)
        || of_other_use
        || is_hashed
        || claims.has("events")
        || (claims.has("nonce") && !is_bearer)
        || config.required_claims.iter().any(|name| claims.member(name).is_none())
    {
        return Err(OTHER);
    }
    Ok(())
}

/// For whom it is, and to whom it was issued: `client_id`, `azp` or what else a vendor calls it; empty when it does not say.
fn check_recipients<'a>(config: &IssuerConfig, claims: &Members<'a>) -> Result<Cow<'a, str>, TokenError> {
    if !config.audience.is_empty() {
        let audience = claims.texts("aud").map_err(of_claim)?.unwrap_or_default();
        if !audience.iter().any(|one| config.audience.iter().any(|own| own == one)) {
            return Err(Invalid("it is for another audience"));
        }
    }
    let mut named = None;
    for name in CLIENT_CLAIMS {
        if let Some(client) = claims.text(name).map_err(of_claim)? {
            named = Some(client);
            break;
        }
    }
    let of_client = |wanted: &String| match &named {
        Some(client) => client == wanted,
        // WorkOS has an issuer for each client, and its sessions' tokens name none.
        None => config.issuer.rsplit('/').next() == Some(wanted),
    };
    if config.client_ids.is_empty() || config.client_ids.iter().any(of_client) {
        Ok(named.unwrap_or_default())
    } else {
        Err(Invalid("it was issued to another client"))
    }
}

/// All values of the claims that say what it may be used for.
fn scope<'a>(config: &IssuerConfig, claims: &Members<'a>) -> Result<Cow<'a, str>, TokenError> {
    let mut all = Cow::Borrowed("");
    for name in &config.scope_claims {
        for values in claims.texts(name).map_err(of_claim)?.unwrap_or_default() {
            if all.is_empty() {
                all = values;
            } else {
                all = format!("{all} {values}").into();
            }
        }
    }
    Ok(all)
}

/// The issuer's one word for the tenant.
fn tenant<'a>(config: &IssuerConfig, claims: &Members<'a>) -> Result<Cow<'a, str>, TokenError> {
    let Some(path) = &config.tenant_claim else {
        let only = config.tenants.as_deref().and_then(<[String]>::first);
        return only.map(|only| Cow::Owned(only.clone())).ok_or(Invalid("it names no tenant"));
    };
    let mut found = Vec::new();
    collect(claims, path, &mut found);
    let mut names = found.into_iter();
    match (names.next(), names.next()) {
        (None, _) => Err(Invalid("it names no tenant")),
        (Some(_), Some(_)) => Err(Invalid("it names several tenants")),
        (Some(Some(name)), None) if !name.trim().is_empty() && name.len() <= MAX_NAME => Ok(name),
        (Some(_), None) => Err(MALFORMED),
    }
}

/// Everything at a dotted path. A name may have dots itself (`https://example.com/org`), so every part of the path that is a
/// member's name is followed.
fn collect<'a>(members: &Members<'a>, path: &str, found: &mut Vec<Option<Cow<'a, str>>>) {
    if let Some(value) = members.member(path) {
        values(value, found);
    }
    for (dot, _) in path.match_indices('.') {
        if let Some(inner) = members.member(&path[..dot]).and_then(members::object) {
            collect(&inner, &path[dot + 1..], found);
        }
    }
}

/// What a value names: a text, a whole number, the elements of an array, the names of an object's members (as Keycloak has
/// organizations by alias). `None` for what names nothing.
fn values<'a>(value: &'a RawValue, found: &mut Vec<Option<Cow<'a, str>>>) {
    let raw = value.get();
    match raw.as_bytes()[0] {
        b'[' => match members::elements(value) {
            Some(elements) => elements.into_iter().for_each(|element| match element.get().as_bytes()[0] {
                b'[' | b'{' => found.push(None),
                _ => values(element, found),
            }),
            None => found.push(None),
        },
        b'{' => match members::object(value) {
            Some(members) => found.extend(members.names().cloned().map(Some)),
            None => found.push(None),
        },
        b'"' => found.push(members::text(value)),
        _ if raw.bytes().all(|byte| byte.is_ascii_digit()) => found.push(Some(Cow::Borrowed(raw))),
        _ => found.push(None),
    }
}
