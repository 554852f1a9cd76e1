//! `Tollgate-Usage`: what an upstream says a call consumed (RFC 9651 dictionary of numbers).

use axum::http::{HeaderMap, HeaderValue};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::headers::TOLLGATE_USAGE;
use crate::metering::STOCK_METERS;

/// More than this of anything in one call is a mistake, in units: a year in milliseconds is a third of it.
const ABSURD: i64 = 100_000_000_000;

/// What was reported, by meter number, in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reported {
    /// `None` where nothing was reported.
    pub thousandths: [Option<i64>; STOCK_METERS.len()],
}

/// Takes the header out of a response; its lines are one dictionary (RFC 9651 section 4.2). A header that is no
/// dictionary reports nothing; unknown names, negative and absurd numbers are passed over.
pub fn take(headers: &mut HeaderMap) -> Reported {
    let mut reported = Reported::default();
    let lines: Vec<&[u8]> = headers.get_all(&TOLLGATE_USAGE).iter().map(HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        return reported;
    }
    let value = lines.join(&b", "[..]);
    headers.remove(&TOLLGATE_USAGE);
    let Ok(dictionary) = Parser::new(&value).parse::<Dictionary>() else {
        tracing::warn!("an upstream sent a Tollgate-Usage header that is no RFC 9651 dictionary");
        return reported;
    };
    for (name, entry) in &dictionary {
        let number = STOCK_METERS.iter().position(|meter| meter.key == name.as_str());
        if let (Some(number), Some(thousandths)) = (number, thousandths(entry)) {
            reported.thousandths[number] = Some(thousandths);
        }
    }
    reported
}

fn thousandths(entry: &ListEntry) -> Option<i64> {
    let ListEntry::Item(item) = entry else { return None };
    let value = match &item.bare_item {
        BareItem::Integer(number) => i64::from(*number).checked_mul(1_000)?,
        // A decimal has at most three digits behind the point (RFC 9651 section 3.3.2): it is exact in thousandths.
        BareItem::Decimal(number) => number.as_integer_scaled_1000().into(),
        _ => return None,
    };
    (0..=ABSURD.saturating_mul(1_000)).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(value: &str) -> Reported {
        let mut headers = HeaderMap::new();
        headers.insert(TOLLGATE_USAGE, HeaderValue::from_str(value).unwrap());
        let reported = take(&mut headers);
        assert!(headers.is_empty(), "the client must not see it");
        reported
    }

    #[test]
    fn numbers_of_known_meters_are_taken_exactly() {
        let found = reported("compute=15, memory=3.125, unknown=7");
        assert_eq!(found.thousandths, [None, Some(15_000), Some(3_125), None, None]);
    }

    #[test]
    fn nonsense_reports_nothing() {
        for value in ["", "compute", "compute=-1", "compute=\"9\"", "compute=(1 2)", "compute=999999999999999", "=,"] {
            assert_eq!(reported(value), Reported::default(), "{value}");
        }
    }
}
