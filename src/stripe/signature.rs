//! Signatures of what is told of payments: Stripe's own scheme, and that of the Standard Webhooks specification.
//!
//! Both are HMAC-SHA256 over an instant and the body as it came; both may have several signatures, for the time in which a secret
//! is replaced. They are compared in constant time (aws-lc), and tried with each secret whatever the ones before said.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::kernel::{Secret, Timestamp};

/// An instant may be so far from now, in seconds (Stripe, "Verify webhook signatures": the libraries' default; the same in the
/// reference libraries of Standard Webhooks).
const TOLERANCE_S: i64 = 300;
/// More signatures than anybody sends are not looked at.
const MOST_SIGNATURES: usize = 16;
/// What a secret of Standard Webhooks begins with where people see it.
const PREFIX: &str = "whsec_";

/// Why a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// The headers are not there, or not of the form.
    #[error("the signature is missing or malformed")]
    Malformed,
    /// The instant is too far from now.
    #[error("the signature is of another time: more than {TOLERANCE_S} seconds from now")]
    Stale,
    /// None is one of ours.
    #[error("no signature is one of the secrets'")]
    Wrong,
}

/// Checks `Stripe-Signature: t=…,v1=…,v1=…` over `t.body`. The secret is used as it is shown, `whsec_` and all.
pub fn check_stripe(header: &str, body: &[u8], secrets: &[Secret], now: Timestamp) -> Result<(), SignatureFault> {
    let (mut at, mut signatures) = (None, Vec::new());
    for part in header.split(',') {
        match part.trim().split_once('=') {
            Some(("t", text)) if at.is_none() => at = Some(text),
            // Two instants: which of them was meant is anybody's guess.
            Some(("t", _)) => return Err(SignatureFault::Malformed),
            Some(("v1", text)) => signatures.extend(unhex(text)),
            _ => {}
        }
    }
    let at = at.ok_or(SignatureFault::Malformed)?;
    must_be_near(at, now)?;
    let signed = [at.as_bytes(), b".", body].concat();
    let keys = secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()));
    must_match(keys, &signed, &signatures)
}

/// What a caller says of itself by the headers of Standard Webhooks.
#[derive(Debug, Clone, Copy)]
pub struct StandardHeaders<'a> {
    /// `webhook-id`
    pub id: &'a str,
    /// `webhook-timestamp`
    pub at: &'a str,
    /// `webhook-signature`
    pub signatures: &'a str,
}

/// Checks the headers of Standard Webhooks over `id.timestamp.body`.
pub fn check_standard(
    headers: StandardHeaders<'_>,
    body: &[u8],
    secrets: &[Secret],
    now: Timestamp,
) -> Result<(), SignatureFault> {
    let StandardHeaders { id, at, signatures } = headers;
    must_be_near(at, now)?;
    let signatures = signatures.split(' ').filter_map(|text| STANDARD.decode(text.strip_prefix("v1,")?).ok());
    let signed = [id.as_bytes(), b".", at.as_bytes(), b".", body].concat();
    let keys = secrets.iter().filter_map(standard_key);
    must_match(keys, &signed, &signatures.collect::<Vec<_>>())
}

/// Whether a text is a secret of Standard Webhooks: `whsec_` and base64 of 24 to 64 bytes.
pub fn is_standard_secret(text: &str) -> bool {
    let key = text.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
    key.is_some_and(|key| (24..=64).contains(&key.len()))
}

fn standard_key(secret: &Secret) -> Option<hmac::Key> {
    let key = STANDARD.decode(secret.expose().strip_prefix(PREFIX)?).ok()?;
    Some(hmac::Key::new(hmac::HMAC_SHA256, &key))
}

fn must_be_near(at: &str, now: Timestamp) -> Result<(), SignatureFault> {
    let digits = !at.is_empty() && at.len() <= 12 && at.bytes().all(|byte| byte.is_ascii_digit());
    let at: i64 = at.parse().ok().filter(|_| digits).ok_or(SignatureFault::Malformed)?;
    if (now.as_secs() - at).abs() > TOLERANCE_S { Err(SignatureFault::Stale) } else { Ok(()) }
}

fn must_match(
    keys: impl Iterator<Item = hmac::Key>,
    signed: &[u8],
    signatures: &[Vec<u8>],
) -> Result<(), SignatureFault> {
    if signatures.is_empty() {
        return Err(SignatureFault::Malformed);
    }
    let mut matches = false;
    for key in keys {
        for signature in signatures.iter().take(MOST_SIGNATURES) {
            matches |= hmac::verify(&key, signed, signature).is_ok();
        }
    }
    if matches { Ok(()) } else { Err(SignatureFault::Wrong) }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let byte = |place: usize| u8::from_str_radix(text.get(place..place + 2)?, 16).ok();
    if digits { (0..64).step_by(2).map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"evt_1","object":"event"}"#;
    const SECRET: &str = "whsec_test_secret";

    fn now() -> Timestamp {
        Timestamp::from_secs(1_700_000_000).unwrap()
    }

    fn sign(at: i64, secret: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, &[format!("{at}.").as_bytes(), BODY].concat());
        tag.as_ref().iter().fold(String::new(), |hex, byte| hex + format!("{byte:02x}").as_str())
    }

    fn check(header: &str, secrets: &[&str]) -> Result<(), SignatureFault> {
        let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new((*text).to_owned())).collect();
        check_stripe(header, BODY, &secrets, now())
    }

    /// Worked out by Stripe's library for Python (`WebhookSignature._compute_signature`) from the body and secret above.
    #[test]
    fn a_signature_of_stripes_own_library_holds() {
        let theirs = "0c8670ed117751cc551a20e35839447075c42800ea3cf3e8a2fbda99cd1e6edd";
        assert_eq!(check(&format!("t=1700000000,v1={theirs}"), &[SECRET]), Ok(()));
        assert_eq!(check(&format!("t=1700000001,v1={theirs}"), &[SECRET]), Err(SignatureFault::Wrong));
    }

    #[test]
    fn any_of_several_signatures_and_secrets_holds_and_old_schemes_do_not() {
        let (right, wrong) = (sign(1_700_000_000, SECRET), sign(1_700_000_000, "whsec_other"));
        assert_eq!(check(&format!("t=1700000000,v1={wrong},v1={right},v0={wrong}"), &["whsec_new", SECRET]), Ok(()));
        assert_eq!(check(&format!("t=1700000000,v0={right}"), &[SECRET]), Err(SignatureFault::Malformed));
        assert_eq!(check(&format!("t=1700000000,v1={wrong}"), &[SECRET]), Err(SignatureFault::Wrong));
        assert_eq!(check(&format!("t=1700000000,v1={right}"), &[]), Err(SignatureFault::Wrong));
        let (upper, short) = (right.to_uppercase(), &right[..62]);
        assert_eq!(check(&format!("t=1700000000,v1={upper}"), &[SECRET]), Ok(()));
        assert_eq!(check(&format!("t=1700000000,v1={short}"), &[SECRET]), Err(SignatureFault::Malformed));
    }

    #[test]
    fn an_instant_is_within_five_minutes_and_there_once() {
        for (at, expected) in [
            (1_700_000_300, Ok(())),
            (1_699_999_700, Ok(())),
            (1_699_999_699, Err(SignatureFault::Stale)),
            (1_700_000_301, Err(SignatureFault::Stale)),
        ] {
            assert_eq!(check(&format!("t={at},v1={}", sign(at, SECRET)), &[SECRET]), expected, "{at}");
        }
        let right = sign(1_700_000_000, SECRET);
        for header in [
            String::new(),
            "t=,v1=".into(),
            format!("v1={right}"),
            format!("t=now,v1={right}"),
            format!("t=-1,v1={right}"),
            format!("t=1700000000,t=1700000000,v1={right}"),
            format!("t=99999999999999999999,v1={right}"),
        ] {
            assert_eq!(check(&header, &[SECRET]), Err(SignatureFault::Malformed), "{header}");
        }
    }

    /// The vector of the reference libraries (github.com/standard-webhooks/standard-webhooks, `webhook.test.ts`).
    #[test]
    fn the_vector_of_standard_webhooks_holds() {
        let secret = [Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into())];
        let headers = StandardHeaders {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
            at: "1614265330",
            signatures: "v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        };
        let now = Timestamp::from_secs(1_614_265_330).unwrap();
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(check_standard(headers, body, &secret, now), Ok(()));
        assert_eq!(check_standard(headers, b"{}", &secret, now), Err(SignatureFault::Wrong));
        let other = StandardHeaders { id: "msg_other", ..headers };
        assert_eq!(check_standard(other, body, &secret, now), Err(SignatureFault::Wrong));
        assert!(is_standard_secret(secret[0].expose()) && !is_standard_secret("whsec_AAAA"));
    }
}
