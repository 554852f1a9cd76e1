//! The HTML form: one file that needs nothing else, fit to be printed, under a policy that lets nothing in but its own style.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    document::{Document, Line, Party, Price},
    print::{self, visible},
};

/// The style, within the file.
const STYLE: &str = include_str!("forms.css");

/// What a browser may let the page do: show itself in its own style, which is named by its hash, and nothing else.
/// The policy of other pages, but for the style's source: they have theirs from this server, this file takes its own along.
pub fn policy() -> String {
    format!("{}; frame-ancestors 'none'", policy_within())
}

/// Of that, what may stand in the file itself, so that it holds for a copy on a disk.
fn policy_within() -> String {
    let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{style}'; form-action 'none'; base-uri 'none'")
}

/// The document as a page.
pub(crate) fn render(document: &Document) -> String {
    let heading = print::heading(document);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy_within());
                title { (heading) " \u{2013} " (visible(&document.seller.name)) }
                meta name="viewport" content="width=device-width, initial-scale=1";
                style { (PreEscaped(STYLE)) }
            }
            body { main {
                header {
                    h1 { (heading) }
                    (party("From", &document.seller))
                }
                @if let Some(warning) = print::warning(document.kind) { p.warning role="note" { (warning) } }
                @if let Some(paid) = print::paid(document) { p.paid role="note" { (paid) } }
                .parties {
                    (party(print::buyer_label(document.kind), &document.buyer))
                    dl { @for (label, text) in print::facts(document) { dt { (label) } dd { (text) } } }
                }
                p.due { (print::due(document, ":")) }
                (lines(document))
                (sums(document))
                @if !print::how_to_pay(document).is_empty() {
                    section aria-label="How to pay" {
                        h2 { "How to pay" }
                        @for line in print::how_to_pay(document) { div { (visible(line)) } }
                    }
                }
                @for note in &document.notes { @for paragraph in note.lines() { p { (visible(paragraph)) } } }
            } }
        }
    };
    page.into_string()
}

fn party(label: &str, party: &Party) -> Markup {
    let language = party.language.as_deref().filter(|language| is_language_tag(language));
    html! {
        section aria-label=(label) {
            h2 { (label) }
            address lang=[language] {
                .name { (visible(&party.name)) }
                @for line in &party.address { div { (visible(line)) } }
            }
            @if let Some(tax_id) = &party.tax_id { div { "Tax ID " (visible(tax_id)) } }
            @if let Some(registration) = &party.registration { div { (visible(registration)) } }
        }
    }
}

fn lines(document: &Document) -> Markup {
    html! {
        table {
            caption { "What was sold, in " (document.currency) }
            thead { tr {
                th scope="col" { "Description" }
                th.number scope="col" { "Quantity" }
                th.number scope="col" { "Unit price" }
                th.number scope="col" { "Amount (" (document.currency) ")" }
            } }
            tbody { @for own in &document.lines { (line(own)) } }
        }
    }
}

fn line(line: &Line) -> Markup {
    html! {
        tr {
            th scope="row" {
                (visible(&line.description))
                @if let Some(period) = line.period { span.small { (print::period(period)) } }
            }
            td.number {
                @if let Some(quantity) = line.quantity { (print::quantity(quantity)) }
                @if let Some(unit) = &line.unit { " " (visible(unit)) }
            }
            td.number { @match &line.price {
                Some(Price::Unit(unit)) => (print::quantity(*unit)),
                Some(Price::Model(model)) => (visible(model)),
                None => "",
            } }
            td.number {
                (print::amount(line.amount))
                @if line.amount.quantity() != line.exact { span.small { "exactly " (print::quantity(line.exact)) } }
            }
        }
        @for tier in &line.tiers {
            tr.tier {
                th scope="row" { (print::tier(tier)) }
                td.number { (print::tier_quantity(tier)) }
                td.number { (print::tier_price(tier)) }
                td.number { (print::quantity(tier.amount)) }
            }
        }
    }
}

fn sums(document: &Document) -> Markup {
    html! {
        table.sums {
            caption { "Sums" }
            tbody { @for (label, amount, bold) in print::sums(document) {
                tr.sum[bold] { th scope="row" { (label) } td.number { (amount) } }
            } }
        }
    }
}

/// Whether a text has the form of a language tag: letters, digits and hyphens.
pub(crate) fn is_language_tag(text: &str) -> bool {
    let of_part = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 35 && text.split('-').all(of_part)
}
