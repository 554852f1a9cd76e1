//! From minutes to windows. Pure.

use std::collections::BTreeMap;

use super::{
    error::Error,
    model::{MeterKey, MinuteTotal, Window, WindowTotal},
};
use crate::kernel::{Period, Quantity};

/// Thousandths as a quantity.
pub fn quantity(meter: &MeterKey, thousandths: i128) -> Result<Quantity, Error> {
    let inexact = |source| Error::Inexact { meter: meter.clone(), source };
    let decimal = rust_decimal::Decimal::try_from_i128_with_scale(thousandths, 3);
    decimal.map(Quantity::new).map_err(|_| inexact(crate::kernel::QuantityError::TooManyDigits))
}

/// Adds minutes up by window and, when asked, by route. Windows without usage are left out. Without a window, the
/// whole period is one.
pub fn windows(
    meter: &MeterKey,
    minutes: &[MinuteTotal],
    period: Period,
    window: Option<Window>,
    by_route: bool,
) -> Result<Vec<WindowTotal>, Error> {
    let mut sums: BTreeMap<(i64, i64, &str), Quantity> = BTreeMap::new();
    for total in minutes {
        let whole = window.map_or(period, |unit| Period::containing(total.minute, unit));
        let group = if by_route { total.group.as_str() } else { "" };
        let sum = sums.entry((whole.from().as_micros(), whole.to().as_micros(), group)).or_default();
        *sum = sum.add(total.value).map_err(|source| Error::Inexact { meter: meter.clone(), source })?;
    }
    let instant = crate::kernel::Timestamp::from_micros;
    let totals = sums.into_iter().filter_map(|((from, to, group), value)| {
        let group = if by_route { vec![("route".to_owned(), group.to_owned())] } else { Vec::new() };
        Some(WindowTotal { from: instant(from)?, to: instant(to)?, value, group })
    });
    Ok(totals.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{CalendarUnit, Timestamp};

    fn minute(at: &str, group: &str, value: i64) -> MinuteTotal {
        MinuteTotal { minute: at.parse().unwrap(), group: group.into(), value: value.into() }
    }

    #[test]
    fn minutes_add_up_by_window_and_route() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let period = Period::new(at("2026-11-01T00:00:00Z"), at("2026-12-01T00:00:00Z")).unwrap();
        let minutes = [
            minute("2026-11-02T10:00:00Z", "/a/", 1),
            minute("2026-11-02T10:01:00Z", "/b/", 2),
            minute("2026-11-03T10:00:00Z", "/a/", 4),
        ];
        let apis: MeterKey = "apis".parse().unwrap();
        let values = |window, by_route| -> Vec<String> {
            let totals = windows(&apis, &minutes, period, window, by_route).unwrap();
            totals.iter().map(|total| format!("{} {}", total.from, total.value)).collect()
        };
        assert_eq!(values(Some(CalendarUnit::Day), false), ["2026-11-02T00:00:00Z 3", "2026-11-03T00:00:00Z 4"]);
        assert_eq!(values(None, false), ["2026-11-01T00:00:00Z 7"]);
        assert_eq!(values(None, true), ["2026-11-01T00:00:00Z 5", "2026-11-01T00:00:00Z 2"]);
    }
}
