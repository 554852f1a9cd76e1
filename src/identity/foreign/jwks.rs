//! Key sets of foreign issuers (RFC 7517): which keys of a set are good for checking tokens, and with which algorithm.

use crate::{
    identity::{
        access::KeyLife,
        jws::{JwsAlgorithm, VerifyingKey},
        members::{self, Members},
    },
    kernel::Timestamp,
};

/// Keys of a set that are looked at.
const MOST_KEYS: usize = 100;

/// A key that checks tokens.
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) verifying: VerifyingKey,
    pub(super) life: KeyLife,
    /// Tells it from another under the same name.
    print: blake3::Hash,
}

/// A key of a set that checks no tokens, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedKey {
    /// Its id.
    pub kid: Option<String>,
    /// Why.
    pub why: &'static str,
}

/// The keys of a set.
#[derive(Default)]
pub(super) struct KeySet {
    pub(super) keys: Vec<Key>,
    pub(super) unused: Vec<UnusedKey>,
}

/// A text that is no key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the issuer's keys are not a JSON Web Key Set")]
pub(super) struct NotJwks;

impl KeySet {
    /// Of a document, good until an instant; a key of the set before that is the same keeps its life.
    pub(super) fn parse(
        document: &[u8],
        accepted: &[JwsAlgorithm],
        before: &Self,
        until: Timestamp,
    ) -> Result<Self, NotJwks> {
        let document = Members::parse(document).map_err(|_| NotJwks)?;
        let keys = document.member("keys").and_then(members::elements).ok_or(NotJwks)?;
        let mut set = Self::default();
        for key in keys.into_iter().take(MOST_KEYS) {
            // Members of unknown form may be there; what is no object is no key of ours.
            let Some(jwk) = members::object(key) else { continue };
            let kid = jwk.text("kid").ok().flatten().map(std::borrow::Cow::into_owned);
            match usable(&jwk, accepted) {
                Ok(_) if set.keys.iter().any(|other| other.kid == kid) => {
                    set.unused.push(UnusedKey { kid, why: "has the id of another" });
                }
                Ok(verifying) => {
                    let print = print(&jwk, verifying.algorithm);
                    let same = before.keys.iter().find(|own| own.kid == kid && own.print == print);
                    let life = same.map_or_else(|| KeyLife::until(until), |own| own.life.clone());
                    set.keys.push(Key { kid, verifying, life, print });
                }
                Err(why) => set.unused.push(UnusedKey { kid, why }),
            }
        }
        // What is gone is dead at once, and what stays lives on.
        for gone in before.keys.iter().filter(|own| !set.keys.iter().any(|key| key.print == own.print)) {
            gone.life.end();
        }
        set.extend(until);
        Ok(set)
    }

    pub(super) fn extend(&self, until: Timestamp) {
        self.keys.iter().for_each(|key| key.life.extend(until));
    }

    /// The key that a token names; the only one there is, for a token that names none.
    pub(super) fn named(&self, kid: Option<&str>) -> Option<&Key> {
        match (kid, self.keys.as_slice()) {
            (Some(kid), keys) => keys.iter().find(|key| key.kid.as_deref() == Some(kid)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }
}

/// The key, if it is for checking signatures with an algorithm that is accepted.
fn usable(jwk: &Members<'_>, accepted: &[JwsAlgorithm]) -> Result<VerifyingKey, &'static str> {
    const UNREADABLE: &str = "is malformed";
    if jwk.text("use").map_err(|_| UNREADABLE)?.is_some_and(|used| used != "sig") {
        return Err("is not for signatures");
    }
    let operations = jwk.texts("key_ops").map_err(|_| UNREADABLE)?;
    if operations.is_some_and(|operations| !operations.iter().any(|one| one == "verify")) {
        return Err("is not for checking signatures");
    }
    if jwk.has("d") || jwk.has("k") {
        return Err("is not public");
    }
    if let Some(named) = jwk.text("alg").map_err(|_| UNREADABLE)? {
        let algorithm = named.parse().ok().filter(|own| accepted.contains(own));
        return VerifyingKey::from_jwk(jwk, algorithm.ok_or("has an algorithm that is not accepted")?);
    }
    // Without a name for it, the first of the settings that its type and curve allow.
    let mut why = "fits no algorithm that is accepted";
    for algorithm in accepted {
        match VerifyingKey::from_jwk(jwk, *algorithm) {
            Ok(key) => return Ok(key),
            Err(reason) => why = reason,
        }
    }
    Err(why)
}

fn print(jwk: &Members<'_>, algorithm: JwsAlgorithm) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(algorithm.name().as_bytes());
    for name in ["kid", "kty", "crv", "n", "e", "x", "y"] {
        let value = jwk.member(name).map_or("", serde_json::value::RawValue::get);
        hasher.update(&(value.len() as u64).to_le_bytes());
        hasher.update(value.as_bytes());
    }
    hasher.finalize()
}
