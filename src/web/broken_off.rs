//! An answer that must not be given: what it says happened, and nobody can vouch for that.

/// In the extensions of a response: the server ends the connection (of HTTP/2: the stream) instead of sending it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is broken off")]
pub struct BrokenOff;

impl From<std::convert::Infallible> for BrokenOff {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
