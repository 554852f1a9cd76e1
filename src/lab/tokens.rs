//! Any token: a header and claims as somebody wants them, under a signature that is right, wrong or none.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::{dialects::Claims, keys::Keys};
use crate::identity::{self, SigningAlg, signing::SigningPair};

/// The longest token that is made on purpose, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;
/// What a token too long for any header is filled up to, in bytes.
const OVERSIZED: usize = 20_000;

/// What signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// The issuer's key in use.
    Current,
    /// Nothing: `alg: none`, and an empty signature.
    None,
    /// HS256 with the public key as its secret, as PEM: what a verifier does that lets the token choose.
    Hs256Public,
    /// The same with the JWK, as its text is published.
    Hs256Jwk,
    /// A key that nobody published, under the `kid` of the one in use.
    Foreign,
    /// A key that nobody published, under its own `kid`.
    Unknown,
    /// 64 zeros.
    Zero,
    /// The issuer's key with this `kid`.
    Kid(String),
}

/// Why a token was not made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// No key of the issuer has that id or algorithm.
    #[error("is none of current, none, hs256-public, hs256-jwk, foreign, unknown, zero, and no key has it as its kid")]
    NoSuchKey,
    /// A key failed.
    #[error(transparent)]
    Identity(#[from] identity::Error),
}

impl From<&str> for Signature {
    fn from(name: &str) -> Self {
        match name {
            "current" => Self::Current,
            "none" => Self::None,
            "hs256-public" => Self::Hs256Public,
            "hs256-jwk" => Self::Hs256Jwk,
            "foreign" => Self::Foreign,
            "unknown" => Self::Unknown,
            "zero" => Self::Zero,
            kid => Self::Kid(kid.to_owned()),
        }
    }
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct Draft {
    /// `typ` of the header, unless it is said there.
    pub typ: Option<&'static str>,
    /// Members that go over those of a good header; null takes one away.
    pub header: Claims,
    /// The claims, as they will be.
    pub claims: Claims,
    /// What signs.
    pub signature: Signature,
    /// Filled up to at least this many bytes.
    pub bytes: Option<usize>,
}

/// Puts members over others; null takes one away.
pub fn overlay(base: &mut Claims, over: &Claims) {
    for (name, value) in over {
        if value.is_null() {
            base.shift_remove(name);
        } else {
            base.insert(name.clone(), value.clone());
        }
    }
}

/// Makes a token.
pub fn mint(keys: &Keys, draft: &Draft) -> Result<String, MintError> {
    let asked = draft.header.get("alg").and_then(Value::as_str).and_then(|alg| alg.parse::<SigningAlg>().ok());
    let act = |kid: &str, algorithm: SigningAlg, pair: &SigningPair| sealed(draft, kid, algorithm, pair);
    let made = match &draft.signature {
        Signature::Kid(id) => keys.by_id(id, act),
        // An algorithm that the issuer has no key of is a wrong header over a good signature.
        _ if asked.is_some_and(|algorithm| keys.current(Some(algorithm), |_, own, _| own) == asked) => {
            keys.current(asked, act)
        }
        _ => keys.current(None, act),
    };
    made.ok_or(MintError::NoSuchKey)?
}

/// The token under a signature of a kind, where the issuer's key is this one.
fn sealed(draft: &Draft, kid: &str, algorithm: SigningAlg, pair: &SigningPair) -> Result<String, MintError> {
    let stranger = match draft.signature {
        Signature::Foreign | Signature::Unknown => Some(SigningPair::generate(algorithm)?),
        _ => None,
    };
    let alg = match draft.signature {
        Signature::None => "none",
        Signature::Hs256Public | Signature::Hs256Jwk => "HS256",
        _ => algorithm.name(),
    };
    let kid = match (&draft.signature, &stranger) {
        (Signature::Unknown, Some(stranger)) => stranger.public()?.0,
        _ => kid.to_owned(),
    };
    let mut header = Map::new();
    header.extend(draft.typ.map(|typ| ("typ".to_owned(), typ.into())));
    header.insert("alg".to_owned(), alg.into());
    header.insert("kid".to_owned(), kid.into());
    overlay(&mut header, &draft.header);

    let message = message(&header, &draft.claims, draft.bytes.unwrap_or(0));
    let hs256 = |secret: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
    };
    let signature = match draft.signature {
        Signature::None => Vec::new(),
        Signature::Zero => vec![0; 64],
        Signature::Hs256Public => hs256(&pair.public_pem()?),
        Signature::Hs256Jwk => hs256(&pair.public()?.1.to_string()),
        _ => stranger.as_ref().unwrap_or(pair).sign(message.as_bytes())?,
    };
    Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Header and claims as they are signed, filled up.
fn message(header: &Claims, claims: &Claims, bytes: usize) -> String {
    let write = |claims: &Claims| {
        let text = |members: &Claims| URL_SAFE_NO_PAD.encode(Value::Object(members.clone()).to_string());
        format!("{}.{}", text(header), text(claims))
    };
    let bare = write(claims);
    if bare.len() >= bytes {
        return bare;
    }
    let mut filled = claims.clone();
    filled.insert("padding".to_owned(), "x".repeat((bytes - bare.len()) * 3 / 4 + 3).into());
    write(&filled)
}

/// Every bad token there is a name for, made from a good one. `now` is in seconds since 1970.
pub fn bad(keys: &Keys, good: &Draft, now: i64) -> Result<Vec<(String, String)>, MintError> {
    let mut made = Vec::new();
    let mut add = |name: &str, draft: &Draft| -> Result<(), MintError> {
        made.push((name.to_owned(), mint(keys, draft)?));
        Ok(())
    };
    let signed = |signature: Signature| Draft { signature, ..good.clone() };
    add("alg_none", &signed(Signature::None))?;
    add("hs256_public_key", &signed(Signature::Hs256Public))?;
    add("hs256_public_jwk", &signed(Signature::Hs256Jwk))?;
    add("foreign_key", &signed(Signature::Foreign))?;
    add("unknown_kid", &signed(Signature::Unknown))?;
    add("zero_signature", &signed(Signature::Zero))?;
    let header = |name: &str, value: Value| {
        let mut draft = good.clone();
        draft.header.insert(name.to_owned(), value);
        draft
    };
    add("wrong_typ", &header("typ", "logout+jwt".into()))?;
    add("alg_of_another_key", &header("alg", "ES512".into()))?;
    add("no_kid", &header("kid", Value::Null))?;
    let mut critical = header("crit", json!(["lab"]));
    critical.header.insert("lab".to_owned(), true.into());
    add("crit", &critical)?;
    let claim = |name: &str, value: Value| {
        let mut draft = good.clone();
        overlay(&mut draft.claims, &Map::from_iter([(name.to_owned(), value)]));
        draft
    };
    add("wrong_iss", &claim("iss", "https://wrong-issuer.example".into()))?;
    if good.claims.contains_key("aud") {
        add("wrong_aud", &claim("aud", "https://wrong-audience.example".into()))?;
    }
    add("expired", &claim("exp", (now - 3_600).into()))?;
    add("future_iat", &claim("iat", (now + 3_600).into()))?;
    add("future_nbf", &claim("nbf", (now + 3_600).into()))?;
    add("exp_as_text", &claim("exp", "2100-01-01".into()))?;
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope"] {
        if good.claims.contains_key(name) {
            add(&format!("missing_{name}"), &claim(name, Value::Null))?;
        }
    }
    add("20_kb", &Draft { bytes: Some(OVERSIZED), ..good.clone() })?;
    made.push(("altered".to_owned(), altered(&mint(keys, good)?, &claim("sub", "somebody-else".into()))));
    Ok(made)
}

/// Another's claims under the signature of a token.
fn altered(token: &str, other: &Draft) -> String {
    let mut parts = token.split('.');
    let (header, signature) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
    let claims = URL_SAFE_NO_PAD.encode(Value::Object(other.claims.clone()).to_string());
    format!("{header}.{claims}.{signature}")
}
