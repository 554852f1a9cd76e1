//! Extractors: who calls and in which scope, bodies, paths and queries, each refusing with a problem that names the
//! field. Scopes of requests are made here and nowhere else.

use std::sync::Arc;

use axum::{
    body::to_bytes,
    extract::{FromRef, FromRequest, FromRequestParts, OptionalFromRequest, Request},
    http::{HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

pub use super::credential::{bearer, insufficient_scope, unauthenticated};
pub use super::origin::{BROWSER_COOKIE, DEVICE_COOKIE, Peer, cookie, noted};
use super::{kinds::Kind, problem::Problem};
use crate::{
    identity::{
        ADMIN_SCOPE, Access, PortalGrant, Subject, TokenError, Verifier,
        rules::{FIRST_PARTY, user_scope},
    },
    kernel::{Actor, SessionId, Standing, TenantId, UserId},
    store::Scope,
    users::Role,
};

/// The largest JSON body taken, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A call by the platform administrator: a token with `tollgate:admin`.
#[derive(Debug, Clone)]
pub struct AdminScope {
    /// Who.
    pub admin: UserId,
}

impl AdminScope {
    /// Who acts, for the audit.
    pub const fn actor(&self) -> Actor {
        Actor::Admin(self.admin)
    }
}

impl From<&AdminScope> for Scope {
    fn from(_: &AdminScope) -> Self {
        Self::Platform
    }
}

/// A call by a tenant's user or machine client.
#[derive(Debug, Clone)]
pub struct TenantAccess {
    /// For which tenant.
    pub tenant: TenantId,
    /// What the token says.
    pub access: Arc<Access>,
}

impl From<&TenantAccess> for Scope {
    fn from(call: &TenantAccess) -> Self {
        Self::Tenant(call.tenant)
    }
}

fn actor_of(access: &Access) -> Actor {
    match access.subject {
        Subject::User(user) => Actor::User(user),
        Subject::Client(client) => Actor::Client(client),
        // Their tokens do not come here: the verifier of our own takes none of theirs.
        Subject::Foreign(_) => Actor::Anonymous,
    }
}

impl TenantAccess {
    /// Who acts, for the audit.
    pub fn actor(&self) -> Actor {
        actor_of(&self.access)
    }

    /// The person who calls, and their sign-in, which was with us directly: a machine is nobody, and no scope that people
    /// can allow a client covers what is their own. Nor does a token that was narrowed.
    pub fn person(&self) -> Result<(UserId, SessionId), Problem> {
        self.must_be_direct()?;
        // The least that every sign-in has: a token that was switched here may have no more.
        self.must_be_whole(Role::Member)?;
        match (&self.access.subject, self.access.session) {
            (&Subject::User(user), Some(session)) => Ok((user, session)),
            _ => Err(Problem::new(Kind::FORBIDDEN, "this is a person's own; the token is a machine's")),
        }
    }

    /// An error unless the token carries a scope value.
    pub fn require_scope(&self, value: &str) -> Result<(), Problem> {
        if self.access.scope.contains(value) { Ok(()) } else { Err(insufficient_scope(value)) }
    }

    /// Whether a client acts for a person, within what they allowed it.
    pub fn is_of_client_for_person(&self) -> bool {
        self.access.client_id != FIRST_PARTY && matches!(self.access.subject, Subject::User(_))
    }

    /// An error when a client acts for a person.
    fn must_be_direct(&self) -> Result<(), Problem> {
        if self.is_of_client_for_person() {
            return Err(Problem::new(Kind::FORBIDDEN, "a client acts within its scope, which does not cover this"));
        }
        Ok(())
    }

    /// An error unless the token has all that a sign-in in a role gets: one that was narrowed, or came of one that was, does
    /// not become more by what a role may do.
    fn must_be_whole(&self, role: Role) -> Result<(), Problem> {
        let of_user = matches!(self.access.subject, Subject::User(_));
        match user_scope(role).iter().find(|value| of_user && !self.access.scope.contains(value)) {
            Some(value) => Err(insufficient_scope(value)),
            None => Ok(()),
        }
    }

    /// The user, when their role is at least `role` and they signed in with us directly, with a token that has all of their
    /// sign-in's scope: no scope that people can allow a client covers what a role may do.
    pub fn require_role(&self, role: Role) -> Result<UserId, Problem> {
        self.must_be_direct()?;
        match self.access.subject {
            Subject::User(user) if self.access.role.is_some_and(|own| own >= role) => {
                self.must_be_whole(role)?;
                Ok(user)
            }
            _ => Err(Problem::new(Kind::FORBIDDEN, format!("needs a user with the role {} or higher", role.name()))),
        }
    }
}

/// A call to the usage API: by a tenant's user or client for the tenant, or by the platform administrator for all.
#[derive(Debug, Clone)]
pub struct UsageScope {
    /// Whose usage is within reach.
    pub scope: Scope,
    access: Arc<Access>,
}

impl UsageScope {
    /// Who acts, for the audit.
    pub fn actor(&self) -> Actor {
        if self.access.tenant.is_none()
            && let Subject::User(admin) = self.access.subject
        {
            return Actor::Admin(admin);
        }
        actor_of(&self.access)
    }

    /// An error unless the token carries a scope value, or is the administrator's.
    pub fn require_scope(&self, value: &str) -> Result<(), Problem> {
        if self.scope.tenant().is_none() || self.access.scope.contains(value) {
            Ok(())
        } else {
            Err(insufficient_scope(value))
        }
    }

    /// An error unless this is the administrator: meters are the platform's.
    pub fn require_admin(&self) -> Result<(), Problem> {
        if self.scope.tenant().is_none() { Ok(()) } else { Err(insufficient_scope(ADMIN_SCOPE)) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for UsageScope
where
    Verifier: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let access = access(parts, state)?;
        match access.tenant {
            Some(tenant) => {
                must_stand(tenant, state).await?;
                Ok(Self { scope: Scope::Tenant(tenant), access })
            }
            None if access.scope.contains(ADMIN_SCOPE) => Ok(Self { scope: Scope::Platform, access }),
            None => Err(insufficient_scope(ADMIN_SCOPE)),
        }
    }
}

/// A call by whoever holds a portal token: one tenant's usage, and nothing else.
#[derive(Debug, Clone)]
pub struct PortalAccess {
    /// Whose usage.
    pub tenant: TenantId,
    /// What the one who made the token called the tenant.
    pub subject: String,
    meters: Option<Vec<String>>,
}

impl From<&PortalAccess> for Scope {
    fn from(call: &PortalAccess) -> Self {
        Self::Tenant(call.tenant)
    }
}

impl PortalAccess {
    /// An error unless the token is good for a meter.
    pub fn require_meter(&self, slug: &str) -> Result<(), Problem> {
        match &self.meters {
            Some(meters) if !meters.iter().any(|own| own == slug) => {
                Err(Problem::new(Kind::FORBIDDEN, format!("the token is not good for the meter {slug}")))
            }
            _ => Ok(()),
        }
    }

    /// The refusal of a token whose tenant is gone.
    pub fn revoked(&self) -> Problem {
        unauthenticated(&TokenError::Revoked)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PortalAccess
where
    Verifier: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let verified = Verifier::from_ref(state).verify_portal(bearer(&parts.uri, &parts.headers)?);
        let PortalGrant { tenant, subject, meters, .. } = verified.map_err(|error| unauthenticated(&error))?;
        Ok(Self { tenant, subject, meters })
    }
}

fn access<S>(parts: &Parts, state: &S) -> Result<Arc<Access>, Problem>
where
    Verifier: FromRef<S>,
{
    Verifier::from_ref(state).verify(bearer(&parts.uri, &parts.headers)?).map_err(|error| unauthenticated(&error))
}

/// An error unless the tenant of a token may call now.
async fn must_stand<S>(tenant: TenantId, state: &S) -> Result<(), Problem>
where
    Verifier: FromRef<S>,
{
    stands(&Verifier::from_ref(state), tenant).await
}

/// An error unless a tenant is active just now.
pub(super) async fn stands(verifier: &Verifier, tenant: TenantId) -> Result<(), Problem> {
    match verifier.standing(tenant).await {
        // What is kept here answers for it, whatever its infrastructure does.
        Ok(Standing::Active | Standing::Unavailable) => Ok(()),
        Ok(Standing::Refused(status)) => Err(Problem::new(Kind::TENANT_NOT_ACTIVE, format!("the tenant is {status}"))),
        Ok(Standing::Gone) => Err(unauthenticated(&TokenError::Invalid("its tenant is gone"))),
        Err(error) => {
            Err(Problem::new(Kind::UNAVAILABLE, "the tenant's state is not known now").retry_after(1).caused_by(error))
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AdminScope
where
    Verifier: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let access = access(parts, state)?;
        match (&access.subject, access.tenant) {
            (&Subject::User(admin), None) if access.scope.contains(ADMIN_SCOPE) => Ok(Self { admin }),
            _ => Err(insufficient_scope(ADMIN_SCOPE)),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TenantAccess
where
    Verifier: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let access = access(parts, state)?;
        let Some(tenant) = access.tenant else {
            return Err(Problem::new(Kind::FORBIDDEN, "this is a tenant's own view; the token names no tenant"));
        };
        must_stand(tenant, state).await?;
        Ok(Self { tenant, access })
    }
}

/// A JSON body, in and out.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json(request.headers().get(header::CONTENT_TYPE)) {
            return Err(Problem::new(Kind::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json"));
        }
        let bytes = to_bytes(request.into_body(), MAX_BODY_BYTES).await.map_err(|error| body_problem(&error))?;
        from_json(&bytes).map(Self)
    }
}

/// A JSON body of the usage API: refused with 400, as OpenMeter's clients expect. As an option, it is `None` when the
/// request has neither a body nor a type.
#[derive(Debug, Clone, Copy, Default)]
pub struct UsageJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for UsageJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Json::from_request(request, state).await.map(|Json(body)| Self(body)).map_err(Problem::into_bad)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> OptionalFromRequest<S> for UsageJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Problem> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            <Self as FromRequest<S>>::from_request(request, state).await.map(Some)
        } else {
            Ok(None)
        }
    }
}

/// A body that could not be read: too large, or broken off.
pub fn body_problem(error: &axum::Error) -> Problem {
    let source = std::error::Error::source(error);
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the path of the method is longer than the call")]
    let too_long = source.is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
    if too_long {
        Problem::new(Kind::TOO_LARGE, format!("the body is larger than {MAX_BODY_BYTES} bytes"))
    } else {
        Problem::new(Kind::MALFORMED, "the body broke off")
    }
}

fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let essence = content_type.and_then(|value| value.to_str().ok()).and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// Reads JSON, saying which field is wrong.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() {
            let text = inner.to_string();
            // The position helps nobody who is told the field.
            let detail = text.rsplit_once(" at line ").map_or(text.as_str(), |(detail, _)| detail);
            Problem::invalid_field(&field_of(&path, &inner), detail)
        } else {
            Problem::new(Kind::MALFORMED, format!("the body is not JSON: {inner}"))
        }
    })?;
    reader.end().map_err(|error| Problem::new(Kind::MALFORMED, format!("the body is not JSON: {error}")))?;
    Ok(value)
}

/// The field an error of serde is about: its path, or for a missing or unknown field the name it quotes.
fn field_of(path: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let quoted =
        text.split('`').nth(1).filter(|_| text.starts_with("missing field") || text.starts_with("unknown field"));
    match (path, quoted) {
        ("." | "", Some(name)) => name.to_owned(),
        (path, Some(name)) if !path.ends_with(name) => format!("{path}.{name}"),
        (path, _) => path.to_owned(),
    }
}

/// Path parameters; one that is not an id is a thing that does not exist.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(Problem::new(Kind::NOT_FOUND, "there is no such thing")),
        }
    }
}

/// Query parameters.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let reader = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(query.as_bytes()));
        serde_path_to_error::deserialize(reader).map(Self).map_err(|error| {
            let path = error.path().to_string();
            Problem::invalid_field(if path == "." { "query" } else { &path }, error.into_inner())
        })
    }
}
