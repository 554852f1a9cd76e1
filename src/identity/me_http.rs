//! A person's own sign-ins and password, by their token.

use std::net::IpAddr;

use axum::{
    extract::{FromRef, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Identity, Keep, Origin, SeenBrowser, Session, Verifier};
use crate::{
    kernel::{BrowserId, ClientId, Faults, Secret, SessionId, Timestamp},
    web::{Json, Path, Problem, TenantAccess},
};

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Identity: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(list_own_sessions, end_other_sessions))
        .routes(routes!(end_own_session))
        .routes(routes!(list_own_browsers))
        .routes(routes!(end_own_browser))
        .routes(routes!(change_own_password))
}

/// One of a person's sign-ins.
#[derive(Debug, Serialize, ToSchema)]
pub struct OwnSessionView {
    session_id: SessionId,
    /// With which client; absent for our own pages and JSON sign-in.
    client_id: Option<ClientId>,
    client_name: Option<String>,
    /// By what they proved who they are (RFC 8176).
    amr: &'static [&'static str],
    created_at: Timestamp,
    /// When its tokens were last given out.
    last_used_at: Timestamp,
    /// Whether it is the one that asks.
    current: bool,
}

/// All of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct OwnSessionList {
    items: Vec<OwnSessionView>,
    /// Always `null`: a person has few.
    next_cursor: Option<String>,
}

impl OwnSessionView {
    fn new(session: &Session, client_name: Option<String>, own: SessionId) -> Self {
        Self {
            session_id: session.id,
            client_id: session.client_id,
            client_name,
            amr: session.proof.amr(),
            created_at: session.created_at,
            last_used_at: session.renewed_at.unwrap_or(session.created_at),
            current: session.id == own,
        }
    }
}

/// Lists the caller's sign-ins to this tenant that are not over.
#[utoipa::path(get, path = "/v1/me/sessions", tag = "tenant", responses((status = 200, body = OwnSessionList), (status = 403)))]
async fn list_own_sessions(
    call: TenantAccess,
    State(identity): State<Identity>,
) -> Result<Json<OwnSessionList>, Problem> {
    let (user, own) = call.person()?;
    let sessions = identity.own_sessions((&call).into(), user).await?;
    let items = sessions.into_iter().map(|(session, client)| OwnSessionView::new(&session, client, own)).collect();
    Ok(Json(OwnSessionList { items, next_cursor: None }))
}

/// Ends one of the caller's sign-ins; its tokens die at once.
#[utoipa::path(delete, path = "/v1/me/sessions/{session_id}", tag = "tenant", params(("session_id" = SessionId, Path)),
    responses((status = 204), (status = 403), (status = 404)))]
async fn end_own_session(
    call: TenantAccess,
    State(identity): State<Identity>,
    Path(id): Path<SessionId>,
) -> Result<StatusCode, Problem> {
    let (user, _) = call.person()?;
    identity.end_own_session((&call).into(), user, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all of the caller's sign-ins to this tenant but the one that asks, and signs their browsers out.
#[utoipa::path(delete, path = "/v1/me/sessions", tag = "tenant", responses((status = 204), (status = 403)))]
async fn end_other_sessions(call: TenantAccess, State(identity): State<Identity>) -> Result<StatusCode, Problem> {
    let (user, own) = call.person()?;
    identity.end_other_sessions((&call).into(), user, Keep::Session(own)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A browser in which a person is signed in to our pages.
#[derive(Debug, Serialize, ToSchema)]
pub struct OwnBrowserView {
    browser_id: BrowserId,
    /// From where they signed in; `null` where that is not known.
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// By what they proved who they are (RFC 8176).
    amr: &'static [&'static str],
    created_at: Timestamp,
    /// When it was last used, to the minute.
    last_used_at: Timestamp,
    expires_at: Timestamp,
}

/// All of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct OwnBrowserList {
    items: Vec<OwnBrowserView>,
    /// Always `null`: a person has few.
    next_cursor: Option<String>,
}

impl From<SeenBrowser> for OwnBrowserView {
    fn from(seen: SeenBrowser) -> Self {
        let SeenBrowser { browser, address, seen_at } = seen;
        Self {
            browser_id: browser.id,
            address,
            amr: browser.proof.amr(),
            created_at: browser.authenticated_at,
            last_used_at: seen_at,
            expires_at: browser.expires_at,
        }
    }
}

/// Lists the browsers that the caller is signed in with.
#[utoipa::path(get, path = "/v1/me/browsers", tag = "tenant", responses((status = 200, body = OwnBrowserList), (status = 403)))]
async fn list_own_browsers(
    call: TenantAccess,
    State(identity): State<Identity>,
) -> Result<Json<OwnBrowserList>, Problem> {
    let (user, _) = call.person()?;
    let items = identity.browsers_of_person(user).await?.into_iter().map(Into::into).collect();
    Ok(Json(OwnBrowserList { items, next_cursor: None }))
}

/// Signs one of the caller's browsers out, with all that came out of it.
#[utoipa::path(delete, path = "/v1/me/browsers/{browser_id}", tag = "tenant", params(("browser_id" = BrowserId, Path)),
    responses((status = 204), (status = 403), (status = 404)))]
async fn end_own_browser(
    call: TenantAccess,
    State(identity): State<Identity>,
    Path(id): Path<BrowserId>,
) -> Result<StatusCode, Problem> {
    let (user, _) = call.person()?;
    identity.end_browser_of_person(user, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A new password, with the old one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    #[schema(value_type = Option<String>)]
    current_password: Option<Secret>,
    /// At least 12 characters, or fewer that are hard to guess.
    #[schema(value_type = Option<String>)]
    new_password: Option<Secret>,
}

/// Changes the caller's password; all of their other sign-ins end, everywhere.
#[utoipa::path(post, path = "/v1/me/password", tag = "tenant", request_body = PasswordChange,
    responses((status = 204), (status = 401), (status = 403), (status = 422), (status = 429)))]
async fn change_own_password(
    call: TenantAccess,
    State(identity): State<Identity>,
    origin: Origin,
    Json(change): Json<PasswordChange>,
) -> Result<StatusCode, Problem> {
    let (user, own) = call.person()?;
    let mut faults = Faults::new();
    if change.current_password.is_none() {
        faults.add("current_password", "is required");
    }
    if change.new_password.is_none() {
        faults.add("new_password", "is required");
    }
    let both = change.current_password.zip(change.new_password);
    let (old, new) = faults.finish(both).map_err(|faults| Problem::invalid(&faults))?;
    match identity.change_password(user, &old, &new, &origin, Keep::Session(own)).await {
        Err(super::Error::WeakPassword(why)) => Err(Problem::invalid_field("new_password", why)),
        done => Ok(done.map(|()| StatusCode::NO_CONTENT)?),
    }
}
