//! What a tenant is held to, apart from what it used: the same for all tenants of a plan.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use axum::http::HeaderValue;

use super::{admission::RateTerms, limit_headers::Line};
use crate::{
    kernel::{CalendarUnit, TierName},
    metering::MeterKey,
};

/// How much of a meter may be used in a calendar period (UTC).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QuotaTerms {
    /// The meter's number in the journal.
    pub meter: u16,
    /// Its key.
    pub key: MeterKey,
    /// The most, in thousandths.
    pub limit: i64,
    /// In which period.
    pub unit: CalendarUnit,
    /// Whether more is refused.
    pub hard: bool,
}

/// What a tenant is held to.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) tier: Arc<TierName>,
    pub(super) features: Vec<String>,
    pub(super) rate: Option<RateTerms>,
    pub(super) max_concurrency: Option<u32>,
    pub(super) quotas: Vec<QuotaTerms>,
    /// Whose limits these are, where they are lower than the tier's because the tenant does not pay.
    pub(super) limited_to: Option<TierName>,
    /// `RateLimit-Policy` on a route that counts every meter of the quotas and has no limits of its own.
    pub(super) policy: Option<HeaderValue>,
}

impl Terms {
    pub(super) fn new(
        tier: TierName,
        features: Vec<String>,
        rate: Option<RateTerms>,
        max_concurrency: Option<u32>,
        quotas: Vec<QuotaTerms>,
    ) -> Self {
        let mut terms =
            Self { tier: Arc::new(tier), features, rate, max_concurrency, quotas, limited_to: None, policy: None };
        let mut line = Line::default();
        for quota in &terms.quotas {
            line.quota_policy(quota);
        }
        line.tenant_policies(&terms);
        terms.policy = line.value();
        terms
    }

    fn key(&self) -> impl Hash + Eq + '_ {
        (&*self.tier, &self.features, self.rate, self.max_concurrency, &self.quotas, &self.limited_to)
    }
}

impl PartialEq for Terms {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Terms {}

impl Hash for Terms {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}
