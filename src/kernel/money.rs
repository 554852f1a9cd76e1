//! Money: whole minor units of one currency, checked.
//!
//! An exact amount becomes money in one place, [`Money::round_half_up`], away from zero, once per invoice line.
//! Everything after that is integer addition.

use std::{fmt, str::FromStr};

use rust_decimal::{Decimal, RoundingStrategy, prelude::ToPrimitive};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Quantity;

/// An ISO 4217 currency with its own number of decimals (JPY 0, USD 2, KWD 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency {
    code: iso_currency::Currency,
    digits: u16,
}

/// Why an amount cannot be formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not the code of a currency with minor units.
    #[error("not an ISO 4217 currency code such as USD, EUR or JPY")]
    UnknownCurrency,
    /// Two amounts of different currencies met.
    #[error("{0} and {1} cannot be added")]
    Mixed(Currency, Currency),
    /// The amount does not fit 64 bits of minor units.
    #[error("the amount is too large")]
    Overflow,
    /// The amount has more decimals than its currency.
    #[error("more decimals than the currency has")]
    TooPrecise,
}

impl Currency {
    /// Decimals of an amount in this currency (ISO 4217 "minor unit").
    pub const fn digits(self) -> u32 {
        self.digits as u32
    }

    /// The three-letter code.
    pub fn code(self) -> &'static str {
        self.code.code()
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let code = iso_currency::Currency::from_code(text).ok_or(MoneyError::UnknownCurrency)?;
        let digits = code.exponent().ok_or(MoneyError::UnknownCurrency)?;
        Ok(Self { code, digits })
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// An amount of money.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

impl Money {
    /// Nothing, in `currency`.
    pub const fn zero(currency: Currency) -> Self {
        Self { minor: 0, currency }
    }

    /// `minor` units of `currency` (cents for USD).
    pub const fn from_minor(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// The whole minor units.
    pub const fn minor(self) -> i64 {
        self.minor
    }

    /// The currency.
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// Rounds an exact amount to the currency's minor unit, halves away from zero.
    pub fn round_half_up(exact: Quantity, currency: Currency) -> Result<Self, MoneyError> {
        let rounded =
            exact.as_decimal().round_dp_with_strategy(currency.digits(), RoundingStrategy::MidpointAwayFromZero);
        Self::from_exact(Quantity::new(rounded), currency)
    }

    /// An amount that already is a whole number of minor units.
    pub fn from_exact(exact: Quantity, currency: Currency) -> Result<Self, MoneyError> {
        let value = exact.as_decimal();
        if value.normalize().scale() > currency.digits() {
            return Err(MoneyError::TooPrecise);
        }
        let scaled = value.checked_mul(Decimal::from(10_u64.pow(currency.digits()))).ok_or(MoneyError::Overflow)?;
        let minor = scaled.to_i64().ok_or(MoneyError::Overflow)?;
        Ok(Self { minor, currency })
    }

    /// The sum of two amounts of one currency.
    #[expect(clippy::should_implement_trait, reason = "fallible, so not the operator")]
    pub fn add(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::Mixed(self.currency, other.currency));
        }
        let minor = self.minor.checked_add(other.minor).ok_or(MoneyError::Overflow)?;
        Ok(Self { minor, ..self })
    }

    /// The difference of two amounts of one currency.
    #[expect(clippy::should_implement_trait, reason = "fallible, so not the operator")]
    pub fn sub(self, other: Self) -> Result<Self, MoneyError> {
        let minor = other.minor.checked_neg().ok_or(MoneyError::Overflow)?;
        self.add(Self { minor, ..other })
    }

    /// Whether it is exactly zero.
    pub const fn is_zero(self) -> bool {
        self.minor == 0
    }

    /// The amount as a decimal text with exactly the currency's digits: `"12.34"`.
    pub fn amount(self) -> String {
        self.decimal().to_string()
    }

    /// The amount as an exact quantity of major units.
    pub fn quantity(self) -> Quantity {
        Quantity::new(self.decimal())
    }

    fn decimal(self) -> Decimal {
        Decimal::new(self.minor, self.currency.digits())
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount(), self.currency)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str, currency: &str) -> String {
        Money::round_half_up(text.parse().unwrap(), currency.parse().unwrap()).unwrap().amount()
    }

    #[test]
    fn halves_round_away_from_zero_at_the_currencys_own_digits() {
        assert_eq!(round("5.775", "USD"), "5.78");
        assert_eq!(round("-5.775", "USD"), "-5.78");
        assert_eq!(round("5.774999", "USD"), "5.77");
        assert_eq!(round("0.5", "JPY"), "1");
        assert_eq!(round("1.0005", "KWD"), "1.001");
        assert_eq!(round("7", "USD"), "7.00");
    }

    #[test]
    fn currencies_do_not_mix_and_amounts_do_not_wrap() {
        let usd: Currency = "USD".parse().unwrap();
        let jpy: Currency = "JPY".parse().unwrap();
        assert_eq!(Money::zero(usd).add(Money::zero(jpy)), Err(MoneyError::Mixed(usd, jpy)));
        assert_eq!(Money::from_minor(i64::MAX, usd).add(Money::from_minor(1, usd)), Err(MoneyError::Overflow));
        let huge = "99999999999999999999999".parse().unwrap();
        assert_eq!(Money::round_half_up(huge, usd), Err(MoneyError::Overflow));
    }

    #[test]
    fn what_is_no_currency_is_refused() {
        for wrong in ["", "usd", "US", "DOLLAR", "XXX"] {
            assert_eq!(wrong.parse::<Currency>(), Err(MoneyError::UnknownCurrency), "{wrong}");
        }
    }
}
