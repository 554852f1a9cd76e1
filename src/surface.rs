//! The HTTP surface: the routes of every service, the layers round them, and the gateway as what answers everything else.

use std::sync::Arc;

use axum::{
    Router,
    extract::FromRef as _,
    middleware::{from_fn, from_fn_with_state},
};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::AppState,
    billing,
    gateway::{self, Gateway},
    identity::{self, Identity},
    lab::{self, Lab},
    mail, metering, onboarding, operations, provisioning, reload,
    server::{self, OwnPaths},
    stripe, tenants,
    web::{self, docs::Description, idempotency::Idempotency},
    webhooks,
};

/// What every part of the server has together.
pub(crate) struct Routers {
    /// Everybody's.
    pub(crate) public: Router,
    /// The administrator's, when it has a listener of its own.
    pub(crate) admin: Option<Router>,
    /// The paths that it has.
    pub(crate) own_paths: OwnPaths,
}

/// Puts the routes of every service together, and the layers round them.
pub(crate) fn routers(
    state: &AppState,
    gateway: &Gateway,
    idempotency: &Arc<Idempotency>,
    lab: Option<Lab>,
    split: bool,
) -> Routers {
    let lab_routes = lab.clone().map_or_else(OpenApiRouter::new, lab::http::routes);
    let (api, description) = OpenApiRouter::with_openapi(web::docs::base())
        .merge(tenants::http::routes())
        .merge(onboarding::http::routes())
        .merge(provisioning::http::routes())
        .merge(provisioning::drift_http::routes())
        .merge(provisioning::callback_http::routes())
        .merge(billing::http::routes())
        .merge(metering::http::routes())
        .merge(metering::openmeter_http::routes())
        .merge(identity::http::routes())
        .merge(mail::http::routes())
        .merge(webhooks::http::routes())
        .merge(stripe::http::routes())
        .merge(web::audit::routes())
        .merge(gateway::quota_http::routes())
        .merge(gateway::admin_http::routes())
        .merge(reload::routes())
        .merge(lab_routes)
        .split_for_parts();
    let lab_paths = lab.iter().flat_map(|_| lab::PATHS);
    let documented = description.paths.paths.keys().map(String::as_str);
    let files = identity::PAGE_FILES.into_iter().chain(operations::PATHS).chain(web::docs::PATHS);
    let own_paths = OwnPaths::of(documented.chain(files).chain(lab_paths));
    let api = api
        .layer(from_fn_with_state(idempotency.clone(), web::idempotency::idempotent))
        .merge(operations::routes())
        .with_state(state.clone())
        .merge(web::docs::routes(Description::new(description)))
        .layer(from_fn_with_state(Identity::from_ref(state), identity::cors))
        .layer(CatchPanicLayer::custom(web::instance::panicked))
        .layer(from_fn(web::instance::write_problems))
        .layer(from_fn(web::instance::stored_nowhere))
        .layer(from_fn(web::extract::noted));
    let api = match lab {
        Some(lab) => api
            .layer(from_fn_with_state(lab.clone(), lab::letters::on_the_log_in_page))
            .layer(from_fn(lab::layers::banner))
            .layer(from_fn_with_state(lab, lab::layers::own_faults)),
        None => api,
    };
    let gateway = gateway.clone();
    let fallback = tower::service_fn(move |request| {
        let gateway = gateway.clone();
        async move { gateway.handle(request).await }
    });
    if !split {
        return Routers { public: api.fallback_service(fallback), admin: None, own_paths };
    }
    let public = api.clone().layer(from_fn(server::without_admin)).fallback_service(fallback);
    Routers { public, admin: Some(api), own_paths }
}
