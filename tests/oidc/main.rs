//! The identity provider, a test per normative sentence: files by standard, names by section. In process.

#![expect(clippy::unwrap_used, reason = "a test shows what failed by where it panics")]
#![expect(clippy::doc_markdown, reason = "sentences of standards are quoted as they are")]

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod audit;
mod browser;
mod concurrency;
mod cors;
mod forgetting;
mod oidc_backchannel;
mod oidc_core;
mod oidc_discovery;
mod oidc_rp_logout;
mod relying_party;
mod rfc6749;
mod rfc6749_clients;
mod rfc6750;
mod rfc7009;
mod rfc7591;
mod rfc7636;
mod rfc7662;
mod rfc8414;
mod rfc8628;
mod rfc8693;
mod rfc9068;
mod rfc9126;
mod rfc9207;
mod rfc9700;
