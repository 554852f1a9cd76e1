//! `[[identity.issuers]]`: foreign issuers whose tokens open routes of the gateway.

use url::Url;

use super::read::Reader;
use crate::{
    identity::{
        ACCEPT_TYP, INTROSPECTION_CACHE_S, IntrospectionConfig, IssuerConfig, JwsAlgorithm, KEYS_LIFETIME_S,
        KEYS_STALE_S, SCOPE_CLAIMS, UnknownTenant,
    },
    kernel::Secret,
};

/// What an issuer's tokens are signed with unless it is said otherwise.
const ALGORITHMS: [&str; 1] = ["RS256"];
/// Stands for every tenant.
const ALL: &str = "*";

/// All of them; `None` when one cannot be read.
pub(super) fn read(reader: &mut Reader) -> Option<Vec<IssuerConfig>> {
    let items = reader.tables("identity.issuers");
    let several = items.len() > 1;
    let mut issuers: Vec<IssuerConfig> = Vec::new();
    let mut fine = true;
    for (prefix, mut item) in items {
        let issuer = read_issuer(&mut item, several);
        fine &= issuer.is_some();
        if let Some(issuer) = issuer {
            if issuers.iter().any(|other| other.issuer == issuer.issuer) {
                item.fault(".issuer", "is the issuer of another entry");
            }
            if issuer.introspection.is_some() && issuers.iter().any(|other| other.introspection.is_some()) {
                let detail = "is set for another issuer, and an opaque token does not say whose it is";
                item.fault(".introspection_endpoint", detail);
            }
            issuers.push(issuer);
        }
        reader.finish_item(&prefix, item);
    }
    fine.then_some(issuers)
}

fn read_issuer(item: &mut Reader, several: bool) -> Option<IssuerConfig> {
    let issuer = required(item, ".issuer").and_then(|text| address(item, ".issuer", text, false));
    let jwks_uri = item.optional_string(".jwks_uri").map(|text| address(item, ".jwks_uri", text, true));
    let algorithms = read_algorithms(item);
    let client_ids = read_client_ids(item);
    let audience = item.strings(".audience", &[]);
    if audience.as_deref().is_some_and(<[String]>::is_empty) && client_ids.as_deref().is_some_and(<[String]>::is_empty)
    {
        item.fault(".audience", "must name at least one, unless client_id is set");
    }
    let accept_typ = item.strings(".accept_typ", &ACCEPT_TYP);
    if accept_typ.as_deref().is_some_and(<[String]>::is_empty) {
        item.fault(".accept_typ", "must name at least one; an empty text stands for tokens without a type");
    }
    let tenant_claim = item.optional_string(".tenant_claim");
    if tenant_claim.as_deref() == Some("") {
        item.fault(".tenant_claim", "must not be empty");
    }
    let tenants = read_tenants(item, several, tenant_claim.is_some());
    let unknown = item.choice(".on_unknown_tenant", "refuse", &["refuse", "create"]);
    let scope_claims = item.strings(".scope_claims", &SCOPE_CLAIMS);
    let required_claims = item.strings(".required_claims", &[]);
    let keys_lifetime = item.number(".keys_lifetime_s", KEYS_LIFETIME_S, 30, 86_400);
    let keys_stale = item.number(".keys_stale_s", KEYS_STALE_S, 0, 7 * 86_400);
    let introspection = read_introspection(item)?;
    Some(IssuerConfig {
        issuer: issuer?,
        jwks_uri: jwks_uri.map_or(Some(None), |found| found.map(Some))?,
        algorithms: algorithms?,
        audience: audience?,
        client_ids: client_ids?,
        accept_typ: accept_typ?,
        tenant_claim,
        tenants: tenants?,
        on_unknown_tenant: if unknown? == "create" { UnknownTenant::Create } else { UnknownTenant::Refuse },
        scope_claims: scope_claims?,
        required_claims: required_claims?,
        keys_lifetime_s: keys_lifetime?,
        keys_stale_s: keys_stale?,
        introspection,
    })
}

/// Our own tokens are not a foreign issuer's.
pub(super) fn must_be_foreign(reader: &mut Reader, issuers: &[IssuerConfig], own: &str) {
    for (index, issuer) in issuers.iter().enumerate() {
        if issuer.issuer == own {
            reader.fault(&format!("identity.issuers[{index}].issuer"), "is this server's own");
        }
    }
}

fn required(item: &mut Reader, path: &str) -> Option<String> {
    let text = item.string(path, "")?;
    if text.is_empty() {
        item.fault(path, "is required");
        return None;
    }
    Some(text)
}

/// An address of the web, as it was written: an issuer is compared as text.
fn address(item: &mut Reader, path: &str, text: String, query: bool) -> Option<String> {
    let url = Url::parse(&text).ok().filter(|url| {
        let plain = url.fragment().is_none() && (query || url.query().is_none());
        plain && ["http", "https"].contains(&url.scheme()) && url.has_host() && url.username().is_empty()
    });
    if url.is_none() {
        item.fault(path, &format!("{text:?} is not an address such as https://idp.example.com"));
    }
    url.map(|_| text)
}

fn read_algorithms(item: &mut Reader) -> Option<Vec<JwsAlgorithm>> {
    let names = item.strings(".algorithms", &ALGORITHMS)?;
    if names.is_empty() {
        item.fault(".algorithms", "must name at least one");
    }
    let mut algorithms = Vec::new();
    for name in names {
        match name.parse() {
            Ok(algorithm) => algorithms.push(algorithm),
            Err(error) => item.fault(".algorithms", &format!("{name}: {error}")),
        }
    }
    Some(algorithms)
}

/// One client or several.
fn read_client_ids(item: &mut Reader) -> Option<Vec<String>> {
    let value = match item.take(".client_id") {
        None => return Some(Vec::new()),
        Some(toml::Value::String(one)) => vec![one],
        Some(toml::Value::Array(several)) => {
            let count = several.len();
            let texts: Vec<String> = several.into_iter().filter_map(|one| one.as_str().map(str::to_owned)).collect();
            if texts.len() == count { texts } else { vec![String::new()] }
        }
        Some(_) => vec![String::new()],
    };
    if value.iter().any(String::is_empty) {
        item.fault(".client_id", "must be a text, or an array of texts");
        return None;
    }
    Some(value)
}

/// The outer `None` is a fault, the inner one stands for all.
#[expect(clippy::option_option, reason = "a fault, all, or these")]
fn read_tenants(item: &mut Reader, several: bool, has_claim: bool) -> Option<Option<Vec<String>>> {
    if several && !item.has(".tenants") {
        item.fault(".tenants", "is required where there are several issuers: each speaks for its own tenants");
        return None;
    }
    let tenants = item.strings(".tenants", &[ALL])?;
    if tenants.is_empty() {
        item.fault(".tenants", "must name at least one; \"*\" stands for all");
        return None;
    }
    let all = tenants.iter().any(|tenant| tenant == ALL);
    if all && tenants.len() > 1 {
        item.fault(".tenants", "names others beside \"*\", which stands for all");
    }
    if !has_claim && (all || tenants.len() > 1) {
        item.fault(".tenant_claim", "is required, unless tenants names exactly one");
    }
    Some((!all).then_some(tenants))
}

/// The outer `None` is a fault.
#[expect(clippy::option_option, reason = "a fault, nothing set, or an endpoint")]
fn read_introspection(item: &mut Reader) -> Option<Option<IntrospectionConfig>> {
    let endpoint = item.optional_string(".introspection_endpoint");
    let client_id = item.optional_string(".introspection_client_id");
    let client_secret = item.optional_string(".introspection_client_secret");
    let cache_s = item.number(".introspection_cache_s", INTROSPECTION_CACHE_S, 1, 3_600)?;
    let Some(endpoint) = endpoint else {
        for (path, given) in
            [(".introspection_client_id", &client_id), (".introspection_client_secret", &client_secret)]
        {
            if given.is_some() {
                item.fault(path, "is for introspection_endpoint, which is not set");
            }
        }
        return Some(None);
    };
    let endpoint = address(item, ".introspection_endpoint", endpoint, true)?;
    let (Some(client_id), Some(client_secret)) = (client_id, client_secret) else {
        item.fault(".introspection_endpoint", "needs introspection_client_id and introspection_client_secret");
        return None;
    };
    Some(Some(IntrospectionConfig { endpoint, client_id, client_secret: Secret::new(client_secret), cache_s }))
}
