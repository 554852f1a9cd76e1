//! What a route asks of whoever calls it.

use std::sync::Arc;

use crate::gateway::{admission::RateTerms, units::MeterRule};

/// What a route asks of a tenant, besides what its plan says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTerms {
    /// Which route: its own limits are counted by it.
    pub key: u64,
    /// The meters it counts; quotas of others do not matter here.
    pub meters: Arc<[MeterRule]>,
    /// Features that the tier must have.
    pub features: Vec<String>,
    /// Each tenant's rate on this route.
    pub rate: Option<RateTerms>,
    /// Each tenant's requests under way on this route.
    pub max_concurrency: Option<u32>,
    /// The largest body of a request, in bytes.
    pub body_limit: Option<u64>,
}

impl RouteTerms {
    /// A route that counts some meters and asks for nothing else.
    pub const fn counting(key: u64, meters: Arc<[MeterRule]>) -> Self {
        Self { key, meters, features: Vec::new(), rate: None, max_concurrency: None, body_limit: None }
    }

    /// How much of a meter each request holds until it is settled; `None` for a meter that the route does not count.
    pub(super) fn held(&self, meter: u16) -> Option<i64> {
        self.meters.iter().find(|rule| rule.meter == meter).map(|rule| rule.held)
    }
}
