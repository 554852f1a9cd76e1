//! Pushed authorization requests (RFC 9126): a client sends its request here first, where nobody can read or change it.

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::{
    Params,
    request::{Fault, Known},
};
use crate::{
    identity::Identity,
    web::oauth::{OAuthError, not_stored},
};

/// Keeps an authorization request of the client that calls, and names it.
#[utoipa::path(post, path = "/oauth2/par", tag = "oauth", responses((status = 201, body = Object), (status = 400), (status = 401), (status = 413)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn push(State(identity): State<Identity>, request: Request) -> Result<Response, OAuthError> {
    // RFC 9126 section 2.3.
    let (parts, mut params) = Params::of_form_or(request, StatusCode::PAYLOAD_TOO_LARGE).await?;
    let client = identity.authenticate_client(&params.client(&parts.headers)?).await?;
    if params.text("request_uri").is_some() {
        return Err(OAuthError::invalid_request("request_uri cannot be pushed"));
    }
    params.remove("client_secret");
    params.set("client_id", &client.id.to_string());
    let form = params.to_query();
    let known = Known::with(client, params).map_err(OAuthError::invalid_request)?;
    known.authorization().and_then(|_| known.wishes(&identity).map(drop)).map_err(Fault::into_error)?;
    let (request_uri, expires_in) = identity.push_request(&known.client, &form).await?;
    let answer = (StatusCode::CREATED, Json(json!({"request_uri": request_uri, "expires_in": expires_in})));
    Ok(not_stored(answer.into_response()))
}
