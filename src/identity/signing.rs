//! Key pairs of the three algorithms that tokens are signed with.

use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize, PublicKeyComponents},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{error::Error, model::SigningAlg};

/// A key pair, ready to sign.
pub(crate) enum SigningPair {
    Es256(Box<EcdsaKeyPair>),
    Rs256(Box<RsaKeyPair>),
    EdDsa(Box<Ed25519KeyPair>),
}

const NOT_MADE: Error = Error::Key("cannot be made");
const NOT_OPENED: Error = Error::Key("cannot be opened");

impl SigningPair {
    /// A new one. An RSA key takes a tenth of a second.
    pub(crate) fn generate(algorithm: SigningAlg) -> Result<Self, Error> {
        Ok(match algorithm {
            SigningAlg::Es256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| NOT_MADE)?;
                Self::Es256(Box::new(pair))
            }
            SigningAlg::Rs256 => Self::Rs256(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| NOT_MADE)?)),
            SigningAlg::EdDsa => Self::EdDsa(Box::new(Ed25519KeyPair::generate().map_err(|_| NOT_MADE)?)),
        })
    }

    /// From its PKCS #8 form.
    pub(crate) fn open(algorithm: SigningAlg, pkcs8: &[u8]) -> Result<Self, Error> {
        Ok(match algorithm {
            SigningAlg::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8);
                Self::Es256(Box::new(pair.map_err(|_| NOT_OPENED)?))
            }
            SigningAlg::Rs256 => Self::Rs256(Box::new(RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| NOT_OPENED)?)),
            SigningAlg::EdDsa => Self::EdDsa(Box::new(Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| NOT_OPENED)?)),
        })
    }

    /// The private half, as PKCS #8.
    pub(crate) fn private(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let unwritten = |_| Error::Key("cannot be written");
        Ok(Zeroizing::new(match self {
            Self::Es256(pair) => pair.to_pkcs8v1().map_err(unwritten)?.as_ref().to_vec(),
            Self::Rs256(pair) => {
                let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().map_err(unwritten)?;
                der.as_ref().to_vec()
            }
            Self::EdDsa(pair) => pair.to_pkcs8().map_err(unwritten)?.as_ref().to_vec(),
        }))
    }

    /// The public half as a JWK (RFC 7517 section 4), and its thumbprint (RFC 7638), which is its `kid`.
    pub(crate) fn public(&self) -> Result<(String, Value), Error> {
        // RFC 7638 section 3.2: required members, in order, without spaces.
        let (thumbprint, mut jwk, algorithm) = match self {
            Self::Es256(pair) => {
                // An uncompressed point (SEC 1 section 2.3.3): 4, then 32 bytes each of x and y.
                let point = pair.public_key().as_ref();
                let point: &[u8; 65] = point.try_into().map_err(|_| Error::Key("has no plain public half"))?;
                let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
                let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
                (thumbprint, json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}), SigningAlg::Es256)
            }
            Self::Rs256(pair) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                let (n, e) = (URL_SAFE_NO_PAD.encode(public.n), URL_SAFE_NO_PAD.encode(public.e));
                let thumbprint = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
                (thumbprint, json!({"kty": "RSA", "n": n, "e": e}), SigningAlg::Rs256)
            }
            Self::EdDsa(pair) => {
                let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
                let thumbprint = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
                (thumbprint, json!({"kty": "OKP", "crv": "Ed25519", "x": x}), SigningAlg::EdDsa)
            }
        };
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, thumbprint.as_bytes()));
        jwk["kid"] = kid.as_str().into();
        jwk["use"] = "sig".into();
        jwk["alg"] = algorithm.name().into();
        Ok((kid, jwk))
    }

    /// The public half as PEM (RFC 7468 section 13): what a careless verifier takes for the secret of HS256.
    pub(crate) fn public_pem(&self) -> Result<String, Error> {
        let unwritten = |_| Error::Key("cannot be written");
        let der: PublicKeyX509Der<'_> = match self {
            Self::Es256(pair) => pair.public_key().as_der().map_err(unwritten)?,
            Self::Rs256(pair) => pair.public_key().as_der().map_err(unwritten)?,
            Self::EdDsa(pair) => pair.public_key().as_der().map_err(unwritten)?,
        };
        let encoded = STANDARD.encode(der.as_ref());
        let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
        for line in encoded.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END PUBLIC KEY-----\n");
        Ok(pem)
    }

    /// Signs (RFC 7515 section 5.1, step 5).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        const FAILED: Error = Error::Key("cannot sign");
        match self {
            Self::Es256(pair) => Ok(pair.sign(&SystemRandom::new(), message).map_err(|_| FAILED)?.as_ref().to_vec()),
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature);
                signed.map_err(|_| FAILED)?;
                Ok(signature)
            }
            Self::EdDsa(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

/// A compact JWS (RFC 7515 section 7.1) of a header and claims as they are.
pub(super) fn compact(pair: &SigningPair, header: &str, claims: &str) -> Result<String, Error> {
    let mut token = URL_SAFE_NO_PAD.encode(header);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let signature = pair.sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_algorithm_signs_its_published_half_verifies() {
        for algorithm in SigningAlg::ALL {
            let made = SigningPair::generate(algorithm).unwrap();
            let pair = SigningPair::open(algorithm, &made.private().unwrap()).unwrap();
            let (kid, jwk) = made.public().unwrap();
            assert_eq!(pair.public().unwrap().0, kid);
            let header = format!(r#"{{"alg":"{algorithm}"}}"#);
            let token = compact(&pair, &header, r#"{"sub":"somebody"}"#).unwrap();
            // Somebody else's verifier.
            let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(jwk).unwrap();
            let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
            let mut validation = jsonwebtoken::Validation::new(algorithm.name().parse().unwrap());
            validation.required_spec_claims.clear();
            validation.validate_exp = false;
            assert!(jsonwebtoken::decode::<Value>(&token, &key, &validation).is_ok(), "{algorithm}");
            let (rest, _) = token.rsplit_once('.').unwrap();
            let altered = format!("{rest}.{}", URL_SAFE_NO_PAD.encode([0; 64]));
            assert!(jsonwebtoken::decode::<Value>(&altered, &key, &validation).is_err(), "{algorithm}");
        }
    }
}
