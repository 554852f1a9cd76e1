//! `authenticate`: who calls. Leaves `Arc<Access>` in the request's extensions, and a `TokenLife` where the connection is to
//! become another protocol's. An answer that takes long ends with its token.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    http::{Request, header},
    response::Response,
};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{form::TwoCredentials, guarded, refuse};
use crate::{
    gateway::{directory::BoxFuture, headers::strip_identity},
    identity::{Access, TokenError, TokenLife, Verifier},
    kernel::Timestamp,
    users::Role,
    web::{
        Kind, Problem,
        credential::two_credentials,
        extract::{bearer, insufficient_scope, unauthenticated},
    },
};

/// Lets requests with a tenant's valid access token through, and nobody else.
#[derive(Clone)]
pub struct AuthenticateLayer {
    verifier: Verifier,
    scopes: Arc<[String]>,
    roles: Arc<[Role]>,
}

impl AuthenticateLayer {
    /// Verifies with `verifier`.
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier, scopes: Arc::default(), roles: Arc::default() }
    }

    /// Also requires every one of these scopes.
    #[must_use]
    pub fn require_scopes(mut self, scopes: &[String]) -> Self {
        self.scopes = scopes.into();
        self
    }

    /// Also requires one of these roles, if there are any. Machine clients have none.
    #[must_use]
    pub fn require_roles(mut self, roles: &[Role]) -> Self {
        self.roles = roles.into();
        self
    }

    /// Takes away what only we may say, and looks at the token: decided at once, unless that takes waiting.
    fn check<B>(&self, request: &mut Request<B>) -> Result<Decision, Problem> {
        strip_identity(request.headers_mut());
        let token = bearer(request.uri(), request.headers())?;
        match self.verifier.decide(token) {
            Some(verdict) => self.let_in(request, verdict).map(Decision::Known),
            None => Ok(Decision::Waits(token.to_owned())),
        }
    }

    /// Who calls; takes away what only we may say of that.
    pub(in crate::gateway) async fn who_calls<B>(&self, request: &mut Request<B>) -> Result<Arc<Access>, Problem> {
        strip_identity(request.headers_mut());
        let token = bearer(request.uri(), request.headers())?;
        self.may_call(match self.verifier.decide(token) {
            Some(verdict) => verdict,
            None => self.resolve(token).await,
        })
    }

    /// Who has a token at this time.
    pub(in crate::gateway) async fn who_has(&self, token: &str, now: Timestamp) -> Result<Arc<Access>, Problem> {
        self.may_call(match self.verifier.decide_at(token, now) {
            Some(verdict) => verdict,
            None => self.resolve(token).await,
        })
    }

    fn resolve(&self, token: &str) -> BoxFuture<'static, Result<Arc<Access>, TokenError>> {
        let (verifier, token) = (self.verifier.clone(), token.to_owned());
        Box::pin(async move { verifier.resolve(&token).await })
    }

    /// What a token of this caller lives by.
    pub(in crate::gateway) fn life(&self, access: &Arc<Access>) -> TokenLife {
        self.verifier.life(Arc::clone(access))
    }

    /// The answer to a caller; one that takes long ends with the token.
    pub(in crate::gateway) fn answer(&self, response: Response<Body>, access: Arc<Access>) -> Response<Body> {
        match response.extensions().get::<TwoCredentials>() {
            Some(TwoCredentials(path)) => two_credentials().render(path),
            None => guarded::guard(response, || self.verifier.life(access)),
        }
    }

    fn let_in<B>(
        &self,
        request: &mut Request<B>,
        verdict: Result<Arc<Access>, TokenError>,
    ) -> Result<Arc<Access>, Problem> {
        let access = self.may_call(verdict)?;
        // A socket outlasts its answer: whoever serves it ends it with this.
        if request.headers().contains_key(header::UPGRADE) {
            request.extensions_mut().insert(self.life(&access));
        }
        request.extensions_mut().insert(Arc::clone(&access));
        Ok(access)
    }

    /// A token of nobody's is good for nothing here.
    pub(in crate::gateway) fn without_tenant() -> Problem {
        Problem::new(Kind::FORBIDDEN, "the token names no tenant")
    }

    fn may_call(&self, verdict: Result<Arc<Access>, TokenError>) -> Result<Arc<Access>, Problem> {
        let access = verdict.map_err(|error| unauthenticated(&error))?;
        if access.tenant.is_none() {
            return Err(Self::without_tenant());
        }
        if let Some(missing) = self.scopes.iter().find(|scope| !access.scope.contains(scope)) {
            return Err(insufficient_scope(missing));
        }
        if !self.roles.is_empty() && !access.role.is_some_and(|role| self.roles.contains(&role)) {
            let names: Vec<_> = self.roles.iter().map(|role| role.name()).collect();
            return Err(Problem::new(Kind::FORBIDDEN, format!("needs a user with the role {}", names.join(" or "))));
        }
        Ok(access)
    }
}

/// What was decided of a token without waiting.
enum Decision {
    /// It lets them in, who are in the request's extensions.
    Known(Arc<Access>),
    /// This token is to be resolved.
    Waits(String),
}

impl<S> Layer<S> for AuthenticateLayer {
    type Service = Authenticate<S>;

    fn layer(&self, inner: S) -> Authenticate<S> {
        Authenticate { inner, layer: self.clone() }
    }
}

/// The service of [`AuthenticateLayer`].
#[derive(Clone)]
pub struct Authenticate<S> {
    inner: S,
    layer: AuthenticateLayer,
}

impl<S, B> Service<Request<B>> for Authenticate<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = AuthenticateFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.layer.check(&mut request) {
            Ok(Decision::Known(access)) => {
                let guard = Some((self.layer.clone(), access));
                AuthenticateFuture::Inner { future: self.inner.call(request), guard }
            }
            Ok(Decision::Waits(token)) => {
                let verifier = self.layer.verifier.clone();
                let resolving = Box::pin(async move { verifier.resolve(&token).await });
                // The instance that was polled ready goes with the request; a clone takes its place.
                let clone = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, clone);
                AuthenticateFuture::Waiting { resolving, waiting: Some((self.layer.clone(), inner, request)) }
            }
            Err(problem) => AuthenticateFuture::Refused { response: Some(refuse(problem, &request)) },
        }
    }
}

pin_project! {
    /// The future of [`Authenticate`].
    #[project = AuthenticateProjection]
    pub enum AuthenticateFuture<S, B> where S: Service<Request<B>> {
        /// An issuer's keys are being fetched, or a tenant is looked up or made.
        Waiting {
            resolving: BoxFuture<'static, Result<Arc<Access>, TokenError>>,
            waiting: Option<(AuthenticateLayer, S, Request<B>)>,
        },
        /// The inner service answers.
        Inner { #[pin] future: S::Future, guard: Option<(AuthenticateLayer, Arc<Access>)> },
        /// The layer does.
        Refused { response: Option<Response<Body>> },
    }
}

impl<S, B> Future for AuthenticateFuture<S, B>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Output = Result<Response<Body>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project() {
                AuthenticateProjection::Inner { future, guard } => {
                    let result = ready!(future.poll(cx));
                    let (layer, access) = guard.take().expect("a future is not polled after it is done");
                    return Poll::Ready(result.map(|response| layer.answer(response, access)));
                }
                AuthenticateProjection::Refused { response } => {
                    return Poll::Ready(Ok(response.take().expect("a future is not polled after it is done")));
                }
                AuthenticateProjection::Waiting { resolving, waiting } => {
                    let verdict = ready!(resolving.as_mut().poll(cx));
                    let (layer, mut inner, mut request) =
                        waiting.take().expect("a future is not polled after it is done");
                    match layer.let_in(&mut request, verdict) {
                        Ok(access) => Self::Inner { future: inner.call(request), guard: Some((layer, access)) },
                        Err(problem) => Self::Refused { response: Some(refuse(problem, &request)) },
                    }
                }
            };
            self.set(next);
        }
    }
}
