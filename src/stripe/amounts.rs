//! Amounts in Stripe's units, which are not always ISO 4217's (docs.stripe.com/currencies, "Minor units in API amounts",
//! "Zero-decimal currencies", "Three-decimal currencies", "Special cases").

use crate::kernel::{Currency, Money};

/// Amounts are whole units.
const ZERO_DECIMAL: [&str; 15] =
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"];
/// Without decimals by now, and still given with two, which must be zero.
const TWO_THAT_ARE_ZERO: [&str; 2] = ["ISK", "UGX"];
/// With three decimals, of which the last must be zero.
const THREE_DECIMAL: [&str; 5] = ["BHD", "JOD", "KWD", "OMR", "TND"];

/// Why an amount cannot be told to Stripe, or was not told by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountFault {
    /// Stripe's smallest unit is larger.
    #[error("{0} is no whole number of Stripe's units")]
    TooFine(Money),
    /// Stripe does not say what it means.
    #[error("Stripe has no rule for amounts in {0}")]
    Currency(Currency),
    /// Out of range.
    #[error("the amount is too large")]
    Overflow,
}

/// How many of Stripe's units are how many of ours.
struct Scale {
    theirs: i64,
    ours: i64,
    /// Amounts of theirs are multiples of it.
    step: i64,
}

fn scale(currency: Currency) -> Result<Scale, AmountFault> {
    let (code, digits) = (currency.code(), currency.digits());
    let plain = |step| Ok(Scale { theirs: 1, ours: 1, step });
    match digits {
        0 if TWO_THAT_ARE_ZERO.contains(&code) => Ok(Scale { theirs: 100, ours: 1, step: 100 }),
        0 if ZERO_DECIMAL.contains(&code) => plain(1),
        // The ariary has fifths by ISO 4217, written with two decimals, and none at Stripe.
        2 if ZERO_DECIMAL.contains(&code) => Ok(Scale { theirs: 1, ours: 100, step: 1 }),
        2 => plain(1),
        3 if THREE_DECIMAL.contains(&code) => plain(10),
        _ => Err(AmountFault::Currency(currency)),
    }
}

/// An amount in Stripe's units. Nothing is rounded: what Stripe cannot say exactly is not said.
pub fn to_stripe(money: Money) -> Result<i64, AmountFault> {
    let Scale { theirs, ours, step } = scale(money.currency())?;
    let scaled = money.minor().checked_mul(theirs).ok_or(AmountFault::Overflow)?;
    if scaled % ours != 0 || (scaled / ours) % step != 0 {
        return Err(AmountFault::TooFine(money));
    }
    Ok(scaled / ours)
}

/// An amount of Stripe's in ours.
pub fn from_stripe(amount: i64, currency: Currency) -> Result<Money, AmountFault> {
    let Scale { theirs, ours, .. } = scale(currency)?;
    let scaled = amount.checked_mul(ours).ok_or(AmountFault::Overflow)?;
    let money = Money::from_minor(scaled / theirs, currency);
    if scaled % theirs == 0 { Ok(money) } else { Err(AmountFault::TooFine(money)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(minor: i64, code: &str) -> Money {
        Money::from_minor(minor, code.parse().unwrap())
    }

    /// The examples of docs.stripe.com/currencies, and what follows from its rules.
    #[test]
    fn amounts_are_in_the_units_that_stripe_documents() {
        for (ours, theirs) in [
            (money(1_000, "USD"), 1_000),
            (money(-250, "EUR"), -250),
            (money(500, "JPY"), 500),
            (money(5, "ISK"), 500),
            (money(5, "UGX"), 500),
            (money(5_120, "KWD"), 5_120),
            (money(1_200, "MGA"), 12),
            (money(1_045, "HUF"), 1_045),
        ] {
            assert_eq!(to_stripe(ours), Ok(theirs), "{ours}");
            assert_eq!(from_stripe(theirs, ours.currency()), Ok(ours), "{ours}");
        }
    }

    #[test]
    fn what_stripe_cannot_say_is_not_said() {
        for fine in [money(5_124, "KWD"), money(1_250, "MGA")] {
            assert_eq!(to_stripe(fine), Err(AmountFault::TooFine(fine)));
        }
        for unknown in ["IQD", "CLF", "LYD"] {
            assert_eq!(to_stripe(money(10, unknown)), Err(AmountFault::Currency(unknown.parse().unwrap())));
        }
        assert_eq!(to_stripe(money(i64::MAX, "ISK")), Err(AmountFault::Overflow));
        assert_eq!(from_stripe(i64::MAX, "MGA".parse().unwrap()), Err(AmountFault::Overflow));
        assert!(matches!(from_stripe(550, "ISK".parse().unwrap()), Err(AmountFault::TooFine(_))));
    }
}
