//! Time-based one-time passwords (RFC 6238) with what every authenticator app knows: SHA-1, six digits, thirty seconds. Pure.

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq as _;

use crate::kernel::Timestamp;

/// Seconds of a step.
const STEP_S: i64 = 30;
/// Steps before and after the present one that are taken, for clocks that are off.
const SKEW: i64 = 1;

/// The step of an instant.
pub(super) const fn step(at: Timestamp) -> i64 {
    at.as_secs().div_euclid(STEP_S)
}

/// The step whose code this is, if it is one of now.
pub(super) fn step_of(secret: &[u8], code: &str, now: Timestamp) -> Option<i64> {
    let same = |step: i64| bool::from(self::code(secret, step).as_bytes().ct_eq(code.as_bytes()));
    // All of them, so that it takes as long whichever it is.
    (step(now) - SKEW..=step(now) + SKEW).fold(None, |found, step| if same(step) { Some(step) } else { found })
}

/// The code of a step (RFC 4226 section 5.3).
pub(super) fn code(secret: &[u8], step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let bytes = tag.as_ref();
    // A SHA-1 tag has 20 bytes; the offset is 15 at most.
    let offset = usize::from(bytes[19] & 0x0f);
    let word = bytes[offset..offset + 4].iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
    format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
}

/// RFC 4648 section 6, without padding, as authenticators read it.
pub(super) fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::new();
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in bytes {
        buffer = buffer << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(buffer >> bits & 31) as usize]));
        }
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(buffer << (5 - bits) & 31) as usize]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_of_rfc_6238_appendix_b() {
        let secret = b"12345678901234567890";
        for (secs, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let now = Timestamp::from_secs(secs).unwrap();
            assert_eq!(code(secret, step(now)), expected);
            for (skew_s, taken) in [(-60, false), (-30, true), (0, true), (30, true), (60, false)] {
                assert_eq!(step_of(secret, expected, now.plus_secs(skew_s)).is_some(), taken, "{secs} {skew_s}");
            }
        }
        assert_eq!(step_of(secret, "", Timestamp::from_secs(59).unwrap()), None);
    }

    #[test]
    fn the_texts_of_rfc_4648_section_10() {
        for (bytes, text) in
            [("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foob", "MZXW6YQ"), ("foobar", "MZXW6YTBOI")]
        {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }
}
