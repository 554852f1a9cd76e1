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
    gateway::headers::strip_identity,
    identity::Verifier,
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

    fn check<B>(&self, request: &mut Request<B>) -> Result<(), Problem> {
        strip_identity(request.headers_mut());
        let access = self.verifier.verify(bearer(request.headers())?).map_err(|error| unauthenticated(&error))?;
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
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = AuthenticateFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.layer.check(&mut request) {
            Ok(()) => AuthenticateFuture::Inner { future: self.inner.call(request) },
            Err(problem) => AuthenticateFuture::Refused { response: Some(refuse(problem, &request)) },
        }
    }
}

pin_project! {
    /// The future of [`Authenticate`].
    #[project = AuthenticateProjection]
    pub enum AuthenticateFuture<F> {
        /// The inner service answers.
        Inner { #[pin] future: F },
        /// The layer does.
        Refused { response: Option<Response<Body>> },
    }
}

impl<F, E> Future for AuthenticateFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AuthenticateProjection::Inner { future } => Poll::Ready(ready!(future.poll(cx))),
            AuthenticateProjection::Refused { response } => {
                Poll::Ready(Ok(response.take().expect("a future is not polled after it is done")))
            }
        }
    }
}
