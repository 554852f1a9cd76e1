//! Signatures of documents: with the keys of tokens, of a type of their own, so that neither is taken for the other; and
//! checked with a key that comes along, by whoever has nothing else.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{
    error::Error,
    jws::{Jws, JwsAlgorithm, VerifyingKey},
    members::Members,
    service::Identity,
    signing::compact,
};

/// The `typ` of a signed invoice.
pub const INVOICE_TYP: &str = "tollgate-invoice+jws";

/// A key that signs documents now.
#[derive(Debug, Clone)]
pub struct DocumentKey {
    /// Its thumbprint (RFC 7638), which is its `kid`.
    pub thumbprint: String,
    /// Its public half.
    pub jwk: Value,
}

impl Identity {
    /// The key that signs tokens now.
    pub fn document_key(&self) -> Result<DocumentKey, Error> {
        let keys = self.verifier().keys();
        let (_, pair) = keys.signing(self.signing_alg(), self.now()).ok_or(Error::Key("is missing"))?;
        let (thumbprint, jwk) = pair.public()?;
        Ok(DocumentKey { thumbprint, jwk })
    }

    /// Signs what a document comes to with that key.
    pub fn sign_document(&self, key: &DocumentKey, typ: &str, payload: &str) -> Result<String, Error> {
        let keys = self.verifier().keys();
        let (algorithm, pair) = keys.by_id(&key.thumbprint).ok_or(Error::Key("is missing"))?;
        let header = format!(r#"{{"typ":"{typ}","alg":"{algorithm}","kid":"{}"}}"#, key.thumbprint);
        compact(pair, &header, payload)
    }
}

/// What a key (a JWK) signed as a document of a type; an error says what is wrong with key or signature.
pub fn verify_document(jws: &str, jwk: &Value, typ: &str) -> Result<Vec<u8>, &'static str> {
    const KEY: &str = "the key is none";
    let text = jwk.to_string();
    let members = Members::parse(text.as_bytes()).map_err(|_| KEY)?;
    let parsed = Jws::parse(jws).map_err(|_| "the signature cannot be read")?;
    if !parsed.header.is_of_type(typ) {
        return Err("the signature is of something else");
    }
    if parsed.header.kid.as_deref() != Some(&*thumbprint(jwk).ok_or(KEY)?) {
        return Err("the signature is of another key");
    }
    let algorithm: JwsAlgorithm =
        parsed.header.algorithm.parse().map_err(|_| "the signature's algorithm is not known")?;
    let key = VerifyingKey::from_jwk(&members, algorithm).map_err(|_| KEY)?;
    parsed.is_signed_by(&key).map_err(|_| "the signature is wrong")?;
    Ok(parsed.payload)
}

/// The thumbprint of a JWK (RFC 7638), with SHA-256; `None` of what is none.
pub fn thumbprint(jwk: &Value) -> Option<String> {
    // Section 3.2: the required members of its type, in the order of their names.
    let required: &[&str] = match jwk.get("kty")?.as_str()? {
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        "RSA" => &["e", "kty", "n"],
        _ => return None,
    };
    let member = |name: &&str| Some(format!("\"{name}\":{}", Value::from(jwk.get(*name)?.as_str()?)));
    let members: Vec<String> = required.iter().map(member).collect::<Option<_>>()?;
    Some(URL_SAFE_NO_PAD.encode(digest(&SHA256, format!("{{{}}}", members.join(",")).as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{model::SigningAlg, signing::SigningPair};

    #[test]
    fn a_document_is_its_keys_of_its_type_and_as_it_was() {
        for algorithm in SigningAlg::ALL {
            let pair = SigningPair::generate(algorithm).unwrap();
            let (kid, jwk) = pair.public().unwrap();
            assert_eq!(thumbprint(&jwk), Some(kid.clone()));
            let sign = |typ: &str, kid: &str| {
                compact(&pair, &format!(r#"{{"typ":"{typ}","alg":"{algorithm}","kid":"{kid}"}}"#), "{}").unwrap()
            };
            let jws = sign(INVOICE_TYP, &kid);
            assert_eq!(verify_document(&jws, &jwk, INVOICE_TYP).unwrap(), b"{}");
            let other = SigningPair::generate(algorithm).unwrap().public().unwrap().1;
            for (jws, jwk) in
                [(&jws, &other), (&sign("at+jwt", &kid), &jwk), (&sign(INVOICE_TYP, "x"), &jwk), (&"x".into(), &jwk)]
            {
                assert!(verify_document(jws, jwk, INVOICE_TYP).is_err(), "{algorithm}");
            }
            let (signed, _) = jws.rsplit_once('.').unwrap();
            let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([1; 64]));
            assert!(verify_document(&forged, &jwk, INVOICE_TYP).is_err(), "{algorithm}");
        }
    }
}
