//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers), put together without a formatter in a buffer of
//! their own: one allocation for a value, and none for a policy that is known.

use axum::http::{HeaderName, HeaderValue};
use bytes::Bytes;

use super::{
    admission::{Left, RateTerms},
    terms::{QuotaTerms, Terms},
    units::ONE,
};
use crate::kernel::CalendarUnit;

/// What is left of each limit.
pub(super) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What the limits are.
pub(super) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Soft quotas that are exceeded, by the names they have in `RateLimit`.
pub(super) const QUOTA_EXCEEDED: HeaderName = HeaderName::from_static("tollgate-quota-exceeded");

/// The longest value; limits that do not fit any more are left out whole.
const MOST: usize = 1_024;
/// The tenant's rate, and its rate on a route.
pub(super) const RATE: &str = "rate";
pub(super) const ROUTE_RATE: &str = "route-rate";
/// Requests under way of the tenant, and on a route.
pub(super) const CONCURRENCY: &str = "concurrency";
pub(super) const ROUTE_CONCURRENCY: &str = "route-concurrency";

/// What a value takes as a rule, in bytes.
const USUAL: usize = 96;

/// A header's value in the making: items of a structured list (RFC 9651).
#[derive(Default)]
pub(super) struct Line {
    text: Vec<u8>,
    /// Where the item begins that is being written.
    item: usize,
    full: bool,
}

impl Line {
    fn text(&mut self, text: &str) -> &mut Self {
        self.full |= self.text.len() + text.len() > MOST;
        if !self.full {
            if self.text.capacity() == 0 {
                self.text.reserve(USUAL);
            }
            self.text.extend_from_slice(text.as_bytes());
        }
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.text(itoa::Buffer::new().format(number))
    }

    fn begin(&mut self) -> &mut Self {
        self.item = self.text.len();
        if !self.text.is_empty() {
            self.text(", ");
        }
        self.text("\"")
    }

    /// An item that did not fit is taken back, and none follows.
    fn end(&mut self) {
        if self.full {
            self.text.truncate(self.item);
        }
    }

    fn quota_name(&mut self, quota: &QuotaTerms) -> &mut Self {
        self.text(quota.key.as_str()).text("-").text(unit_name(quota.unit)).text("\"")
    }

    /// The name of a quota alone.
    pub(super) fn name(&mut self, quota: &QuotaTerms) {
        self.begin().quota_name(quota).end();
    }

    /// What is left of a quota.
    pub(super) fn quota(&mut self, quota: &QuotaTerms, left: Left) {
        self.begin().quota_name(quota).left(left);
    }

    /// What is left of a rate.
    pub(super) fn rate(&mut self, name: &str, left: Left) {
        self.begin().text(name).text("\"").left(left);
    }

    /// How many more may be under way; when that will be more, nobody knows.
    pub(super) fn concurrency(&mut self, name: &str, remaining: u32) {
        self.begin().text(name).text("\";r=").number(remaining.into()).end();
    }

    fn left(&mut self, left: Left) {
        self.text(";r=").number(left.remaining).text(";t=").number(left.reset_s).end();
    }

    /// What a quota is (a month counted as 30 days).
    pub(super) fn quota_policy(&mut self, quota: &QuotaTerms) {
        let window_s = match quota.unit {
            CalendarUnit::Minute => 60,
            CalendarUnit::Hour => 3_600,
            CalendarUnit::Day => 86_400,
            CalendarUnit::Month => 2_592_000,
        };
        self.begin().quota_name(quota).text(";q=").number(units(quota.limit)).text(";w=").number(window_s);
        match quota.key.as_str() {
            // What is counted where nothing is said.
            "apis" => {}
            "egress_bytes" | "ingress_bytes" => drop(self.text(";qu=\"content-bytes\"")),
            key => drop(self.text(";qu=\"").text(key).text("\"")),
        }
        self.end();
    }

    /// What a rate is.
    pub(super) fn rate_policy(&mut self, name: &str, terms: RateTerms) {
        let (requests, per_s) = (terms.requests.into(), terms.per_s.into());
        self.begin().text(name).text("\";q=").number(requests).text(";w=").number(per_s).end();
    }

    /// How many may be under way.
    pub(super) fn concurrency_policy(&mut self, name: &str, most: u32) {
        self.begin().text(name).text("\";q=").number(most.into()).text(";qu=\"concurrent-requests\"").end();
    }

    /// What a tenant's rate and concurrency are.
    pub(super) fn tenant_policies(&mut self, terms: &Terms) {
        if let Some(rate) = terms.rate {
            self.rate_policy(RATE, rate);
        }
        if let Some(most) = terms.max_concurrency {
            self.concurrency_policy(CONCURRENCY, most);
        }
    }

    /// The value; `None` when there are no items.
    pub(super) fn value(self) -> Option<HeaderValue> {
        let value = Bytes::from(self.text);
        (!value.is_empty()).then(|| HeaderValue::from_maybe_shared(value).ok()).flatten()
    }
}

/// A quota's name in the headers.
pub(super) fn quota_name(quota: &QuotaTerms) -> String {
    format!("{}-{}", quota.key, unit_name(quota.unit))
}

/// Whole units of a limit.
pub(super) fn units(thousandths: i64) -> u64 {
    u64::try_from(thousandths / ONE).unwrap_or(0)
}

pub(super) const fn unit_name(unit: CalendarUnit) -> &'static str {
    match unit {
        CalendarUnit::Minute => "minute",
        CalendarUnit::Hour => "hour",
        CalendarUnit::Day => "day",
        CalendarUnit::Month => "month",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_lists_of_items_and_none_is_half_there() {
        let quota = |key: &str| QuotaTerms {
            meter: 0,
            key: key.parse().unwrap(),
            limit: 1_000_500,
            unit: CalendarUnit::Day,
            hard: true,
        };
        let mut line = Line::default();
        assert_eq!(Line::default().value(), None);
        line.quota(&quota("apis"), Left { remaining: u64::MAX, reset_s: 0, beyond: false });
        line.rate(RATE, Left { remaining: 10, reset_s: 7, beyond: false });
        line.concurrency(CONCURRENCY, 3);
        let expected = "\"apis-day\";r=18446744073709551615;t=0, \"rate\";r=10;t=7, \"concurrency\";r=3";
        assert_eq!(line.value().unwrap(), expected);
        let mut line = Line::default();
        line.quota_policy(&quota("apis"));
        line.quota_policy(&quota("egress_bytes"));
        line.quota_policy(&quota("tokens"));
        line.rate_policy(RATE, RateTerms { requests: 5, per_s: 60, burst: 9 });
        line.concurrency_policy(CONCURRENCY, 4);
        let expected = "\"apis-day\";q=1000;w=86400, \"egress_bytes-day\";q=1000;w=86400;qu=\"content-bytes\", \
                        \"tokens-day\";q=1000;w=86400;qu=\"tokens\", \"rate\";q=5;w=60, \
                        \"concurrency\";q=4;qu=\"concurrent-requests\"";
        assert_eq!(line.value().unwrap(), expected);
        let long = "m".repeat(60);
        let mut line = Line::default();
        for _ in 0..40 {
            line.name(&quota(&long));
        }
        let value = line.value().unwrap();
        let names: Vec<_> = value.to_str().unwrap().split(", ").collect();
        assert!(names.len() == 15 && names.iter().all(|name| *name == format!("\"{long}-day\"")), "{names:?}");
    }
}
