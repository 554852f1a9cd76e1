//! The HTTP kit: extractors, problem documents, paging, idempotency, the API's description.
//!
//! Everything here is about HTTP and nothing about one feature, except `problem.rs`, which alone knows how each
//! feature's errors look from outside.

pub mod audit;
mod broken_off;
pub mod credential;
pub mod docs;
pub mod extract;
pub mod form;
pub mod html;
pub mod idempotency;
pub mod instance;
pub mod kinds;
pub mod oauth;
mod origin;
pub mod page;
pub mod problem;
pub mod schema;
mod wording;

pub use broken_off::BrokenOff;
pub use extract::{AdminScope, Json, Path, PortalAccess, Query, TenantAccess, UsageJson, UsageScope};
pub use idempotency::ClaimedKey;
pub use kinds::Kind;
pub use page::{List, PageQuery};
pub use problem::Problem;
pub use wording::Wording;

/// Whether a path is one of the API's, which take tokens and speak JSON; pages and the endpoints of OAuth are not.
fn is_api(path: &str) -> bool {
    ["/v1/", "/api/", "/admin/v1/"].iter().any(|prefix| path.starts_with(prefix))
}

/// What the extractors find in the state of whoever uses them.
pub use crate::identity::Verifier;
