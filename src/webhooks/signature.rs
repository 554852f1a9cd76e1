//! Secrets and signatures of the Standard Webhooks specification ("Signature scheme"), version `v1`: HMAC-SHA256.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::kernel::{Rng, Secret, Timestamp, rng::random_bytes};

/// What a secret begins with where people see it.
const PREFIX: &str = "whsec_";
/// Bytes of a secret: the specification wants 24 to 64.
const SECRET_BYTES: usize = 32;

/// The bytes of a new secret.
pub(super) fn new_secret(rng: &dyn Rng) -> Zeroizing<[u8; SECRET_BYTES]> {
    Zeroizing::new(random_bytes(rng))
}

/// A secret as people see it.
pub(super) fn shown(secret: &[u8]) -> Secret {
    Secret::new(format!("{PREFIX}{}", STANDARD.encode(secret)))
}

/// What is signed: an id, the instant of the try, a body.
pub(super) struct Signed<'a> {
    pub(super) id: &'a str,
    pub(super) at: Timestamp,
    pub(super) body: &'a str,
}

/// A signature, as one of those in `webhook-signature`.
pub(super) fn sign(secret: &[u8], signed: &Signed) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{}.{}.{}", signed.id, signed.at.as_secs(), signed.body).as_bytes());
    format!("v1,{}", STANDARD.encode(tag.as_ref()))
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
}
