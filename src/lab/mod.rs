//! Lab mode: this server as the stand-in for an identity provider in other people's tests. Its clock can be turned, any
//! token can be minted by HTTP, good ones and bad ones, letters are read on the log-in page, vendors' issuers are played,
//! key sets and discovery can be made to fail, registrations can be halted at any place of their way, and fixtures come from the
//! settings.
//!
//! Invariants: without `--lab` nothing of this exists: no route, no file, no state. The settings refuse it together with
//! a public issuer, and on an address that others can reach unless `lab.force` is set. What it mints with bad content is
//! for other people's resource servers; our own gateway refuses it like anybody else's.
//!
//! It knows the services, and no service knows it. Vendors' keys and the clock are files in the data folder
//! (`lab/`); faults, codes and what was set of an issuer are in memory and end with the process.

pub mod clock;
pub mod dialects;
mod entra;
pub mod faults;
mod files;
pub mod http;
mod issuer_tokens;
mod issuers;
mod issuers_http;
mod keys;
pub mod layers;
pub mod letters;
mod mint_http;
mod opening;
mod registrations_http;
pub mod seed;
mod subjects;
mod tier_changes_http;
mod tokens;
pub mod vendors;

use std::{io, path::PathBuf, sync::Arc};

use axum::extract::FromRef;

pub use clock::LabClock;
pub use opening::open;

use crate::{
    gateway::Directory,
    identity::{Identity, Verifier},
    kernel::{Clock as _, Rng, fault::chain},
    mail::Mail,
    metering::Metering,
    onboarding::Points,
    store::Store,
};
use clock::Turn;
use faults::Faults;
use issuers::Issuers;

/// Where the issuers that the lab plays answer.
pub const PATHS: [&str; 1] = ["/lab/issuers/{name}/{*path}"];

/// What keeps the lab from opening.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the lab cannot be used.
    #[error("the lab's file {path} {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
        /// What the file system said.
        #[source]
        source: Option<io::Error>,
    },
    /// Fixtures contradict what is there.
    #[error("seeds contradict what is there: {}", .0.join("; "))]
    Seeds(Vec<String>),
    /// Fixtures could not be applied.
    #[error("{path} cannot be applied")]
    Seed {
        /// Where it stands in the settings.
        path: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What the lab works with.
pub struct Parts {
    /// The data folder.
    pub data: PathBuf,
    /// Its clock, which every service has.
    pub clock: Arc<LabClock>,
    /// Random bytes.
    pub rng: Arc<dyn Rng>,
    /// Keys and clients.
    pub identity: Identity,
    /// People and tenants.
    pub store: Store,
    /// What this node remembers of tenants.
    pub directory: Directory,
    /// What is recorded and not yet counted.
    pub metering: Metering,
    /// Letters to people.
    pub mail: Mail,
    /// Where registrations halt and fail.
    pub points: Points,
}

/// The lab; cheap to clone.
#[derive(Clone)]
pub struct Lab(Arc<Inner>);

struct Inner {
    parts: Parts,
    issuers: Issuers,
    faults: Faults,
}

impl FromRef<Lab> for Verifier {
    fn from_ref(lab: &Lab) -> Self {
        lab.0.parts.identity.verifier().clone()
    }
}

impl Lab {
    /// Opens what the data folder has of it.
    pub fn open(parts: Parts) -> Result<Self, Error> {
        let issuers = Issuers::open(&parts.data)?;
        Ok(Self(Arc::new(Inner { parts, issuers, faults: Faults::default() })))
    }

    /// The clock.
    pub fn clock(&self) -> &LabClock {
        &self.0.parts.clock
    }

    /// The faults that are on.
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    fn identity(&self) -> &Identity {
        &self.0.parts.identity
    }

    fn mail(&self) -> &Mail {
        &self.0.parts.mail
    }

    fn points(&self) -> &Points {
        &self.0.parts.points
    }

    fn store(&self) -> &Store {
        &self.0.parts.store
    }

    fn issuers(&self) -> &Issuers {
        &self.0.issuers
    }

    fn rng(&self) -> &dyn Rng {
        &*self.0.parts.rng
    }

    /// Turns the clock. What this node remembers of a time that is now to come is forgotten: counters of quotas begin
    /// again with what the ledger has of the period that it is now.
    async fn turn(&self, turn: Turn) -> Result<Result<(), clock::OutOfRange>, io::Error> {
        let before = self.clock().now();
        if let Err(refused) = self.clock().turn(turn)? {
            return Ok(Err(refused));
        }
        self.after_a_turn(before).await;
        Ok(Ok(()))
    }

    /// Lets the clock show the machine's time again.
    async fn reset_clock(&self) -> Result<(), io::Error> {
        let before = self.clock().now();
        self.clock().reset()?;
        self.after_a_turn(before).await;
        Ok(())
    }

    async fn after_a_turn(&self, before: crate::kernel::Timestamp) {
        let now = self.clock().now();
        tracing::info!(%before, %now, "the lab's clock was turned");
        if now >= before {
            return;
        }
        self.identity().verifier().forget();
        if let Err(error) = self.0.parts.metering.catch_up().await {
            tracing::warn!(error = chain(&error), "usage could not be counted before the clock went back");
        }
        self.0.parts.directory.clock_went_back();
    }
}
