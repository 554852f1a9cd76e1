//! `authenticate`: who calls. Leaves `Arc<Access>` in the request's extensions.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{body::Body, http::Request, response::Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::refuse;
use crate::{
    gateway::{directory::BoxFuture, headers::strip_identity},
    identity::{Access, TokenError, Verifier},
    users::Role,
    web::{
        Kind, Problem,
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
        let token = bearer(request.headers())?;
        match self.verifier.decide(token) {
            Some(verdict) => self.let_in(request, verdict).map(|()| Decision::Known),
            None => Ok(Decision::Waits(token.to_owned())),
        }
    }

    fn let_in<B>(&self, request: &mut Request<B>, verdict: Result<Arc<Access>, TokenError>) -> Result<(), Problem> {
        let access = verdict.map_err(|error| unauthenticated(&error))?;
        if access.tenant.is_none() {
            return Err(Problem::new(Kind::FORBIDDEN, "the token names no tenant"));
        }
        if let Some(missing) = self.scopes.iter().find(|scope| !access.scope.contains(scope)) {
            return Err(insufficient_scope(missing));
        }
        if !self.roles.is_empty() && !access.role.is_some_and(|role| self.roles.contains(&role)) {
            let names: Vec<_> = self.roles.iter().map(|role| role.name()).collect();
            return Err(Problem::new(Kind::FORBIDDEN, format!("needs a user with the role {}", names.join(" or "))));
        }
        request.extensions_mut().insert(access);
        Ok(())
    }
}

/// What was decided of a token without waiting.
enum Decision {
    /// Whom it lets in is in the request's extensions.
    Known,
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
            Ok(Decision::Known) => AuthenticateFuture::Inner { future: self.inner.call(request) },
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
        Inner { #[pin] future: S::Future },
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
                AuthenticateProjection::Inner { future } => return future.poll(cx),
                AuthenticateProjection::Refused { response } => {
                    return Poll::Ready(Ok(response.take().expect("a future is not polled after it is done")));
                }
                AuthenticateProjection::Waiting { resolving, waiting } => {
                    let verdict = ready!(resolving.as_mut().poll(cx));
                    let (layer, mut inner, mut request) =
                        waiting.take().expect("a future is not polled after it is done");
                    match layer.let_in(&mut request, verdict) {
                        Ok(()) => Self::Inner { future: inner.call(request) },
                        Err(problem) => Self::Refused { response: Some(refuse(problem, &request)) },
                    }
                }
            };
            self.set(next);
        }
    }
}
