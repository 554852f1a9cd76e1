//! `Idempotency-Key` on creating POSTs: the first answer again for the same key and body, 409 for another body.
//!
//! The key belongs to the caller (whom its token speaks for, through which client, and what it may do) and the path. It is
//! claimed in the store before the handler runs, and the answer is written after it; a claim whose process died is free
//! again after two minutes. Answers with status 500 and above are not kept: trying again is what the key is for. Answers
//! are kept for a day, sealed, because some have secrets in them that the store knows by their hash alone.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{
    extract::{MAX_BODY_BYTES, bearer, body_problem, stands},
    kinds::Kind,
    problem::Problem,
};
use crate::{
    identity::{Access, Identity},
    kernel::{Clock, Timestamp},
    store::{Claim, Scope, Store},
};

/// A claim without an answer holds this long, in seconds: longer than any request is allowed to take.
const CLAIM_S: i64 = 120;
/// A key is remembered this long, in seconds.
const KEPT_S: i64 = 24 * 60 * 60;
/// The longest key taken.
const MAX_KEY: usize = 255;
const SIGN_UP: &str = "/v1/signup";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What the layer needs.
pub struct Idempotency {
    /// Where keys are kept.
    pub store: Store,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Says who calls, and digests what may hold secrets.
    pub identity: Identity,
}

/// An answer as kept.
#[derive(Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// What a claimed key comes to, for handlers whose work outlives an answer: who gets it again is answered by what they made
/// the first time, also where the first answer was never written.
#[derive(Debug, Clone, Copy)]
pub struct ClaimedKey(pub [u8; 32]);

/// The layer.
pub async fn idempotent(State(state): State<Arc<Idempotency>>, request: Request, next: Next) -> Response {
    match run(&state, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn run(state: &Idempotency, request: Request, next: Next) -> Result<Response, Problem> {
    let (true, Some(key)) = (request.method() == Method::POST, request.headers().get(IDEMPOTENCY_KEY)) else {
        return Ok(next.run(request).await);
    };
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= MAX_KEY).map(str::to_owned);
    let key = key.ok_or_else(|| Problem::invalid_field("Idempotency-Key", "must be 1 to 255 visible characters"))?;
    let path = request.uri().path();
    let verified = bearer(request.uri(), request.headers()).map(|token| state.identity.verifier().verify(token));
    let (owner, tenant) = match verified {
        Ok(Ok(access)) => (owner(&access, path), access.tenant),
        // Whoever signs up has no token. The key and the body, which has the password, are theirs all the same.
        _ if path == SIGN_UP => (SIGN_UP.to_owned(), None),
        // Without a valid token the handler refuses by itself; there is nobody to keep an answer for.
        _ => return Ok(next.run(request).await),
    };

    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, MAX_BODY_BYTES).await.map_err(|error| body_problem(&error))?;
    // Keyed, because a body may have a password in it.
    let digest = state.identity.keyed_digest(&bytes);
    let now = state.clock.now();
    match claim(state, &owner, &key, &digest, now).await? {
        Claim::New => {}
        Claim::Answered(answer) => {
            if let Some(tenant) = tenant {
                stands(state.identity.verifier(), tenant).await?;
            }
            return replay(state, &owner, &key, &answer);
        }
        Claim::OtherBody => {
            return Err(Problem::new(Kind::IDEMPOTENCY_MISMATCH, "this Idempotency-Key was used with another body"));
        }
        Claim::Running => {
            let problem = Problem::new(Kind::IDEMPOTENCY_RUNNING, "the first request with this key is still running");
            return Err(problem.retry_after(1));
        }
    }
    let path = parts.uri.path().to_owned();
    let mut request = Request::from_parts(parts, Body::from(bytes));
    let claimed = state.identity.keyed_digest(&[owner.as_bytes(), b"\n", key.as_bytes(), b"\n", &digest].concat());
    request.extensions_mut().insert(ClaimedKey(claimed));
    let response = next.run(request).await;
    keep(state, &owner, &key, &path, response).await
}

/// Who may have the answer again: a token that may do less than the one that was answered is another's.
fn owner(access: &Access, path: &str) -> String {
    let Access { tenant, subject, client_id, role, scope, .. } = access;
    format!("{tenant:?} {subject:?} {client_id} {role:?} {scope:?} {path}")
}

async fn claim(state: &Idempotency, owner: &str, key: &str, digest: &[u8], now: Timestamp) -> Result<Claim, Problem> {
    let mut tx = state.store.begin(Scope::Job("idempotency")).await?;
    let claim = tx.idempotency_claim(owner, key, digest, now, now.plus_secs(-CLAIM_S), now.plus_secs(-KEPT_S)).await?;
    tx.commit().await?;
    Ok(claim)
}

/// Keeps the answer and passes it on; gives the key back when there is nothing worth keeping.
async fn keep(
    state: &Idempotency,
    owner: &str,
    key: &str,
    path: &str,
    response: Response,
) -> Result<Response, Problem> {
    let response = super::instance::written(response, path);
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.map_err(|error| body_problem(&error))?;
    let mut tx = state.store.begin(Scope::Job("idempotency")).await?;
    if parts.status.is_server_error() {
        tx.idempotency_release(owner, key).await?;
    } else {
        let headers =
            parts.headers.iter().filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        let answer = Answer {
            status: parts.status.as_u16(),
            headers: headers.collect(),
            body: String::from_utf8_lossy(&bytes).into_owned(),
        };
        let plain = serde_json::to_vec(&answer).map_err(Problem::internal)?;
        let sealed = state.identity.seal_secret(&sealed_as(owner, key), &plain)?;
        tx.idempotency_answer(owner, key, &STANDARD.encode(sealed)).await?;
    }
    tx.commit().await?;
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

/// No answer opens as that of another key.
fn sealed_as(owner: &str, key: &str) -> String {
    format!("answer to {owner}\n{key}")
}

fn replay(state: &Idempotency, owner: &str, key: &str, kept: &str) -> Result<Response, Problem> {
    let sealed = STANDARD.decode(kept).map_err(Problem::internal)?;
    let plain = state.identity.unseal_secret(&sealed_as(owner, key), &sealed)?;
    let Answer { status, headers, body } = serde_json::from_slice(&plain).map_err(Problem::internal)?;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).map_err(Problem::internal)?;
    for (name, value) in headers {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else { continue };
        if name != header::CONTENT_LENGTH {
            response.headers_mut().append(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}
