//! Where the quantities of a bill come from: one way for the server, which counts what it has recorded first, and for whoever
//! looks at a ledger without being its server.

use crate::{
    kernel::{Period, Quantity, TenantId},
    metering::{self, MeterKey, Metering, UsageReader},
    store::Scope,
};

/// Where the quantities of a bill come from.
#[derive(Clone)]
pub enum UsageSource {
    /// This node's metering.
    Live(Metering),
    /// The ledger as it is.
    Ledger(UsageReader),
}

impl UsageSource {
    /// A tenant's usage of a meter in a period, in all.
    pub async fn total(
        &self,
        scope: Scope,
        tenant: TenantId,
        meter: &MeterKey,
        period: Period,
    ) -> Result<Quantity, metering::Error> {
        match self {
            Self::Live(metering) => metering.total(scope, tenant, meter, period).await,
            Self::Ledger(reader) => reader.total(scope, tenant, meter, period).await,
        }
    }
}
