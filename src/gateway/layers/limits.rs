//! What a tenant is told of its limits, put together while they are looked at.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::{Ticket, route_terms::RouteTerms};
use crate::gateway::{
    admission::Left,
    entry::Loaded,
    limit_headers::{self, Line, QUOTA_EXCEEDED, RATE_LIMIT, RATE_LIMIT_POLICY},
    terms::QuotaTerms,
};

/// The headers of draft-ietf-httpapi-ratelimit-headers, being put together.
#[derive(Default)]
pub(super) struct Limits {
    pub(super) left: Line,
    /// Only where the policy of the tenant's terms is not the whole of it.
    pub(super) policy: Option<Box<Line>>,
    exceeded: Option<Box<Line>>,
    /// So many quotas, and this many rates, are in it.
    quotas: usize,
    rates: usize,
    /// Too many are under way: by which limit, and how many there may be.
    pub(super) crowded: Option<(&'static str, u32)>,
}

/// The headers, done.
#[derive(Default)]
pub(super) struct LimitHeaders {
    left: Option<HeaderValue>,
    policy: Option<HeaderValue>,
    exceeded: Option<HeaderValue>,
}

impl LimitHeaders {
    pub(super) fn named(&self) -> impl Iterator<Item = (HeaderName, &HeaderValue)> {
        let named = [(RATE_LIMIT, &self.left), (RATE_LIMIT_POLICY, &self.policy), (QUOTA_EXCEEDED, &self.exceeded)];
        named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)))
    }

    pub(super) fn put_on(self, headers: &mut HeaderMap) {
        let named = [(RATE_LIMIT, self.left), (RATE_LIMIT_POLICY, self.policy), (QUOTA_EXCEEDED, self.exceeded)];
        for (name, value) in named {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
    }
}

impl Limits {
    /// Headers for the limits that hold here. Where these are all of the tenant's and no others, their policy is known.
    pub(super) fn of(loaded: &Loaded, route: &RouteTerms) -> Self {
        let terms = &loaded.terms;
        let counted = |quota: &&QuotaTerms| route.held(quota.meter).is_some();
        let usual =
            route.rate.is_none() && route.max_concurrency.is_none() && terms.quotas.iter().all(|quota| counted(&quota));
        let mut limits = Self::default();
        if !usual {
            let policy = limits.policy.insert(Box::default());
            terms.quotas.iter().filter(counted).for_each(|quota| policy.quota_policy(quota));
            policy.tenant_policies(terms);
            if let Some(rate) = route.rate {
                policy.rate_policy(limit_headers::ROUTE_RATE, rate);
            }
            if let Some(most) = route.max_concurrency {
                policy.concurrency_policy(limit_headers::ROUTE_CONCURRENCY, most);
            }
        }
        limits
    }

    pub(super) fn done(self, loaded: &Loaded) -> LimitHeaders {
        LimitHeaders {
            left: self.left.value(),
            policy: self.policy.map_or_else(|| loaded.terms.policy.clone(), |own| own.value()),
            exceeded: self.exceeded.and_then(|own| own.value()),
        }
    }

    /// The policies of a refusal: those of which it is known what is left.
    pub(super) fn told(&self, ticket: &Ticket) -> Line {
        let (terms, route) = (&ticket.loaded.terms, &ticket.gate.route);
        let mut line = Line::default();
        let counted = terms.quotas.iter().filter(|quota| route.held(quota.meter).is_some());
        counted.take(self.quotas).for_each(|quota| line.quota_policy(quota));
        let rates = [(limit_headers::RATE, terms.rate), (limit_headers::ROUTE_RATE, route.rate)];
        let rates = rates.into_iter().filter_map(|(name, rate)| Some((name, rate?)));
        rates.take(self.rates).for_each(|(name, rate)| line.rate_policy(name, rate));
        if let Some((name, most)) = self.crowded {
            line.concurrency_policy(name, most);
        }
        line
    }

    pub(super) fn rate(&mut self, name: &'static str, left: Left) {
        self.rates += 1;
        self.left.rate(name, left);
    }

    pub(super) fn quota(&mut self, quota: &QuotaTerms, left: Left) {
        self.quotas += 1;
        self.left.quota(quota, left);
        if left.beyond {
            self.exceeded.get_or_insert_default().name(quota);
        }
    }
}
