//! The limit of a request's body where nobody is admitted: on public routes.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    http::{Request, Response},
};
use tower::{ServiceExt as _, service_fn};

use super::{
    admit::{body_too_large, too_large},
    metered_body::{Ingress, IngressBody},
    refuse,
};
use crate::gateway::stack::{Upstream, boxed};

/// Refuses bodies above a limit, before and while they come.
pub(in crate::gateway) fn limited(inner: Upstream, limit: u64) -> Upstream {
    boxed(service_fn(move |request: Request<Body>| {
        let inner = inner.clone();
        async move {
            if let Some(problem) = too_large(Some(limit), request.headers()) {
                return Ok::<Response<Body>, Infallible>(refuse(problem, &request));
            }
            let (ingress, uri) = (Arc::new(Ingress::new(Some(limit))), request.uri().clone());
            let counted = Arc::clone(&ingress);
            let response = inner.oneshot(request.map(|body| Body::new(IngressBody::new(body, counted)))).await?;
            Ok(if ingress.is_exceeded() { body_too_large(limit).render(uri.path()) } else { response })
        }
    }))
}
