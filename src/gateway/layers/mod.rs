//! The three layers. Each answers refusals itself, leaves the inner service's errors alone, and calls the very instance
//! that it polled ready.

mod admit;
mod admitted;
mod authenticate;
mod draft;
mod form;
mod guarded;
mod held_body;
mod limit;
mod limits;
mod meter;
mod metered_body;
mod route_terms;
mod ticket;

use axum::{body::Body, http::Request, response::Response};

pub use admit::{Admit, AdmitLayer};
pub(super) use admitted::Admitted;
pub use authenticate::{Authenticate, AuthenticateLayer};
pub(super) use form::Form;
pub(super) use limit::Limit;
pub(super) use meter::Begun;
pub use meter::{Meter, MeterLayer, RouteMeters};
pub use route_terms::RouteTerms;
pub use ticket::Ticket;

use crate::web::{Problem, Wording};

/// A refusal, written out for the path it is about and for whoever asked.
fn refuse<B>(problem: Problem, request: &Request<B>) -> Response<Body> {
    problem.render_in(Wording::of(request), request.uri().path())
}
