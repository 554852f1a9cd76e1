//! `[gateway]`: upstreams, and the whole; routes have a file of their own.

use super::{read::Reader, routes::read_routes, upstreams::read_upstreams};
use crate::gateway::RouteConfig;

/// `[gateway]`
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// The routes, with their upstreams resolved; the sample API is always among them.
    pub routes: Vec<RouteConfig>,
    /// Names of routes that an embedding program serves and meters itself; [`Self::mount`] adds one.
    pub mounted: Vec<String>,
}

impl GatewaySettings {
    /// Names a route that an embedding program serves itself; the number by which its layers record it. Call it before
    /// `App::build`, which opens the journal that keeps the names.
    pub fn mount(&mut self, name: &str) -> u16 {
        self.mounted.push(name.to_owned());
        // 65,535 routes are the most, as in `read`; a program with more has lost count, and they share the last number.
        u16::try_from(self.routes.len() + self.mounted.len() - 1).unwrap_or(u16::MAX)
    }

    /// The names of all routes, in the order of their numbers.
    pub fn route_names(&self) -> Vec<String> {
        self.routes.iter().map(|route| route.path.clone()).chain(self.mounted.iter().cloned()).collect()
    }

    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let upstreams = read_upstreams(reader);
        let routes = read_routes(reader, &upstreams)?;
        Some(Self { routes, mounted: Vec::new() })
    }
}
