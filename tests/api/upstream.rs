//! An HTTP upstream of the tests' own, on a port of its own, and settings that send `/up/` to it.

use std::convert::Infallible;

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, StatusCode},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use http_body_util::BodyExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

/// A running upstream; it ends with this.
pub struct Upstream {
    port: u16,
    _server: JoinSet<()>,
}

impl Upstream {
    /// Answers as the request asks: `x-answer` is the status, and every `answer-*` header comes back without the prefix.
    /// The body says which headers came, and `seen-path` for what; or it is `x-body`, with `|` for the end of a line, in as
    /// many pieces as it has lines. It is sent once the request's body was read to its end.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
        Self { port, _server: server }
    }

    /// Answers with a body of ten bytes, and breaks off after three.
    pub async fn breaking_off() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut server = JoinSet::new();
        server.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await.unwrap();
            }
        });
        Self { port, _server: server }
    }

    /// Settings with `/up/`, which has further settings.
    pub fn route(&self, more: &str) -> String {
        let port = self.port;
        format!(
            "[[gateway.upstreams]]\nname = \"own\"\ntargets = [\"http://127.0.0.1:{port}\"]\n\
             [[gateway.routes]]\npath = \"/up/\"\nupstream = \"own\"\n{more}\n"
        )
    }

    /// Settings with `/up/` and, beside it, `/public/`, both counting the stock meters named.
    pub fn settings(&self, meters: &str) -> String {
        let port = self.port;
        format!(
            "[[gateway.upstreams]]\nname = \"own\"\ntargets = [\"http://127.0.0.1:{port}\"]\n\
             [[gateway.routes]]\npath = \"/up/\"\nupstream = \"own\"\nmeters = {meters}\n\
             [[gateway.routes]]\npath = \"/public/\"\nupstream = \"own\"\npublic = true\n"
        )
    }

    /// Settings with a `/up/` that nothing answers.
    pub fn nobody() -> String {
        // Port 9 is discard: nothing listens there.
        Self { port: 9, _server: JoinSet::new() }.settings("[\"apis\"]")
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn answer(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (headers, path) = (&parts.headers, parts.uri.to_string());
    // Whatever breaks off here is the test's business.
    drop(body.collect().await);
    let status = text(headers, "x-answer").map_or(200, |status| status.parse().unwrap());
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let body = match (text(headers, "x-body"), text(headers, "x-empty")) {
        (Some(text), _) => {
            let lines: Vec<_> =
                text.split_inclusive('|').map(|line| Ok::<_, Infallible>(line.replace('|', "\n"))).collect();
            Body::from_stream(stream::iter(lines))
        }
        (None, Some(_)) => Body::empty(),
        (None, None) => Body::from(names.join(" ")),
    };
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    response.headers_mut().insert("seen-path", path.parse().unwrap());
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix("answer-") {
            response.headers_mut().append(name.parse::<HeaderName>().unwrap(), value.clone());
        }
    }
    response
}
