//! Calls to addresses that others gave us: with a deadline, without following redirects, and, unless settings say
//! otherwise, to public addresses alone. What a name resolves to is checked, and what was checked is connected to, so
//! that a name cannot mean one address when it is looked at and another when it is called.

use std::{
    error::Error as StdError,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header, response::Parts};
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

use crate::kernel::network::is_public;

type BoxError = Box<dyn StdError + Send + Sync>;

/// A call takes this long at most, where nothing else is said; a connection, always.
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
    #[error("there was no answer within {} seconds", .0.as_secs())]
    Deadline(Duration),
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
        in_time(DEADLINE, async { Ok(self.answer(request).await?.status()) }).await
    }

    /// Posts JSON with headers of its own; the head of the answer, if it comes in time. Its body is not read: whoever is called
    /// must not be able to show us, or who asked us to call, anything but a status.
    pub async fn post_json(
        &self,
        address: &str,
        headers: HeaderMap,
        body: String,
        deadline: Duration,
    ) -> Result<Parts, OutboundError> {
        let mut request =
            Request::post(self.uri(address)?).body(Full::from(body)).map_err(|_| OutboundError::Address)?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        in_time(deadline, async { Ok(self.answer(request).await?.into_parts().0) }).await
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

    /// Makes a request to somebody whom the settings name; the head and the body of the answer, whatever its status.
    pub async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Duration,
    ) -> Result<(Parts, Bytes), OutboundError> {
        self.uri(&request.uri().to_string())?;
        in_time(deadline, async {
            let (head, body) = self.answer(request).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(OutboundError::Body)?;
            Ok((head, body.to_bytes()))
        })
        .await
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
        in_time(DEADLINE, async {
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

async fn in_time<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, OutboundError>>,
) -> Result<T, OutboundError> {
    tokio::time::timeout(deadline, call).await.unwrap_or(Err(OutboundError::Deadline(deadline)))
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

#[cfg(test)]
mod tests {
    use super::*;

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
