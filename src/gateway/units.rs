//! What a route counts: its meters, how a request's quantity of each is found, and which answers are billed.

use std::{fmt, str::FromStr, sync::Arc};

use axum::http::{HeaderName, StatusCode};
use rust_decimal::prelude::ToPrimitive as _;

use super::reading::Pointer;
use crate::{
    kernel::QuantityError,
    metering::{self, MeterKey, STOCK_METERS},
};

/// One unit of a meter, in the journal's thousandths.
pub(crate) const ONE: i64 = 1_000;
/// More than this of anything in one call is a mistake, in thousandths: 100,000,000,000 units. A year has a third of that in
/// milliseconds.
pub(crate) const ABSURD: i64 = 100_000_000_000 * ONE;

const APIS: u16 = 0;
const COMPUTE: u16 = 1;
const EGRESS: u16 = 3;
const INGRESS: u16 = 4;

/// Where the quantity of a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// One a request: known beforehand, so that a hard quota of it is exact.
    Count,
    /// Bytes of the request's body.
    RequestBytes,
    /// Bytes of the answer's body, as they are sent.
    ResponseBytes,
    /// Until the head of the answer was there, to the microsecond.
    Milliseconds,
    /// What the upstream reports of a stock meter in `Tollgate-Usage`; nothing when it reports nothing.
    Reported,
    /// The same, and [`Self::Milliseconds`] when it reports nothing.
    ReportedOrMilliseconds,
    /// A header of the answer.
    Header(HeaderName),
    /// A place in the answer's JSON (RFC 6901), or in the last event of a stream that has it.
    Json(Pointer),
}

/// The text is no unit expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be count, request_bytes, response_bytes, milliseconds, header:NAME or json:/POINTER")]
pub struct UnitError;

impl FromStr for Unit {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        Ok(match text.split_once(':') {
            Some(("header", name)) => Self::Header(name.parse().map_err(|_| UnitError)?),
            Some(("json", pointer)) => Self::Json(pointer.parse().map_err(|_| UnitError)?),
            Some(_) => return Err(UnitError),
            None => match text {
                "count" => Self::Count,
                "request_bytes" => Self::RequestBytes,
                "response_bytes" => Self::ResponseBytes,
                "milliseconds" => Self::Milliseconds,
                _ => return Err(UnitError),
            },
        })
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("count"),
            Self::RequestBytes => f.write_str("request_bytes"),
            Self::ResponseBytes => f.write_str("response_bytes"),
            Self::Milliseconds => f.write_str("milliseconds"),
            Self::Reported => f.write_str("reported"),
            Self::ReportedOrMilliseconds => f.write_str("reported or milliseconds"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Json(pointer) => write!(f, "json:{pointer:?}"),
        }
    }
}

impl Unit {
    /// How a stock meter is counted where nothing else is said.
    pub const fn of_stock(number: u16) -> Self {
        match number {
            APIS => Self::Count,
            COMPUTE => Self::ReportedOrMilliseconds,
            EGRESS => Self::ResponseBytes,
            INGRESS => Self::RequestBytes,
            _ => Self::Reported,
        }
    }
}

/// A meter that a route counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterRule {
    /// Its number in the journal: that of a stock meter, or what `GatewaySettings::meter` gave.
    pub meter: u16,
    /// Where the quantity comes from.
    pub unit: Unit,
    /// Held of its quotas until the quantity is known, in thousandths: one for [`Unit::Count`], else what the route says,
    /// else nothing.
    pub held: i64,
}

impl MeterRule {
    /// Counts a meter by a unit, of which nothing but a count is known beforehand.
    pub const fn new(meter: u16, unit: Unit) -> Self {
        let held = if matches!(unit, Unit::Count) { ONE } else { 0 };
        Self { meter, unit, held }
    }

    /// A stock meter as it is usually counted.
    pub const fn stock(number: u16) -> Self {
        Self::new(number, Unit::of_stock(number))
    }

    /// `apis` alone.
    pub fn requests() -> Arc<[Self]> {
        Arc::new([Self::stock(APIS)])
    }

    /// Every stock meter.
    pub fn everything() -> Arc<[Self]> {
        (0_u16..).zip(STOCK_METERS).map(|(number, _)| Self::stock(number)).collect()
    }
}

/// A meter that a route of the settings counts, by its key: its number is the journal's affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMeter {
    /// Which.
    pub key: MeterKey,
    /// Where the quantity comes from.
    pub unit: Unit,
    /// Held of its quotas until the quantity is known, in thousandths, as in [`MeterRule`].
    pub held: i64,
}

impl RouteMeter {
    /// Counts a meter by a unit, of which nothing but a count is known beforehand.
    pub fn new(key: MeterKey, unit: Unit) -> Self {
        let MeterRule { unit, held, .. } = MeterRule::new(0, unit);
        Self { key, unit, held }
    }

    /// A stock meter as it is usually counted; `None` when there is none of that name.
    pub fn stock(key: &str) -> Option<Self> {
        let number = STOCK_METERS.iter().position(|meter| meter.key == key)?;
        Some(Self::new(key.parse().ok()?, Unit::of_stock(u16::try_from(number).ok()?)))
    }

    /// Every stock meter.
    pub fn everything() -> Vec<Self> {
        STOCK_METERS.iter().filter_map(|meter| Self::stock(meter.key)).collect()
    }

    /// With its number.
    pub fn rule(&self, meter: u16) -> MeterRule {
        MeterRule { meter, unit: self.unit.clone(), held: self.held }
    }
}

/// Which statuses of an answer are billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Billed(Vec<(u16, u16)>);

impl Default for Billed {
    /// Everything below 500.
    fn default() -> Self {
        Self(vec![(100, 499)])
    }
}

/// The text is no status or range of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be statuses such as \"200\", \"2xx\" or \"200-299\", from 100 to 999")]
pub struct BilledError;

impl Billed {
    /// From `"200"`, `"2xx"` and `"200-299"`.
    pub fn parse(texts: &[String]) -> Result<Self, BilledError> {
        let status = |text: &str| {
            let good = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|status| good && *status >= 100_u16)
        };
        let range = |text: &String| {
            if let Some(class) = text.strip_suffix("xx") {
                let first = status(&format!("{class}00"))?;
                return Some((first, first + 99));
            }
            let (from, to) = text.split_once('-').unwrap_or((text, text));
            let (from, to) = (status(from)?, status(to)?);
            (from <= to).then_some((from, to))
        };
        texts.iter().map(range).collect::<Option<_>>().map(Self).ok_or(BilledError)
    }

    /// Whether an answer with this status is.
    pub fn includes(&self, status: StatusCode) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&status.as_u16()))
    }
}

/// Why a quantity could not be read: nothing is counted in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// There is nothing.
    #[error("there is nothing where the quantity should be")]
    Missing,
    /// There are several, and nobody says which counts.
    #[error("the quantity is there more than once")]
    Twice,
    /// It is no number.
    #[error("what is there is no number")]
    NotANumber,
    /// It cannot be kept exactly.
    #[error("the number has too many digits, or more than three behind the point")]
    TooExact,
    /// It is below zero, or absurdly large.
    #[error("the number is below zero or too large")]
    OutOfRange,
    /// The body is no JSON, or nested too deeply.
    #[error("the body is no JSON")]
    NotJson,
    /// The body is compressed though we asked for it as it is.
    #[error("the body is encoded")]
    Encoded,
    /// The body ended before.
    #[error("the answer ended before it was there")]
    BrokenOff,
}

/// A number in thousandths, exactly.
pub(crate) fn thousandths(text: &str) -> Result<i64, Unread> {
    let quantity = metering::meter::exact(text).map_err(|error| match error {
        QuantityError::TooManyDigits => Unread::TooExact,
        QuantityError::NotANumber | QuantityError::DivisionByZero => Unread::NotANumber,
    })?;
    let decimal = quantity.as_decimal();
    let scaled = decimal.checked_mul(rust_decimal::Decimal::from(ONE)).ok_or(Unread::OutOfRange)?.normalize();
    if decimal.normalize().scale() > 3 {
        return Err(Unread::TooExact);
    }
    let scaled = scaled.to_i64().ok_or(Unread::OutOfRange)?;
    if (0..=ABSURD).contains(&scaled) { Ok(scaled) } else { Err(Unread::OutOfRange) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_expressions_are_read_and_others_refused() {
        for (text, unit) in [
            ("count", Unit::Count),
            ("request_bytes", Unit::RequestBytes),
            ("response_bytes", Unit::ResponseBytes),
            ("milliseconds", Unit::Milliseconds),
            ("header:X-Cost", Unit::Header(HeaderName::from_static("x-cost"))),
            ("json:/usage/total_tokens", Unit::Json("/usage/total_tokens".parse().unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(unit), "{text}");
        }
        for text in ["", "Count", "bytes", "header:", "header:a b", "json:", "json:usage", "json:/a~2", "jq:.a"] {
            assert_eq!(text.parse::<Unit>(), Err(UnitError), "{text}");
        }
    }

    #[test]
    fn statuses_are_read_alone_by_class_and_by_range() {
        let billed = Billed::parse(&["204".into(), "4xx".into(), "600-699".into()]).unwrap();
        let is = |status: u16| billed.includes(StatusCode::from_u16(status).unwrap());
        assert!([204, 400, 499, 600, 699].into_iter().all(is));
        assert!(![200, 203, 205, 399, 500, 599, 700].into_iter().any(is));
        assert!(!Billed::parse(&[]).unwrap().includes(StatusCode::OK));
        for wrong in ["", "2x", "20", "+20", "099", "1000", "299-200", "xx", "0xx", "200-", "two"] {
            assert_eq!(Billed::parse(&[wrong.to_owned()]), Err(BilledError), "{wrong}");
        }
        let usual = Billed::default();
        assert!(usual.includes(StatusCode::NOT_FOUND) && !usual.includes(StatusCode::INTERNAL_SERVER_ERROR));
    }

    #[test]
    fn numbers_are_exact_in_thousandths_or_refused() {
        for (text, value) in [("0", 0), ("42", 42_000), ("1.5e3", 1_500_000), ("0.125", 125), ("3.1000", 3_100)] {
            assert_eq!(thousandths(text), Ok(value), "{text}");
        }
        assert_eq!(thousandths("100000000000"), Ok(ABSURD));
        for (text, why) in [
            ("", Unread::NotANumber),
            ("many", Unread::NotANumber),
            ("0.0001", Unread::TooExact),
            ("-1", Unread::OutOfRange),
            ("100000000000.001", Unread::OutOfRange),
            ("1e20", Unread::OutOfRange),
        ] {
            assert_eq!(thousandths(text), Err(why), "{text}");
        }
    }
}
