//! Who must hear of a change on this node before the next request, and who is asked at each.

use std::{future::Future, pin::Pin};

use std::sync::Arc;

use super::TenantId;

/// Somebody on this node who must hear of a change before the next request: whoever remembers tenants.
pub trait TenantObserver: Send + Sync {
    /// The tenant's state, tier, plan or limits may have changed. Must not block.
    fn tenant_changed(&self, id: TenantId);

    /// So may every tenant's: a plan changed.
    fn all_changed(&self);
}

/// Several who must hear.
pub struct Observers(pub Vec<Arc<dyn TenantObserver>>);

impl TenantObserver for Observers {
    fn tenant_changed(&self, id: TenantId) {
        self.0.iter().for_each(|observer| observer.tenant_changed(id));
    }

    fn all_changed(&self) {
        self.0.iter().for_each(|observer| observer.all_changed());
    }
}

/// A hold that begins: what it gives is kept for as long as it lasts.
pub type HoldFuture<'a> = Pin<Box<dyn Future<Output = Box<dyn Send>> + Send + 'a>>;

/// Who can let a tenant's calls wait for a moment: the gateway's directory, for the calls on this node.
pub trait CallHolder: Send + Sync {
    /// Lets new calls of the tenant wait, from now on until what this gives is dropped. Resolves when no call is under way but those
    /// that last by their nature. Given up before, it holds nobody.
    fn hold(&self, tenant: TenantId) -> HoldFuture<'_>;

    /// Resolves when the calls that last and began before the last hold have ended.
    fn ended(&self, tenant: TenantId) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Whether a tenant may call now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Active,
    /// Not now: its state's name.
    Refused(&'static str),
    /// It may, but what it calls does not answer.
    Unavailable,
    /// Never again.
    Gone,
}

/// A tenant's standing could not be found out.
#[derive(Debug, thiserror::Error)]
#[error("the tenant's state could not be loaded")]
pub struct StandingError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// An answer that may take a while: at a tenant's first request, and its first after a change.
pub type StandingFuture<'a> = Pin<Box<dyn Future<Output = Result<Standing, StandingError>> + Send + 'a>>;

/// Who knows whether a tenant may call now: the gateway's directory, which has it in memory.
pub trait TenantGate: Send + Sync {
    /// Whether the tenant may call now.
    fn standing(&self, id: TenantId) -> StandingFuture<'_>;
}
