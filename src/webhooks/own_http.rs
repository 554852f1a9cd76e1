//! Webhooks of a tenant.

use axum::{
    extract::{FromRef, State},
    http::StatusCode,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Webhooks,
    shapes_http::{
        AttemptQuery, AttemptView, Caller, ReplayRequest, ReplayView, SecretRenewal, WebhookChange, WebhookRequest,
        WebhookView,
    },
};
use crate::{
    kernel::WebhookId,
    web::{Json, List, PageQuery, Path, Problem, Query, TenantAccess, Verifier},
};

/// The routes.
pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Webhooks: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(list_own_webhooks, create_own_webhook))
        .routes(routes!(read_own_webhook, update_own_webhook, delete_own_webhook))
        .routes(routes!(renew_own_webhook_secret))
        .routes(routes!(list_own_webhook_attempts))
        .routes(routes!(retry_own_webhook_event))
        .routes(routes!(replay_own_webhook))
}

/// Lists the webhooks of the caller's tenant.
#[utoipa::path(get, path = "/v1/webhooks", tag = "tenant", params(PageQuery),
    responses((status = 200, body = List<WebhookView>), (status = 403), (status = 422)))]
async fn list_own_webhooks(
    call: TenantAccess,
    State(webhooks): State<Webhooks>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<WebhookView>>, Problem> {
    let tenant = call.tenant;
    Caller::tenant(&call, webhooks)?.list(Some(tenant), page.try_into()?).await
}

/// Makes a webhook of the caller's tenant, which is told of its events. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/webhooks", tag = "tenant", request_body = WebhookRequest,
    responses((status = 201, body = WebhookView), (status = 403), (status = 409), (status = 422)))]
async fn create_own_webhook(
    call: TenantAccess,
    State(webhooks): State<Webhooks>,
    Json(request): Json<WebhookRequest>,
) -> Result<(StatusCode, Json<WebhookView>), Problem> {
    Caller::tenant(&call, webhooks)?.create(request).await
}

/// One webhook of the caller's tenant.
#[utoipa::path(get, path = "/v1/webhooks/{webhook_id}", tag = "tenant", params(("webhook_id" = WebhookId, Path)),
    responses((status = 200, body = WebhookView), (status = 403), (status = 404)))]
async fn read_own_webhook(
    call: TenantAccess,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
) -> Result<Json<WebhookView>, Problem> {
    Caller::tenant(&call, webhooks)?.read(id).await
}

/// Changes a webhook of the caller's tenant.
#[utoipa::path(patch, path = "/v1/webhooks/{webhook_id}", tag = "tenant", params(("webhook_id" = WebhookId, Path)),
    request_body = WebhookChange, responses((status = 200, body = WebhookView), (status = 403), (status = 404), (status = 422)))]
async fn update_own_webhook(
    call: TenantAccess,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    Json(change): Json<WebhookChange>,
) -> Result<Json<WebhookView>, Problem> {
    Caller::tenant(&call, webhooks)?.update(id, change).await
}

/// Deletes a webhook of the caller's tenant, with what was noted of its deliveries.
#[utoipa::path(delete, path = "/v1/webhooks/{webhook_id}", tag = "tenant", params(("webhook_id" = WebhookId, Path)),
    responses((status = 204), (status = 403), (status = 404)))]
async fn delete_own_webhook(
    call: TenantAccess,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
) -> Result<StatusCode, Problem> {
    Caller::tenant(&call, webhooks)?.delete(id).await
}

/// Makes a new secret, shown this once. The ones before sign, too, for a day.
#[utoipa::path(post, path = "/v1/webhooks/{webhook_id}/secret", tag = "tenant", params(("webhook_id" = WebhookId, Path)),
    request_body = SecretRenewal,
    responses((status = 201, body = WebhookView), (status = 403), (status = 404), (status = 409), (status = 422)))]
async fn renew_own_webhook_secret(
    call: TenantAccess,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    Json(renewal): Json<SecretRenewal>,
) -> Result<(StatusCode, Json<WebhookView>), Problem> {
    Caller::tenant(&call, webhooks)?.renew_secret(id, &renewal).await
}

/// Lists tries of deliveries, the newest first.
#[utoipa::path(get, path = "/v1/webhooks/{webhook_id}/attempts", tag = "tenant",
    params(("webhook_id" = WebhookId, Path), AttemptQuery),
    responses((status = 200, body = List<AttemptView>), (status = 403), (status = 404), (status = 422)))]
async fn list_own_webhook_attempts(
    call: TenantAccess,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    Query(query): Query<AttemptQuery>,
) -> Result<Json<List<AttemptView>>, Problem> {
    Caller::tenant(&call, webhooks)?.attempts(id, query).await
}

/// Tells of one event again, from the start of its schedule.
#[utoipa::path(post, path = "/v1/webhooks/{webhook_id}/attempts/{event_id}/retry", tag = "tenant",
    params(("webhook_id" = WebhookId, Path), ("event_id" = String, Path)),
    responses((status = 202), (status = 403), (status = 404), (status = 409)))]
async fn retry_own_webhook_event(
    call: TenantAccess,
    State(webhooks): State<Webhooks>,
    Path((id, event)): Path<(WebhookId, String)>,
) -> Result<StatusCode, Problem> {
    Caller::tenant(&call, webhooks)?.retry(id, &event).await
}

/// Tells again of everything since an instant, in order.
#[utoipa::path(post, path = "/v1/webhooks/{webhook_id}/replay", tag = "tenant", params(("webhook_id" = WebhookId, Path)),
    request_body = ReplayRequest,
    responses((status = 202, body = ReplayView), (status = 403), (status = 404), (status = 409), (status = 422)))]
async fn replay_own_webhook(
    call: TenantAccess,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    Json(request): Json<ReplayRequest>,
) -> Result<(StatusCode, Json<ReplayView>), Problem> {
    Caller::tenant(&call, webhooks)?.replay(id, &request).await
}
