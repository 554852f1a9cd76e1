//! The pages on which people come in: signing up, and accepting an invitation. They need no script.

mod invitation;
mod sign_up;

use axum::{
    extract::FromRef,
    response::{IntoResponse, Response},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Error, Onboarding};
use crate::{
    identity::{self, Identity},
    web::Problem,
};

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Onboarding: FromRef<S>,
    Identity: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(sign_up::sign_up_page, sign_up::sign_up_by_form))
        .routes(routes!(sign_up::verify_page, sign_up::verify_by_form))
        .routes(routes!(invitation::invitation_page, invitation::accept_by_form))
}

/// What only a page can say of an error.
fn failed(error: Error) -> Response {
    match error {
        Error::Identity(error) => identity::failed(error),
        other => Problem::from(other).into_response(),
    }
}
