//! Where somebody who was asked by the `webhook` driver says what came of it.

use axum::{
    body::Bytes,
    extract::{FromRef, State},
    http::{HeaderMap, StatusCode},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Provisioning, driver::Callback};
use crate::web::Problem;

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Provisioning: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(take_callback))
}

/// Says what came of a request of the `webhook` driver: JSON, signed as Standard Webhooks are (`webhook-id`, `webhook-timestamp`,
/// `webhook-signature`), with the secret of `provisioning.webhook`. The body's `type` is `provisioning.succeeded` or
/// `provisioning.failed`; the names of AWS's SaaS Builder Toolkit (`provisionSuccess`, `provisionFailure`, …) are taken, too.
#[utoipa::path(post, path = "/v1/provisioning/callback", tag = "tenants",
    request_body(content = serde_json::Value), responses((status = 204), (status = 400), (status = 401)))]
async fn take_callback(
    State(provisioning): State<Provisioning>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let callback = Callback {
        id: header("webhook-id"),
        at: header("webhook-timestamp"),
        signatures: header("webhook-signature"),
        body: String::from_utf8(body.to_vec()).unwrap_or_default(),
    };
    provisioning.hear(&callback).await?;
    Ok(StatusCode::NO_CONTENT)
}
