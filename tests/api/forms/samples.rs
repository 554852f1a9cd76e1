//! Documents to be shown.

use jiff::civil::{date, datetime};
use tollgate::{
    billing::forms::{Deduction, Document, Kind, Line, Party, Payment, Period, Price, Reference, Tax, TierRow},
    kernel::{Currency, Money, Quantity},
};

pub fn exact(text: &str) -> Quantity {
    text.parse().unwrap()
}

pub fn money(minor: i64, code: &str) -> Money {
    Money::from_minor(minor, code.parse().unwrap())
}

pub fn october() -> Period {
    Period { from: datetime(2026, 10, 1, 0, 0, 0, 0), until: datetime(2026, 11, 1, 0, 0, 0, 0) }
}

/// A line with nothing but what every line has.
pub fn line(description: &str, amount: Money) -> Line {
    Line {
        description: description.to_owned(),
        period: None,
        quantity: None,
        unit: None,
        price: None,
        exact: amount.quantity(),
        amount,
        tiers: Vec::new(),
    }
}

fn sold(description: &str, (quantity, unit): (&str, &str), price: Price, (exactly, minor): (&str, i64)) -> Line {
    Line {
        quantity: Some(exact(quantity)),
        unit: Some(unit.to_owned()),
        price: Some(price),
        exact: exact(exactly),
        ..line(description, money(minor, "EUR"))
    }
}

fn tier(above: Option<&str>, up_to: Option<&str>, [quantity, unit, amount]: [&str; 3]) -> TierRow {
    TierRow {
        label: None,
        above: above.map(exact),
        up_to: up_to.map(exact),
        quantity: exact(quantity),
        unit: exact(unit),
        flat: Quantity::ZERO,
        amount: exact(amount),
    }
}

fn row(label: &str, [quantity, unit, amount]: [&str; 3]) -> TierRow {
    TierRow { label: Some(label.to_owned()), ..tier(None, None, [quantity, unit, amount]) }
}

fn party(name: &str, address: &[&str], tax_id: &str) -> Party {
    Party {
        name: name.to_owned(),
        address: address.iter().map(|line| (*line).to_owned()).collect(),
        tax_id: Some(tax_id.to_owned()),
        registration: None,
        language: None,
    }
}

/// An invoice of lines alone, which adds up.
pub fn invoice_of(code: &str, lines: Vec<Line>) -> Document {
    let currency: Currency = code.parse().unwrap();
    let sum = Money::from_minor(lines.iter().map(|line| line.amount.minor()).sum(), currency);
    Document {
        kind: Kind::Invoice,
        number: Some("INV-2026-0042".to_owned()),
        issued: Some(date(2026, 11, 1)),
        due: Some(date(2026, 11, 15)),
        period: Some(october()),
        time_zone: "Europe/Berlin".to_owned(),
        seller: Party {
            registration: Some("Amtsgericht Hamburg, HRB 104 711".to_owned()),
            ..party("Northgate Systems GmbH", &["Speicherstraße 14", "20457 Hamburg", "Germany"], "DE 811 907 980")
        },
        buyer: party(
            "Łódź Analytics Sp. z o.o.",
            &["ul. Piotrkowska 104", "90-926 Łódź", "Poland"],
            "PL 725 18 01 126",
        ),
        currency,
        lines,
        subtotal: sum,
        discounts: Vec::new(),
        taxes: Vec::new(),
        total: sum,
        credits: Vec::new(),
        payments: Vec::new(),
        amount_due: sum,
        notes: Vec::new(),
        adjusts: None,
        how_to_pay: Vec::new(),
        paid: None,
    }
}

/// An invoice with everything that an invoice has. Its sums are written down, not worked out.
pub fn full() -> Document {
    let upgrade = datetime(2026, 10, 12, 9, 30, 0, 0);
    let base = Line {
        period: Some(Period { from: upgrade, until: october().until }),
        ..sold(
            "Team plan, base fee from the day of the upgrade on",
            ("1", "month"),
            Price::Unit(exact("49")),
            ("31.0166", 3102),
        )
    };
    let calls = Line {
        tiers: vec![
            tier(Some("0"), Some("100000"), ["100000", "0", "0"]),
            tier(Some("100000"), Some("1000000"), ["900000", "0.0002", "180"]),
            tier(Some("1000000"), None, ["234567", "0.00015", "35.18505"]),
        ],
        ..sold("API calls", ("1234567", "calls"), Price::Model("graduated".to_owned()), ("215.18505", 21519))
    };
    let seats = Line {
        tiers: vec![
            row("included", ["3", "0", "0"]),
            row("beyond what is included", ["4", "5", "20"]),
            row("discount 10%", ["0", "0", "-2"]),
        ],
        ..sold("Seats", ("7", "seats"), Price::Unit(exact("5")), ("18", 1800))
    };
    let lines = vec![
        base,
        seats,
        calls,
        sold("Object storage", ("512.375", "GiB-months"), Price::Unit(exact("0.085")), ("43.551875", 4355)),
        sold(
            "Payments taken for you, with the fee of each card network passed on as it is",
            ("128", "payments"),
            Price::Model("2.9% + 0.30 each".to_owned()),
            ("97.64", 9764),
        ),
        line("Adjustment of September: 1,200 calls", money(-24, "EUR")),
    ];
    let named = |name: &str, minor| Deduction { name: name.to_owned(), amount: money(minor, "EUR") };
    Document {
        subtotal: money(40_516, "EUR"),
        discounts: vec![named("Coupon WELCOME10, 10%", 4_052)],
        taxes: vec![Tax { name: "VAT".to_owned(), percent: exact("19"), amount: money(6_928, "EUR") }],
        total: money(43_392, "EUR"),
        credits: vec![named("Prepaid credits", 5_000)],
        payments: vec![Payment {
            date: Some(date(2026, 11, 3)),
            name: "Bank transfer".to_owned(),
            amount: money(10_000, "EUR"),
        }],
        amount_due: money(28_392, "EUR"),
        how_to_pay: vec!["IBAN DE02 1203 0000 0000 2020 51; name the number of the invoice.".to_owned()],
        notes: vec!["Every line can be recomputed: ask for its windows, events and tiers.".to_owned()],
        adjusts: None,
        ..invoice_of("EUR", lines)
    }
}

/// A credit note for a part of it.
pub fn credit_note() -> Document {
    Document {
        kind: Kind::CreditNote,
        number: Some("CN-2026-0003".to_owned()),
        due: None,
        adjusts: Some(Reference { number: "INV-2026-0042".to_owned(), issued: Some(date(2026, 11, 1)) }),
        ..invoice_of("EUR", vec![line("Object storage, counted twice", money(4355, "EUR"))])
    }
}

/// So many lines, the first of 0.01 and each a cent more.
pub fn long(count: i64) -> Document {
    let lines = (1..=count).map(|number| {
        let text = match number % 7 {
            0 => format!("Meter {number}: tokens of prompts and answers, by model and region, with what was cached at half its price"),
            _ => format!("Meter {number}"),
        };
        line(&text, money(number, "USD"))
    });
    invoice_of("USD", lines.collect())
}

/// Six buyers, a script each.
pub const BUYERS: [(&str, &str); 6] = [
    ("Łódź Ünïcode Øresund A/S", "Żółta 7, Malmö"),
    ("Αφοί Παπαδόπουλοι Ο.Ε.", "Οδός Ερμού 12, Αθήνα"),
    ("ООО «Северный мост»", "ул. Лесная, д. 5, Москва"),
    ("北京云端科技有限公司", "海淀区中关村大街27号"),
    ("株式会社トールゲート東京", "東京都千代田区丸の内一丁目"),
    ("주식회사 통행료", "서울특별시 종로구 세종대로 175"),
];
