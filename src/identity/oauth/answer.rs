//! The answer to an authorization request, with `state` and who gives it (RFC 6749 section 4.1.2, RFC 9207).

use axum::response::{IntoResponse as _, Response};
use maud::html;

use super::request::{Fault, Known};
use crate::{
    identity::{
        Identity,
        pages::{see_other, sorry},
    },
    web::{
        html::{Page, SEND_PATH, hidden},
        oauth::described,
    },
};

impl Known {
    /// Back to the client: in the query, or in a form (Form Post Response Mode).
    pub(super) fn answer(&self, identity: &Identity, pairs: &[(&str, &str)]) -> Response {
        let mut pairs = pairs.to_vec();
        if let Some(state) = self.params.text("state") {
            pairs.push(("state", state));
        }
        pairs.push(("iss", identity.issuer()));
        if self.params.text("response_mode") == Some("form_post") {
            return self.form_post(&pairs);
        }
        // A registered URI is one; it was parsed when it was registered.
        let Ok(mut uri) = url::Url::parse(&self.redirect_uri) else { return sorry("The address cannot be used.") };
        uri.query_pairs_mut().extend_pairs(pairs);
        see_other(uri.as_str())
    }

    fn form_post(&self, pairs: &[(&str, &str)]) -> Response {
        let body = html! {
            p { "Going back to " strong { (self.client.name) } "." }
            form method="post" action=(self.redirect_uri) {
                @for (name, value) in pairs { (hidden(name, value)) }
                button { "Continue" }
            }
        };
        Page::new("Continue", body).forms_lead_to(&self.target()).script(SEND_PATH).into_response()
    }

    pub(super) fn refuse(&self, identity: &Identity, Fault(error, description): &Fault) -> Response {
        self.answer(identity, &[("error", error), ("error_description", &described(description))])
    }

    /// The origin that answers go to, for the policy of pages with forms.
    pub(super) fn target(&self) -> String {
        url::Url::parse(&self.redirect_uri).map_or_else(
            |_| String::new(),
            |uri| match uri.origin() {
                origin @ url::Origin::Tuple(..) => origin.ascii_serialization(),
                url::Origin::Opaque(_) => format!("{}:", uri.scheme()),
            },
        )
    }
}
