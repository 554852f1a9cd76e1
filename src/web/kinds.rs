//! The kinds of problem this program answers with: RFC 9457 `type`, `title` and `status`, documented at
//! `/docs/problems`.

use axum::http::StatusCode;

/// A documented kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// RFC 9457 `type`: a path on this server that explains it, or a registered URI.
    pub uri: &'static str,
    /// RFC 9457 `title`.
    pub title: &'static str,
    /// The HTTP status it comes with.
    pub status: StatusCode,
    /// What the caller can do about it.
    pub advice: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $status:ident, $uri:expr, $title:expr, $advice:expr;)*) => {
        impl Kind {
            $(#[doc = $title] pub const $name: &'static Self =
                &Self { uri: $uri, title: $title, status: StatusCode::$status, advice: $advice };)*
            /// All of them, for the reference page.
            pub const ALL: &'static [&'static Self] = &[$(Self::$name),*];
        }
    };
}

kinds! {
    MALFORMED = BAD_REQUEST, "/docs/problems#malformed", "Malformed request",
        "The request could not be read: broken JSON, a bad query string or an unsafe path. Mend it; nothing was changed.";
    BAD_INPUT = BAD_REQUEST, "/docs/problems#bad-usage-request", "Bad usage request",
        "Mend the fields listed in `errors` and send it again.";
    INVALID = UNPROCESSABLE_ENTITY, "/docs/problems#invalid-input", "Invalid input",
        "`errors` lists every refused field with the reason. Nothing was changed.";
    UNAUTHENTICATED = UNAUTHORIZED, "/docs/problems#unauthenticated", "Not authenticated",
        "Send a valid access token in `Authorization: Bearer …`. `WWW-Authenticate` says what was wrong with it.";
    WRONG_CREDENTIALS = UNAUTHORIZED, "/docs/problems#wrong-credentials", "Wrong credentials",
        "Email and password do not belong together. An unknown email gets the same answer.";
    SECOND_FACTOR = UNAUTHORIZED, "/docs/problems#second-factor", "Second factor needed",
        "The password was right. Send the same again with a code of the authenticator, or a recovery code, as `otp`; a passkey works on the sign-in page.";
    WRONG_SECOND_FACTOR = UNAUTHORIZED, "/docs/problems#wrong-second-factor", "Wrong second factor",
        "The password was right and the code was not, or it was used before. A code counts once; wait for the next one.";
    TOO_MANY_TRIES = TOO_MANY_REQUESTS, "/docs/problems#too-many-tries", "Too many tries",
        "There were too many wrong tries from here. Wait as long as `Retry-After` says; nobody is locked out for good.";
    INVALID_LINK = NOT_FOUND, "/docs/problems#invalid-link", "Link not valid",
        "The link is not known, was used before, or has expired. Ask for another one.";
    FORBIDDEN = FORBIDDEN, "/docs/problems#forbidden", "Not allowed",
        "The token is valid but may not do this: another scope or role is needed.";
    TENANT_NOT_ACTIVE = FORBIDDEN, "/docs/problems#tenant-not-active", "Tenant not active",
        "The tenant is suspended, being made or being taken apart. Ask its administrator.";
    FEATURE_MISSING = FORBIDDEN, "/docs/problems#feature-not-in-tier", "Feature not in the tier",
        "The tenant's tier does not have `feature`. A higher tier may.";
    NOT_FOUND = NOT_FOUND, "/docs/problems#not-found", "Not found",
        "There is no such thing, or it is another tenant's.";
    GONE = GONE, "/docs/problems#gone", "Not kept any more",
        "It was there, and was kept for a time that is over. `detail` says since when it is gone.";
    METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED, "/docs/problems#method-not-allowed", "Method not allowed",
        "`Allow` lists the methods this path has.";
    CONFLICT = CONFLICT, "/docs/problems#conflict", "Conflict",
        "The request contradicts what is there: a name in use, a state that does not allow it. `detail` says which.";
    CHOOSE_TENANT = CONFLICT, "/docs/problems#choose-tenant", "Choose a tenant",
        "The user belongs to several tenants: send one of `tenants` as `tenant_id`.";
    IDEMPOTENCY_MISMATCH = CONFLICT, "/docs/problems#idempotency-mismatch", "Idempotency-Key used for another request",
        "The same key came with another body. Use a new key for a new request.";
    IDEMPOTENCY_RUNNING = CONFLICT, "/docs/problems#idempotency-running", "First request still running",
        "The first request with this Idempotency-Key has not been answered yet. Ask again after `Retry-After`.";
    TOO_LARGE = PAYLOAD_TOO_LARGE, "/docs/problems#too-large", "Body too large",
        "The body is above the limit that `detail` names.";
    UNSUPPORTED_MEDIA_TYPE = UNSUPPORTED_MEDIA_TYPE, "/docs/problems#unsupported-media-type", "Unsupported media type",
        "Send the content type that `detail` names.";
    QUOTA_EXCEEDED = TOO_MANY_REQUESTS, "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "Quota exceeded", "The tier's rate, its quota for the period, or what may be under way at once is used up; `violated-policies` says which. Ask again after `Retry-After`.";
    OVERLOADED = SERVICE_UNAVAILABLE, "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
        "Temporary reduced capacity", "There is more to do than this node can, and the tenant has its share of it under way. Ask again after `Retry-After`.";
    INTERNAL = INTERNAL_SERVER_ERROR, "/docs/problems#internal", "Internal error",
        "A fault of this server; its log has the cause.";
    UNAVAILABLE = SERVICE_UNAVAILABLE, "/docs/problems#unavailable", "Temporarily unavailable",
        "A part this needs does not answer right now. Ask again after `Retry-After`.";
    USAGE_UNAVAILABLE = SERVICE_UNAVAILABLE, "/docs/problems#usage-cannot-be-recorded", "Usage cannot be recorded",
        "Metered calls are refused while their usage cannot be written down. Ask again after `Retry-After`.";
    BAD_GATEWAY = BAD_GATEWAY, "/docs/problems#bad-gateway", "Upstream failed",
        "The service behind the gateway could not be reached or broke off.";
    UPSTREAM_UNAVAILABLE = SERVICE_UNAVAILABLE, "/docs/problems#upstream-unavailable", "Upstream unavailable",
        "No target of the route can take the request now.";
    GATEWAY_TIMEOUT = GATEWAY_TIMEOUT, "/docs/problems#gateway-timeout", "Upstream timed out",
        "The service behind the gateway did not answer within the route's time.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_address_of_its_own() {
        let mut uris: Vec<_> = Kind::ALL.iter().map(|kind| kind.uri).collect();
        uris.sort_unstable();
        uris.dedup();
        assert_eq!(uris.len(), Kind::ALL.len());
    }
}
