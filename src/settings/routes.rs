//! `[[gateway.routes]]`: what goes where, who may call it, how often, and what it counts.

use std::{sync::Arc, time::Duration};

use axum::http::Method;

use super::read::{Reader, TextOrTable};
use crate::{
    gateway::{
        Billed, Durability, HostRule, RateTerms, RouteConfig, RouteMeter, Unit, Upstream, path,
        routes::TIMEOUT,
        upstream::{Destination, UpstreamConfig},
    },
    metering::{MeterKey, STOCK_METERS, journal::MAX_AMOUNTS},
    users::Role,
};

/// The upstream that comes with the program.
const SAMPLE: &str = "builtin:sample";
/// The most units of a meter that are held for one request.
const MOST_HELD: i64 = 100_000_000_000;
/// The largest body that a limit may allow: a tebibyte.
const MOST_BYTES: i64 = 1 << 40;

/// What meters' numbers stand for: the stock ones, then each other one that a route names.
pub(super) fn stock_meters() -> Vec<String> {
    STOCK_METERS.iter().map(|meter| meter.key.to_owned()).collect()
}

/// A meter's number, made when it has none.
pub(super) fn meter_number(meters: &mut Vec<String>, key: &str) -> u16 {
    let place = meters.iter().position(|name| name == key).unwrap_or_else(|| {
        meters.push(key.to_owned());
        meters.len() - 1
    });
    // 65,535 routes of eight meters are more than there are numbers; whoever has them shares the last.
    u16::try_from(place).unwrap_or(u16::MAX)
}

/// The routes, with their upstreams resolved; the sample API is always among them.
pub(super) fn read_routes(
    reader: &mut Reader,
    upstreams: &[Arc<UpstreamConfig>],
    meters: &mut Vec<String>,
) -> Option<Vec<RouteConfig>> {
    let mut routes: Vec<RouteConfig> = Vec::new();
    let mut places: Vec<String> = Vec::new();
    let mut fine = true;
    for (prefix, mut item) in reader.tables("gateway.routes") {
        let route = read_route(&mut item, upstreams, meters);
        fine &= route.is_some();
        let twin = route.as_ref().and_then(|route| routes.iter().position(|other| is_twin(other, route)));
        if let Some(twin) = twin {
            item.fault(".path", &format!("is that of {}, for the same host and method", places[twin]));
        }
        if route.is_some() {
            places.push(prefix.clone());
        }
        routes.extend(route);
        reader.finish_item(&prefix, item);
    }
    if !routes.iter().any(|route: &RouteConfig| matches!(route.upstream, Upstream::Sample)) {
        routes.push(sample_route());
    }
    if u16::try_from(routes.len()).is_err() {
        reader.fault("gateway.routes", "there can be at most 65,535");
        return None;
    }
    fine.then_some(routes)
}

/// Whether two routes are for the same requests, so that it would be chance which one takes them.
fn is_twin(one: &RouteConfig, other: &RouteConfig) -> bool {
    let prefix = |route: &RouteConfig| route.path.trim_end_matches('/').to_owned();
    let methods = match (one.methods.is_empty(), other.methods.is_empty()) {
        (false, false) => one.methods.iter().any(|method| other.methods.contains(method)),
        (one, other) => one && other,
    };
    prefix(one) == prefix(other) && one.host == other.host && methods
}

/// `/sample/`, counting every stock meter.
fn sample_route() -> RouteConfig {
    RouteConfig { meters: RouteMeter::everything(), ..RouteConfig::new("/sample/", Upstream::Sample) }
}

fn read_route(item: &mut Reader, upstreams: &[Arc<UpstreamConfig>], meters: &mut Vec<String>) -> Option<RouteConfig> {
    let path = item.string(".path", "");
    if let Some(path) = &path {
        if !path.starts_with('/') {
            item.fault(".path", "must begin with a slash");
        } else if let Some(why) = path::fault(path) {
            item.fault(".path", &format!("has {why}"));
        }
    }
    let host = item.optional_string(".host");
    let host = host.map(|text| text.parse::<HostRule>().map_err(|error| item.fault(".host", &error.to_string())));
    let methods = read_methods(item);
    let upstream = read_upstream(item, upstreams, path.as_deref());
    let scopes = item.strings(".scopes", &[]);
    let roles = read_roles(item);
    let features = item.strings(".features", &[]);
    let forward_token = item.switch(".forward_token", false);
    let meters = read_meters(item, meters);
    let billed = item.strings(".billed", &["100-499"]).unwrap_or_default();
    let billed = Billed::parse(&billed).map_err(|error| item.fault(".billed", &error.to_string()));
    let durability = item.choice(".durability", "relaxed", &["relaxed", "durable"]);
    let body_limit = optional_number(item, ".body_limit", 0, MOST_BYTES);
    let rate_limit = read_rate_limit(item);
    let max_concurrency = optional_number(item, ".max_concurrency", 1, i64::from(u32::MAX));
    let public = item.switch(".public", false);
    let route = RouteConfig {
        path: path?,
        host: host.transpose().ok()?,
        methods: methods?,
        upstream: upstream?,
        scopes: scopes?,
        roles: roles?,
        features: features?,
        forward_token: forward_token?,
        meters: meters?,
        billed: billed.ok()?,
        durability: if durability? == "durable" { Durability::Durable } else { Durability::Relaxed },
        body_limit,
        rate_limit,
        max_concurrency: max_concurrency.map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
        public: public?,
    };
    if route.public {
        refuse_conditions(item, &route);
    }
    Some(route)
}

/// Nobody is known on a public route, so nobody can be held to anything.
fn refuse_conditions(item: &mut Reader, route: &RouteConfig) {
    let given = [
        (".scopes", !route.scopes.is_empty()),
        (".roles", !route.roles.is_empty()),
        (".features", !route.features.is_empty()),
        (".rate_limit", route.rate_limit.is_some()),
        (".max_concurrency", route.max_concurrency.is_some()),
    ];
    for (path, _) in given.iter().filter(|(_, given)| *given) {
        item.fault(path, "is not for a public route: it does not know who calls");
    }
}

fn read_upstream(item: &mut Reader, upstreams: &[Arc<UpstreamConfig>], path: Option<&str>) -> Option<Upstream> {
    let name = item.string(".upstream", "");
    let strip_prefix = item.optional_string(".strip_prefix");
    if let (Some(strip), Some(path)) = (&strip_prefix, path)
        && !path::is_below(path, strip)
    {
        item.fault(".strip_prefix", "must be the beginning of the route's path");
    }
    let timeout_s = item.number(".timeout_s", i64::try_from(TIMEOUT.as_secs()).unwrap_or(30), 1, 3_600);
    let name = name?;
    if name == SAMPLE {
        return Some(Upstream::Sample);
    }
    let found = upstreams.iter().find(|upstream| upstream.name == name);
    if found.is_none() {
        item.fault(".upstream", &format!("{name:?} is neither an upstream nor {SAMPLE}"));
    }
    let timeout = Duration::from_secs(timeout_s?.unsigned_abs());
    Some(Upstream::Http(Destination { upstream: Arc::clone(found?), strip_prefix, timeout }))
}

fn read_methods(item: &mut Reader) -> Option<Vec<Method>> {
    let names = item.strings(".methods", &[])?;
    let mut methods = Vec::new();
    for name in names {
        match name.parse() {
            Ok(method) => methods.push(method),
            Err(_) => item.fault(".methods", &format!("{name:?} is not a method")),
        }
    }
    Some(methods)
}

fn read_roles(item: &mut Reader) -> Option<Vec<Role>> {
    let mut roles = Vec::new();
    for name in item.strings(".roles", &[])? {
        match name.parse() {
            Ok(role) => roles.push(role),
            Err(error) => item.fault(".roles", &format!("{name:?} {error}")),
        }
    }
    Some(roles)
}

/// A whole number that may be absent; one that is wrong is a fault, and counts as absent.
fn optional_number(item: &mut Reader, path: &str, least: i64, most: i64) -> Option<u64> {
    let given = if item.has(path) { item.number(path, least, least, most) } else { None };
    given.map(i64::unsigned_abs)
}

/// A rate that may be absent; one that is wrong is a fault, and counts as absent.
fn read_rate_limit(item: &mut Reader) -> Option<RateTerms> {
    let mut table = item.table(".rate_limit")?;
    let mut number = |path: &str, most: i64| {
        if !table.has(path) {
            table.fault(path, "is required");
            return None;
        }
        table.number(path, 1, 1, most).and_then(|value| u32::try_from(value).ok())
    };
    let (requests, per_s, burst) =
        (number(".requests", 1_000_000), number(".per_s", 86_400), number(".burst", 10_000_000));
    item.finish_item(".rate_limit", table);
    Some(RateTerms { requests: requests?, per_s: per_s?, burst: burst? })
}

fn read_meters(item: &mut Reader, names: &mut Vec<String>) -> Option<Vec<RouteMeter>> {
    let Some(given) = item.texts_and_tables(".meters") else {
        return RouteMeter::stock("apis").map(|apis| vec![apis]);
    };
    let mut rules: Vec<RouteMeter> = Vec::new();
    let mut fine = true;
    let count = given.len();
    for (prefix, one) in given {
        let rule = match one {
            TextOrTable::Text(name) => {
                let rule = RouteMeter::stock(&name);
                if rule.is_none() {
                    let known = STOCK_METERS.map(|meter| meter.key).join(", ");
                    let detail = format!("{name:?} is not one of {known}; another meter needs a table with a value");
                    item.fault(&prefix, &detail);
                }
                rule
            }
            TextOrTable::Table(mut table) => {
                let rule = read_rule(&mut table, names);
                item.finish_item(&prefix, table);
                rule
            }
        };
        fine &= rule.is_some();
        let Some(rule) = rule else { continue };
        if rules.iter().any(|other| other.key == rule.key) {
            item.fault(&prefix, "is counted by this route already");
        }
        rules.push(rule);
    }
    if count > MAX_AMOUNTS {
        item.fault(".meters", &format!("can be at most {MAX_AMOUNTS}"));
    }
    fine.then_some(rules)
}

fn read_rule(table: &mut Reader, names: &mut Vec<String>) -> Option<RouteMeter> {
    let key = table.parsed::<MeterKey>(".meter", "");
    let has_value = table.has(".value");
    let unit = if has_value { table.parsed::<Unit>(".value", "") } else { None };
    let hold = optional_number(table, ".hold", 1, MOST_HELD);
    let key = key?;
    let stock = RouteMeter::stock(key.as_str());
    if stock.is_none() && !has_value {
        table.fault(".value", "is required");
    }
    meter_number(names, key.as_str());
    let mut rule = match (unit, stock) {
        (Some(unit), _) => RouteMeter::new(key, unit),
        (None, Some(stock)) if !has_value => stock,
        _ => return None,
    };
    if let Some(hold) = hold {
        if rule.unit == Unit::Count {
            table.fault(".hold", "is not for count, of which each request is known to have one");
        }
        rule.held = i64::try_from(hold).unwrap_or(MOST_HELD).saturating_mul(1_000);
    }
    Some(rule)
}
