//! Values that are held for a time: what each was worth, times how long, to the nanosecond.
//!
//! A value times a time has more digits than a [`Quantity`] holds. Sums are kept whole, so their order makes no difference,
//! and lose digits once, if they have more than 28, when they become an answer.

use rust_decimal::Decimal;

use crate::kernel::{Quantity, QuantityError};

/// Digits behind the point of a value, and of a second.
const SCALE: u32 = 9;
const UNIT: i128 = 1_000_000_000;

/// A sum of values times seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldSum {
    /// In 10^-9.
    whole: i128,
    /// What is left, in 10^-18: at least zero, and less than one of the whole.
    rest: i128,
}

impl HeldSum {
    /// Adds a value that was held so many nanoseconds; an error when it has more than nine digits behind the point.
    pub fn add(&mut self, value: Quantity, held_ns: i64) -> Result<(), QuantityError> {
        let units = in_units(value).ok_or(QuantityError::TooManyDigits)?;
        let (seconds, nanos) = (i128::from(held_ns) / UNIT, i128::from(held_ns) % UNIT);
        let rest = units.checked_mul(nanos).and_then(|more| self.rest.checked_add(more));
        let rest = rest.ok_or(QuantityError::TooManyDigits)?;
        let whole = units.checked_mul(seconds).and_then(|more| self.whole.checked_add(more));
        let whole = whole.and_then(|whole| whole.checked_add(rest.div_euclid(UNIT)));
        self.whole = whole.ok_or(QuantityError::TooManyDigits)?;
        self.rest = rest.rem_euclid(UNIT);
        Ok(())
    }

    /// The sum, to as many digits as there are.
    pub fn quantity(self) -> Result<Quantity, QuantityError> {
        let all = self.whole.checked_mul(UNIT).and_then(|whole| whole.checked_add(self.rest));
        let (mut units, mut scale) = all.map_or((self.whole, SCALE), |all| (all, 2 * SCALE));
        while scale > 0 && units % 10 == 0 {
            units /= 10;
            scale -= 1;
        }
        let mut cut = 1;
        loop {
            // Half of what is cut off, and more, makes one more of what stays.
            let rounded = (units + units.signum() * (cut / 2)) / cut;
            if let Ok(decimal) = Decimal::try_from_i128_with_scale(rounded, scale) {
                return Ok(Quantity::new(decimal));
            }
            scale = scale.checked_sub(1).ok_or(QuantityError::TooManyDigits)?;
            cut *= 10;
        }
    }
}

fn in_units(value: Quantity) -> Option<i128> {
    let decimal = value.as_decimal();
    let missing = SCALE.checked_sub(decimal.scale())?;
    decimal.mantissa().checked_mul(10_i128.pow(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(parts: &[(&str, i64)]) -> String {
        let mut sum = HeldSum::default();
        for (value, held_ns) in parts {
            sum.add(value.parse().unwrap(), *held_ns).unwrap();
        }
        sum.quantity().unwrap().to_string()
    }

    #[test]
    fn sums_are_exact_to_the_last_nanosecond() {
        assert_eq!(sum(&[]), "0");
        assert_eq!(sum(&[("2.5", 1_500_000_000)]), "3.75");
        assert_eq!(sum(&[("0.000000001", 1)]), "0.000000000000000001");
        assert_eq!(sum(&[("-0.000000001", 1), ("3", 1_000_000_000)]), "2.999999999999999999");
        assert_eq!(sum(&[("-7", 2_000_000_001), ("7", 2_000_000_001)]), "0");
    }

    #[test]
    fn the_largest_values_held_for_years_have_an_answer_in_28_digits() {
        let (largest, year_ns) = ("999999999999999.999999999", 31_536_000_000_000_001);
        assert_eq!(sum(&[(largest, year_ns)]), "31536000000000000999999.968464");
        let many: Vec<_> = (0..1_000).map(|_| (largest, year_ns)).collect();
        assert!(sum(&many).len() >= 25);
        let both = [(largest, year_ns), ("0.000000001", 1), ("-999999999999999.999999999", year_ns)];
        assert_eq!(sum(&both), "0.000000000000000001", "nothing is cut off before the end");
    }
}
