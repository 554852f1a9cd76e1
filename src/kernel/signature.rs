//! Secrets and signatures of the Standard Webhooks specification ("Signature scheme"), version `v1`: HMAC-SHA256.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{Rng, Secret, Timestamp, rng::random_bytes};

/// What a secret begins with where people see it.
const PREFIX: &str = "whsec_";
/// Bytes of a secret: the specification wants 24 to 64.
const SECRET_BYTES: usize = 32;

/// The bytes of a new secret.
pub fn new_secret(rng: &dyn Rng) -> Zeroizing<[u8; SECRET_BYTES]> {
    Zeroizing::new(random_bytes(rng))
}

/// A secret as people see it.
pub fn shown(secret: &[u8]) -> Secret {
    Secret::new(format!("{PREFIX}{}", STANDARD.encode(secret)))
}

/// What is signed: an id, the instant of the try, a body.
pub struct Signed<'a> {
    /// The same however often it is tried.
    pub id: &'a str,
    /// The instant.
    pub at: Timestamp,
    /// The body, byte for byte.
    pub body: &'a str,
}

/// A signature, as one of those in `webhook-signature`.
pub fn sign(secret: &[u8], signed: &Signed) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{}.{}.{}", signed.id, signed.at.as_secs(), signed.body).as_bytes());
    format!("v1,{}", STANDARD.encode(tag.as_ref()))
}

/// A signature is refused when its instant is further than this from now, in seconds ("Verifying webhook authenticity").
const TOLERANCE_S: i64 = 300;

/// Whether one of the signatures in `webhook-signature` is ours, and of about now.
pub fn is_signed(secret: &[u8], signed: &Signed, signatures: &str, now: Timestamp) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let text = format!("{}.{}.{}", signed.id, signed.at.as_secs(), signed.body);
    let tags = signatures.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
    let is_ours = tags.take(16).any(|tag| hmac::verify(&key, text.as_bytes(), &tag).is_ok());
    is_ours && signed.at.as_secs().abs_diff(now.as_secs()) <= TOLERANCE_S.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the reference libraries (github.com/standard-webhooks/standard-webhooks, `webhook.test.ts`, "sign function
    /// works").
    #[test]
    fn the_reference_libraries_vector() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(shown(&secret).expose(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let at = Timestamp::from_secs(1_614_265_330).unwrap();
        let signed = Signed { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body: r#"{"test": 2432232314}"# };
        assert_eq!(sign(&secret, &signed), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn only_ones_own_signature_of_about_now_is_taken() {
        let (secret, at) = ([7; 32], Timestamp::from_secs(1_614_265_330).unwrap());
        let signed = |id, body| Signed { id, at, body };
        let own = sign(&secret, &signed("a", "{}"));
        let all = format!("v1a,AAAA v1,AAAA {own}");
        assert!(is_signed(&secret, &signed("a", "{}"), &all, at.plus_secs(300)));
        assert!(!is_signed(&secret, &signed("a", "{}"), &all, at.plus_secs(301)));
        assert!(!is_signed(&secret, &signed("a", "{}"), &all, at.plus_secs(-301)));
        assert!(!is_signed(&secret, &signed("b", "{}"), &all, at));
        assert!(!is_signed(&secret, &signed("a", "{ }"), &all, at));
        assert!(!is_signed(&[8; 32], &signed("a", "{}"), &all, at));
        assert!(!is_signed(&secret, &signed("a", "{}"), "", at));
    }
}
