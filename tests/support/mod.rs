//! What the test binaries share: a PostgreSQL of their own, an app in process, and the people who use it.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub mod actors;
pub mod app;
pub mod archive;
pub mod audit;
pub mod issuer;
pub mod postgres;
pub mod receiver;
pub mod stripe;
pub mod totp;

/// Whether a part of the machine must be there: `TOLLGATE_REQUIRE=postgres,browser`.
#[expect(clippy::disallowed_methods, reason = "tests read their own switch")]
pub fn required(part: &str) -> bool {
    std::env::var("TOLLGATE_REQUIRE").is_ok_and(|list| list.split(',').any(|own| own.trim() == part))
}

/// Says that a part is missing; a failure where it is required.
pub fn skip(part: &str, what: &str) {
    assert!(!required(part), "no {what}, and TOLLGATE_REQUIRE says that it must be there");
    // Not `eprintln!`: the test harness would swallow it.
    drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("skipped: no {what}\n")));
}
