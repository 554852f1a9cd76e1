//! A password as `PostgreSQL` keeps it: a SCRAM-SHA-256 verifier (RFC 5803, RFC 7677), so that the server never sees the password
//! itself and has nothing to log.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::kernel::Secret;

/// `PostgreSQL`'s own number.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4_095);
const SALT_BYTES: usize = 16;

/// The verifier of a password of a role. The salt comes from both, so that the same password is kept in the same words: passwords
/// are random, no two are the same, and nobody can tell anything from a salt.
pub(super) fn verifier(role: &str, password: &Secret) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, password.expose().as_bytes());
    let salt = hmac::sign(&key, role.as_bytes());
    with_salt(password, &salt.as_ref()[..SALT_BYTES])
}

fn with_salt(password: &Secret, salt: &[u8]) -> String {
    let mut salted = [0; 32];
    // ASCII, so that SASLprep changes nothing.
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, salt, password.expose().as_bytes(), &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client = hmac::sign(&key, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client.as_ref());
    let server = hmac::sign(&key, b"Server Key");
    let text = |bytes: &[u8]| STANDARD.encode(bytes);
    format!("SCRAM-SHA-256${ITERATIONS}:{}${}:{}", text(salt), text(stored.as_ref()), text(server.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677 section 3: user `user`, password `pencil`.
    #[test]
    fn the_vector_of_rfc_7677() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = with_salt(&Secret::new("pencil".into()), &salt);
        let (stored, server) = verifier.rsplit_once('$').unwrap().1.split_once(':').unwrap();
        let (stored, server) = (STANDARD.decode(stored).unwrap(), STANDARD.decode(server).unwrap());
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let sign = |key: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes());
        assert_eq!(STANDARD.encode(sign(&server)), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
        let signed = sign(&stored);
        let client: Vec<u8> = proof.iter().zip(signed.as_ref()).map(|(a, b)| a ^ b).collect();
        assert_eq!(digest::digest(&digest::SHA256, &client).as_ref(), stored);
    }
}
