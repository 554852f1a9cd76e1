//! `GET /admin/v1/routes` and `GET /admin/v1/upstreams`: where requests go, and how those fare who answer them. Of this node,
//! as of now.

use axum::extract::{FromRef, State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Durability, Gateway, RouteConfig, Upstream,
    upstream::{Protocol, Standing, TargetState, UpstreamState},
};
use crate::{
    identity::Verifier,
    web::{AdminScope, Json},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Gateway: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(list_routes)).routes(routes!(list_upstreams))
}

/// The gateway's routes.
#[derive(Debug, Serialize, ToSchema)]
pub struct RouteList {
    /// In the order in which they are tried.
    items: Vec<RouteView>,
    next_cursor: Option<String>,
}

/// A route.
#[derive(Debug, Serialize, ToSchema)]
pub struct RouteView {
    path: String,
    host: Option<String>,
    /// All methods when empty.
    methods: Vec<String>,
    upstream: String,
    strip_prefix: Option<String>,
    timeout_s: Option<u64>,
    scopes: Vec<String>,
    forward_token: bool,
    /// One of these roles is needed, when there are any.
    roles: Vec<&'static str>,
    /// What the tier must have.
    features: Vec<String>,
    meters: Vec<CountedView>,
    /// The largest body of a request, in bytes.
    body_limit: Option<u64>,
    /// Each tenant's requests under way on the route.
    max_concurrency: Option<u32>,
    durability: &'static str,
    public: bool,
}

/// A meter that a route counts.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountedView {
    meter: String,
    /// Where the quantity comes from: `count`, `json:/usage/total_tokens`, …
    value: String,
}

/// The upstreams that routes lead to.
#[derive(Debug, Serialize, ToSchema)]
pub struct UpstreamList {
    items: Vec<UpstreamView>,
    next_cursor: Option<String>,
}

/// An upstream.
#[derive(Debug, Serialize, ToSchema)]
pub struct UpstreamView {
    name: String,
    /// `1` or `2`.
    http: &'static str,
    targets: Vec<TargetView>,
}

/// One of its targets.
#[derive(Debug, Serialize, ToSchema)]
pub struct TargetView {
    address: String,
    /// `in`: it is given requests; `out`: it failed and is left alone; `trial`: the next request tries it again.
    state: &'static str,
    /// What its probes say: `up`, `down`; `null` when it has none.
    health: Option<&'static str>,
    /// Failures since the last success.
    failures: u32,
    /// Requests in flight; `null` where nothing depends on them.
    in_flight: Option<u32>,
}

impl From<RouteConfig> for RouteView {
    fn from(config: RouteConfig) -> Self {
        let (upstream, strip_prefix, timeout_s) = match config.upstream {
            Upstream::Sample => ("builtin:sample".to_owned(), None, None),
            Upstream::Http(to) => (to.upstream.name.clone(), to.strip_prefix, Some(to.timeout.as_secs())),
        };
        let meters = config
            .meters
            .iter()
            .filter(|_| !config.public)
            .map(|meter| CountedView { meter: meter.key.to_string(), value: meter.unit.to_string() });
        Self {
            path: config.path,
            host: config.host.map(|host| host.to_string()),
            methods: config.methods.iter().map(ToString::to_string).collect(),
            upstream,
            strip_prefix,
            timeout_s,
            scopes: config.scopes,
            roles: config.roles.iter().map(|role| role.name()).collect(),
            features: config.features,
            body_limit: config.body_limit,
            max_concurrency: config.max_concurrency,
            forward_token: config.forward_token,
            meters: meters.collect(),
            durability: match config.durability {
                Durability::Relaxed => "relaxed",
                Durability::Durable => "durable",
            },
            public: config.public,
        }
    }
}

impl From<UpstreamState> for UpstreamView {
    fn from(UpstreamState { config, targets }: UpstreamState) -> Self {
        let probed = config.probe.is_some();
        let view = |target: TargetState| TargetView {
            address: target.address.to_string(),
            state: match target.standing {
                Standing::In => "in",
                Standing::Trial => "trial",
                Standing::Out => "out",
            },
            health: probed.then_some(if target.probed_down { "down" } else { "up" }),
            failures: target.failures,
            in_flight: target.in_flight,
        };
        Self {
            name: config.name.clone(),
            http: match config.http {
                Protocol::One => "1",
                Protocol::Two => "2",
            },
            targets: targets.into_iter().map(view).collect(),
        }
    }
}

/// Lists the routes as they are now.
#[utoipa::path(get, path = "/admin/v1/routes", tag = "gateway", responses((status = 200, body = RouteList)))]
async fn list_routes(_: AdminScope, State(gateway): State<Gateway>) -> Json<RouteList> {
    let items = gateway.routes().into_iter().map(RouteView::from).collect();
    Json(RouteList { items, next_cursor: None })
}

/// Lists the upstreams that routes lead to, with the state of their targets.
#[utoipa::path(get, path = "/admin/v1/upstreams", tag = "gateway", responses((status = 200, body = UpstreamList)))]
async fn list_upstreams(_: AdminScope, State(gateway): State<Gateway>) -> Json<UpstreamList> {
    Json(UpstreamList { items: gateway.upstreams().into_iter().map(UpstreamView::from).collect(), next_cursor: None })
}
