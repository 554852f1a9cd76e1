//! `[gateway]`: upstreams, and the whole; routes have a file of their own.

use super::{
    read::Reader,
    routes::{meter_number, read_routes, stock_meters},
    upstreams::read_upstreams,
};
use crate::gateway::RouteConfig;

/// `[gateway]`
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// The routes, with their upstreams resolved; the sample API is always among them.
    pub routes: Vec<RouteConfig>,
    /// Names of routes that an embedding program serves and meters itself; [`Self::mount`] adds one.
    pub mounted: Vec<String>,
    /// What the numbers of meters stand for: the stock ones, then each other one that a route names; [`Self::meter`] adds one.
    pub meters: Vec<String>,
    /// Requests under way at once, of all tenants; as many as come when it is 0.
    pub max_in_flight: u32,
}

/// Requests under way at once unless something else is said: half of the connections that are served.
const MAX_IN_FLIGHT: i64 = 8_192;

impl GatewaySettings {
    /// Names a route that an embedding program serves itself; the number by which its layers record it. Call it before
    /// `App::build`, which opens the journal that keeps the names.
    pub fn mount(&mut self, name: &str) -> u16 {
        self.mounted.push(name.to_owned());
        // 65,535 routes are the most, as in `read`; a program with more has lost count, and they share the last number.
        u16::try_from(self.routes.len() + self.mounted.len() - 1).unwrap_or(u16::MAX)
    }

    /// Names a meter that an embedding program's own routes count; its number, for `MeterRule`. Call it before `App::build`,
    /// which opens the journal that keeps the names.
    pub fn meter(&mut self, key: &str) -> u16 {
        meter_number(&mut self.meters, key)
    }

    /// The names of all routes, in the order of their numbers.
    pub fn route_names(&self) -> Vec<String> {
        self.routes.iter().map(|route| route.path.clone()).chain(self.mounted.iter().cloned()).collect()
    }

    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let upstreams = read_upstreams(reader);
        let mut meters = stock_meters();
        let routes = read_routes(reader, &upstreams, &mut meters);
        let max_in_flight = reader.number("gateway.max_in_flight", MAX_IN_FLIGHT, 0, 1 << 30);
        let max_in_flight = u32::try_from(max_in_flight?).unwrap_or(0);
        Some(Self { routes: routes?, mounted: Vec::new(), meters, max_in_flight })
    }
}
