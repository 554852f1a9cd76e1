//! The newest letters, on the log-in page: in a laboratory nobody has a mailbox.
//!
//! Only where mail goes to a folder of this machine. What a mail server has taken is its people's.

use axum::{
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::Response,
};
use maud::{Markup, html};

use super::{Lab, layers::rewritten, subjects::LAB};
use crate::{
    kernel::{PageRequest, fault::chain},
    mail::OutboxLetter,
};

/// So many are shown.
const NEWEST: u16 = 5;

/// Puts the newest letters below the form of the log-in page.
pub async fn on_the_log_in_page(State(lab): State<Lab>, request: Request, next: Next) -> Response {
    let is_login = request.uri().path() == "/login";
    let response = next.run(request).await;
    if !is_login || !lab.mail().is_folder() || response.status() == StatusCode::SEE_OTHER {
        return response;
    }
    // The limit is one that a page may have.
    let Some(page) = PageRequest::new(Some(NEWEST), None) else { return response };
    match lab.mail().newest(LAB, page).await {
        Ok(letters) => {
            let shown = section(&letters.items, lab.identity().issuer()).into_string();
            rewritten(response, |page| with_letters(page, &shown)).await
        }
        Err(error) => {
            tracing::warn!(error = chain(&error), "the newest letters could not be read");
            response
        }
    }
}

fn section(letters: &[OutboxLetter], issuer: &str) -> Markup {
    html! {
        h2 { "Newest letters" }
        @if letters.is_empty() { p { "Nobody has been written to yet." } }
        @for OutboxLetter { letter, created_at, .. } in letters {
            article {
                h3 { (letter.subject) }
                p { "To " (letter.to) ", " time datetime=(created_at) { (created_at) } }
                pre { (with_links(&letter.text, issuer)) }
            }
        }
    }
}

/// A letter's text, with links to this server that can be followed.
fn with_links(text: &str, issuer: &str) -> Markup {
    let leads_here = |word: &str| word.strip_prefix(issuer).is_some_and(|rest| rest.starts_with('/'));
    html! {
        @for piece in text.split_inclusive(char::is_whitespace) {
            @let word = piece.trim_end();
            @if leads_here(word) { a href=(word) { (word) } (piece[word.len()..]) } @else { (piece) }
        }
    }
}

fn with_letters(page: &str, letters: &str) -> String {
    let end = page.rfind("</main>").unwrap_or(page.len());
    format!("{}{letters}{}", &page[..end], &page[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_this_server_can_be_followed_and_all_else_is_text() {
        let text = "Here:\nhttp://lab.test/reset?token=a&b\n<b> http://lab.test.evil/x\n";
        let expected = "Here:\n<a href=\"http://lab.test/reset?token=a&amp;b\">http://lab.test/reset?token=a&amp;b</a>\n\
                        &lt;b&gt; http://lab.test.evil/x\n";
        assert_eq!(with_links(text, "http://lab.test").into_string(), expected);
        assert_eq!(with_letters("<main>x</main></body>", "!"), "<main>x!</main></body>");
    }
}
