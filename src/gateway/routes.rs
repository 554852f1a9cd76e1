//! Which request goes where: routes by path, host and method, and the service that puts them behind the layers.

use std::{convert::Infallible, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{
    body::Body,
    http::{Method, Request, Response, Uri, header},
};
use tokio::sync::Mutex;
use tower::ServiceExt as _;

use super::{
    directory::Directory,
    layers::{AdmitLayer, AuthenticateLayer, MeterLayer, RouteMeters},
    path, sample, stack,
    upstream::{Background, Clusters, Destination, UpstreamState},
    usage,
};
use crate::{
    identity::Verifier,
    kernel::{Clock, Rng},
    metering::{JournalError, Metering, STOCK_METERS},
    web::{Kind, Problem},
};

/// A route, checked.
#[derive(Debug, Clone)]
pub struct RouteConfig {
    /// Prefix of the path, by whole segments.
    pub path: String,
    /// Only this host, if any.
    pub host: Option<String>,
    /// Only these methods; all when empty.
    pub methods: Vec<Method>,
    /// Where it goes.
    pub upstream: Upstream,
    /// Scopes that a token needs.
    pub scopes: Vec<String>,
    /// Whether the upstream gets the client's token.
    pub forward_token: bool,
    /// The stock meters it counts, by number.
    pub counted: [bool; STOCK_METERS.len()],
    /// How safe its records are.
    pub durability: Durability,
    /// Without token and metering.
    pub public: bool,
}

/// Where a route goes.
#[derive(Debug, Clone)]
pub enum Upstream {
    /// `builtin:sample`.
    Sample,
    /// Over HTTP.
    Http(Destination),
}

/// How safe a route's usage records are when its answer is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Handed to the kernel: a killed process loses nothing, a power loss at most the flush interval.
    #[default]
    Relaxed,
    /// On disk.
    Durable,
}

/// What the layers need. An embedding program gets it from `App::gateway_parts`.
#[derive(Clone)]
pub struct Parts {
    /// Verifies tokens.
    pub verifier: Verifier,
    /// Knows tenants.
    pub directory: Directory,
    /// Records usage.
    pub metering: Metering,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes request ids.
    pub rng: Arc<dyn Rng>,
}

impl Parts {
    /// The three layers for one route, outermost first: a tuple that is itself a layer.
    pub fn layers(&self, scopes: &[String], meters: RouteMeters) -> (AuthenticateLayer, AdmitLayer, MeterLayer) {
        (
            AuthenticateLayer::new(self.verifier.clone()).require_scopes(scopes),
            AdmitLayer::new(self.directory.clone()),
            MeterLayer::new(self.metering.clone(), Arc::clone(&self.clock), meters),
        )
    }
}

struct Route {
    config: RouteConfig,
    service: stack::Upstream,
}

/// The routes of a moment, in the order in which they are tried.
struct Table {
    routes: Vec<Route>,
    clusters: Clusters,
}

/// Routes that were made ready and are not in force yet.
pub struct Prepared(Table);

/// All routes; cheap to clone. They can be changed while requests are under way, which end as they began.
#[derive(Clone)]
pub struct Gateway(Arc<Live>);

struct Live {
    table: ArcSwap<Table>,
    parts: Parts,
    background: Background,
    /// The routes' names by their numbers in the journal. A number never means another name.
    names: Mutex<Vec<String>>,
}

impl Gateway {
    /// Puts every route behind its layers. `names` are what the journal was opened with.
    pub fn new(configs: &[RouteConfig], names: Vec<String>, parts: Parts, background: Background) -> Self {
        let table = Table::new(configs, &names, &parts, &background, &Clusters::default());
        Self(Arc::new(Live { table: ArcSwap::from_pointee(table), parts, background, names: Mutex::new(names) }))
    }

    /// What its layers need.
    pub fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// Makes other routes ready. A name that is new gets a number of its own, in the journal first.
    pub async fn prepare(&self, configs: &[RouteConfig]) -> Result<Prepared, JournalError> {
        let live = &*self.0;
        let mut names = live.names.lock().await;
        let mut all = names.clone();
        for config in configs {
            if !all.contains(&config.path) {
                all.push(config.path.clone());
            }
        }
        if all.len() > names.len() {
            live.parts.metering.name_routes(all.clone()).await?;
            *names = all;
        }
        let before = live.table.load_full();
        Ok(Prepared(Table::new(configs, &names, &live.parts, &live.background, &before.clusters)))
    }

    /// Has other routes from the next request on.
    pub fn change(&self, prepared: Prepared) {
        self.0.table.store(Arc::new(prepared.0));
    }

    /// Answers a request that no other part of the server has a path for.
    pub async fn handle(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path();
        if let Some(why) = path::fault(path) {
            return Ok(Problem::new(Kind::MALFORMED, format!("the path has {why}")).render(path));
        }
        let service = self.0.table.load().find(&request).map(|route| route.service.clone());
        match service {
            Some(service) => service.oneshot(request).await,
            None => Ok(Problem::new(Kind::NOT_FOUND, "no route has this path").render(path)),
        }
    }

    /// The routes as they are now, in the order in which they are tried.
    pub fn routes(&self) -> Vec<RouteConfig> {
        self.0.table.load().routes.iter().map(|route| route.config.clone()).collect()
    }

    /// The upstreams that routes lead to, and how their targets fare.
    pub fn upstreams(&self) -> Vec<UpstreamState> {
        self.0.table.load().clusters.states()
    }
}

impl Table {
    fn new(
        configs: &[RouteConfig],
        names: &[String],
        parts: &Parts,
        background: &Background,
        before: &Clusters,
    ) -> Self {
        let mut clusters = Clusters::default();
        let mut route = |config: &RouteConfig| {
            let upstream = match &config.upstream {
                Upstream::Sample => sample::service(),
                Upstream::Http(destination) => stack::forwarding(clusters.forward(destination, background, before)),
            };
            // Whoever calls has named them all; routes of one path share its number.
            let number = names.iter().position(|name| *name == config.path);
            let number = number.and_then(|number| u16::try_from(number).ok()).unwrap_or(u16::MAX);
            Route { service: service(number, config, parts, upstream), config: config.clone() }
        };
        let mut routes: Vec<Route> = configs.iter().map(&mut route).collect();
        // The longest prefix first; among equals the one that asks for more.
        let rank = |route: &Route| {
            (
                route.config.path.trim_end_matches('/').len(),
                route.config.host.is_some(),
                !route.config.methods.is_empty(),
            )
        };
        routes.sort_by_key(|route| std::cmp::Reverse(rank(route)));
        Self { routes, clusters }
    }

    fn find(&self, request: &Request<Body>) -> Option<&Route> {
        let host = host(request.uri(), request.headers());
        self.routes.iter().find(|Route { config, .. }| {
            path::is_below(request.uri().path(), &config.path)
                && config.host.as_deref().is_none_or(|own| host.is_some_and(|host| own.eq_ignore_ascii_case(host)))
                && (config.methods.is_empty() || config.methods.contains(request.method()))
        })
    }
}

fn service(number: u16, config: &RouteConfig, parts: &Parts, upstream: stack::Upstream) -> stack::Upstream {
    let (clock, rng) = (Arc::clone(&parts.clock), Arc::clone(&parts.rng));
    let identified = stack::Identify { inner: upstream, forward_token: config.forward_token, clock, rng };
    if config.public {
        // Not metered, and what the upstream reports is not the client's business either.
        return stack::boxed(identified.map_response(|mut response| {
            usage::take(response.headers_mut());
            response
        }));
    }
    let meters = RouteMeters { route: number, counted: config.counted, durability: config.durability };
    let (authenticate, admit, meter) = parts.layers(&config.scopes, meters);
    stack::metered(&authenticate, &admit, &meter, identified)
}

/// The host a request is for, without the port.
fn host<'r>(uri: &'r Uri, headers: &'r axum::http::HeaderMap) -> Option<&'r str> {
    let named = || headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let host = uri.host().or_else(named)?;
    let end = host.rfind(':').filter(|colon| host[colon + 1..].bytes().all(|b| b.is_ascii_digit()));
    Some(end.map_or(host, |colon| &host[..colon]))
}

/// The default time that an upstream may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);
