//! When a tenant's billing periods begin, and how that is changed.

use super::{
    Account,
    cadence::{Anchor, Cadence, CadenceError, Zone},
    cadence_wire::IntervalBody,
    error::Error,
    schedule::Schedule,
    service::Billing,
};
use crate::{
    kernel::{Actor, Faults, Period, TenantId},
    store::{Scope, Tx},
};

/// What of a cadence is changed; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CadencePatch {
    /// How long a period is.
    pub interval: Option<IntervalBody>,
    /// From which day on.
    pub anchor: Option<String>,
    /// Where its midnights are.
    pub zone: Option<String>,
}

impl CadencePatch {
    fn applied(&self, to: &Cadence, account: &Account) -> Result<Cadence, Error> {
        let mut faults = Faults::new();
        let interval = match &self.interval {
            Some(body) => faults.check("interval", body.parse()),
            None => Some(to.interval),
        };
        let zone = match &self.zone {
            Some(name) => faults.check("zone", name.parse::<Zone>()),
            None => Some(to.zone.clone()),
        };
        let anchor = match &self.anchor {
            Some(text) => {
                let anchor: Result<Anchor, CadenceError> = text.parse();
                faults
                    .check("anchor", anchor)
                    .zip(zone.as_ref())
                    .map(|(anchor, zone)| anchor.day(zone, account.opened_at))
            }
            None => Some(to.anchor),
        };
        let cadence = interval.zip(anchor).zip(zone);
        let cadence = cadence.map(|((interval, anchor), zone)| Cadence { interval, anchor, zone });
        faults.finish(cadence).map_err(Error::Invalid)
    }
}

impl Billing {
    /// A tenant's billing periods.
    pub async fn schedule(&self, scope: Scope, tenant: TenantId) -> Result<Schedule, Error> {
        let mut tx = self.store.read(scope).await?;
        tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))?;
        Ok(tx.billing_schedule(tenant).await?)
    }

    /// The period that runs by a schedule.
    pub fn running_period(&self, schedule: &Schedule) -> Period {
        schedule.containing(self.clock.now())
    }

    /// Has periods follow each other otherwise from the end of the one that runs on, within a transaction that holds the
    /// account. Of several changes in one period the last holds.
    pub(super) async fn change_cadence_in(
        &self,
        tx: &mut Tx,
        actor: Actor,
        account: &Account,
        patch: &CadencePatch,
    ) -> Result<(), Error> {
        let tenant = account.tenant_id;
        let schedule = tx.billing_schedule(tenant).await?;
        let cadence = patch.applied(schedule.latest().0, account)?;
        if cadence == *schedule.latest().0 {
            return Ok(());
        }
        let progress = tx.billing_progress(tenant).await?.filter(|progress| progress.closed_at.is_none());
        let progress = progress.ok_or(Error::NoAccount(tenant))?;
        // A clock that was put back does not change what has an invoice.
        let since = self.running_period(&schedule).to().max(progress.next);
        tx.billing_cadences_drop(tenant, since).await?;
        if *schedule.in_force(since.plus_micros(-1)) != cadence {
            tx.billing_cadence_insert(tenant, since, &cadence).await?;
        }
        let detail = Some(format!("{cadence}, since {since}"));
        self.note(tx, actor, "billing_cadence.changed", (tenant, tenant.to_string(), detail)).await
    }
}
