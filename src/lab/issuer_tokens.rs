//! Tokens of vendors' issuers, good ones: for a client itself, for a person, with an ID token where `openid` is asked for.

use serde_json::{Value, json};

use super::{
    Lab,
    dialects::{self, Claims, Facts},
    entra,
    issuers::Allowed,
    keys::Keys,
    subjects::organisation,
    tokens::{Draft, MintError, Signature, mint, overlay},
    vendors::Vendor,
};
use crate::{
    identity::Client,
    kernel::{Clock as _, ids::uuid_v7},
    tenants::Tenant,
};

/// For whom a vendor's token is, and what for.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Which vendor's.
    pub vendor: Vendor,
    /// Of which of its issuers.
    pub realm: Option<&'a str>,
    /// For which client.
    pub client_id: String,
    /// Whether it keeps a secret.
    pub confidential: bool,
    /// For whom; `None` for the client itself.
    pub somebody: Option<(&'a super::subjects::Somebody, i64)>,
    /// In which tenant.
    pub tenant: Option<&'a Tenant>,
    /// What for.
    pub scope: String,
    /// For which API; the issuer's own when absent.
    pub audience: Option<String>,
    /// The nonce of the request.
    pub nonce: Option<String>,
    /// One of the vendor's variants; the issuer's own when absent.
    pub variant: Option<&'static str>,
}

impl<'a> Wanted<'a> {
    /// What somebody has been let in for.
    pub fn allowed(allowed: &'a Allowed) -> Self {
        Self {
            vendor: allowed.vendor,
            realm: allowed.realm.as_deref(),
            client_id: allowed.client.id.to_string(),
            confidential: allowed.client.secret_hash.is_some(),
            somebody: Some((&allowed.somebody, allowed.auth_time)),
            tenant: allowed.somebody.place.as_ref().map(|(tenant, _)| tenant),
            scope: allowed.scope.clone(),
            audience: allowed.audience.clone(),
            nonce: allowed.nonce.clone(),
            variant: None,
        }
    }

    /// What a client asks for itself.
    pub fn for_client(
        vendor: Vendor,
        realm: Option<&'a str>,
        client: &Client,
        tenant: Option<&'a Tenant>,
        scope: String,
    ) -> Self {
        Self {
            vendor,
            realm,
            client_id: client.id.to_string(),
            confidential: client.secret_hash.is_some(),
            somebody: None,
            tenant,
            scope,
            audience: None,
            nonce: None,
            variant: None,
        }
    }
}

/// What of a scope a vendor grants to a client that has registered another: all of it, since scopes are the API's. An error
/// says what the vendor refuses.
pub fn granted(vendor: Vendor, asked: &str, registered: &str) -> Result<String, &'static str> {
    if vendor == Vendor::Entra { entra::granted(asked, registered) } else { Ok(asked.to_owned()) }
}

impl Lab {
    fn facts(&self, wanted: &Wanted<'_>) -> Facts {
        let settings = self.issuers().settings(wanted.vendor);
        let now = self.clock().now();
        let named = || entra::api(&wanted.scope).filter(|_| wanted.vendor == Vendor::Entra).map(str::to_owned);
        Facts {
            issuer: self.vendor_issuer(wanted.vendor, wanted.realm),
            realm: wanted.realm.map(str::to_owned),
            variant: wanted.variant.unwrap_or(settings.variant),
            now: now.as_secs(),
            ttl_s: settings.access_token_ttl_s,
            client_id: wanted.client_id.clone(),
            confidential: wanted.confidential,
            person: wanted.somebody.map(|(somebody, auth_time)| somebody.person(auth_time)),
            organisation: wanted.tenant.map(organisation),
            scope: wanted.scope.clone(),
            audience: wanted.audience.clone().or_else(named).unwrap_or(settings.audience),
            nonce: wanted.nonce.clone(),
            token_id: uuid_v7(now, self.rng()),
        }
    }

    fn finished(&self, wanted: &Wanted<'_>, facts: &Facts, typ: Option<&'static str>, mut claims: Claims) -> Draft {
        let settings = self.issuers().settings(wanted.vendor);
        if let (Some(name), Some(own)) = (settings.tenant_claim, &facts.organisation) {
            claims.insert(name, own.id.clone().into());
        }
        overlay(&mut claims, &settings.claims);
        Draft { typ, header: Claims::new(), claims, signature: Signature::Current, bytes: None }
    }

    /// An access token as the vendor would give it, and the keys to sign it with.
    pub(super) async fn vendor_access_draft(&self, wanted: &Wanted<'_>) -> Result<(Keys, Draft), MintError> {
        let facts = self.facts(wanted);
        let typ = dialects::access_typ(wanted.vendor, facts.variant);
        let claims = dialects::access_claims(wanted.vendor, &facts);
        let keys = Keys::Vendor(self.vendor_key(wanted.vendor).await?);
        Ok((keys, self.finished(wanted, &facts, typ, claims)))
    }

    /// An ID token as the vendor would give it beside an access token; `None` for a client itself.
    pub(super) async fn vendor_id_draft(
        &self,
        wanted: &Wanted<'_>,
        access_token: &str,
    ) -> Result<Option<(Keys, Draft)>, MintError> {
        let facts = self.facts(wanted);
        let Some(person) = &facts.person else { return Ok(None) };
        let claims = dialects::id_claims(wanted.vendor, &facts, person, access_token);
        let keys = Keys::Vendor(self.vendor_key(wanted.vendor).await?);
        Ok(Some((keys, self.finished(wanted, &facts, dialects::id_typ(wanted.vendor), claims))))
    }

    /// RFC 6749 section 5.1, without a refresh token.
    pub(super) async fn vendor_token_answer(&self, wanted: &Wanted<'_>) -> Result<Value, MintError> {
        let (keys, draft) = self.vendor_access_draft(wanted).await?;
        let access_token = mint(&keys, &draft)?;
        let openid = wanted.scope.split(' ').any(|value| value == "openid");
        let mut answer = json!({
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": self.issuers().settings(wanted.vendor).access_token_ttl_s,
            "scope": wanted.scope,
        });
        if openid && let Some((keys, draft)) = self.vendor_id_draft(wanted, &access_token).await? {
            answer["id_token"] = mint(&keys, &draft)?.into();
        }
        Ok(answer)
    }
}
