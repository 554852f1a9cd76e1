//! How a problem is told: as a document, or to callers of gRPC in headers.
//!
//! Clients of gRPC look for a status of gRPC's. Where there is none they make one up from HTTP's, in which a quota that is used
//! up is a server to be tried again at once; and some take the document for a message first (tonic: `INTERNAL`). So they get
//! an answer of headers alone ("Trailers-Only", gRPC over HTTP/2): with HTTP status 200, as that wants, for what is refused;
//! with HTTP's own status for what went wrong, which nothing on the way may take for an answer: it is not billed.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Request, StatusCode, Version, header},
    response::Response,
};

use super::{instance::Parts, problem::Problem};

const GRPC: &str = "application/grpc";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What whoever asked understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wording {
    /// A problem document.
    Document,
    /// A status of gRPC.
    Grpc,
}

impl Wording {
    /// For whoever sent a request.
    pub fn of<B>(request: &Request<B>) -> Self {
        // There is no gRPC over HTTP/1.1.
        if request.version() == Version::HTTP_2
            && request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| is_grpc(kind.as_bytes()))
        {
            Self::Grpc
        } else {
            Self::Document
        }
    }
}

/// Not gRPC-Web, whose clients read HTTP's status.
fn is_grpc(kind: &[u8]) -> bool {
    let name = GRPC.as_bytes();
    kind.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        && matches!(kind.get(name.len()), None | Some(b'+' | b';' | b' '))
}

impl Problem {
    /// Writes it out as the answer to a request for `path`, for whoever sent it.
    pub fn render_in(self, wording: Wording, path: &str) -> Response {
        if wording == Wording::Document {
            return self.render(path);
        }
        let status = self.kind().status;
        let Parts { detail, headers, .. } = self.logged(path);
        let mut response = Response::new(Body::empty());
        if status.is_server_error() {
            *response.status_mut() = status;
        }
        *response.headers_mut() = headers;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(GRPC));
        response.headers_mut().insert(GRPC_STATUS, HeaderValue::from(grpc_status(status)));
        if let Ok(message) = HeaderValue::try_from(percent_encoded(&detail)) {
            response.headers_mut().insert(GRPC_MESSAGE, message);
        }
        response
    }
}

/// As gRPC's own table maps HTTP's statuses, but for those that it has better words for.
fn grpc_status(status: StatusCode) -> u16 {
    match status {
        StatusCode::UNAUTHORIZED => 16,                                     // UNAUTHENTICATED
        StatusCode::FORBIDDEN => 7,                                         // PERMISSION_DENIED
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => 8, // RESOURCE_EXHAUSTED
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => 12,       // UNIMPLEMENTED
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => 14, // UNAVAILABLE
        status if status.is_client_error() => 3,                            // INVALID_ARGUMENT
        _ => 13,                                                            // INTERNAL
    }
}

/// What is not printable ASCII, and the sign itself, as `%XX`.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // A String takes whatever is written.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::Kind;

    #[test]
    fn grpc_is_told_by_version_and_type() {
        let of = |version, kind: &str| {
            let request = Request::builder().version(version).header(header::CONTENT_TYPE, kind);
            Wording::of(&request.body(()).unwrap())
        };
        for kind in ["application/grpc", "application/grpc+proto", "Application/GRPC;x=1"] {
            assert_eq!(of(Version::HTTP_2, kind), Wording::Grpc, "{kind}");
            assert_eq!(of(Version::HTTP_11, kind), Wording::Document, "{kind}");
        }
        for kind in ["application/grpc-web", "application/grpc-web+proto", "application/json", "application/grp", ""] {
            assert_eq!(of(Version::HTTP_2, kind), Wording::Document, "{kind}");
        }
    }

    #[test]
    fn a_refusal_is_an_answer_and_a_failure_is_none() {
        let told = |problem: Problem| {
            let response = problem.render_in(Wording::Grpc, "/x");
            let header = |name| response.headers()[name].to_str().unwrap().to_owned();
            (response.status().as_u16(), header("grpc-status"), header("grpc-message"))
        };
        let full = Problem::new(Kind::QUOTA_EXCEEDED, "100 % of »apis«\n");
        assert_eq!(told(full), (200, "8".into(), "100 %25 of %C2%BBapis%C2%AB%0A".into()));
        assert_eq!(told(Problem::new(Kind::BAD_GATEWAY, "gone")), (502, "14".into(), "gone".into()));
        assert_eq!(told(Problem::new(Kind::INTERNAL, "")), (500, "13".into(), String::new()));
    }
}
