//! Signing keys: made here, kept sealed, rotated. The key file and what is derived from it.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{error::Error, model::StoredKey};
use crate::kernel::{Rng, Secret, Timestamp, rng::random_bytes};

/// Bytes of the key file.
const KEY_BYTES: usize = 32;

/// The secret of this installation, and the keys derived from it.
pub(super) struct MasterKey {
    sealing: Zeroizing<[u8; 32]>,
    hashing: Zeroizing<[u8; 32]>,
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

    fn cipher(&self) -> Result<LessSafeKey, Error> {
        let key = UnboundKey::new(&AES_256_GCM, &*self.sealing).map_err(|_| Error::Key("cannot be sealed"))?;
        Ok(LessSafeKey::new(key))
    }

    fn seal(&self, kid: &str, plain: &[u8], rng: &dyn Rng) -> Result<Vec<u8>, Error> {
        let nonce = random_bytes::<NONCE_LEN>(rng);
        let mut sealed = plain.to_vec();
        let tag = self
            .cipher()?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(kid), &mut sealed)
            .map_err(|_| Error::Key("cannot be sealed"))?;
        Ok([&nonce[..], &sealed, tag.as_ref()].concat())
    }

    fn unseal(&self, kid: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
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

/// A new ES256 key, sealed.
pub(super) fn generate(master: &MasterKey, now: Timestamp, rng: &dyn Rng) -> Result<StoredKey, Error> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| Error::Key("cannot be made"))?;
    let private = pair.to_pkcs8v1().map_err(|_| Error::Key("cannot be written"))?;
    // An uncompressed point (SEC 1 section 2.3.3): 4, then 32 bytes each of x and y.
    let point: &[u8; 65] = pair.public_key().as_ref().try_into().map_err(|_| Error::Key("has no plain public half"))?;
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
    // RFC 7638 section 3.2: required members, in this order, without spaces.
    let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, thumbprint.as_bytes()));
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig", "alg": "ES256"});
    let sealed_private = master.seal(&kid, private.as_ref(), rng)?;
    let algorithm = "ES256".to_owned();
    Ok(StoredKey { kid, algorithm, public_jwk: jwk.to_string(), sealed_private, created_at: now, retired_at: None })
}

/// All keys of this node, opened: one signs, all verify.
pub(super) struct KeyRing {
    pub(super) current_kid: String,
    pub(super) signing: EncodingKey,
    verifying: HashMap<String, DecodingKey>,
    jwks: Value,
}

impl KeyRing {
    /// Opens the stored keys; the newest that is not retired signs. `None` when there is none.
    pub(super) fn open(master: &MasterKey, stored: &[StoredKey]) -> Result<Option<Self>, Error> {
        let mut verifying = HashMap::new();
        let mut public = Vec::new();
        for key in stored {
            let jwk: Value =
                serde_json::from_str(&key.public_jwk).map_err(|_| Error::Key("has a broken public half"))?;
            let (Some(x), Some(y)) = (jwk["x"].as_str(), jwk["y"].as_str()) else {
                return Err(Error::Key("has a broken public half"));
            };
            let decoding = DecodingKey::from_ec_components(x, y).map_err(|_| Error::Key("has a broken public half"))?;
            verifying.insert(key.kid.clone(), decoding);
            public.push(jwk);
        }
        let newest =
            stored.iter().filter(|key| key.retired_at.is_none()).max_by_key(|key| (key.created_at, key.kid.clone()));
        let Some(newest) = newest else { return Ok(None) };
        let private = master.unseal(&newest.kid, &newest.sealed_private)?;
        let (current_kid, signing) = (newest.kid.clone(), EncodingKey::from_ec_der(&private));
        Ok(Some(Self { current_kid, signing, verifying, jwks: json!({"keys": public}) }))
    }

    /// The key with an id; each has one algorithm, ES256.
    pub(super) fn verifying(&self, kid: &str) -> Option<&DecodingKey> {
        self.verifying.get(kid)
    }

    /// The public halves (RFC 7517 section 5).
    pub(super) const fn jwks(&self) -> &Value {
        &self.jwks
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
        let mut key = generate(&own, now, &rng).unwrap();
        assert!(KeyRing::open(&own, std::slice::from_ref(&key)).unwrap().is_some());
        assert!(KeyRing::open(&other, std::slice::from_ref(&key)).is_err());
        key.sealed_private[20] ^= 1;
        assert!(KeyRing::open(&own, &[key]).is_err());
    }
}
