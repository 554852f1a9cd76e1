//! What of an amount that is due every so often falls on a part of a period. Pure, and in whole numbers.
//!
//! The windows of the amount (a plan's months) and the period of the account (its year) need not be the same: a period owes for
//! each window the part that lies in it. What a part of the period owes is what is due by its end less what was due by
//! its start, each rounded half up, so that parts add up to what the period owes, whichever way it is cut.

use super::{
    cadence::{Cadence, Interval, Zone, day_number},
    invoice::Proration,
};
use crate::kernel::{Money, MoneyError, Period, Timestamp};

/// How amounts are shared out within a period.
#[derive(Debug, Clone)]
pub struct Shares {
    whole: Period,
    windows: Vec<Period>,
    zone: Zone,
    proration: Proration,
}

impl Shares {
    /// Of amounts that are due every `interval`, anchored as the period is.
    pub fn new(whole: Period, cadence: &Cadence, interval: Interval, proration: Proration) -> Self {
        let windows = cadence.every(interval).windows(whole);
        Self { whole, windows, zone: cadence.zone.clone(), proration }
    }

    /// What of an amount falls on a part of the period.
    pub fn of(&self, amount: Money, part: Period) -> Result<Money, MoneyError> {
        if self.windows == [self.whole] && part == self.whole {
            return Ok(amount);
        }
        let share = self.due_by(amount, part.to()) - self.due_by(amount, part.from());
        let share = i64::try_from(share).map_err(|_| MoneyError::Overflow)?;
        Ok(Money::from_minor(share, amount.currency()))
    }

    /// Half up, in minor units.
    fn due_by(&self, amount: Money, at: Timestamp) -> i128 {
        let minor = i128::from(amount.minor());
        let start = self.place(self.whole.from());
        let end = self.place(at);
        let (mut due, mut rest, mut of) = (0_i128, 0_i128, 1_i128);
        for window in &self.windows {
            let (from, to) = (self.place(window.from()), self.place(window.to()));
            let (length, within) = (to - from, to.min(end) - from.max(start));
            if within <= 0 {
                continue;
            }
            // |minor| < 2^63 and within ≤ length < 2^45, and only the first and the last window are there in part: their
            // fractions add up below 2^91.
            due += (minor * within).div_euclid(length);
            let part = (minor * within).rem_euclid(length);
            if part != 0 {
                (rest, of) = (rest * length + part * of, of * length);
            }
        }
        due + (2 * rest + of).div_euclid(2 * of)
    }

    /// Where an instant is, in what amounts are split by: microseconds, or days, of which the one in which something
    /// changes belongs to what comes after.
    fn place(&self, at: Timestamp) -> i128 {
        match self.proration {
            Proration::Second => at.as_micros().into(),
            Proration::Day => day_number(self.zone.day(at)).into(),
        }
    }
}

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;
