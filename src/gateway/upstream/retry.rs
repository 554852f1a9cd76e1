//! Sending a request again: what is kept of it for that, and how often it may happen at all.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    http::{HeaderMap, Method, Request, Uri},
};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// What a repetition costs, in hundredths: a request earns a percentage of it.
const PRICE: u64 = 100;
/// So many repetitions can be saved up.
const SAVED: u64 = 10;

/// A bucket that every request puts a share of a repetition into, and every repetition takes a whole one out of: when most
/// requests fail, repeating them would only add to what the targets cannot do.
#[derive(Debug)]
pub(super) struct Budget {
    percent: u64,
    earned: AtomicU64,
    spent: AtomicU64,
}

impl Budget {
    /// With what can be saved up, saved up.
    pub(super) const fn new(percent: u32) -> Self {
        Self { percent: percent as u64, earned: AtomicU64::new(SAVED * PRICE), spent: AtomicU64::new(0) }
    }

    /// A request came.
    pub(super) fn earn(&self) {
        self.earned.fetch_add(self.percent, Ordering::Relaxed);
    }

    /// Whether there may be a repetition now.
    pub(super) fn spend(&self) -> bool {
        let earned = self.earned.load(Ordering::Relaxed);
        let taken = self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spent| {
            // What was earned long ago and not spent is gone.
            let spent = spent.max(earned.saturating_sub(SAVED * PRICE)) + PRICE;
            (spent <= earned).then_some(spent)
        });
        taken.is_ok()
    }
}

/// What is kept of a request while it is sent.
pub(super) struct Spare {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// The body while nobody has read of it; `None` where there is none.
    body: Option<Slot>,
}

type Slot = Arc<Mutex<Option<Body>>>;

impl Spare {
    /// Takes a copy of the head, and puts a hand on the body.
    pub(super) fn of(request: Request<Body>) -> (Self, Request<Body>) {
        let (method, uri, headers) = (request.method().clone(), request.uri().clone(), request.headers().clone());
        if request.body().is_end_stream() {
            return (Self { method, uri, headers, body: None }, request);
        }
        let mut slot = None;
        let request = request.map(|body| {
            let size = body.size_hint();
            let shared = Arc::new(Mutex::new(Some(body)));
            slot = Some(Arc::clone(&shared));
            Body::new(Held { slot: shared, size, own: None })
        });
        (Self { method, uri, headers, body: slot }, request)
    }

    /// The request once more, if that is safe: nothing of its body was read, and nothing of it was sent or sending it
    /// twice does what sending it once does (RFC 9110 section 9.2.2).
    pub(super) fn again(self, nothing_sent: bool) -> Option<Request<Body>> {
        if !nothing_sent && !self.method.is_idempotent() {
            return None;
        }
        let body = match self.body {
            None => Body::empty(),
            Some(slot) => slot.lock().unwrap_or_else(PoisonError::into_inner).take()?,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        Some(request)
    }
}

/// A body that stays in its slot until somebody reads of it.
struct Held {
    slot: Slot,
    size: SizeHint,
    own: Option<Body>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.own.is_none() {
            let body = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.own = body;
        }
        match &mut self.own {
            Some(body) => Poll::Ready(ready!(Pin::new(body).poll_frame(cx))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.own.as_ref().is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.own.as_ref().map_or_else(|| self.size, HttpBody::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn one_request_in_five_may_be_repeated_and_ten_can_be_saved_up() {
        let budget = Budget::new(20);
        let spent = |tries: usize| (0..tries).filter(|_| budget.spend()).count();
        assert_eq!(spent(100), 10, "what it begins with");
        (0..25).for_each(|_| budget.earn());
        assert_eq!(spent(100), 5);
        (0..100_000).for_each(|_| budget.earn());
        assert_eq!(spent(100), 10);
        (0..4).for_each(|_| budget.earn());
        assert_eq!(spent(1), 0);
    }

    fn request(method: Method, body: &'static str) -> Request<Body> {
        Request::builder().method(method).uri("/orders?n=1").header("x-a", "1").body(Body::from(body)).unwrap()
    }

    #[tokio::test]
    async fn what_nobody_read_comes_back_whole() {
        for (method, body, nothing_sent, comes_back) in [
            (Method::POST, "order", true, true),
            (Method::POST, "", false, false),
            (Method::PUT, "order", false, true),
            (Method::GET, "", false, true),
            (Method::PATCH, "order", false, false),
        ] {
            let (spare, sent) = Spare::of(request(method.clone(), body));
            drop(sent);
            let again = spare.again(nothing_sent);
            assert_eq!(again.is_some(), comes_back, "{method} {body} {nothing_sent}");
            let Some(again) = again else { continue };
            assert_eq!(
                (again.method(), &*again.uri().to_string(), &again.headers()["x-a"]),
                (&method, "/orders?n=1", &"1".parse().unwrap())
            );
            assert_eq!(again.into_body().collect().await.unwrap().to_bytes(), body);
        }
    }

    #[tokio::test]
    async fn what_was_read_of_does_not_come_back() {
        let (spare, sent) = Spare::of(request(Method::PUT, "order"));
        let mut body = sent.into_body();
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "order");
        assert!(body.frame().await.is_none() && spare.again(true).is_none());
    }
}
