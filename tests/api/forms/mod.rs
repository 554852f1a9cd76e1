//! Invoices and credit notes as CSV, HTML and PDF: `tollgate::billing::forms`.
//!
//! What a PDF file says and looks like is asked of poppler (`pdftotext`, `pdffonts`, `pdftoppm`), and Chinese, Japanese and Korean
//! names need a font that has them; without either, those tests say so and pass. `TOLLGATE_REQUIRE=fonts` makes that a failure.

pub mod pdf;
mod samples;

use samples::{credit_note, full, invoice_of, line, money};
use tollgate::billing::forms::{COLUMNS, Document, Fonts, Form, FormError, Kind, render};

fn text_of(document: &Document, form: Form) -> String {
    String::from_utf8(render(document, form, &Fonts::built_in()).unwrap().bytes).unwrap()
}

/// RFC 4180, read strictly.
fn parse_csv(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut rest, mut quoted) = (text.chars().peekable(), false);
    while let Some(own) = rest.next() {
        match (own, quoted) {
            ('"', true) if rest.peek() == Some(&'"') => cell.extend(rest.next()),
            ('"', _) => quoted = !quoted,
            (',', false) => record.push(std::mem::take(&mut cell)),
            ('\r', false) => {
                assert_eq!(rest.next(), Some('\n'), "a record ends with CR LF");
                record.push(std::mem::take(&mut cell));
                records.push(std::mem::take(&mut record));
            }
            (own, _) => cell.push(own),
        }
    }
    assert!(cell.is_empty() && record.is_empty() && !quoted, "the last record ends like the others");
    records
}

fn column(records: &[Vec<String>], name: &str) -> Vec<String> {
    let place = COLUMNS.iter().position(|own| *own == name).unwrap();
    records[1..].iter().map(|record| record[place].clone()).collect()
}

#[test]
fn a_form_is_asked_for_by_the_ending_of_a_path_and_says_what_it_is() {
    // What a handler does with `/admin/v1/invoices/{id}.pdf`.
    let form = Form::by_suffix("pdf").unwrap();
    let rendered = render(&full(), form, &Fonts::built_in()).unwrap();
    assert_eq!(rendered.content_type, "application/pdf");
    assert_eq!(rendered.file_name, "invoice-inv-2026-0042.pdf");
    assert_eq!(rendered.policy, None);
    assert!(rendered.bytes.starts_with(b"%PDF-1.7"));
    let page = render(&full(), Form::Html, &Fonts::built_in()).unwrap();
    assert!(page.policy.unwrap().starts_with("default-src 'none'; style-src 'sha256-"));
    assert_eq!(Form::by_suffix("docx"), None);
    let odd = Document { number: Some("../a\"b\r\n".repeat(50)), ..full() };
    let name = render(&odd, Form::Csv, &Fonts::built_in()).unwrap().file_name;
    assert!(name.len() < 100 && name.chars().all(|own| own.is_ascii_alphanumeric() || ".-_".contains(own)), "{name}");
}

#[test]
fn csv_has_a_record_for_each_line_and_its_amounts_add_up() {
    let text = text_of(&full(), Form::Csv);
    insta::assert_snapshot!(text.replace("\r\n", "\n"));
    let records = parse_csv(&text);
    assert_eq!(records[0], COLUMNS);
    assert!(records.iter().all(|record| record.len() == COLUMNS.len()));
    let minor = |text: &String| text.replace('.', "").parse::<i64>().unwrap();
    let amounts = column(&records, "amount");
    assert_eq!(amounts.iter().map(minor).sum::<i64>(), 28_392);
    let of_total = column(&records, "record").into_iter().zip(&amounts);
    let total = of_total.filter(|(record, _)| ["line", "discount", "tax"].contains(&record.as_str()));
    assert_eq!(total.map(|(_, amount)| minor(amount)).sum::<i64>(), 43_392);
}

#[test]
fn no_cell_of_a_csv_runs_as_a_formula_and_numbers_below_zero_stay_numbers() {
    let evil = "=HYPERLINK(\"http://example.com\")";
    let mut document = invoice_of("EUR", vec![line(evil, money(-500, "EUR")), line(" \"@SUM(A1)", money(200, "EUR"))]);
    document.number = Some("+49\t1".to_owned());
    document.buyer.name = "-2+3 GmbH, \"the\r\nbest\"".to_owned();
    let records = parse_csv(&text_of(&document, Form::Csv));
    assert_eq!(records[1][1..4], ["'+49\t1", "2026-11-01", "'-2+3 GmbH, \"the\r\nbest\""]);
    assert_eq!(column(&records, "description"), [format!("'{evil}"), "' \"@SUM(A1)".to_owned()]);
    assert_eq!(column(&records, "amount"), ["-5.00", "2.00"]);
    assert_eq!(column(&records, "exact_amount"), ["-5", "2"]);
}

#[test]
fn html_stands_alone_says_its_language_and_names_its_headers() {
    let page = text_of(&full(), Form::Html);
    insta::assert_snapshot!(page.split_once("</style>").unwrap().1.replace("><", ">\n<"));
    assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">"));
    for outside in ["src=", "href=", "url(", "@import", "<script", "style=\"", "onload"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn html_lets_no_markup_of_names_through_and_its_policy_is_of_its_own_style() {
    let mut document = full();
    document.buyer.name = "<script>alert(1)</script>".to_owned();
    document.buyer.language = Some("ja\" onload=\"x".to_owned());
    document.lines[0].description = "\"><img src=x onerror=alert(1)>\u{202e}gnp.exe".to_owned();
    let page = text_of(&document, Form::Html);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(page.contains("&quot;&gt;&lt;img src=x onerror=alert(1)&gt;gnp.exe"));
    assert!(!page.contains("<img") && !page.contains("<script") && !page.contains("lang=\"ja"));
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, style.as_bytes());
    let hash = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, hash);
    assert!(page.contains(&format!("style-src 'sha256-{hash}'")));
    assert!(tollgate::billing::forms::policy().contains(&format!("style-src 'sha256-{hash}'")));
}

#[test]
fn a_sum_that_its_parts_do_not_give_is_shown_by_no_form() {
    let mut document = full();
    document.taxes[0].amount = money(6_929, "EUR");
    for form in Form::ALL {
        let refused = render(&document, form, &Fonts::built_in()).unwrap_err();
        assert_eq!(refused.to_string(), "the total is EUR 433.92, and its parts give 433.93");
    }
    let mixed = Document { lines: vec![line("yen", money(1, "JPY"))], ..invoice_of("EUR", Vec::new()) };
    assert!(matches!(render(&mixed, Form::Csv, &Fonts::built_in()), Err(FormError::Money(_))));
    let due = Document { amount_due: money(1, "EUR"), ..full() };
    assert!(render(&due, Form::Csv, &Fonts::built_in()).unwrap_err().to_string().contains("amount due"));
    let vast = vec![line("a", money(i64::MAX, "EUR")), line("b", money(1, "EUR"))];
    let vast = Document { lines: vast, ..invoice_of("EUR", Vec::new()) };
    assert!(matches!(render(&vast, Form::Html, &Fonts::built_in()), Err(FormError::Money(_))));
}

#[test]
fn drafts_void_invoices_and_credit_notes_say_what_they_are() {
    let said = |kind, number: Option<&str>| {
        text_of(&Document { kind, number: number.map(str::to_owned), ..full() }, Form::Html)
    };
    assert!(said(Kind::Draft, None).contains("<h1>Draft invoice</h1>"));
    assert!(said(Kind::Draft, None).contains("may still change"));
    assert!(said(Kind::Void, Some("INV-1")).contains("<h1>Void invoice INV-1</h1>"));
    assert!(!said(Kind::Invoice, Some("INV-1")).contains("role=\"note\""));
    let note = text_of(&credit_note(), Form::Html);
    assert!(note.contains("<dt>Corrects</dt><dd>INV-2026-0042 of 2026-11-01</dd>"));
    assert!(note.contains("Credit: EUR 43.55"));
    let paid = Document { paid: Some(jiff::civil::date(2026, 11, 5)), amount_due: money(0, "EUR"), ..full() };
    assert!(render(&paid, Form::Html, &Fonts::built_in()).is_err(), "what is paid is shown among the payments");
    let mut paid = full();
    (paid.paid, paid.amount_due) = (Some(jiff::civil::date(2026, 11, 5)), money(0, "EUR"));
    paid.payments[0].amount = money(38_392, "EUR");
    let paid = text_of(&paid, Form::Html);
    assert!(paid.contains("Paid on 2026-11-05") && paid.contains("Amount due: EUR 0.00<"), "{paid}");
    assert!(!paid.contains("How to pay") && text_of(&full(), Form::Html).contains("How to pay"));
    let void = Document { kind: Kind::Void, amount_due: money(0, "EUR"), ..full() };
    assert!(text_of(&void, Form::Html).contains("Amount due: EUR 0.00"));
}

#[test]
fn currencies_without_decimals_and_with_three_are_printed_as_they_are() {
    let yen = invoice_of("JPY", vec![line("calls", money(1_234_567, "JPY")), line("less", money(-1_000, "JPY"))]);
    assert!(text_of(&yen, Form::Html).contains("JPY 1,233,567"));
    assert_eq!(column(&parse_csv(&text_of(&yen, Form::Csv)), "amount"), ["1234567", "-1000"]);
    let dinars = invoice_of("KWD", vec![line("calls", money(1_234_567, "KWD"))]);
    assert!(text_of(&dinars, Form::Html).contains("KWD 1,234.567"));
    assert_eq!(column(&parse_csv(&text_of(&dinars, Form::Csv)), "amount"), ["1234.567"]);
}
