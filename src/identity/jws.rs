//! Signed tokens (RFC 7515, compact serialisation alone): taken apart strictly, and checked with keys that were parsed once.
//!
//! A key has one algorithm. Nothing here looks at claims.

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    access::TokenError,
    members::{Members, NotMembers},
    model::SigningAlg,
};

/// The longest token looked at, in bytes.
pub(super) const MAX_TOKEN: usize = 8 * 1024;

/// An algorithm of signatures (RFC 7518 section 3, RFC 8037). Those with a shared secret are not among them, nor is `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JwsAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// The same with SHA-384.
    Rs384,
    /// The same with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// The same with SHA-384.
    Ps384,
    /// The same with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

/// The text names no such algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA")]
pub struct JwsAlgorithmError;

impl JwsAlgorithm {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// `alg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The parameters of an RSA algorithm.
    const fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa => None,
        }
    }

    /// Of a key on a curve: the curve's name in a JWK, the length of a coordinate, and how it is checked.
    fn curve(self) -> Option<(&'static str, usize, &'static dyn VerificationAlgorithm)> {
        match self {
            Self::Es256 => Some(("P-256", 32, &ECDSA_P256_SHA256_FIXED)),
            Self::Es384 => Some(("P-384", 48, &ECDSA_P384_SHA384_FIXED)),
            Self::Es512 => Some(("P-521", 66, &ECDSA_P521_SHA512_FIXED)),
            Self::EdDsa => Some(("Ed25519", 32, &ED25519)),
            _ => None,
        }
    }
}

impl FromStr for JwsAlgorithm {
    type Err = JwsAlgorithmError;

    fn from_str(text: &str) -> Result<Self, JwsAlgorithmError> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == text).ok_or(JwsAlgorithmError)
    }
}

impl fmt::Display for JwsAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<SigningAlg> for JwsAlgorithm {
    fn from(own: SigningAlg) -> Self {
        match own {
            SigningAlg::Es256 => Self::Es256,
            SigningAlg::Rs256 => Self::Rs256,
            SigningAlg::EdDsa => Self::EdDsa,
        }
    }
}

/// A public key that checks signatures of one algorithm, parsed.
pub(super) struct VerifyingKey {
    pub(super) algorithm: JwsAlgorithm,
    key: ParsedPublicKey,
}

impl VerifyingKey {
    /// From a JWK (RFC 7518 section 6), for an algorithm that fits its type and curve. RSA keys have 2,048 to 8,192 bits and
    /// an odd exponent above 1; an error says what is wrong.
    pub(super) fn from_jwk(jwk: &Members<'_>, algorithm: JwsAlgorithm) -> Result<Self, &'static str> {
        let text = |name| jwk.text(name).ok().flatten();
        let bytes = |name| text(name).and_then(|encoded| URL_SAFE_NO_PAD.decode(&*encoded).ok());
        let kty = text("kty").ok_or("has no kty")?;
        let key = match (&*kty, algorithm.rsa(), algorithm.curve()) {
            ("RSA", Some(parameters), _) => {
                let (Some(n), Some(e)) = (bytes("n"), bytes("e")) else { return Err("has no n and e") };
                let n = &n[n.iter().take_while(|byte| **byte == 0).count()..];
                let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
                if !(2_048..=8_192).contains(&bits) {
                    return Err("is an RSA key of a size that is not accepted");
                }
                if e.last().is_none_or(|last| last & 1 == 0) || e == [1] {
                    return Err("has an exponent that is not accepted");
                }
                RsaPublicKeyComponents { n, e: &e[..] }.to_parsed_public_key(parameters)
            }
            ("EC" | "OKP", _, Some((curve, length, verification))) => {
                if (kty == "OKP") != (algorithm == JwsAlgorithm::EdDsa) || text("crv").as_deref() != Some(curve) {
                    return Err("is on another curve than its algorithm's");
                }
                let coordinate = |name| bytes(name).filter(|bytes| bytes.len() == length);
                let point = if kty == "OKP" {
                    coordinate("x")
                } else {
                    // An uncompressed point (SEC 1 section 2.3.3).
                    coordinate("x").zip(coordinate("y")).map(|(x, y)| [&[4][..], &x, &y].concat())
                };
                ParsedPublicKey::new(verification, point.ok_or("has no coordinates of its curve")?)
            }
            _ => return Err("is of another type than its algorithm's"),
        };
        Ok(Self { algorithm, key: key.map_err(|_| "is no key")? })
    }

    /// Whether a signature is this key's.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

/// The header of a token, as far as it matters.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: String,
    pub(super) typ: Option<String>,
    pub(super) kid: Option<String>,
}

/// A token taken apart; nothing of it is proved until [`Self::is_signed_by`].
pub(super) struct Jws<'a> {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    signed: &'a str,
    signature: Vec<u8>,
}

pub(super) const MALFORMED: TokenError = TokenError::Invalid("it is malformed");

impl<'a> Jws<'a> {
    /// Takes a token of three parts apart. Refused: critical extensions, payloads that are not encoded (RFC 7797),
    /// members that are there twice.
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid("too long"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, payload) = signed.split_once('.').ok_or(MALFORMED)?;
        // A further dot is no character of the encoding.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| MALFORMED);
        Ok(Self {
            header: Header::parse(&decode(header)?)?,
            payload: decode(payload)?,
            signed,
            signature: decode(signature)?,
        })
    }

    /// The claims, each once.
    pub(super) fn claims(&self) -> Result<Members<'_>, TokenError> {
        Members::parse(&self.payload).map_err(of_members)
    }

    /// An error unless the key signed it, with its algorithm.
    pub(super) fn is_signed_by(&self, key: &VerifyingKey) -> Result<(), TokenError> {
        if self.header.algorithm != key.algorithm.name() {
            return Err(TokenError::Invalid("its algorithm is not its key's"));
        }
        let good = key.verify(self.signed.as_bytes(), &self.signature);
        good.then_some(()).ok_or(TokenError::Invalid("its signature is wrong"))
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, TokenError> {
        let members = Members::parse(bytes).map_err(of_members)?;
        if members.has("crit") || members.has("b64") {
            return Err(TokenError::Invalid("it has critical extensions"));
        }
        let text = |name| members.text(name).map(|text| text.map(std::borrow::Cow::into_owned)).map_err(|_| MALFORMED);
        Ok(Self { algorithm: text("alg")?.ok_or(MALFORMED)?, typ: text("typ")?, kid: text("kid")? })
    }

    /// `typ` as RFC 7515 section 4.1.9 compares it: without `application/` and regard to case; empty when there is none.
    pub(super) fn is_of_type(&self, wanted: &str) -> bool {
        let own = self.typ.as_deref().unwrap_or_default();
        let prefix = "application/";
        let has_prefix = own.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        let own = if has_prefix { &own[prefix.len()..] } else { own };
        own.eq_ignore_ascii_case(wanted)
    }
}

/// What is said of a token with such a header or such claims.
pub(super) const fn of_members(error: NotMembers) -> TokenError {
    match error {
        NotMembers::Malformed => MALFORMED,
        NotMembers::Duplicate => TokenError::Invalid("a member is there twice"),
    }
}
