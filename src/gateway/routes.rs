//! Which request goes where: routes by path, host and method, and the service that puts them behind the layers.

use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{
    body::Body,
    http::{HeaderValue, Method, Request, Response, header},
};
use tokio::sync::Mutex;

use super::{
    admission::RateTerms,
    arrival::Arrival,
    directory::Directory,
    layers::{AdmitLayer, AuthenticateLayer, Limit, MeterLayer, RouteMeters, RouteTerms},
    path, sample,
    stack::{self, Identify, Metered, Way},
    table::{HostRule, Match, Pattern, Table},
    units::{Billed, MeterRule, RouteMeter},
    upstream::{Background, Clusters, Destination, UpstreamState},
};
use crate::{
    identity::Verifier,
    kernel::{Clock, Rng},
    metering::{self, Metering},
    users::Role,
    web::{Kind, Problem, Wording},
};

/// A route, checked.
#[derive(Debug, Clone)]
pub struct RouteConfig {
    /// Prefix of the path, by whole segments.
    pub path: String,
    /// Only these hosts, if any.
    pub host: Option<HostRule>,
    /// Only these methods; all when empty.
    pub methods: Vec<Method>,
    /// Where it goes.
    pub upstream: Upstream,
    /// Scopes that a token needs.
    pub scopes: Vec<String>,
    /// Roles of which a user must have one, if there are any.
    pub roles: Vec<Role>,
    /// Features that the tenant's tier must have.
    pub features: Vec<String>,
    /// Whether the upstream gets the client's token.
    pub forward_token: bool,
    /// The meters it counts.
    pub meters: Vec<RouteMeter>,
    /// Which answers are billed.
    pub billed: Billed,
    /// How safe its records are.
    pub durability: Durability,
    /// The largest body of a request, in bytes.
    pub body_limit: Option<u64>,
    /// Each tenant's rate on it.
    pub rate_limit: Option<RateTerms>,
    /// Each tenant's requests under way on it.
    pub max_concurrency: Option<u32>,
    /// Without token and metering.
    pub public: bool,
}

impl RouteConfig {
    /// A route for everybody with a token that counts `apis`.
    pub fn new(path: &str, upstream: Upstream) -> Self {
        Self {
            path: path.to_owned(),
            host: None,
            methods: Vec::new(),
            upstream,
            scopes: Vec::new(),
            roles: Vec::new(),
            features: Vec::new(),
            forward_token: false,
            meters: RouteMeter::stock("apis").into_iter().collect(),
            billed: Billed::default(),
            durability: Durability::Relaxed,
            body_limit: None,
            rate_limit: None,
            max_concurrency: None,
            public: false,
        }
    }

    fn pattern(&self) -> Pattern<'_> {
        Pattern { path: &self.path, host: self.host.as_ref(), methods: &self.methods }
    }

    /// Its meters by their numbers; whoever calls has named them all.
    fn rules(&self, metering: &Metering) -> Arc<[MeterRule]> {
        let rule = |meter: &RouteMeter| Some(meter.rule(metering.meter_number(meter.key.as_str())?));
        self.meters.iter().filter_map(rule).collect()
    }

    /// Tells it from routes of the same path, which share a number in the journal; the same when routes are changed.
    fn own_key(&self) -> u64 {
        let host = self.host.as_ref().map(ToString::to_string);
        let methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        let mut hasher = DefaultHasher::new();
        (&self.path, host, methods).hash(&mut hasher);
        hasher.finish()
    }

    fn terms(&self, meters: &Arc<[MeterRule]>) -> RouteTerms {
        RouteTerms {
            key: self.own_key(),
            meters: Arc::clone(meters),
            features: self.features.clone(),
            rate: self.rate_limit,
            max_concurrency: self.max_concurrency,
            body_limit: self.body_limit,
        }
    }
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
        let terms = meters.terms();
        (
            AuthenticateLayer::new(self.verifier.clone()).require_scopes(scopes),
            AdmitLayer::new(self.directory.clone()).for_route(terms),
            MeterLayer::new(self.metering.clone(), Arc::clone(&self.clock), meters),
        )
    }
}

struct Route {
    config: RouteConfig,
    way: Arc<Way>,
}

/// The routes of a moment.
struct Moment {
    /// In the order of the settings.
    routes: Vec<Route>,
    table: Table,
    clusters: Clusters,
}

/// Routes that were made ready and are not in force yet.
pub struct Prepared(Moment);

/// All routes; cheap to clone. They can be changed while requests are under way, which end as they began.
#[derive(Clone)]
pub struct Gateway(Arc<Live>);

struct Live {
    moment: ArcSwap<Moment>,
    parts: Parts,
    background: Background,
    /// The routes' names by their numbers in the journal. A number never means another name.
    names: Mutex<Vec<String>>,
}

impl Gateway {
    /// Puts every route behind its layers. `names` are what the journal was opened with.
    pub fn new(configs: &[RouteConfig], names: Vec<String>, parts: Parts, background: Background) -> Self {
        let moment = Moment::new(configs, &names, &parts, &background, &Clusters::default());
        Self(Arc::new(Live { moment: ArcSwap::from_pointee(moment), parts, background, names: Mutex::new(names) }))
    }

    /// What its layers need.
    pub fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// Makes other routes ready. A name that is new, of a route or a meter, gets a number of its own first, in the journal,
    /// too; when that cannot be, or a meter is none that routes can count, nothing is changed.
    pub async fn prepare(&self, configs: &[RouteConfig]) -> Result<Prepared, metering::Error> {
        let live = &*self.0;
        let mut names = live.names.lock().await;
        let mut all = names.clone();
        for config in configs {
            if !all.contains(&config.path) {
                all.push(config.path.clone());
            }
        }
        let metering = &live.parts.metering;
        let mut meters: Vec<&str> =
            configs.iter().flat_map(|config| &config.meters).map(|own| own.key.as_str()).collect();
        meters.retain(|key| metering.meter_number(key).is_none());
        metering.check_routable(&meters)?;
        if all.len() > names.len() || !meters.is_empty() {
            metering.name(&meters, all.clone()).await?;
            *names = all;
        }
        let before = live.moment.load_full();
        Ok(Prepared(Moment::new(configs, &names, &live.parts, &live.background, &before.clusters)))
    }

    /// Has other routes from the next request on.
    pub fn change(&self, prepared: Prepared) {
        self.0.moment.store(Arc::new(prepared.0));
    }

    /// Answers a request that no other part of the server has a path for. How it came is in its extensions, if anybody
    /// knows.
    pub async fn handle(&self, mut request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let arrival = request.extensions_mut().remove::<Arrival>();
        let answer = self.answer(request, arrival.as_ref()).await;
        let none = |request: Request<Body>| {
            let problem = Problem::new(Kind::NOT_FOUND, "no route has this path");
            problem.render_in(Wording::of(&request), request.uri().path())
        };
        Ok(answer.unwrap_or_else(none))
    }

    /// Answers a request that came so; gives it back when no route has its path.
    pub async fn answer(
        &self,
        request: Request<Body>,
        arrival: Option<&Arrival>,
    ) -> Result<Response<Body>, Request<Body>> {
        let path = request.uri().path();
        if let Some(why) = path::fault(path) {
            return Ok(Problem::new(Kind::MALFORMED, format!("the path has {why}")).render(path));
        }
        if request.method() == Method::CONNECT {
            return Ok(Problem::new(Kind::METHOD_NOT_ALLOWED, "nothing is tunnelled by CONNECT").render(path));
        }
        let moment = self.0.moment.load();
        match moment.table.find(request.uri(), request.headers(), request.method()) {
            Match::Route(place) => {
                let way = Arc::clone(&moment.routes[place].way);
                drop(moment);
                Ok(way.call(request, arrival).await)
            }
            Match::Method(allowed) => Ok(other_method(&allowed).render(path)),
            Match::None => Err(request),
        }
    }

    /// The way of the route that is found, by its place.
    pub(super) fn way(&self, find: impl FnOnce(&Table) -> Option<usize>) -> Option<Arc<Way>> {
        let moment = self.0.moment.load();
        find(&moment.table).map(|place| Arc::clone(&moment.routes[place].way))
    }

    /// The routes as they are now, the longest prefix first.
    pub fn routes(&self) -> Vec<RouteConfig> {
        let moment = self.0.moment.load();
        let mut configs: Vec<RouteConfig> = moment.routes.iter().map(|route| route.config.clone()).collect();
        let rank = |route: &RouteConfig| {
            (route.path.trim_end_matches('/').len(), route.host.is_some(), !route.methods.is_empty())
        };
        configs.sort_by_key(|route| std::cmp::Reverse(rank(route)));
        configs
    }

    /// The upstreams that routes lead to, and how their targets fare.
    pub fn upstreams(&self) -> Vec<UpstreamState> {
        self.0.moment.load().clusters.states()
    }
}

impl Moment {
    fn new(
        configs: &[RouteConfig],
        names: &[String],
        parts: &Parts,
        background: &Background,
        before: &Clusters,
    ) -> Self {
        let mut clusters = Clusters::default();
        let route = |config: &RouteConfig| {
            let upstream = match &config.upstream {
                Upstream::Sample => stack::Upstream::Own(sample::service()),
                Upstream::Http(to) => stack::Upstream::Http(Arc::new(clusters.forward(to, background, before))),
            };
            // Whoever calls has named them all; routes of one path share its number.
            let number = names.iter().position(|name| *name == config.path);
            let number = number.and_then(|number| u16::try_from(number).ok()).unwrap_or(u16::MAX);
            Route { way: Arc::new(way(number, config, parts, upstream)), config: config.clone() }
        };
        let routes = configs.iter().map(route).collect();
        let table = Table::new(configs.iter().map(RouteConfig::pattern));
        Self { routes, table, clusters }
    }
}

fn other_method(allowed: &[Method]) -> Problem {
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let problem = Problem::new(Kind::METHOD_NOT_ALLOWED, "no route of this path has that method");
    // Methods are tokens, which are values of headers.
    match HeaderValue::try_from(names.join(", ")) {
        Ok(names) => problem.header(header::ALLOW, names),
        Err(_) => problem,
    }
}

fn way(number: u16, config: &RouteConfig, parts: &Parts, upstream: stack::Upstream) -> Way {
    let (clock, rng) = (Arc::clone(&parts.clock), Arc::clone(&parts.rng));
    let identify = Identify { forward_token: config.forward_token, clock, rng };
    if config.public {
        return Way::Public { limit: config.body_limit.map(Limit), identify, upstream };
    }
    let rules = config.rules(&parts.metering);
    let terms = config.terms(&rules);
    let meters = RouteMeters { route: number, rules, billed: config.billed.clone(), durability: config.durability };
    let (authenticate, admit, meter) = parts.layers(&config.scopes, meters);
    let (authenticate, admit) = (authenticate.require_roles(&config.roles), admit.for_route(terms));
    Way::Metered(Metered { authenticate, admit, meter, identify, upstream })
}

/// The default time that an upstream may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);
