//! Exact decimal quantities: usage, unit prices, percentages.
//!
//! A quantity holds up to 28 significant digits, at most 28 of them behind the point. Arithmetic either gives the
//! exact result or an error; it never rounds. Rounding happens in one named place, when an amount becomes
//! [`Money`](super::Money).

use std::{fmt, str::FromStr};

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An exact decimal number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Quantity(Decimal);

/// Why a text is no quantity, or a result cannot be held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The text is not a decimal number.
    #[error("not a decimal number such as 12, 0.5 or -3.25")]
    NotANumber,
    /// The number or result has more digits than can be held exactly.
    #[error("more than 28 significant digits cannot be held exactly")]
    TooManyDigits,
    /// Division by zero.
    #[error("division by zero")]
    DivisionByZero,
}

impl Quantity {
    /// 0
    pub const ZERO: Self = Self(Decimal::ZERO);
    /// 1
    pub const ONE: Self = Self(Decimal::ONE);
    /// The longest text that is looked at: a sign, 28 digits, a point, an exponent.
    const MAX_TEXT: usize = 40;

    /// Wraps a decimal, in its shortest form.
    pub fn new(value: Decimal) -> Self {
        Self(value.normalize())
    }

    /// The decimal inside.
    pub const fn as_decimal(self) -> Decimal {
        self.0
    }

    /// `units` × 10^-`scale`; `None` above a scale of 28.
    pub fn from_scaled(units: i64, scale: u32) -> Option<Self> {
        Decimal::try_new(units, scale).ok().map(Self::new)
    }

    /// Whether it is exactly zero.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        self.0.is_sign_negative() && !self.0.is_zero()
    }

    /// Whether it has at most so many digits before the point and so many after it.
    pub fn fits(self, before: u32, after: u32) -> bool {
        let limit = 10_i128.checked_pow(before).unwrap_or(i128::MAX);
        self.0.scale() <= after && self.0.trunc().mantissa().abs() < limit
    }

    /// To so many digits behind the point, half away from zero: for values that have no exact form, such as averages.
    #[must_use]
    pub fn rounded(self, digits: u32) -> Self {
        Self::new(self.0.round_dp_with_strategy(digits, rust_decimal::RoundingStrategy::MidpointAwayFromZero))
    }

    /// The exact sum.
    #[expect(clippy::should_implement_trait, reason = "fallible, so not the operator")]
    pub fn add(self, other: Self) -> Result<Self, QuantityError> {
        let sum = self.0.checked_add(other.0).ok_or(QuantityError::TooManyDigits)?;
        Self::exact(sum, self.0.scale().max(other.0.scale()))
    }

    /// The exact difference.
    #[expect(clippy::should_implement_trait, reason = "fallible, so not the operator")]
    pub fn sub(self, other: Self) -> Result<Self, QuantityError> {
        self.add(Self(-other.0))
    }

    /// The exact product.
    #[expect(clippy::should_implement_trait, reason = "fallible, so not the operator")]
    pub fn mul(self, other: Self) -> Result<Self, QuantityError> {
        let product = self.0.checked_mul(other.0).ok_or(QuantityError::TooManyDigits)?;
        if product.is_zero() && !(self.is_zero() || other.is_zero()) {
            return Err(QuantityError::TooManyDigits);
        }
        if product.is_zero() {
            return Ok(Self::ZERO);
        }
        Self::exact(product, self.0.scale() + other.0.scale())
    }

    /// The exact value of this many per cent: `self / 100`.
    pub fn percent(self) -> Result<Self, QuantityError> {
        self.mul(Self(Decimal::new(1, 2)))
    }

    /// How many whole `size`s fit, rounded up. Exact whatever the digits of the quotient.
    pub fn div_ceil(self, size: Self) -> Result<Self, QuantityError> {
        let whole = self.div_floor(size)?;
        if whole.mul(size)? == self { Ok(whole) } else { whole.add(Self::ONE) }
    }

    /// How many whole `size`s fit, rounded down (toward negative infinity).
    pub fn div_floor(self, size: Self) -> Result<Self, QuantityError> {
        if size.is_zero() {
            return Err(QuantityError::DivisionByZero);
        }
        let rest = self.0.checked_rem(size.0).ok_or(QuantityError::TooManyDigits)?;
        let whole = self.sub(Self(rest))?.0.checked_div(size.0).ok_or(QuantityError::TooManyDigits)?.round();
        let below = !rest.is_zero() && (rest.is_sign_negative() != size.0.is_sign_negative());
        Ok(Self::new(if below { whole - Decimal::ONE } else { whole }))
    }

    fn exact(result: Decimal, scale_needed: u32) -> Result<Self, QuantityError> {
        // rust_decimal gives up digits behind the point when a result would need more than 96 bits; a result that
        // kept the scale it needs lost nothing.
        if result.scale() == scale_needed { Ok(Self::new(result)) } else { Err(QuantityError::TooManyDigits) }
    }
}

impl From<i64> for Quantity {
    fn from(value: i64) -> Self {
        Self(Decimal::from(value))
    }
}

impl From<u64> for Quantity {
    fn from(value: u64) -> Self {
        Self(Decimal::from(value))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.normalize().fmt(f)
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let well_formed = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.ends_with(|c: char| c.is_ascii_digit())
            && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            && digits.bytes().filter(|b| *b == b'.').count() <= 1;
        if !well_formed {
            return Err(QuantityError::NotANumber);
        }
        if text.len() > Self::MAX_TEXT {
            return Err(QuantityError::TooManyDigits);
        }
        Decimal::from_str_exact(text).map(Self::new).map_err(|_| QuantityError::TooManyDigits)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn arithmetic_is_exact() {
        assert_eq!(q("0.1").add(q("0.2")).unwrap(), q("0.3"));
        assert_eq!(q("314572800").mul(q("0.00000003")).unwrap(), q("9.437184"));
        assert_eq!(q("1").sub(q("0.000000001")).unwrap(), q("0.999999999"));
        assert_eq!(q("2.5").percent().unwrap(), q("0.025"));
    }

    #[test]
    fn a_result_that_cannot_be_exact_is_an_error_not_a_rounding() {
        let big = q("9999999999999999999999999999");
        assert_eq!(big.add(q("0.1")), Err(QuantityError::TooManyDigits));
        assert_eq!(big.mul(q("1.1")), Err(QuantityError::TooManyDigits));
        assert_eq!(q("0.00000000000001").mul(q("0.000000000000001")), Err(QuantityError::TooManyDigits));
    }

    #[test]
    fn digits_are_counted_on_both_sides_of_the_point() {
        for (text, fits) in [
            ("999.99", true),
            ("-999.99", true),
            ("1000", false),
            ("-1000", false),
            ("0.001", false),
            ("0.0100", true),
            ("0", true),
        ] {
            assert_eq!(q(text).fits(3, 2), fits, "{text}");
        }
    }

    #[test]
    fn whole_packages_are_counted_exactly() {
        assert_eq!(q("6").div_ceil(q("5")).unwrap(), q("2"));
        assert_eq!(q("10").div_ceil(q("5")).unwrap(), q("2"));
        assert_eq!(q("6").div_floor(q("5")).unwrap(), q("1"));
        assert_eq!(q("1").div_ceil(q("3")).unwrap(), q("1"));
        assert_eq!(q("-1").div_floor(q("3")).unwrap(), q("-1"));
        assert_eq!(q("-3").div_floor(q("3")).unwrap(), q("-1"));
        assert_eq!(q("1").div_floor(q("0")), Err(QuantityError::DivisionByZero));
    }

    #[test]
    fn texts_that_are_no_decimal_numbers_are_refused() {
        for wrong in ["", "-", ".5", "5.", "1e3", "+1", " 1", "0x1", "1,5", "NaN", "1.2.3", "--1", "٣"] {
            assert_eq!(wrong.parse::<Quantity>(), Err(QuantityError::NotANumber), "{wrong:?}");
        }
        assert_eq!("1".repeat(30).parse::<Quantity>(), Err(QuantityError::TooManyDigits));
        assert_eq!(format!("0.{}", "1".repeat(29)).parse::<Quantity>(), Err(QuantityError::TooManyDigits));
    }

    #[test]
    fn the_text_is_the_shortest_exact_one() {
        assert_eq!(q("1.500").to_string(), "1.5");
        assert_eq!(q("-0").to_string(), "0");
        assert_eq!(q("100").to_string(), "100");
    }
}
