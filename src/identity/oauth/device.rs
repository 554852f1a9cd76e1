//! Where a device without a browser begins (RFC 8628 section 3.1).

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::{
    Params,
    request::{Fault, scope_of},
};
use crate::{
    identity::Identity,
    web::oauth::{OAuthError, not_stored},
};

/// Gives a device a code to ask with, and one to show.
#[utoipa::path(post, path = "/oauth2/device_authorization", tag = "oauth",
    responses((status = 200, body = Object), (status = 400), (status = 401)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn device_authorization(
    State(identity): State<Identity>,
    request: Request,
) -> Result<Response, OAuthError> {
    let (parts, params) = Params::of_form(request).await?;
    let client = identity.authenticate_client(&params.client(&parts.headers)?).await?;
    let scope = scope_of(&client, &params).map_err(Fault::into_error)?;
    let start = identity.start_device(&client, scope).await?;
    let page = format!("{}/device", identity.issuer());
    let answer = json!({
        "device_code": start.device_code.expose(),
        "user_code": start.user_code,
        "verification_uri": page,
        "verification_uri_complete": format!("{page}?user_code={}", start.user_code),
        "expires_in": start.expires_in_s,
        "interval": start.interval_s,
    });
    Ok(not_stored(Json(answer).into_response()))
}
