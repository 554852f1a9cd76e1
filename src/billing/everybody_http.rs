//! Answers about all tenants, as one file: a record for each, sent while the next ones are worked out, and the totals last. A file
//! without totals at its end was broken off.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures_util::{TryStreamExt as _, stream};

use super::error::Error;
use crate::{
    kernel::{PageRequest, fault::chain, page::Cursor},
    web::Problem,
};

/// So many tenants are worked out at a time.
const PAGE: u16 = 100;

/// What an answer can be had as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    /// A page of a list.
    Json,
    /// All, a JSON value a line.
    Lines,
    /// All, for spreadsheets.
    Csv,
}

impl As {
    /// The first form that `Accept` names.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let mut kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
        let known = |kind: &str| match kind {
            "application/json" => Some(Self::Json),
            "application/x-ndjson" => Some(Self::Lines),
            "text/csv" => Some(Self::Csv),
            _ => None,
        };
        kinds.find_map(known).unwrap_or(Self::Json)
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }
}

/// Where a walk stands.
enum Step {
    Head,
    Page(Option<Cursor>),
    Totals,
    End,
}

/// What is written of all tenants.
pub(super) trait Walk: Send + Sized + 'static {
    /// What comes before all records; nothing, as it may be.
    fn head(&self) -> String;

    /// The records of a page, and where the next one begins.
    fn page(&mut self, page: PageRequest) -> impl Future<Output = Result<(String, Option<Cursor>), Error>> + Send;

    /// What comes after them.
    fn totals(&self) -> String;
}

/// All of a walk as one answer. What goes wrong with the first page is a problem; later, the answer breaks off.
pub(super) async fn file(form: As, mut walk: impl Walk) -> Result<Response, Problem> {
    let first = PageRequest::new(Some(PAGE), None).unwrap_or_default();
    let (records, next) = walk.page(first).await?;
    let begin = (walk, Some(records), Step::Head, next);
    let pieces = stream::try_unfold(begin, |(mut walk, mut first, step, next)| async move {
        let after_page = |next: Option<Cursor>| next.map_or(Step::Totals, |next| Step::Page(Some(next)));
        let (text, step) = match step {
            Step::Head => (walk.head() + first.take().unwrap_or_default().as_str(), after_page(next)),
            Step::Page(after) => {
                let page = PageRequest::new(Some(PAGE), after).unwrap_or_default();
                let (records, next) = walk.page(page).await?;
                (records, after_page(next))
            }
            Step::Totals => (walk.totals(), Step::End),
            Step::End => return Ok(None),
        };
        Ok::<_, Error>(Some((text, (walk, first, step, None))))
    });
    // A page of tenants of whom there is nothing to say is no piece.
    let pieces = pieces.try_filter(|text| std::future::ready(!text.is_empty()));
    let pieces =
        pieces.inspect_err(|error| tracing::error!(error = chain(error), "an answer about all tenants broke off"));
    let mut response = ([(header::CONTENT_TYPE, form.content_type())], Body::from_stream(pieces)).into_response();
    vary(&mut response);
    Ok(response)
}

/// A page of a list as CSV.
pub(super) fn csv(text: String) -> Response {
    let mut response = ([(header::CONTENT_TYPE, As::Csv.content_type())], text).into_response();
    vary(&mut response);
    response
}

/// The same address has several forms.
fn vary(response: &mut Response) {
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
