//! Signing keys: made here, kept sealed, rotated. The key file and what is derived from it.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    error::Error,
    jws::VerifyingKey,
    members::Members,
    model::{SigningAlg, StoredKey},
    signing::SigningPair,
};
use crate::kernel::{Rng, Secret, Timestamp, rng::random_bytes};

/// Bytes of the key file.
const KEY_BYTES: usize = 32;

/// The secret of this installation, and the keys derived from it.
pub(super) struct MasterKey {
    sealing: Zeroizing<[u8; 32]>,
    hashing: Zeroizing<[u8; 32]>,
    portal: Zeroizing<[u8; 32]>,
}

impl MasterKey {
    /// Reads the key file; makes it, readable by its owner alone, when it is not there and `may_create` says so.
    pub(super) fn open(path: &Path, may_create: bool, rng: &dyn Rng) -> Result<Self, Error> {
        let refuse = |why, source| Error::KeyFile { path: path.to_owned(), why, source };
        let bytes = match fs::read(path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => create(path, rng)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refuse("is missing, and the store has keys that were sealed under it: restore it", None));
            }
            Err(error) => return Err(refuse("cannot be read", Some(error))),
        };
        let mode = fs::metadata(path).map_err(|error| refuse("cannot be read", Some(error)))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(refuse("can be read by others than its owner: set its mode to 0600", None));
        }
        if bytes.len() != KEY_BYTES {
            return Err(refuse("must have exactly 32 bytes", None));
        }
        let derive = |purpose| Zeroizing::new(blake3::derive_key(purpose, &bytes));
        Ok(Self {
            sealing: derive("tollgate 2026 sealing of signing keys"),
            hashing: derive("tollgate 2026 hashes of random secrets"),
            portal: derive("tollgate 2026 portal tokens"),
        })
    }

    /// The keyed hash under which a random secret is kept.
    pub(super) fn hash(&self, secret: &Secret) -> [u8; 32] {
        self.digest(secret.expose().as_bytes())
    }

    /// The keyed hash of something that may hold a secret.
    pub(super) fn digest(&self, bytes: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.hashing, bytes).as_bytes()
    }

    /// What proves that the content of a portal token is ours.
    pub(super) fn portal_tag(&self, content: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.portal, content)
    }

    fn cipher(&self) -> Result<LessSafeKey, Error> {
        let key = UnboundKey::new(&AES_256_GCM, &*self.sealing).map_err(|_| Error::Key("cannot be sealed"))?;
        Ok(LessSafeKey::new(key))
    }

    /// Seals something so that it opens under the same name alone.
    pub(super) fn seal(&self, kid: &str, plain: &[u8], rng: &dyn Rng) -> Result<Vec<u8>, Error> {
        let nonce = random_bytes::<NONCE_LEN>(rng);
        let mut sealed = plain.to_vec();
        let tag = self
            .cipher()?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(kid), &mut sealed)
            .map_err(|_| Error::Key("cannot be sealed"))?;
        Ok([&nonce[..], &sealed, tag.as_ref()].concat())
    }

    /// Opens what was sealed under a name.
    pub(super) fn unseal(&self, kid: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let wrong = || Error::Key("was sealed under another key file, or was altered");
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut buffer = Zeroizing::new(rest.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.cipher()?.open_in_place(nonce, Aad::from(kid), &mut buffer).map_err(|_| wrong())?;
        Ok(Zeroizing::new(plain.to_vec()))
    }
}

fn create(path: &Path, rng: &dyn Rng) -> Result<Zeroizing<Vec<u8>>, Error> {
    let bytes = Zeroizing::new(random_bytes::<KEY_BYTES>(rng).to_vec());
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    match made {
        Ok(()) => Ok(bytes),
        Err(error) => Err(Error::KeyFile { path: path.to_owned(), why: "cannot be made", source: Some(error) }),
    }
}

/// A new key, sealed, which signs from an instant on.
pub(super) fn generate(
    master: &MasterKey,
    algorithm: SigningAlg,
    now: Timestamp,
    signs_from: Timestamp,
    rng: &dyn Rng,
) -> Result<StoredKey, Error> {
    let pair = SigningPair::generate(algorithm)?;
    let (kid, jwk) = pair.public()?;
    let sealed_private = master.seal(&kid, &pair.private()?, rng)?;
    let public_jwk = jwk.to_string();
    Ok(StoredKey { kid, algorithm, public_jwk, sealed_private, created_at: now, signs_from, retired_at: None })
}

/// A key that signs for a while.
struct Signing {
    kid: String,
    algorithm: SigningAlg,
    pair: SigningPair,
    from: Timestamp,
    until: Option<Timestamp>,
}

/// All keys of this node, opened: one of each algorithm signs, all verify.
pub(super) struct KeyRing {
    /// The newest first.
    signing: Vec<Signing>,
    verifying: HashMap<String, VerifyingKey>,
    jwks: Value,
}

impl KeyRing {
    /// Opens the stored keys.
    pub(super) fn open(master: &MasterKey, stored: &[StoredKey]) -> Result<Self, Error> {
        const BROKEN: Error = Error::Key("has a broken public half");
        let mut ring = Self { signing: Vec::new(), verifying: HashMap::new(), jwks: Value::Null };
        let mut public = Vec::new();
        for key in stored {
            let jwk = Members::parse(key.public_jwk.as_bytes()).map_err(|_| BROKEN)?;
            let verifying = VerifyingKey::from_jwk(&jwk, key.algorithm.into()).map_err(|_| BROKEN)?;
            ring.verifying.insert(key.kid.clone(), verifying);
            public.push(serde_json::from_str(&key.public_jwk).map_err(|_| BROKEN)?);
            let private = master.unseal(&key.kid, &key.sealed_private)?;
            ring.signing.push(Signing {
                kid: key.kid.clone(),
                algorithm: key.algorithm,
                pair: SigningPair::open(key.algorithm, &private)?,
                from: key.signs_from,
                until: key.retired_at,
            });
        }
        ring.signing.sort_by(|one, other| (other.from, &other.kid).cmp(&(one.from, &one.kid)));
        ring.jwks = json!({"keys": Value::Array(public)});
        Ok(ring)
    }

    /// The key that signs with an algorithm now, and its id.
    pub(super) fn signing(&self, algorithm: SigningAlg, now: Timestamp) -> Option<(&str, &SigningPair)> {
        let of_algorithm = |key: &&Signing| key.algorithm == algorithm;
        let signs = |key: &&Signing| key.from <= now && key.until.is_none_or(|until| now < until);
        let mut keys = self.signing.iter().filter(of_algorithm);
        // A clock that was set back must not leave nobody to sign.
        let key = keys.clone().find(signs).or_else(|| keys.next())?;
        Some((&key.kid, &key.pair))
    }

    /// The key with an id, and its algorithm, whether it signs or not.
    pub(super) fn by_id(&self, kid: &str) -> Option<(SigningAlg, &SigningPair)> {
        self.signing.iter().find(|key| key.kid == kid).map(|key| (key.algorithm, &key.pair))
    }

    /// Whether there is a key of an algorithm that is not on its way out.
    pub(super) fn has(&self, algorithm: SigningAlg) -> bool {
        self.signing.iter().any(|key| key.algorithm == algorithm && key.until.is_none())
    }

    /// The key with an id, for checking.
    pub(super) fn verifying(&self, kid: &str) -> Option<&VerifyingKey> {
        self.verifying.get(kid)
    }

    /// The public halves (RFC 7517 section 5).
    pub(super) const fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// Which keys there are, and until when they sign.
    pub(super) fn state(&self) -> Vec<(&str, Option<Timestamp>)> {
        self.signing.iter().map(|key| (key.kid.as_str(), key.until)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::SeededRng;

    #[test]
    fn the_key_file_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        let rng = SeededRng::new(1);
        assert!(matches!(MasterKey::open(&path, false, &rng), Err(Error::KeyFile { .. })));
        MasterKey::open(&path, true, &rng).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(MasterKey::open(&path, true, &rng), Err(Error::KeyFile { .. })));
    }

    #[test]
    fn a_key_opens_under_its_own_key_file_and_unaltered_only() {
        let folder = tempfile::tempdir().unwrap();
        let rng = SeededRng::new(2);
        let own = MasterKey::open(&folder.path().join("own"), true, &rng).unwrap();
        let other = MasterKey::open(&folder.path().join("other"), true, &rng).unwrap();
        let now = Timestamp::from_secs(1).unwrap();
        let mut key = generate(&own, SigningAlg::Es256, now, now, &rng).unwrap();
        assert!(KeyRing::open(&own, std::slice::from_ref(&key)).unwrap().has(SigningAlg::Es256));
        assert!(KeyRing::open(&other, std::slice::from_ref(&key)).is_err());
        key.sealed_private[20] ^= 1;
        assert!(KeyRing::open(&own, &[key]).is_err());
    }

    #[test]
    fn a_key_signs_in_its_time_and_the_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let rng = SeededRng::new(3);
        let master = MasterKey::open(&folder.path().join("own"), true, &rng).unwrap();
        let at = |secs| Timestamp::from_secs(secs).unwrap();
        let key = |signs_from, retired_at: Option<i64>| {
            let key = generate(&master, SigningAlg::EdDsa, at(0), at(signs_from), &rng).unwrap();
            StoredKey { retired_at: retired_at.map(at), ..key }
        };
        let keys = [key(0, Some(300)), key(300, None)];
        let opened = KeyRing::open(&master, &keys).unwrap();
        let signs = |secs| opened.signing(SigningAlg::EdDsa, at(secs)).unwrap().0.to_owned();
        assert_eq!((signs(299), signs(300)), (keys[0].kid.clone(), keys[1].kid.clone()));
        assert!(opened.signing(SigningAlg::Es256, at(0)).is_none());
    }
}
