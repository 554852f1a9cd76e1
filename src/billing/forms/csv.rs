//! The CSV form: RFC 4180, UTF-8 without a byte order mark, a header, and a record for each line, discount, tax, credit and payment.
//!
//! The amounts of `line`, `discount` and `tax` add up to the total, and those of all records to the amount due (but of a void
//! invoice, of which nothing is due). Numbers are plain: a point, no thousands, a minus. A text that a spreadsheet would take for a
//! formula gets an apostrophe before it; numbers below zero stay numbers.

use super::{
    document::{Document, Kind, Period, Price},
    print,
};
use crate::kernel::{Money, Quantity, cell::cell};

/// The columns.
pub const COLUMNS: [&str; 23] = [
    "document",
    "number",
    "issued",
    "buyer",
    "currency",
    "record",
    "position",
    "description",
    "from",
    "until",
    "quantity",
    "unit",
    "unit_price",
    "price_model",
    "percent",
    "exact_amount",
    "amount",
    "seller",
    "seller_address",
    "seller_tax_id",
    "seller_registration",
    "payment_instructions",
    "paid_on",
];

/// A record, without what all records of a document share.
#[derive(Default)]
struct Record<'a> {
    what: &'a str,
    position: String,
    description: &'a str,
    from: String,
    until: String,
    quantity: String,
    unit: &'a str,
    unit_price: String,
    price_model: &'a str,
    percent: String,
    exact: String,
    amount: String,
}

/// The document as CSV.
pub(crate) fn render(document: &Document) -> String {
    let mut text = COLUMNS.join(",") + "\r\n";
    let kind = match document.kind {
        Kind::Invoice => "invoice",
        Kind::CreditNote => "credit_note",
        Kind::Draft => "draft",
        Kind::Void => "void",
    };
    let issued = document.issued.map(print::day).unwrap_or_default();
    let number = cell(document.number.as_deref().unwrap_or_default());
    let head = [kind.to_owned(), number, issued, cell(&document.buyer.name), document.currency.to_string()].join(",");
    let seller = &document.seller;
    let tail = [
        cell(&seller.name),
        cell(&seller.address.join(", ")),
        cell(seller.tax_id.as_deref().unwrap_or_default()),
        cell(seller.registration.as_deref().unwrap_or_default()),
        cell(&print::how_to_pay(document).join("; ")),
        document.paid.map(print::day).unwrap_or_default(),
    ]
    .join(",");
    for record in records(document) {
        let cells = [
            record.what.to_owned(),
            record.position,
            cell(record.description),
            record.from,
            record.until,
            record.quantity,
            cell(record.unit),
            record.unit_price,
            cell(record.price_model),
            record.percent,
            record.exact,
            record.amount,
        ];
        text.push_str(&head);
        for cell in cells {
            text.push(',');
            text.push_str(&cell);
        }
        text.push(',');
        text.push_str(&tail);
        text.push_str("\r\n");
    }
    text
}

fn records(document: &Document) -> impl Iterator<Item = Record<'_>> {
    let plain =
        |what, description, amount: Money| Record { what, description, amount: amount.amount(), ..Record::default() };
    let lines = document.lines.iter().enumerate().map(|(index, line)| {
        let (from, until) = line.period.or(document.period).map(instants).unwrap_or_default();
        let (unit_price, price_model) = match &line.price {
            Some(Price::Unit(unit)) => (unit.to_string(), ""),
            Some(Price::Model(model)) => (String::new(), model.as_str()),
            None => (String::new(), ""),
        };
        Record {
            what: "line",
            position: (index + 1).to_string(),
            description: &line.description,
            from,
            until,
            quantity: line.quantity.as_ref().map(Quantity::to_string).unwrap_or_default(),
            unit: line.unit.as_deref().unwrap_or_default(),
            unit_price,
            price_model,
            percent: String::new(),
            exact: line.exact.to_string(),
            amount: line.amount.amount(),
        }
    });
    let discounts = document.discounts.iter().map(move |own| plain("discount", &own.name, print::negated(own.amount)));
    let taxes = document
        .taxes
        .iter()
        .map(move |own| Record { percent: own.percent.to_string(), ..plain("tax", &own.name, own.amount) });
    let credits = document.credits.iter().map(move |own| plain("credit", &own.name, print::negated(own.amount)));
    let payments = document.payments.iter().map(move |own| Record {
        from: own.date.map(print::day).unwrap_or_default(),
        ..plain("payment", &own.name, print::negated(own.amount))
    });
    lines.chain(discounts).chain(taxes).chain(credits).chain(payments)
}

/// Both ends, as ISO 8601 without a zone; the second is no longer part of it.
fn instants(period: Period) -> (String, String) {
    (period.from.to_string(), period.until.to_string())
}
