//! How numbers, days and names are printed, in HTML and PDF alike. Nothing is rounded here.
//!
//! Amounts have all digits of their currency (JPY none, USD two, KWD three), quantities and prices as many as they have
//! and no more. Thousands are set apart by a comma, the point is a point, below zero stands U+2212. Days are ISO 8601. The currency
//! stands before an amount, by its code: `EUR 1,234.50`; in tables it stands in the heading of the column.

use jiff::civil::{Date, Time};

use super::document::{Document, Kind, Period, TierRow};
use crate::kernel::{Money, Quantity};

/// `1,234.50`
pub(crate) fn amount(money: Money) -> String {
    grouped(&money.amount())
}

/// `EUR 1,234.50`
pub(crate) fn amount_in_full(money: Money) -> String {
    format!("{} {}", money.currency(), amount(money))
}

/// What a deduction does to a sum: `−5.00`.
pub(crate) fn taken_off(money: Money) -> String {
    amount(negated(money))
}

/// The same, the other way round.
pub(crate) fn negated(money: Money) -> Money {
    Money::from_minor(money.minor().saturating_neg(), money.currency())
}

/// `1,234.5`
pub(crate) fn quantity(quantity: Quantity) -> String {
    grouped(&quantity.to_string())
}

fn grouped(plain: &str) -> String {
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain), |digits| ("\u{2212}", digits));
    let (whole, rest) = digits.find('.').map_or((digits, ""), |point| digits.split_at(point));
    let mut text = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// `2026-10-01`
pub(crate) fn day(date: Date) -> String {
    date.to_string()
}

/// `2026-10-01 – 2026-10-31` for whole days, both included; `2026-10-01 00:00:00 – 2026-10-05 12:30:00` otherwise.
pub(crate) fn period(period: Period) -> String {
    let Period { from, until } = period;
    let of_days = from.time() == Time::midnight() && until.time() == Time::midnight() && from < until;
    match until.date().yesterday() {
        Ok(last) if of_days && last == from.date() => day(last),
        Ok(last) if of_days => format!("{} \u{2013} {}", from.date(), last),
        _ => format!("{} \u{2013} {}", from.strftime("%F %T"), until.strftime("%F %T")),
    }
}

/// `up to 1,000`, `above 1,000, up to 5,000`, `above 5,000`
pub(crate) fn tier(tier: &TierRow) -> String {
    if let Some(label) = &tier.label {
        return visible(label);
    }
    match (tier.above.filter(|above| !above.is_zero()), tier.up_to) {
        (None, None) => "all units".to_owned(),
        (None, Some(up_to)) => format!("up to {}", quantity(up_to)),
        (Some(above), None) => format!("above {}", quantity(above)),
        (Some(above), Some(up_to)) => format!("above {}, up to {}", quantity(above), quantity(up_to)),
    }
}

/// The units of a tier, or of what else a row is about.
pub(crate) fn tier_quantity(tier: &TierRow) -> String {
    let is_blank = tier.label.is_some() && tier.quantity.is_zero();
    if is_blank { String::new() } else { quantity(tier.quantity) }
}

/// The price of one of them: `0.0002`, `0.0002 + 5`.
pub(crate) fn tier_price(tier: &TierRow) -> String {
    if tier.label.is_some() && tier.quantity.is_zero() {
        return String::new();
    }
    let flat = if tier.flat.is_zero() { String::new() } else { format!(" + {}", quantity(tier.flat)) };
    quantity(tier.unit) + flat.as_str()
}

/// `Amount due: EUR 1,234.50 by 2026-11-15`, after a colon where there is one.
pub(crate) fn due(document: &Document, colon: &str) -> String {
    let until = document.due.filter(|_| !document.amount_due.is_zero()).map(|due| format!(" by {}", day(due)));
    format!("{}{colon} {}{}", due_label(document.kind), amount_in_full(document.amount_due), until.unwrap_or_default())
}

/// How to pay, while something is to be paid.
pub(crate) fn how_to_pay(document: &Document) -> &[String] {
    let is_due = document.kind == Kind::Invoice && document.amount_due.minor() > 0;
    if is_due { &document.how_to_pay } else { &[] }
}

/// That nothing is owed any more: `Paid on 2026-11-03`.
pub(crate) fn paid(document: &Document) -> Option<String> {
    let paid = document.paid.filter(|_| document.kind == Kind::Invoice)?;
    Some(format!("Paid on {}", day(paid)))
}

/// `VAT 19%`
pub(crate) fn tax(name: &str, percent: Quantity) -> String {
    format!("{name} {}%", quantity(percent))
}

/// What a document is called.
pub(crate) const fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Invoice => "Invoice",
        Kind::CreditNote => "Credit note",
        Kind::Draft => "Draft invoice",
        Kind::Void => "Void invoice",
    }
}

/// What must not be overlooked of a document.
pub(crate) const fn warning(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Draft => Some("This is a draft: it may still change, and is not a request for payment."),
        Kind::Void => Some("This invoice is void: it is not to be paid."),
        Kind::Invoice | Kind::CreditNote => None,
    }
}

/// What the one it is for is called.
pub(crate) const fn buyer_label(kind: Kind) -> &'static str {
    match kind {
        Kind::CreditNote => "Credited to",
        Kind::Invoice | Kind::Draft | Kind::Void => "Billed to",
    }
}

/// What the last sum of a document is called.
pub(crate) const fn due_label(kind: Kind) -> &'static str {
    match kind {
        Kind::CreditNote => "Credit",
        Kind::Invoice | Kind::Draft | Kind::Void => "Amount due",
    }
}

/// `Invoice INV-2026-0001`
pub(crate) fn heading(document: &Document) -> String {
    match &document.number {
        Some(number) => format!("{} {}", title(document.kind), visible(number)),
        None => title(document.kind).to_owned(),
    }
}

/// The facts of a document's head, by their labels.
pub(crate) fn facts(document: &Document) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut add = |label, text: Option<String>| facts.extend(text.map(|text| (label, text)));
    add("Number", document.number.as_deref().map(visible));
    add("Issued", document.issued.map(day));
    add("Due", document.due.map(day));
    add("Period", document.period.map(period));
    let zone = document.period.map(|_| visible(&document.time_zone));
    add("Time zone", zone.filter(|zone| !zone.is_empty() && zone != "UTC"));
    add(
        "Corrects",
        document.adjusts.as_ref().map(|other| match other.issued {
            Some(issued) => format!("{} of {}", visible(&other.number), day(issued)),
            None => visible(&other.number),
        }),
    );
    facts
}

/// The sums below the lines, and which of them are in bold.
pub(crate) fn sums(document: &Document) -> Vec<(String, String, bool)> {
    let mut sums = vec![("Subtotal".to_owned(), amount(document.subtotal), false)];
    for discount in &document.discounts {
        sums.push((visible(&discount.name), taken_off(discount.amount), false));
    }
    for own in &document.taxes {
        sums.push((tax(&visible(&own.name), own.percent), amount(own.amount), false));
    }
    sums.push(("Total".to_owned(), amount_in_full(document.total), true));
    for credit in &document.credits {
        sums.push((visible(&credit.name), taken_off(credit.amount), false));
    }
    for payment in &document.payments {
        let when = payment.date.map(|date| format!(" on {}", day(date))).unwrap_or_default();
        sums.push((format!("{}{when}", visible(&payment.name)), taken_off(payment.amount), false));
    }
    sums.push((due_label(document.kind).to_owned(), amount_in_full(document.amount_due), true));
    sums
}

/// A text without what cannot be seen: controls become spaces, marks that hide or reverse text are left out.
pub(crate) fn visible(text: &str) -> String {
    let shown = text.chars().filter(|character| !is_hidden(*character));
    shown.map(|character| if character.is_control() { ' ' } else { character }).collect()
}

const fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use jiff::civil::datetime;

    use super::*;

    #[test]
    fn amounts_have_the_digits_of_their_currency_and_thousands_apart() {
        let printed = |minor, code: &str| amount_in_full(Money::from_minor(minor, code.parse().unwrap()));
        assert_eq!(printed(123_456_789, "USD"), "USD 1,234,567.89");
        assert_eq!(printed(-123_456, "JPY"), "JPY \u{2212}123,456");
        assert_eq!(printed(1_000_001, "KWD"), "KWD 1,000.001");
        assert_eq!(printed(-5, "EUR"), "EUR \u{2212}0.05");
        assert_eq!(printed(0, "EUR"), "EUR 0.00");
        assert_eq!(printed(i64::MIN + 1, "JPY"), "JPY \u{2212}9,223,372,036,854,775,807");
    }

    #[test]
    fn quantities_keep_every_digit() {
        let printed = |text: &str| quantity(text.parse().unwrap());
        assert_eq!(printed("0.000000000000000000000000001"), "0.000000000000000000000000001");
        assert_eq!(printed("1234567.1000"), "1,234,567.1");
        assert_eq!(printed("-100"), "\u{2212}100");
    }

    #[test]
    fn a_period_of_whole_days_names_its_last_day_and_another_its_instants() {
        let midnight = |month, day| datetime(2026, month, day, 0, 0, 0, 0);
        let printed = |from, until| period(Period { from, until });
        assert_eq!(printed(midnight(10, 1), midnight(11, 1)), "2026-10-01 \u{2013} 2026-10-31");
        assert_eq!(printed(midnight(10, 1), midnight(10, 2)), "2026-10-01");
        let noon = datetime(2026, 10, 15, 12, 0, 5, 0);
        assert_eq!(printed(midnight(10, 1), noon), "2026-10-01 00:00:00 \u{2013} 2026-10-15 12:00:05");
        assert_eq!(printed(midnight(10, 1), midnight(10, 1)), "2026-10-01 00:00:00 \u{2013} 2026-10-01 00:00:00");
    }

    #[test]
    fn what_hides_or_reverses_text_is_left_out() {
        assert_eq!(visible("a\u{202e}b\u{200b}c\nd\0e"), "abc d e");
    }
}
