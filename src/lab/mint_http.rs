//! Minting: any token of ours or of a vendor's issuer, and every bad one that has a name.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Lab, http,
    issuer_tokens::{Wanted, granted},
    keys::Keys,
    subjects::Somebody,
    tokens::{self, Draft, MAX_BYTES, MintError, Signature},
    vendors::{Vendor, is_realm},
};
use crate::{
    identity::Client,
    kernel::{Clock as _, Faults},
    tenants::Tenant,
    web::{AdminScope, Json, Kind, Path, Problem},
};

/// The client of a token that names none.
const CLIENT: &str = "lab-client";

pub(super) fn routes() -> OpenApiRouter<Lab> {
    OpenApiRouter::new()
        .routes(routes!(mint_token))
        .routes(routes!(mint_bad_tokens))
        .routes(routes!(mint_issuer_token))
        .routes(routes!(mint_bad_issuer_tokens))
}

impl From<MintError> for Problem {
    fn from(error: MintError) -> Self {
        match error {
            MintError::NoSuchKey => Self::invalid_field("key", error),
            MintError::Identity(error) => error.into(),
        }
    }
}

/// A token to be minted.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MintBody {
    /// Begins with the claims of a good token for this user: an email or id.
    user: Option<String>,
    /// Begins with the claims of a good token for this client itself; beside `user`, which client the user has.
    client_id: Option<String>,
    /// The tenant, by id or external id, of a user of several or a client of none.
    tenant: Option<String>,
    /// Members that go over those of a good header; `null` takes one away.
    #[schema(value_type = Option<Object>)]
    header: Option<Map<String, Value>>,
    /// The claims; with `user` or `client_id` they go over those of a good token, and `null` takes one away.
    #[schema(value_type = Option<Object>)]
    claims: Option<Map<String, Value>>,
    /// `current` when absent; `none`, `hs256-public`, `hs256-jwk`, `foreign`, `unknown`, `zero`, or the `kid` of a key.
    key: Option<String>,
    /// Filled up to at least this many bytes, 1048576 at most.
    bytes: Option<usize>,
    /// Of vendors' issuers: `access` when absent, or `id`.
    token_use: Option<String>,
    /// Of vendors' issuers: which realm's.
    realm: Option<String>,
    /// Of vendors' issuers: one of its variants.
    variant: Option<String>,
    /// Of vendors' issuers: what for, separated by spaces.
    scope: Option<String>,
    /// Of vendors' issuers: for which API.
    audience: Option<String>,
    /// Of vendors' issuers: the nonce of an ID token.
    nonce: Option<String>,
}

/// A minted token.
#[derive(Debug, Serialize, ToSchema)]
pub struct MintedView {
    token: String,
}

/// A good token, and bad ones made from it.
#[derive(Debug, Serialize, ToSchema)]
pub struct BadTokens {
    /// As it should be.
    good: String,
    items: Vec<BadToken>,
    /// Always `null`: there are few.
    next_cursor: Option<String>,
}

/// A bad token.
#[derive(Debug, Serialize, ToSchema)]
pub struct BadToken {
    /// What is bad about it.
    name: String,
    token: String,
}

/// For whom a token is, as far as the store knows.
struct Subject {
    somebody: Option<Somebody>,
    client: Option<Client>,
    tenant: Option<Tenant>,
}

impl MintBody {
    fn bytes_in_bounds(&self) -> Result<(), Problem> {
        let fine = self.bytes.is_none_or(|bytes| bytes <= MAX_BYTES);
        fine.then_some(()).ok_or_else(|| Problem::invalid_field("bytes", format!("must be at most {MAX_BYTES}")))
    }

    /// What only a vendor's issuer has a use for.
    fn nothing_of_vendors(&self) -> Result<(), Problem> {
        let mut faults = Faults::new();
        for (name, value) in [
            ("token_use", &self.token_use),
            ("realm", &self.realm),
            ("variant", &self.variant),
            ("scope", &self.scope),
            ("audience", &self.audience),
            ("nonce", &self.nonce),
        ] {
            if value.is_some() {
                faults.add(name, "is for vendors' issuers; say it in `claims`");
            }
        }
        faults.finish(Some(())).map_err(|faults| Problem::invalid(&faults))
    }

    async fn subject(&self, lab: &Lab) -> Result<Subject, Problem> {
        let tenant = self.tenant.as_deref();
        let somebody =
            match &self.user {
                Some(who) => {
                    let found = lab.somebody(who, tenant).await?;
                    Some(found.ok_or_else(|| {
                        Problem::invalid_field("user", "there is no such user, or not in that tenant")
                    })?)
                }
                None => None,
            };
        let client = match &self.client_id {
            // With a user, or a vendor, a client need not be known here.
            Some(id) => lab.identity().client_by_id(id).await?,
            None => None,
        };
        let place = somebody.as_ref().and_then(|somebody| somebody.place.as_ref());
        let tenant = match (place, &client, tenant) {
            (Some((own, _)), _, _) => Some(own.clone()),
            (None, Some(client), asked) => lab.tenant_of(client, asked).await?,
            (None, None, Some(asked)) => lab.tenant(asked).await?,
            (None, None, None) => None,
        };
        if self.tenant.is_some() && tenant.is_none() {
            return Err(Problem::invalid_field("tenant", "there is no such tenant, or not of that client"));
        }
        Ok(Subject { somebody, client, tenant })
    }

    /// One of our own tokens.
    async fn own(&self, lab: &Lab) -> Result<(Keys, Draft), Problem> {
        self.nothing_of_vendors()?;
        let subject = self.subject(lab).await?;
        let identity = lab.identity();
        let base = match (&subject.somebody, &subject.client, &self.client_id) {
            (Some(somebody), _, client_id) => {
                let place = somebody.place.as_ref().map(|(tenant, role)| (tenant.id, *role));
                let mut claims = identity.claims_of_person(somebody.user.id, place)?;
                if let Some(client_id) = client_id {
                    claims["client_id"] = client_id.as_str().into();
                }
                claims
            }
            (None, Some(client), _) => identity.claims_of_client(client)?,
            (None, None, Some(_)) => return Err(Problem::invalid_field("client_id", "there is no such client")),
            (None, None, None) if self.claims.is_none() => {
                return Err(Problem::invalid_field("claims", "is required without user or client_id"));
            }
            (None, None, None) => Value::Null,
        };
        let Value::Object(claims) = base else {
            // As they were sent, null and all.
            return Ok((Keys::Own(identity.clone()), self.draft(self.claims.clone().unwrap_or_default())));
        };
        Ok((Keys::Own(identity.clone()), self.over(self.draft(claims))))
    }

    fn draft(&self, claims: Map<String, Value>) -> Draft {
        let header = self.header.clone().unwrap_or_default();
        Draft { typ: Some("at+jwt"), header, claims, signature: self.signature(), bytes: self.bytes }
    }

    fn signature(&self) -> Signature {
        self.key.as_deref().map_or(Signature::Current, Signature::from)
    }

    /// What was sent goes over a good token's.
    fn over(&self, mut draft: Draft) -> Draft {
        tokens::overlay(&mut draft.claims, self.claims.as_ref().unwrap_or(&Map::new()));
        draft.header = self.header.clone().unwrap_or_default();
        draft.signature = self.signature();
        draft.bytes = self.bytes;
        draft
    }

    /// A token of a vendor's issuer.
    async fn of_vendor(&self, lab: &Lab, vendor: Vendor) -> Result<(Keys, Draft), Problem> {
        let mut faults = Faults::new();
        let variant = self.variant.as_deref().map(|name| faults.check("variant", http::variant(vendor, name)));
        if self
            .realm
            .as_deref()
            .is_some_and(|realm| !is_realm(realm) || vendor.places(Some(realm)) == vendor.places(None))
        {
            faults.add("realm", "must be letters, digits, `-`, `_` or `.`, for a vendor that has realms");
        }
        let of_id = match self.token_use.as_deref() {
            None | Some("access") => false,
            Some("id") => true,
            Some(_) => {
                faults.add("token_use", "must be access or id");
                false
            }
        };
        if of_id && self.user.is_none() {
            faults.add("user", "is required for an ID token");
        }
        faults.finish(Some(())).map_err(|faults| Problem::invalid(&faults))?;
        let subject = self.subject(lab).await?;
        let auth_time = lab.clock().now().as_secs();
        let registered = subject.client.as_ref().map(|client| client.scope.to_string()).unwrap_or_default();
        let scope = granted(vendor, self.scope.as_deref().unwrap_or(vendor.scope()), &registered);
        let scope = scope.map_err(|why| Problem::invalid_field("scope", why))?;
        let wanted = Wanted {
            vendor,
            realm: self.realm.as_deref(),
            client_id: self.client_id.clone().unwrap_or_else(|| CLIENT.to_owned()),
            confidential: subject.client.as_ref().is_none_or(|client| client.secret_hash.is_some()),
            somebody: subject.somebody.as_ref().map(|somebody| (somebody, auth_time)),
            tenant: subject.tenant.as_ref(),
            scope,
            audience: self.audience.clone(),
            nonce: self.nonce.clone(),
            variant: variant.flatten(),
        };
        let (keys, draft) = if of_id {
            let id = lab.vendor_id_draft(&wanted, "").await?;
            let (keys, mut draft) = id.ok_or_else(|| Problem::invalid_field("user", "is required for an ID token"))?;
            // There is no access token that it could be the hash of.
            draft.claims.shift_remove("at_hash");
            (keys, draft)
        } else {
            lab.vendor_access_draft(&wanted).await?
        };
        Ok((keys, self.over(draft)))
    }
}

/// Makes a token where that may take its time: an RSA key of a stranger, a megabyte.
async fn minted(keys: Keys, draft: Draft) -> Result<Json<MintedView>, Problem> {
    let token = tokio::task::spawn_blocking(move || tokens::mint(&keys, &draft)).await.map_err(Problem::internal)??;
    Ok(Json(MintedView { token }))
}

async fn bad(lab: &Lab, keys: Keys, draft: Draft) -> Result<Json<BadTokens>, Problem> {
    let now = lab.clock().now().as_secs();
    let make = move || Ok::<_, MintError>((tokens::mint(&keys, &draft)?, tokens::bad(&keys, &draft, now)?));
    let (good, bad) = tokio::task::spawn_blocking(make).await.map_err(Problem::internal)??;
    let items = bad.into_iter().map(|(name, token)| BadToken { name, token }).collect();
    Ok(Json(BadTokens { good, items, next_cursor: None }))
}

fn vendor(name: &str) -> Result<Vendor, Problem> {
    http::vendor(name).map_err(|_| Problem::new(Kind::NOT_FOUND, "there is no such issuer"))
}

/// Mints any access token of this server's: a good one for a user or client, or whatever header and claims say.
#[utoipa::path(post, path = "/admin/v1/lab/tokens", tag = "lab", request_body = MintBody,
    responses((status = 200, body = MintedView), (status = 422)))]
async fn mint_token(
    _: AdminScope,
    State(lab): State<Lab>,
    Json(body): Json<MintBody>,
) -> Result<Json<MintedView>, Problem> {
    body.bytes_in_bounds()?;
    let (keys, draft) = body.own(&lab).await?;
    minted(keys, draft).await
}

/// Mints every bad token that has a name, from a good one.
#[utoipa::path(post, path = "/admin/v1/lab/tokens/bad", tag = "lab", request_body = MintBody,
    responses((status = 200, body = BadTokens), (status = 422)))]
async fn mint_bad_tokens(
    _: AdminScope,
    State(lab): State<Lab>,
    Json(body): Json<MintBody>,
) -> Result<Json<BadTokens>, Problem> {
    body.bytes_in_bounds()?;
    let (keys, draft) = body.own(&lab).await?;
    bad(&lab, keys, draft).await
}

/// Mints a token in a vendor's dialect, under its issuer's key.
#[utoipa::path(post, path = "/admin/v1/lab/issuers/{name}/tokens", tag = "lab", params(("name" = String, Path)),
    request_body = MintBody, responses((status = 200, body = MintedView), (status = 404), (status = 422)))]
async fn mint_issuer_token(
    _: AdminScope,
    State(lab): State<Lab>,
    Path(name): Path<String>,
    Json(body): Json<MintBody>,
) -> Result<Json<MintedView>, Problem> {
    body.bytes_in_bounds()?;
    let (keys, draft) = body.of_vendor(&lab, vendor(&name)?).await?;
    minted(keys, draft).await
}

/// Mints every bad token that has a name, from a good one in a vendor's dialect.
#[utoipa::path(post, path = "/admin/v1/lab/issuers/{name}/tokens/bad", tag = "lab", params(("name" = String, Path)),
    request_body = MintBody, responses((status = 200, body = BadTokens), (status = 404), (status = 422)))]
async fn mint_bad_issuer_tokens(
    _: AdminScope,
    State(lab): State<Lab>,
    Path(name): Path<String>,
    Json(body): Json<MintBody>,
) -> Result<Json<BadTokens>, Problem> {
    body.bytes_in_bounds()?;
    let (keys, draft) = body.of_vendor(&lab, vendor(&name)?).await?;
    bad(&lab, keys, draft).await
}
