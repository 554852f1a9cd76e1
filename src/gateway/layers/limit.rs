//! The limit of a request's body where nobody is admitted: on public routes.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Request, Response},
};

use super::{
    admit::{body_too_large, too_large},
    metered_body::{Ingress, IngressBody},
    refuse,
};
use crate::web::Wording;

/// The most bytes of a request's body.
#[derive(Debug, Clone, Copy)]
pub(in crate::gateway) struct Limit(pub(in crate::gateway) u64);

impl Limit {
    /// Refuses bodies above it, before and while they come.
    pub(in crate::gateway) async fn call<F: Future<Output = Response<Body>>>(
        self,
        request: Request<Body>,
        answer: impl FnOnce(Request<Body>) -> F,
    ) -> Response<Body> {
        if let Some(problem) = too_large(Some(self.0), request.headers()) {
            return refuse(problem, &request);
        }
        let (ingress, uri) = (Arc::new(Ingress::new(Some(self.0))), request.uri().clone());
        let wording = Wording::of(&request);
        let counted = Arc::clone(&ingress);
        let response = answer(request.map(|body| Body::new(IngressBody::new(body, counted)))).await;
        if ingress.is_exceeded() { body_too_large(self.0).render_in(wording, uri.path()) } else { response }
    }
}
