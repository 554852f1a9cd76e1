//! Which meter events an hour needs, so that those that hold come to what was metered.

use std::collections::BTreeMap;

use super::{
    model::{SentMeter, UsageEvent},
    requests::CANCELLABLE_S,
};
use crate::kernel::{Quantity, QuantityError, TenantId, Timestamp};

/// A meter's hours of a tenant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) tenant: TenantId,
    pub(super) meter: &'a SentMeter,
}

/// What is to be done about an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Another event.
    Send(UsageEvent),
    /// An event that holds no more.
    Cancel(UsageEvent),
}

/// Usage in Stripe's whole units, halves away from zero; `None` when it does not fit.
pub(super) fn whole(value: Quantity, times: i64) -> Option<i64> {
    let scaled: Result<Quantity, QuantityError> = value.mul(Quantity::from(times));
    scaled.ok()?.rounded(0).to_string().parse().ok()
}

/// What has to change so that events come to `metered`, which is in whole units by hour; what is `None` stays as it is. `known` are all events of those hours.
///
/// More is another event. Less is cancelled while Stripe lets it be, and what is left is sent anew; later it is an event below
/// zero (Stripe, "Fix incorrect usage data").
pub(super) fn changes(
    of: Of<'_>,
    metered: &BTreeMap<Timestamp, Option<i64>>,
    known: &[UsageEvent],
    now: Timestamp,
) -> Vec<Change> {
    let mut hours: BTreeMap<Timestamp, Vec<&UsageEvent>> = metered.keys().map(|hour| (*hour, Vec::new())).collect();
    for event in known {
        hours.entry(event.hour).or_default().push(event);
    }
    let mut changes = Vec::new();
    for (hour, events) in hours {
        let Some(wanted) = metered.get(&hour).copied().unwrap_or(Some(0)) else { continue };
        let holding: Vec<&UsageEvent> = events.iter().copied().filter(|event| !event.cancelled).collect();
        let told: i64 = holding.iter().map(|event| event.value).fold(0, i64::saturating_add);
        if told == wanted {
            continue;
        }
        let fresh = |event: &&UsageEvent| event.sent_at.is_none_or(|at| now < at.plus_secs(CANCELLABLE_S));
        let cancels = wanted < told && holding.iter().all(fresh);
        let value = if cancels { wanted } else { wanted.saturating_sub(told) };
        if cancels {
            changes.extend(holding.into_iter().cloned().map(Change::Cancel));
        }
        if value != 0 {
            let revision = events.iter().map(|event| event.revision).max().unwrap_or(0) + 1;
            changes.push(Change::Send(UsageEvent {
                tenant: of.tenant,
                meter: of.meter.meter.clone(),
                hour,
                revision,
                event: of.meter.event.clone(),
                value,
                sent_at: None,
                cancelled: false,
            }));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::SeededRng;

    const T0: i64 = 1_799_996_400;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(T0 + seconds).unwrap()
    }

    /// What follows, event by event, for an hour whose sum goes from one number to the next, with so long in between.
    fn told(sums: &[(i64, i64)]) -> Vec<(i64, bool)> {
        let meter = SentMeter { meter: "apis".parse().unwrap(), event: "api_calls".into(), times: 1 };
        let of = Of { tenant: TenantId::generate(at(0), &SeededRng::new(1)), meter: &meter };
        let (mut known, mut now): (Vec<UsageEvent>, i64) = (Vec::new(), 0);
        for (sum, after_s) in sums {
            now += after_s;
            let metered = BTreeMap::from([(at(0), Some(*sum))]);
            for change in changes(of, &metered, &known, at(now)) {
                match change {
                    Change::Send(event) => known.push(UsageEvent { sent_at: Some(at(now)), ..event }),
                    Change::Cancel(gone) => {
                        let own = known.iter_mut().find(|own| own.revision == gone.revision).unwrap();
                        own.cancelled = true;
                    }
                }
            }
            assert!(changes(of, &metered, &known, at(now)).is_empty(), "it is done");
            assert!(known.iter().zip(1..).all(|(event, revision)| event.revision == revision), "each its own");
        }
        known.iter().map(|event| (event.value, event.cancelled)).collect()
    }

    #[test]
    fn events_that_hold_come_to_what_was_metered() {
        assert_eq!(told(&[(0, 0)]), []);
        assert_eq!(told(&[(7, 0), (7, 60), (9, 60)]), [(7, false), (2, false)]);
        assert_eq!(told(&[(7, 0), (9, 60), (5, 60)]), [(7, true), (2, true), (5, false)]);
        assert_eq!(told(&[(7, 0), (0, 60)]), [(7, true)]);
        assert_eq!(told(&[(7, 0), (5, 86_400)]), [(7, false), (-2, false)]);
        assert_eq!(told(&[(7, 0), (9, 86_400), (8, 60)]), [(7, false), (2, false), (-1, false)]);
        assert_eq!(told(&[(7, 0), (5, 60), (6, 60)]), [(7, true), (5, false), (1, false)]);
    }

    #[test]
    fn usage_is_rounded_to_whole_units_and_what_is_no_number_is_none() {
        let whole = |text: &str, times| whole(text.parse().unwrap(), times);
        assert_eq!(whole("2.5", 1), Some(3));
        assert_eq!(whole("0.001", 1_000), Some(1));
        assert_eq!(whole("-2.5", 1), Some(-3));
        assert_eq!(whole("99999999999999999999999", 1), None);
    }
}
