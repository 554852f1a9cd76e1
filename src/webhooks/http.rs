//! Webhooks of the platform.

use axum::{
    extract::{FromRef, State},
    http::StatusCode,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Webhooks, events_http, own_http,
    shapes_http::{
        AttemptQuery, AttemptView, Caller, ReplayRequest, ReplayView, SecretRenewal, WebhookChange, WebhookRequest,
        WebhookView,
    },
};
use crate::{
    kernel::WebhookId,
    web::{AdminScope, Json, List, PageQuery, Path, Problem, Query, Verifier},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Webhooks: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(list_webhooks, create_webhook))
        .routes(routes!(read_webhook, update_webhook, delete_webhook))
        .routes(routes!(renew_webhook_secret))
        .routes(routes!(list_webhook_attempts))
        .routes(routes!(retry_webhook_event))
        .routes(routes!(replay_webhook))
        .merge(own_http::routes())
        .merge(events_http::routes())
}

/// Which webhooks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WebhookQuery {
    /// Of this tenant; everybody's when absent.
    tenant_id: Option<String>,
    /// Items on the page, 1 to 500; 50 when absent.
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists webhooks of everybody, or of one tenant.
#[utoipa::path(get, path = "/admin/v1/webhooks", tag = "running", params(WebhookQuery),
    responses((status = 200, body = List<WebhookView>), (status = 422)))]
async fn list_webhooks(
    scope: AdminScope,
    State(webhooks): State<Webhooks>,
    Query(query): Query<WebhookQuery>,
) -> Result<Json<List<WebhookView>>, Problem> {
    let WebhookQuery { tenant_id, limit, cursor } = query;
    let tenant = tenant_id.as_deref().map(str::parse).transpose();
    let tenant = tenant.map_err(|error| Problem::invalid_field("tenant_id", error))?;
    Caller::admin(&scope, webhooks).list(tenant, PageQuery { limit, cursor }.try_into()?).await
}

/// Makes a webhook of the platform, which is told of every tenant's events. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/admin/v1/webhooks", tag = "running", request_body = WebhookRequest,
    responses((status = 201, body = WebhookView), (status = 409), (status = 422)))]
async fn create_webhook(
    scope: AdminScope,
    State(webhooks): State<Webhooks>,
    Json(request): Json<WebhookRequest>,
) -> Result<(StatusCode, Json<WebhookView>), Problem> {
    Caller::admin(&scope, webhooks).create(request).await
}

/// One webhook.
#[utoipa::path(get, path = "/admin/v1/webhooks/{webhook_id}", tag = "running", params(("webhook_id" = WebhookId, Path)),
    responses((status = 200, body = WebhookView), (status = 404)))]
async fn read_webhook(
    scope: AdminScope,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
) -> Result<Json<WebhookView>, Problem> {
    Caller::admin(&scope, webhooks).read(id).await
}

/// Changes a webhook.
#[utoipa::path(patch, path = "/admin/v1/webhooks/{webhook_id}", tag = "running", params(("webhook_id" = WebhookId, Path)),
    request_body = WebhookChange, responses((status = 200, body = WebhookView), (status = 404), (status = 422)))]
async fn update_webhook(
    scope: AdminScope,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    Json(change): Json<WebhookChange>,
) -> Result<Json<WebhookView>, Problem> {
    Caller::admin(&scope, webhooks).update(id, change).await
}

/// Deletes a webhook, with what was noted of its deliveries.
#[utoipa::path(delete, path = "/admin/v1/webhooks/{webhook_id}", tag = "running", params(("webhook_id" = WebhookId, Path)),
    responses((status = 204), (status = 404)))]
async fn delete_webhook(
    scope: AdminScope,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
) -> Result<StatusCode, Problem> {
    Caller::admin(&scope, webhooks).delete(id).await
}

/// Makes a new secret, shown this once. The ones before sign, too, for a day.
#[utoipa::path(post, path = "/admin/v1/webhooks/{webhook_id}/secret", tag = "running", params(("webhook_id" = WebhookId, Path)),
    request_body = SecretRenewal, responses((status = 201, body = WebhookView), (status = 404), (status = 409), (status = 422)))]
async fn renew_webhook_secret(
    scope: AdminScope,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    Json(renewal): Json<SecretRenewal>,
) -> Result<(StatusCode, Json<WebhookView>), Problem> {
    Caller::admin(&scope, webhooks).renew_secret(id, &renewal).await
}

/// Lists tries of deliveries, the newest first.
#[utoipa::path(get, path = "/admin/v1/webhooks/{webhook_id}/attempts", tag = "running",
    params(("webhook_id" = WebhookId, Path), AttemptQuery), responses((status = 200, body = List<AttemptView>), (status = 404), (status = 422)))]
async fn list_webhook_attempts(
    scope: AdminScope,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    Query(query): Query<AttemptQuery>,
) -> Result<Json<List<AttemptView>>, Problem> {
    Caller::admin(&scope, webhooks).attempts(id, query).await
}

/// Tells of one event again, from the start of its schedule.
#[utoipa::path(post, path = "/admin/v1/webhooks/{webhook_id}/attempts/{event_id}/retry", tag = "running",
    params(("webhook_id" = WebhookId, Path), ("event_id" = String, Path)), responses((status = 202), (status = 404), (status = 409)))]
async fn retry_webhook_event(
    scope: AdminScope,
    State(webhooks): State<Webhooks>,
    Path((id, event)): Path<(WebhookId, String)>,
) -> Result<StatusCode, Problem> {
    Caller::admin(&scope, webhooks).retry(id, &event).await
}

/// Tells again of everything since an instant, in order.
#[utoipa::path(post, path = "/admin/v1/webhooks/{webhook_id}/replay", tag = "running", params(("webhook_id" = WebhookId, Path)),
    request_body = ReplayRequest, responses((status = 202, body = ReplayView), (status = 404), (status = 409), (status = 422)))]
async fn replay_webhook(
    scope: AdminScope,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    Json(request): Json<ReplayRequest>,
) -> Result<(StatusCode, Json<ReplayView>), Problem> {
    Caller::admin(&scope, webhooks).replay(id, &request).await
}
