//! Calls to addresses that others gave us: with a deadline, without following redirects, and, unless settings say
//! otherwise, to public addresses alone. What a name resolves to is checked, and what was checked is connected to, so
//! that a name cannot mean one address when it is looked at and another when it is called.

use std::{
    error::Error as StdError,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{
            HttpConnector,
            dns::{GaiResolver, Name},
        },
    },
    rt::TokioExecutor,
};
use tower::Service;

type BoxError = Box<dyn StdError + Send + Sync>;

/// A call takes this long at most.
const DEADLINE: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 512 * 1024;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The address is not one of the web.
    #[error("the address is not one of the web")]
    Address,
    /// The address is in a loopback or private range.
    #[error("the address is not public; `webhooks.allow_private` lets it be called")]
    Private,
    /// There was no answer in time.
    #[error("there was no answer within {} seconds", DEADLINE.as_secs())]
    Deadline,
    /// It answered otherwise than with 200.
    #[error("the answer was {0}")]
    Status(StatusCode),
    /// The answer broke off, or is larger than anything that was asked for.
    #[error("the answer broke off, or has more than {MAX_ANSWER} bytes")]
    Body(#[source] BoxError),
    /// The connection failed.
    #[error("the call failed")]
    Failed(#[from] hyper_util::client::legacy::Error),
}

/// Makes such calls; cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    reach: Reach,
}

/// Who may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Public addresses.
    Public,
    /// Loopback and private ones, too.
    Private,
}

impl Outbound {
    /// With certificates checked against the roots of the web.
    pub fn new(reach: Reach) -> Self {
        let mut http = HttpConnector::new_with_resolver(Resolver { inner: GaiResolver::new(), reach });
        http.enforce_http(false);
        http.set_connect_timeout(Some(DEADLINE));
        let https =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(http);
        // Whoever is called is called seldom: no connection is kept.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https);
        Self { client, reach }
    }

    /// Posts a form; the status of the answer. The body of the answer is not read.
    pub async fn post_form(&self, address: &str, form: String) -> Result<StatusCode, OutboundError> {
        let request = form_to(self.uri(address)?, form)?;
        in_time(async { Ok(self.answer(request).await?.status()) }).await
    }

    /// Posts a form with an `Authorization` of its own; the body of a 200.
    pub async fn post_form_for(
        &self,
        address: &str,
        form: String,
        authorization: HeaderValue,
    ) -> Result<Bytes, OutboundError> {
        let mut request = form_to(self.uri(address)?, form)?;
        request.headers_mut().insert(header::AUTHORIZATION, authorization);
        self.read(request).await
    }

    /// Gets a document; the body of a 200.
    pub async fn get(&self, address: &str) -> Result<Bytes, OutboundError> {
        let request = Request::get(self.uri(address)?).body(Full::default()).map_err(|_| OutboundError::Address)?;
        self.read(request).await
    }

    fn uri(&self, address: &str) -> Result<Uri, OutboundError> {
        let uri: Uri = address.parse().map_err(|_| OutboundError::Address)?;
        let host = uri.host().ok_or(OutboundError::Address)?.trim_start_matches('[').trim_end_matches(']');
        // An address that is written out is not resolved.
        if host.parse::<IpAddr>().is_ok_and(|address| !self.reach.covers(address)) {
            return Err(OutboundError::Private);
        }
        Ok(uri)
    }

    async fn answer(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<impl Body<Data = Bytes, Error: Into<BoxError>>>, OutboundError> {
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        match self.client.request(request).await {
            Err(error) if is_refusal(&error) => Err(OutboundError::Private),
            answer => Ok(answer?),
        }
    }

    async fn read(&self, request: Request<Full<Bytes>>) -> Result<Bytes, OutboundError> {
        in_time(async {
            let answer = self.answer(request).await?;
            if answer.status() != StatusCode::OK {
                return Err(OutboundError::Status(answer.status()));
            }
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            Ok(body.map_err(OutboundError::Body)?.to_bytes())
        })
        .await
    }
}

fn form_to(uri: Uri, form: String) -> Result<Request<Full<Bytes>>, OutboundError> {
    Request::post(uri)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::from(form))
        .map_err(|_| OutboundError::Address)
}

async fn in_time<T>(call: impl Future<Output = Result<T, OutboundError>>) -> Result<T, OutboundError> {
    tokio::time::timeout(DEADLINE, call).await.unwrap_or(Err(OutboundError::Deadline))
}

fn is_refusal(error: &(dyn StdError + 'static)) -> bool {
    let own = error.downcast_ref::<io::Error>().is_some_and(|own| own.kind() == io::ErrorKind::PermissionDenied);
    own || error.source().is_some_and(is_refusal)
}

impl Reach {
    fn covers(self, address: IpAddr) -> bool {
        self == Self::Private || is_public(address)
    }
}

/// Resolves names to addresses within reach.
#[derive(Clone)]
struct Resolver {
    inner: GaiResolver,
    reach: Reach,
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (found, reach) = (self.inner.call(name), self.reach);
        Box::pin(async move {
            let found: Vec<SocketAddr> = found.await?.filter(|address| reach.covers(address.ip())).collect();
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "no address within reach"));
            }
            Ok(found.into_iter())
        })
    }
}

/// Whether an address is somebody's on the internet (the registries of RFC 6890, as far as they matter to a caller).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || first == 0
        || first >= 240
        // Carriers' own (RFC 6598), protocol assignments, benchmarks (RFC 2544).
        || (first == 100 && (64..128).contains(&second))
        || (first == 192 && second == 0 && third == 0)
        || (first == 198 && (18..20).contains(&second));
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // What carries an address of version 4 in it is that address: mapped, translated (RFC 6052), 6to4 (RFC 3056).
    let embedded = match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    };
    match embedded {
        Some(embedded) => is_public_v4(embedded),
        // Global unicast is 2000::/3; documentation is 2001:db8::/32.
        None => segments[0] & 0xe000 == 0x2000 && (segments[0], segments[1]) != (0x2001, 0xdb8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for (address, public) in [
            ("93.184.216.34", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("224.0.0.1", false),
            ("2606:2800:220:1::1", true),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:93.184.216.34", true),
            ("64:ff9b::a00:1", false),
            ("2002:7f00:1::", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_or_an_address_that_is_not_public_is_not_called() {
        let outbound = Outbound::new(Reach::Public);
        for address in ["http://127.0.0.1:9/", "http://[::1]:9/", "https://localhost:9/", "http://169.254.169.254/"] {
            let refused = outbound.post_form(address, String::new()).await;
            assert!(matches!(refused, Err(OutboundError::Private)), "{address}: {refused:?}");
        }
        assert!(matches!(outbound.post_form("/path", String::new()).await, Err(OutboundError::Address)));
    }
}
