//! Forms with a token in them, beside the one in the header (RFC 6750 section 2): two credentials, of which an upstream might
//! believe the other. The form is looked through as it passes, and its end is not passed on. Within the gateway that is a
//! failure, which is not billed; `authenticate`, which is outermost, answers it with 400.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{
    BoxError,
    body::Body,
    http::{HeaderMap, Request, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{
    gateway::headers,
    web::credential::{ACCESS_TOKEN, is_access_token},
};

/// The longest name that can be that of a token: each of its characters written as `%xx`.
const LONGEST: usize = 3 * ACCESS_TOKEN.len();

/// In the extensions of an answer: the request, which was for this path, had a token in its form, too.
#[derive(Debug, Clone)]
pub(super) struct TwoCredentials(pub(super) String);

/// What was found in a request's form, if it has one, and the path of the request.
pub(in crate::gateway) struct Form(Option<(Arc<AtomicBool>, String)>);

impl Form {
    /// Has a request's form looked through on its way.
    pub(in crate::gateway) fn looked_through(request: Request<Body>) -> (Request<Body>, Self) {
        if request.body().is_end_stream() || !is_form(request.headers()) {
            return (request, Self(None));
        }
        let found = Arc::new(AtomicBool::new(false));
        let (noted, path) = (Arc::clone(&found), request.uri().path().to_owned());
        let request = request.map(|inner| Body::new(LookedThrough { inner, names: Names::default(), found: noted }));
        (request, Self(Some((found, path))))
    }

    /// The upstream's answer, or a failure in its place.
    pub(in crate::gateway) fn unless_it_has_a_token(self, response: Response<Body>) -> Response<Body> {
        match self.0.filter(|(found, _)| found.load(Ordering::Acquire)) {
            None => response,
            Some((_, path)) => {
                let mut failed = Response::new(Body::empty());
                *failed.status_mut() = StatusCode::BAD_GATEWAY;
                failed.extensions_mut().insert(TwoCredentials(path));
                failed
            }
        }
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    // Any of them: which one an upstream goes by, nobody knows.
    headers.get_all(header::CONTENT_TYPE).iter().any(|kind| headers::is_form(kind.as_bytes()))
}

/// A form on its way.
struct LookedThrough {
    inner: Body,
    names: Names,
    found: Arc<AtomicBool>,
}

impl HttpBody for LookedThrough {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let named = match &frame {
            Some(Ok(frame)) => frame.data_ref().is_some_and(|data| self.names.has_token(data)),
            Some(Err(_)) => false,
            None => self.names.ends_with_token(),
        };
        if named {
            self.found.store(true, Ordering::Release);
            return Poll::Ready(Some(Err("the form has a token in it".into())));
        }
        Poll::Ready(frame.map(|result| result.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The names of a form's parameters, as they come by.
#[derive(Default)]
struct Names {
    /// The name that is being read; in a value, nothing is.
    name: Vec<u8>,
    in_value: bool,
}

impl Names {
    fn has_token(&mut self, data: &[u8]) -> bool {
        for byte in data {
            match byte {
                b'&' | b'=' if !self.in_value => {
                    if self.ends_with_token() {
                        return true;
                    }
                    self.in_value = *byte == b'=';
                    self.name.clear();
                }
                b'&' => self.in_value = false,
                // One character more than the longest, so that a longer name is not taken for its beginning.
                _ if !self.in_value && self.name.len() <= LONGEST => self.name.push(*byte),
                _ => {}
            }
        }
        false
    }

    fn ends_with_token(&self) -> bool {
        !self.in_value && std::str::from_utf8(&self.name).is_ok_and(is_access_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_wherever_the_form_is_cut() {
        for (form, has) in [
            ("access_token=x", true),
            ("a=1&access_token", true),
            ("a=1&access%5ftoken=x&b=2", true),
            ("a=access_token=1&b=access_token", false),
            ("access_tokens=1&access_toke=2&xaccess_token=3", false),
            ("", false),
        ] {
            for cut in 0..=form.len() {
                let mut names = Names::default();
                let (one, other) = form.as_bytes().split_at(cut);
                let found = names.has_token(one) || names.has_token(other) || names.ends_with_token();
                assert_eq!(found, has, "{form} cut at {cut}");
            }
        }
    }
}
