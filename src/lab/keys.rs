//! Keys that the lab signs with: our own by a seam of identity, and those of vendors' issuers, made when first asked for
//! and kept in the data folder so that a restart does not change them.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{Error, files, vendors::Vendor};
use crate::identity::{self, Identity, KeyChoice, SigningAlg, signing::SigningPair};

/// A key pair of a vendor's issuer.
pub struct VendorKey {
    /// Its `kid`.
    pub kid: String,
    /// Its algorithm.
    pub algorithm: SigningAlg,
    /// Its public half.
    pub jwk: Value,
    pair: SigningPair,
}

/// Keys of vendors' issuers.
pub struct VendorKeys {
    file: PathBuf,
    /// Private halves by name, as PKCS #8 in base 64.
    kept: Mutex<BTreeMap<String, String>>,
    open: Mutex<HashMap<String, Arc<VendorKey>>>,
}

impl VendorKeys {
    /// As they are in a data folder.
    pub fn open(data: &Path) -> Result<Self, Error> {
        let file = files::folder(data)?.join("keys.json");
        let kept = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| Error::File {
                path: file.clone(),
                why: "is not what the lab wrote",
                source: None,
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Error::File { path: file, why: "cannot be read", source: Some(error) }),
        };
        Ok(Self { file, kept: Mutex::new(kept), open: Mutex::default() })
    }

    /// The key of a vendor and algorithm, made when there is none. An RSA key takes a tenth of a second, so call it where
    /// that may wait.
    pub fn get(&self, vendor: Vendor, algorithm: SigningAlg) -> Result<Arc<VendorKey>, identity::Error> {
        let name = format!("{} {algorithm}", vendor.name());
        // Held while a key is made, so that it is made once.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = open.get(&name) {
            return Ok(Arc::clone(key));
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = kept.get(&name).and_then(|text| STANDARD.decode(text).ok());
        let pair = if let Some(bytes) = stored {
            SigningPair::open(algorithm, &bytes)?
        } else {
            let pair = SigningPair::generate(algorithm)?;
            kept.insert(name.clone(), STANDARD.encode(&*pair.private()?));
            self.write(&kept).map_err(|_| identity::Error::Key("cannot be kept"))?;
            pair
        };
        let (kid, jwk) = pair.public()?;
        let key = Arc::new(VendorKey { kid, algorithm, jwk, pair });
        open.insert(name, Arc::clone(&key));
        Ok(key)
    }

    fn write(&self, kept: &BTreeMap<String, String>) -> io::Result<()> {
        let text = serde_json::to_vec(kept)?;
        files::replace(&self.file, |file| file.write_all(&text))
    }
}

/// Where a token's signature comes from.
#[derive(Clone)]
pub enum Keys {
    /// Our own.
    Own(Identity),
    /// A vendor's.
    Vendor(Arc<VendorKey>),
}

impl Keys {
    /// Does something with the key in use, of an algorithm where there is a choice.
    pub fn current<T>(
        &self,
        algorithm: Option<SigningAlg>,
        act: impl FnOnce(&str, SigningAlg, &SigningPair) -> T,
    ) -> Option<T> {
        match self {
            Self::Own(identity) => identity.with_key(KeyChoice::Current(algorithm), act),
            Self::Vendor(key) => Some(act(&key.kid, key.algorithm, &key.pair)),
        }
    }

    /// Does something with the key that has an id.
    pub fn by_id<T>(&self, id: &str, act: impl FnOnce(&str, SigningAlg, &SigningPair) -> T) -> Option<T> {
        match self {
            Self::Own(identity) => identity.with_key(KeyChoice::Id(id), act),
            Self::Vendor(key) => (key.kid == id).then(|| act(&key.kid, key.algorithm, &key.pair)),
        }
    }
}
