//! The PDF form: what it says, what it looks like, and what it refuses.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use tollgate::billing::forms::{Document, Fonts, Form, FormError, Kind, Party, Unprintable, render};

use super::samples::{BUYERS, credit_note, exact, full, invoice_of, line, long, money};
use crate::support::skip;

fn pdf_of(document: &Document, fonts: &Fonts) -> Vec<u8> {
    render(document, Form::Pdf, fonts).unwrap().bytes
}

/// Where people can look at what the tests made.
fn kept(name: &str, bytes: &[u8]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("forms");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// What a tool of poppler answers; `None`, aloud, without it.
fn poppler(tool: &str, options: &[&str], file: &Path, to_stdout: bool) -> Option<String> {
    let mut command = Command::new(tool);
    command.args(options).arg(file).args(to_stdout.then_some("-"));
    let Ok(output) = command.output() else {
        skip("fonts", &format!("{tool} (Debian: poppler-utils)"));
        return None;
    };
    let complaints = String::from_utf8_lossy(&output.stderr);
    // pdfinfo takes the `false` of a tagged file for an error.
    let is_clean =
        complaints.lines().all(|own| own.contains("Suspects object is wrong type (boolean)") || own.is_empty());
    assert!(output.status.success() && is_clean, "{tool}: {complaints}");
    Some(String::from_utf8(output.stdout).unwrap())
}

pub fn text_of(name: &str, bytes: &[u8]) -> Option<String> {
    poppler("pdftotext", &["-layout"], &kept(name, bytes), true)
}

/// Row by row: how much space stands for a distance is the tool's affair.
pub fn rows(text: &str) -> String {
    let cells = |row: &str| row.split("  ").map(str::trim).filter(|own| !own.is_empty()).collect::<Vec<_>>().join("  ");
    text.lines().map(cells).filter(|row| !row.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Fonts that have Chinese, Japanese and Korean; `None`, aloud, without.
fn east_asian() -> Option<Fonts> {
    let fonts = Fonts::new(Vec::new());
    let has_all = BUYERS.iter().all(|(name, _)| render(&bought_by(name, ""), Form::Pdf, &fonts).is_ok());
    if !has_all {
        skip("fonts", "font with Chinese, Japanese and Korean (Debian: fonts-noto-cjk)");
        return None;
    }
    Some(fonts)
}

fn bought_by(name: &str, address: &str) -> Document {
    let buyer = Party { name: name.to_owned(), address: vec![address.to_owned()], ..Party::default() };
    Document { buyer, ..invoice_of("EUR", vec![line(name, money(100, "EUR"))]) }
}

#[test]
fn a_pdf_says_what_the_invoice_says() {
    for (name, document) in [("invoice", full()), ("credit_note", credit_note())] {
        let pdf = pdf_of(&document, &Fonts::built_in());
        let Some(text) = text_of(&format!("{name}.pdf"), &pdf) else { return };
        insta::assert_snapshot!(name, rows(&text));
    }
}

#[test]
fn the_same_document_gives_the_same_bytes_on_every_thread() {
    let first = pdf_of(&full(), &Fonts::built_in());
    let shared = Fonts::new(Vec::new());
    thread::scope(|scope| {
        let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| pdf_of(&full(), &shared))).collect();
        assert!(tries.into_iter().all(|own| own.join().unwrap() == first));
    });
    assert!(first.len() < 60_000, "{} bytes", first.len());
    let other = Document { number: Some("INV-2026-0043".to_owned()), ..full() };
    assert_ne!(pdf_of(&other, &shared), first);
}

#[test]
fn fonts_are_embedded_cut_down_and_can_be_read_back() {
    let file = kept("fonts.pdf", &pdf_of(&full(), &Fonts::built_in()));
    let Some(listed) = poppler("pdffonts", &[], &file, false) else { return };
    let rows: Vec<&str> = listed.lines().skip(2).collect();
    assert_eq!(rows.len(), 2, "{listed}");
    // Embedded, a subset, and mapped to Unicode.
    assert!(rows.iter().all(|row| row.contains("yes yes yes") && row.contains("+LiberationSans")), "{listed}");
    let facts = poppler("pdfinfo", &[], &file, false).unwrap();
    for fact in
        ["Tagged:          yes", "Pages:           1", "(A4)", "PDF version:     1.7", "Producer:        Tollgate"]
    {
        assert!(facts.contains(fact), "{fact}: {facts}");
    }
    assert!(facts.contains("CreationDate:") && facts.contains("2026"), "{facts}");
    let tags = poppler("pdfinfo", &["-struct"], &file, false).unwrap();
    let count = |tag: &str| tags.lines().filter(|own| own.trim().split([' ', ':']).next() == Some(tag)).count();
    assert_eq!((count("H1"), count("Table"), count("THead")), (1, 2, 1), "{tags}");
    // Four columns; six lines and six rows below them; seven sums.
    assert_eq!((count("TH"), count("TD")), (4 + 12 + 7, 3 * 12 + 7), "{tags}");
}

#[test]
fn a_page_is_drawn_and_amounts_end_at_one_edge() {
    let file = kept("look.pdf", &pdf_of(&full(), &Fonts::built_in()));
    let target = file.with_extension("");
    let mut command = Command::new("pdftoppm");
    let Ok(output) = command.args(["-r", "100", "-png"]).arg(&file).arg(&target).output() else {
        return skip("fonts", "pdftoppm (Debian: poppler-utils)");
    };
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let drawn = fs::read(target.with_file_name("look-1.png")).unwrap();
    assert!(drawn.len() > 30_000, "an empty page has few bytes; this has {}", drawn.len());

    let boxes = poppler("pdftotext", &["-bbox"], &file, true).unwrap();
    let right_edge = |word: &str| {
        let row = boxes.lines().find(|row| row.contains(&format!(">{word}<"))).unwrap_or_else(|| panic!("no {word}"));
        row.split_once("xMax=\"").unwrap().1.split_once('.').unwrap().0.parse::<i32>().unwrap()
    };
    let edges: Vec<i32> = ["31.02", "215.19", "\u{2212}0.24", "405.16", "\u{2212}40.52", "69.28", "433.92", "35.18505"]
        .map(right_edge)
        .into();
    assert!(edges.iter().all(|edge| (edge - 538).abs() <= 1), "{edges:?}");
}

#[test]
fn three_hundred_lines_go_over_pages_with_heads_and_numbers() {
    let Some(text) = text_of("long.pdf", &pdf_of(&long(300), &Fonts::built_in())) else { return };
    let pages: Vec<&str> = text.trim_end_matches('\u{c}').split('\u{c}').collect();
    assert!(pages.len() > 7, "{} pages", pages.len());
    for (index, page) in pages.iter().enumerate() {
        assert!(page.contains(&format!("Page {} of {}", index + 1, pages.len())), "{page}");
        let has_lines = page.contains("Meter");
        assert_eq!(page.matches("Description").count(), usize::from(has_lines), "page {}: {page}", index + 1);
        assert!(page.contains("Invoice INV-2026-0042"), "{page}");
    }
    // 1 + 2 + … + 300 cents, and every line once.
    assert!(pages.last().unwrap().contains("USD 451.50"), "{text}");
    let found = text.split_whitespace().collect::<Vec<_>>();
    for number in 1..=300 {
        let name = number.to_string();
        let with_colon = format!("{number}:");
        let count =
            found.windows(2).filter(|pair| pair[0] == "Meter" && (pair[1] == name || pair[1] == with_colon)).count();
        assert_eq!(count, 1, "meter {number}");
    }
}

#[test]
fn names_in_six_scripts_are_printed() {
    let Some(fonts) = east_asian() else { return };
    let mut lines = Vec::new();
    for (name, address) in BUYERS {
        let pdf = pdf_of(&bought_by(name, address), &fonts);
        assert!(pdf.len() < 80_000, "{name}: {} bytes", pdf.len());
        let Some(text) = text_of("script.pdf", &pdf) else { return };
        assert!(text.contains(name) && text.contains(address), "{name}, {address}: {text}");
        lines.push(line(&format!("{name}, {address}"), money(100, "EUR")));
    }
    // All of them on a page, to be looked at.
    let (name, address) = BUYERS[4];
    let document = Document { lines, ..bought_by(name, address) };
    let sum = money(600, "EUR");
    let all = Document { subtotal: sum, total: sum, amount_due: sum, ..document };
    let Some(text) = text_of("scripts.pdf", &pdf_of(&all, &fonts)) else { return };
    assert!(BUYERS.iter().all(|(name, _)| text.contains(name)), "{text}");
}

#[test]
fn han_characters_have_the_shapes_of_their_language() {
    let Some(fonts) = east_asian() else { return };
    let face = |language: &str| {
        let mut document = bought_by("直骨", "");
        document.buyer.language = Some(language.to_owned());
        document.lines[0].description = "one".to_owned();
        let file = kept(&format!("han-{language}.pdf"), &pdf_of(&document, &fonts));
        poppler("pdffonts", &[], &file, false)
    };
    let (Some(ja), Some(zh), Some(ko)) = (face("ja"), face("zh"), face("ko-KR")) else { return };
    if ja.contains("NotoSansCJK") {
        assert!(ja.contains("CJKjp") && zh.contains("CJKsc") && ko.contains("CJKkr"), "{ja}{zh}{ko}");
    }
}

#[test]
fn characters_that_no_font_has_are_named_with_what_would_help() {
    let refused = render(&bought_by("北京ひら서울", "Straße"), Form::Pdf, &Fonts::built_in()).unwrap_err();
    let said = refused.to_string();
    assert_eq!(
        said,
        "no font has the Japanese characters ひ (U+3072), ら (U+3089): install a font that has them (Debian: \
         fonts-noto-cjk), or name its folder in billing.fonts; then restart; nor the Chinese characters 京 (U+4EAC), 北 \
         (U+5317): install a font that has them (Debian: fonts-noto-cjk), or name its folder in billing.fonts; then restart; \
         nor the Korean characters 서 (U+C11C), 울 (U+C6B8): install a font that has them (Debian: fonts-noto-cjk), or name its \
         folder in billing.fonts; then restart"
    );
    let FormError::NoFont(missing) = refused else { panic!("{said}") };
    assert_eq!(
        missing.iter().map(|own: &Unprintable| (own.script, own.count)).collect::<Vec<_>>(),
        [("Japanese", 2), ("Chinese", 2), ("Korean", 2)]
    );
    let many: String = ('\u{4e00}'..'\u{4f00}').collect();
    let said = render(&bought_by(&many, ""), Form::Pdf, &Fonts::built_in()).unwrap_err().to_string();
    assert!(said.contains("and 248 more") && said.len() < 500, "{said}");
}

#[test]
fn scripts_whose_letters_join_or_run_from_the_right_are_refused_and_not_printed_wrongly() {
    for (name, script) in
        [("شركة البوابة", "Arabic"), ("שער בע״מ", "Hebrew"), ("टोल गेट", "Devanagari"), ("บริษัท", "Thai")]
    {
        let refused = render(&bought_by(name, ""), Form::Pdf, &Fonts::new(Vec::new())).unwrap_err();
        assert!(matches!(refused, FormError::Script(_)), "{refused:?}");
        assert!(
            refused.to_string().starts_with(&format!("the PDF form does not print the {script} characters ")),
            "{refused}"
        );
        assert!(render(&bought_by(name, ""), Form::Html, &Fonts::built_in()).is_ok());
        assert!(render(&bought_by(name, ""), Form::Csv, &Fonts::built_in()).is_ok());
    }
}

#[test]
fn fonts_of_a_named_folder_are_found_and_files_that_are_none_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("empty.ttf"), b"").unwrap();
    fs::write(folder.path().join("text.otf"), b"not a font at all, but long enough to have a head").unwrap();
    let mut collection = b"ttcf\0\x01\0\0\xff\xff\xff\xff".to_vec();
    collection.extend([0xff; 300]);
    fs::write(folder.path().join("lies.ttc"), &collection).unwrap();
    fs::create_dir(folder.path().join("folder.ttf")).unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/billing/forms/fonts/LiberationSans-Regular.ttf");
    let mut cut = fs::read(own).unwrap();
    cut.truncate(cut.len() / 2);
    fs::write(folder.path().join("cut.ttf"), cut).unwrap();
    let fonts = Fonts::new(vec![folder.path().to_owned(), "/nowhere".into()]);
    // Of the private use area, so that no font of the system has it.
    let refused = render(&bought_by("\u{f0000}", ""), Form::Pdf, &fonts).unwrap_err();
    assert!(matches!(refused, FormError::NoFont(_)), "{refused:?}");
    assert!(render(&full(), Form::Pdf, &fonts).is_ok());
}

#[test]
fn long_words_huge_texts_and_odd_characters_are_laid_out() {
    let mut document = invoice_of(
        "EUR",
        vec![line(&"word ".repeat(8_000), money(1, "EUR")), line(&"W".repeat(3_000), money(2, "EUR"))],
    );
    document.lines[1].quantity = Some(exact("1234567890123456789012345678"));
    document.lines[1].unit = Some("units of a name that does not end soon".to_owned());
    document.buyer.address = vec!["a line".to_owned(); 200];
    document.buyer.name = "e\u{301}t\u{e9} \u{202e}\u{200b}tab\there\0".to_owned();
    document.notes = vec!["one\ntwo\r\nthree".to_owned(), String::new()];
    document.number = Some("N".repeat(500));
    let pdf = pdf_of(&document, &Fonts::built_in());
    let Some(text) = text_of("huge.pdf", &pdf) else { return };
    assert_eq!(text.matches("word").count(), 8_000);
    assert!(text.contains("\u{e9}t\u{e9} tab here"), "{}", &text[..2_000]);
    assert!(text.contains("one\n") && text.contains("two\n") && text.contains("three"));
}

#[test]
fn an_empty_document_and_a_draft_without_anything_have_a_form() {
    let mut document = invoice_of("EUR", Vec::new());
    document.kind = Kind::Draft;
    (document.number, document.issued, document.due, document.period) = (None, None, None, None);
    (document.seller, document.buyer) = (Party::default(), Party::default());
    let Some(text) = text_of("draft.pdf", &pdf_of(&document, &Fonts::built_in())) else { return };
    assert!(text.contains("Draft invoice") && text.contains("may still change") && text.contains("EUR 0.00"), "{text}");
}
