//! Vendors' issuers: how each is set, its key, and the codes and refresh tokens it has given out, in memory.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Error, Lab,
    dialects::Claims,
    keys::{VendorKey, VendorKeys},
    subjects::Somebody,
    vendors::Vendor,
};
use crate::{
    identity::{self, Client, SigningAlg},
    kernel::Timestamp,
};

/// Codes and refresh tokens remembered at once; more push nobody out, they are refused.
const MOST: usize = 10_000;

/// How a vendor's issuers are set.
#[derive(Debug, Clone)]
pub struct IssuerSettings {
    /// The form of its tokens.
    pub variant: &'static str,
    /// The algorithm of its key.
    pub algorithm: SigningAlg,
    /// The audience of tokens whose request names none.
    pub audience: String,
    /// Life of an access token, in seconds.
    pub access_token_ttl_s: i64,
    /// A further claim that has the organisation.
    pub tenant_claim: Option<String>,
    /// Members that go over those of every token; null takes one away.
    pub claims: Claims,
}

impl IssuerSettings {
    /// As a vendor ships it.
    pub fn of(vendor: Vendor) -> Self {
        Self {
            variant: vendor.variants()[0],
            algorithm: SigningAlg::Rs256,
            audience: vendor.audience().to_owned(),
            access_token_ttl_s: vendor.access_token_ttl_s(),
            tenant_claim: None,
            claims: Claims::new(),
        }
    }
}

/// What somebody has been let in for.
#[derive(Debug, Clone)]
pub struct Allowed {
    /// By which vendor.
    pub vendor: Vendor,
    /// In which realm.
    pub realm: Option<String>,
    /// With which client.
    pub client: Client,
    /// Who.
    pub somebody: Somebody,
    /// What for.
    pub scope: String,
    /// For which API.
    pub audience: Option<String>,
    /// The nonce of the request.
    pub nonce: Option<String>,
    /// When they signed in.
    pub auth_time: i64,
}

/// An authorization code's meaning.
#[derive(Debug, Clone)]
pub struct Code {
    /// What it is for.
    pub allowed: Allowed,
    /// Where it was sent.
    pub redirect_uri: String,
    /// The challenge of its request.
    pub challenge: Option<String>,
    /// Until when it works.
    pub expires_at: Timestamp,
}

/// All vendors' issuers.
pub struct Issuers {
    keys: Arc<VendorKeys>,
    settings: Mutex<HashMap<Vendor, IssuerSettings>>,
    codes: Mutex<HashMap<String, Code>>,
    refreshes: Mutex<HashMap<String, Allowed>>,
}

impl Issuers {
    /// With the keys of a data folder.
    pub fn open(data: &Path) -> Result<Self, Error> {
        Ok(Self {
            keys: Arc::new(VendorKeys::open(data)?),
            settings: Mutex::default(),
            codes: Mutex::default(),
            refreshes: Mutex::default(),
        })
    }

    /// How a vendor's issuers are set.
    pub fn settings(&self, vendor: Vendor) -> IssuerSettings {
        let known = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&vendor).cloned().unwrap_or_else(|| IssuerSettings::of(vendor))
    }

    /// Sets a vendor's issuers.
    pub fn set(&self, vendor: Vendor, settings: IssuerSettings) {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).insert(vendor, settings);
    }

    /// Remembers a code, after forgetting those that are over; `false` when there are too many.
    pub fn keep_code(&self, secret: String, code: Code, now: Timestamp) -> bool {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|_, code| now < code.expires_at);
        codes.len() < MOST && codes.insert(secret, code).is_none()
    }

    /// Uses a code up.
    pub fn take_code(&self, secret: &str) -> Option<Code> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner).remove(secret)
    }

    /// Remembers a refresh token; `false` when there are too many.
    pub fn keep_refresh(&self, secret: String, allowed: Allowed) -> bool {
        let mut refreshes = self.refreshes.lock().unwrap_or_else(PoisonError::into_inner);
        refreshes.len() < MOST && refreshes.insert(secret, allowed).is_none()
    }

    /// Uses a refresh token up.
    pub fn take_refresh(&self, secret: &str) -> Option<Allowed> {
        self.refreshes.lock().unwrap_or_else(PoisonError::into_inner).remove(secret)
    }
}

impl Lab {
    /// The key of a vendor's issuers.
    pub(super) async fn vendor_key(&self, vendor: Vendor) -> Result<Arc<VendorKey>, identity::Error> {
        let (keys, algorithm) = (Arc::clone(&self.issuers().keys), self.issuers().settings(vendor).algorithm);
        let made = tokio::task::spawn_blocking(move || keys.get(vendor, algorithm)).await;
        made.map_err(|_| identity::Error::Stopped)?
    }

    /// The address below which a vendor's endpoints are, with a slash at the end.
    pub(super) fn vendor_base(&self, vendor: Vendor) -> String {
        format!("{}/lab/issuers/{}/", self.identity().issuer(), vendor.name())
    }

    /// The identifier of a vendor's issuer.
    pub(super) fn vendor_issuer(&self, vendor: Vendor, realm: Option<&str>) -> String {
        let (base, issuer) = (self.vendor_base(vendor), vendor.places(realm).issuer);
        match issuer.as_str() {
            "" => base.trim_end_matches('/').to_owned(),
            "/" => base,
            path => format!("{base}{path}"),
        }
    }
}
