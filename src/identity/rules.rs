//! Which scope a sign-in gets, which tenant it is for, what a used refresh token means. Pure.

use super::{
    access::{ADMIN_SCOPE, ScopeSet},
    error::Error,
};
use crate::{
    kernel::Timestamp,
    tenants::{Status, Tenant},
    users::{Membership, MembershipStatus, Role},
};

/// Whether a text can be a URI at all (RFC 3986 section 2): visible ASCII.
pub fn is_uri_text(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The `client_id` of people who sign in with us directly.
pub const FIRST_PARTY: &str = "tollgate";
/// What a machine client's tokens may be used for.
pub const MACHINE_SCOPES: [&str; 2] = ["usage:read", "usage:write"];
/// What a client may register.
pub const CLIENT_SCOPES: [&str; 6] = ["usage:read", "usage:write", "openid", "profile", "email", "offline_access"];
/// What any user may allow a client, whatever their role.
const IDENTITY_SCOPES: &str = "openid profile email";

/// What of a request's scope a user of a role can allow.
pub fn allowable(asked: &ScopeSet, role: Role) -> ScopeSet {
    let own = ScopeSet::parse(&format!("{} {IDENTITY_SCOPES}", user_scope(role)));
    asked.intersect(&own)
}

/// Whether a redirect URI is one of those registered: the same text (RFC 9700 section 4.1.3), but for the port of a
/// loopback address (RFC 8252 section 7.3).
pub fn redirect_matches(registered: &[String], given: &str) -> bool {
    let given_portless = without_port(given);
    let same = |own: &String| own == given || (given_portless.is_some() && without_port(own) == given_portless);
    registered.iter().any(same)
}

/// Address and rest of a URI on a loopback address, as they are written.
fn without_port(uri: &str) -> Option<(&str, &str)> {
    let address = ["http://127.0.0.1", "http://[::1]"].into_iter().find(|address| uri.starts_with(address))?;
    let rest = &uri[address.len()..];
    let rest = match rest.strip_prefix(':') {
        None => rest,
        Some(port) => {
            let digits = port.bytes().take_while(u8::is_ascii_digit).count();
            port[..digits].parse::<u16>().ok().map(|_| &port[digits..])?
        }
    };
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some((address, rest))
}

/// The origin of a web page's address, as it is looked up: a loopback address without its port, which is any (RFC 8252 section
/// 7.3). `None` where no page can be.
pub fn web_origin(address: &str) -> Option<String> {
    let url = url::Url::parse(address).ok().filter(|url| ["http", "https"].contains(&url.scheme()))?;
    let origin = url.origin().ascii_serialization();
    let loopback =
        ["http://127.0.0.1", "http://[::1]"].into_iter().find(|own| without_port(&origin) == Some((*own, "")));
    Some(loopback.map_or(origin, str::to_owned))
}

/// Whether an answer to a redirect URI reaches the client it is meant for, and no other program: a secret or a name on the
/// network says so. An earlier consent counts only then (RFC 6749 section 10.2, RFC 8252 section 8.6).
pub fn is_assured(confidential: bool, redirect_uri: &str) -> bool {
    confidential || redirect_uri.starts_with("https://")
}

/// The scope of a user's sign-in.
pub fn user_scope(role: Role) -> ScopeSet {
    match role {
        Role::Member => ScopeSet::parse("usage:read offline_access"),
        Role::Admin | Role::Owner => ScopeSet::parse("usage:read usage:write offline_access"),
    }
}

/// The scope of the platform administrator's sign-in.
pub fn admin_scope() -> ScopeSet {
    ScopeSet::parse(&format!("{ADMIN_SCOPE} offline_access"))
}

/// What was asked for, if all of it was granted; all of it, when nothing was asked for.
pub fn narrowed(granted: &ScopeSet, asked: Option<&ScopeSet>) -> Result<ScopeSet, Error> {
    let Some(asked) = asked else { return Ok(granted.clone()) };
    let too_much = asked.iter().find(|value| !granted.contains(value)).map(str::to_owned);
    match too_much {
        Some(value) => Err(Error::InvalidScope(value)),
        None => Ok(asked.clone()),
    }
}

/// An error unless somebody may sign in to a tenant now.
pub fn may_enter(tenant: &Tenant, membership: Option<&Membership>) -> Result<(), Error> {
    if membership.is_some_and(|membership| membership.status == MembershipStatus::Disabled) {
        return Err(Error::Disabled);
    }
    if tenant.status.is_usable() { Ok(()) } else { Err(Error::TenantNotActive(tenant.status.name())) }
}

/// Whether a tenant is gone, for whom it is as if it had never been.
pub fn is_gone(tenant: &Tenant) -> bool {
    matches!(tenant.status, Status::Deleted { .. } | Status::Offboarding)
}

/// Failures of one kind: how many are free, and the longest wait after them.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// So many cost nothing.
    pub free: u32,
    /// The longest wait, in seconds.
    pub longest_s: i64,
}

/// Failures are forgotten when there was none for this long, in seconds.
const FORGOTTEN_S: i64 = 900;

/// Whether failures are so long ago that they do not count any more.
pub fn is_forgotten(last: Timestamp, now: Timestamp) -> bool {
    now > last.plus_secs(FORGOTTEN_S)
}

/// When the next try may be made after a number of failures: each wait is twice the one before.
pub fn next_try(limit: Limit, failures: u32, last: Timestamp) -> Timestamp {
    match failures.checked_sub(limit.free) {
        None => last,
        Some(beyond) => last.plus_secs((1_i64 << beyond.min(30)).min(limit.longest_s)),
    }
}

/// What it means that a refresh token had been used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Two requests of one client crossed.
    Race,
    /// Somebody else has it.
    Theft,
}

/// Tells a race from a theft by the time in between.
pub fn reuse(used_at: Timestamp, now: Timestamp, grace_s: i64) -> Reuse {
    if now <= used_at.plus_secs(grace_s) { Reuse::Race } else { Reuse::Theft }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_is_narrowed_never_widened() {
        let granted = user_scope(Role::Member);
        assert_eq!(narrowed(&granted, None).unwrap(), granted);
        let narrow = |asked: &str| narrowed(&granted, Some(&ScopeSet::parse(asked)));
        assert_eq!(narrow("usage:read").unwrap().to_string(), "usage:read");
        assert!(matches!(narrow("usage:read usage:write"), Err(Error::InvalidScope(_))));
    }

    #[test]
    fn a_redirect_uri_is_compared_whole_but_for_the_port_of_a_loopback_address() {
        let registered = ["https://app.example/cb".to_owned(), "http://127.0.0.1/cb".to_owned()];
        for (given, fine) in [
            ("https://app.example/cb", true),
            ("https://app.example/cb/", false),
            ("https://app.example/cb?x=1", false),
            ("https://app.example:443/cb", false),
            ("https://APP.example/cb", false),
            ("http://127.0.0.1:4711/cb", true),
            ("http://127.0.0.1:4711/other", false),
            ("http://127.0.0.1:4711/a/../cb", false),
            ("http://127.0.0.1:4711/%63b", false),
            ("http://127.0.0.1:4711\\\\cb", false),
            ("http://127.0.0.1:99999/cb", false),
            ("http://127.0.0.1:/cb", false),
            ("http://127.1:4711/cb", false),
            ("http://127.0.0.1:80@evil.example/cb", false),
            ("http://127.0.0.1:4711/cb#x", false),
            ("https://app.example/cb#x", false),
            ("https://app.example@evil.example/cb", false),
            ("https://app.example/cb/../x", false),
            ("https://app.exämple/cb", false),
            ("http://127.0.0.1.evil.example/cb", false),
            ("http://user@127.0.0.1:4711/cb", false),
            ("http://localhost:4711/cb", false),
            ("https://127.0.0.1:4711/cb", false),
        ] {
            assert_eq!(redirect_matches(&registered, given), fine, "{given}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port_but_for_the_port_of_a_loopback_address() {
        for (address, origin) in [
            ("https://app.example/cb?x=1", Some("https://app.example")),
            ("https://app.example:443", Some("https://app.example")),
            ("https://app.example:8443/", Some("https://app.example:8443")),
            ("http://127.0.0.1:4711/cb", Some("http://127.0.0.1")),
            ("http://[::1]:4711", Some("http://[::1]")),
            ("http://127.0.0.1", Some("http://127.0.0.1")),
            ("http://localhost:4711/cb", Some("http://localhost:4711")),
            ("https://127.0.0.1:4711/cb", Some("https://127.0.0.1:4711")),
            ("http://127.0.0.1.evil.example/", Some("http://127.0.0.1.evil.example")),
            ("com.example.app:/cb", None),
            ("null", None),
            ("", None),
        ] {
            assert_eq!(web_origin(address).as_deref(), origin, "{address}");
        }
    }

    #[test]
    fn a_second_use_within_the_grace_is_a_race_and_later_a_theft() {
        let used = Timestamp::from_secs(100).unwrap();
        assert_eq!(reuse(used, used.plus_secs(10), 10), Reuse::Race);
        assert_eq!(reuse(used, used.plus_secs(11), 10), Reuse::Theft);
    }
}
