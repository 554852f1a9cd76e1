//! What a form shows: an invoice or a credit note, worked out to the last digit. Forms add nothing to it.

use jiff::civil::{Date, DateTime};

use super::error::FormError;
use crate::kernel::{Currency, Money, Quantity};

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An invoice that was issued.
    Invoice,
    /// A credit note that was issued: its amounts are what is given back, positive.
    CreditNote,
    /// An invoice that may still change.
    Draft,
    /// An invoice that was issued and is void.
    Void,
}

/// An invoice or a credit note, to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What it is.
    pub kind: Kind,
    /// Its number; a draft has none.
    pub number: Option<String>,
    /// The day it was issued on.
    pub issued: Option<Date>,
    /// The day it is to be paid by.
    pub due: Option<Date>,
    /// What time it is for.
    pub period: Option<Period>,
    /// The zone of its days and times, by its IANA name: `Europe/Berlin`.
    pub time_zone: String,
    /// Who issued it.
    pub seller: Party,
    /// Whom it was issued to.
    pub buyer: Party,
    /// What all its amounts are in.
    pub currency: Currency,
    /// What was sold.
    pub lines: Vec<Line>,
    /// The sum of the lines.
    pub subtotal: Money,
    /// What is taken off before taxes.
    pub discounts: Vec<Deduction>,
    /// What is added to what is left.
    pub taxes: Vec<Tax>,
    /// The subtotal without discounts and with taxes.
    pub total: Money,
    /// Credits that were used up for it.
    pub credits: Vec<Deduction>,
    /// What was paid already.
    pub payments: Vec<Payment>,
    /// The total without credits and payments; of a void invoice, whatever is still owed: nothing, as a rule.
    pub amount_due: Money,
    /// Paragraphs below all that.
    pub notes: Vec<String>,
    /// The invoice that this one corrects.
    pub adjusts: Option<Reference>,
    /// How to pay it, line by line; shown while something is due.
    pub how_to_pay: Vec<String>,
    /// The day since when nothing is owed.
    pub paid: Option<Date>,
}

/// A time in a zone's own days and hours, without the end: `2026-10-01T00:00` to `2026-11-01T00:00` is October.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// From then on.
    pub from: DateTime,
    /// Until just before then.
    pub until: DateTime,
}

/// One of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Party {
    /// The name.
    pub name: String,
    /// The address, line by line.
    pub address: Vec<String>,
    /// The number that tax offices know it by.
    pub tax_id: Option<String>,
    /// Where it is registered, and as what.
    pub registration: Option<String>,
    /// The language of name and address, as BCP 47 names it (`ja`, `zh-Hant`): tells readers how to say them, and which
    /// shapes Han characters have. Guessed from the characters when absent.
    pub language: Option<String>,
}

/// What was sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it is.
    pub description: String,
    /// When it was used, if not in the whole period.
    pub period: Option<Period>,
    /// How much.
    pub quantity: Option<Quantity>,
    /// Of what: `calls`.
    pub unit: Option<String>,
    /// At which price.
    pub price: Option<Price>,
    /// What that comes to, exactly.
    pub exact: Quantity,
    /// That, rounded.
    pub amount: Money,
    /// How it came about, by tiers.
    pub tiers: Vec<TierRow>,
}

/// The price of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Price {
    /// Of one unit, exactly.
    Unit(Quantity),
    /// What no single number says: `graduated`, `2.9 % + 0.30`.
    Model(String),
}

/// A tier's part in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierRow {
    /// What it is, where it is no tier; quantity and price are then not shown where they are zero.
    pub label: Option<String>,
    /// The tier begins above this unit; absent when that does not matter.
    pub above: Option<Quantity>,
    /// The last unit of the tier; absent for the last tier.
    pub up_to: Option<Quantity>,
    /// Units in the tier.
    pub quantity: Quantity,
    /// The price of one.
    pub unit: Quantity,
    /// Due for the tier as such.
    pub flat: Quantity,
    /// What that comes to, exactly.
    pub amount: Quantity,
}

/// Something taken off: a positive amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deduction {
    /// What for.
    pub name: String,
    /// How much.
    pub amount: Money,
}

/// A tax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tax {
    /// Its name: `VAT`.
    pub name: String,
    /// Its rate.
    pub percent: Quantity,
    /// How much that is.
    pub amount: Money,
}

/// Something paid: a positive amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// When.
    pub date: Option<Date>,
    /// How, or under which reference.
    pub name: String,
    /// How much.
    pub amount: Money,
}

/// Another document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its number.
    pub number: String,
    /// The day it was issued on.
    pub issued: Option<Date>,
}

impl Document {
    /// Whether it adds up, in one currency: no form shows a sum that its parts do not give.
    pub fn check(&self) -> Result<(), FormError> {
        let zero = Money::zero(self.currency);
        let sum = |amounts: Vec<Money>| amounts.into_iter().try_fold(zero, Money::add);
        let negative = |money: Money| Money::from_minor(money.minor().saturating_neg(), money.currency());
        let lines = sum(self.lines.iter().map(|line| line.amount).collect())?;
        agree("subtotal", self.subtotal, lines)?;
        let discounts = sum(self.discounts.iter().map(|discount| discount.amount).collect())?;
        let taxes = sum(self.taxes.iter().map(|tax| tax.amount).collect())?;
        let total = self.subtotal.add(negative(discounts))?.add(taxes)?;
        agree("total", self.total, total)?;
        let credits = sum(self.credits.iter().map(|credit| credit.amount).collect())?;
        let payments = sum(self.payments.iter().map(|payment| payment.amount).collect())?;
        let due = total.add(negative(credits))?.add(negative(payments))?;
        // What a void invoice asked for is nobody's debt.
        let due = if self.kind == Kind::Void { zero.add(self.amount_due)? } else { due };
        agree("amount due", self.amount_due, due)
    }
}

fn agree(what: &'static str, stated: Money, parts: Money) -> Result<(), FormError> {
    if stated == parts { Ok(()) } else { Err(FormError::Sum { what, stated, parts }) }
}
