//! The three layers. Each answers refusals itself, leaves the inner service's errors alone, and calls the very instance
//! that it polled ready.

mod admit;
mod authenticate;
mod form;
mod guarded;
mod meter;

use axum::{body::Body, http::Request, response::Response};

pub use admit::{Admit, AdmitLayer, Ticket};
pub use authenticate::{Authenticate, AuthenticateLayer};
pub(super) use form::FormLayer;
pub use meter::{Meter, MeterLayer, RouteMeters};

use crate::web::Problem;

/// A refusal, written out for the path it is about.
fn refuse<B>(problem: Problem, request: &Request<B>) -> Response<Body> {
    problem.render(request.uri().path())
}
