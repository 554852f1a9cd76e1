//! `[[gateway.routes]]`: what goes where, and what it counts.

use std::{sync::Arc, time::Duration};

use axum::http::Method;

use super::read::Reader;
use crate::{
    gateway::{
        Durability, RouteConfig, Upstream,
        routes::TIMEOUT,
        upstream::{Destination, UpstreamConfig},
    },
    metering::STOCK_METERS,
};

/// The upstream that comes with the program.
const SAMPLE: &str = "builtin:sample";
/// Meters of a route that names none.
const METERS: [&str; 1] = ["apis"];

/// The routes, with their upstreams resolved; the sample API is always among them.
pub(super) fn read_routes(reader: &mut Reader, upstreams: &[Arc<UpstreamConfig>]) -> Option<Vec<RouteConfig>> {
    let mut routes = Vec::new();
    let mut fine = true;
    for (prefix, mut item) in reader.tables("gateway.routes") {
        let route = read_route(&mut item, upstreams);
        fine &= route.is_some();
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

/// `/sample/`, counting every stock meter.
fn sample_route() -> RouteConfig {
    RouteConfig {
        path: "/sample/".to_owned(),
        host: None,
        methods: Vec::new(),
        upstream: Upstream::Sample,
        scopes: Vec::new(),
        forward_token: false,
        counted: [true; STOCK_METERS.len()],
        durability: Durability::Relaxed,
        public: false,
    }
}

fn read_route(item: &mut Reader, upstreams: &[Arc<UpstreamConfig>]) -> Option<RouteConfig> {
    let path = item.string(".path", "");
    if let Some(path) = &path {
        if !path.starts_with('/') {
            item.fault(".path", "must begin with a slash");
        } else if let Some(why) = crate::gateway::path::fault(path) {
            item.fault(".path", &format!("has {why}"));
        }
    }
    let host = item.optional_string(".host");
    let methods = read_methods(item);
    let name = item.string(".upstream", "");
    let strip_prefix = item.optional_string(".strip_prefix");
    if let (Some(strip), Some(path)) = (&strip_prefix, &path)
        && !crate::gateway::path::is_below(path, strip)
    {
        item.fault(".strip_prefix", "must be the beginning of the route's path");
    }
    let timeout = item.number(".timeout_s", i64::try_from(TIMEOUT.as_secs()).unwrap_or(30), 1, 3_600);
    let upstream = match name.as_deref() {
        Some(SAMPLE) => Some(Upstream::Sample),
        Some(name) => {
            let found = upstreams.iter().find(|upstream| upstream.name == name);
            if found.is_none() {
                item.fault(".upstream", &format!("{name:?} is neither an upstream nor {SAMPLE}"));
            }
            found.zip(timeout).map(|(found, timeout_s)| {
                let timeout = Duration::from_secs(timeout_s.unsigned_abs());
                Upstream::Http(Destination { upstream: Arc::clone(found), strip_prefix, timeout })
            })
        }
        None => None,
    };
    let scopes = item.strings(".scopes", &[]);
    let forward_token = item.switch(".forward_token", false);
    let counted = read_meters(item);
    let durability = item.choice(".durability", "relaxed", &["relaxed", "durable"]);
    let public = item.switch(".public", false);
    Some(RouteConfig {
        path: path?,
        host,
        methods: methods?,
        upstream: upstream?,
        scopes: scopes?,
        forward_token: forward_token?,
        counted: counted?,
        durability: if durability? == "durable" { Durability::Durable } else { Durability::Relaxed },
        public: public?,
    })
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

fn read_meters(item: &mut Reader) -> Option<[bool; STOCK_METERS.len()]> {
    let names = item.strings(".meters", &METERS)?;
    let mut counted = [false; STOCK_METERS.len()];
    for name in names {
        if let Some(number) = STOCK_METERS.iter().position(|meter| meter.key == name) {
            counted[number] = true;
        } else {
            let known = STOCK_METERS.map(|meter| meter.key).join(", ");
            item.fault(".meters", &format!("{name:?} is not one of {known}"));
        }
    }
    Some(counted)
}
