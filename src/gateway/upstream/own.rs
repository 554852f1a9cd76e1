//! A tenant's own upstream, which provisioning made: the tenant's requests go there instead of to the upstream of their route, on
//! that one's terms. It has connections and state of its own, for as long as the tenant's facts name it.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use bytes::Bytes;

use super::{Came, Cluster, Forward, UpstreamConfig};
use crate::{gateway::short::NoShortWay, web::Problem};

/// A tenant's own upstream.
pub(in crate::gateway) struct OwnUpstream {
    address: Uri,
    /// One for each upstream in whose place it stands: their terms differ.
    clusters: Mutex<Vec<(Arc<UpstreamConfig>, Arc<Cluster>)>>,
}

impl OwnUpstream {
    pub(in crate::gateway) fn new(address: Uri) -> Self {
        Self { address, clusters: Mutex::default() }
    }

    pub(in crate::gateway) const fn address(&self) -> &Uri {
        &self.address
    }

    /// Lets go of connections; requests that are under way keep theirs.
    pub(in crate::gateway) fn let_go(&self) {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The way there of a route that leads to another upstream.
    pub(in crate::gateway) fn instead_of(&self, pool: &Forward) -> Forward {
        let config = pool.cluster.config();
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let known = clusters.iter().find(|(own, _)| Arc::ptr_eq(own, config)).map(|(_, cluster)| Arc::clone(cluster));
        let cluster = known.unwrap_or_else(|| {
            let own = UpstreamConfig { targets: vec![self.address.clone()], ..(**config).clone() };
            let new = Arc::new(Cluster::new(Arc::new(own), pool.cluster.background()));
            clusters.push((Arc::clone(config), Arc::clone(&new)));
            new
        });
        Forward { cluster, terms: Arc::clone(&pool.terms) }
    }
}

impl Forward {
    /// Sends a request that was put together for the short way by the long one.
    pub(in crate::gateway) async fn send_told(&self, told: &[u8]) -> Came {
        match request_of(told) {
            Some(request) => Came::Response(Box::pin(self.call(request)).await),
            None => Came::Nothing(Problem::internal(NoShortWay)),
        }
    }
}

/// The most headers that are told: more than the short way takes, and those that are added.
const MOST_HEADERS: usize = 256;

/// A request that was put together as bytes.
fn request_of(told: &[u8]) -> Option<Request<Body>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(told).ok()? else { return None };
    let mut fields = HeaderMap::with_capacity(head.headers.len());
    for header in head.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        // The upstream of the route was meant; whoever sends says who is.
        if name == axum::http::header::HOST {
            continue;
        }
        fields.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    let mut request = Request::new(Body::from(Bytes::copy_from_slice(&told[length..])));
    *request.method_mut() = Method::from_bytes(head.method?.as_bytes()).ok()?;
    *request.uri_mut() = head.path?.parse().ok()?;
    *request.headers_mut() = fields;
    Some(request)
}

/// Only what answers.
impl std::fmt::Debug for OwnUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnUpstream").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn what_was_told_as_bytes_is_the_same_request() {
        let told = b"POST /a/b?c=1 HTTP/1.1\r\nhost: pool:1\r\nx-tenant-id: t\r\ncontent-length: 4\r\nvia: a\r\nvia: b\r\n\r\nbody";
        let request = request_of(told).unwrap();
        assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::POST, "/a/b?c=1"));
        let all: Vec<_> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(all, [("x-tenant-id", "t"), ("content-length", "4"), ("via", "a"), ("via", "b")]);
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "body");
        assert!(request_of(b"GET / HTTP/1.1\r\nhost").is_none());
    }
}
