//! Soft quotas that are exceeded: told once a period, in the audit and as an event.
//!
//! The request path only notes it; this writes it down, in one transaction with the mark that it was. After a failure it is
//! tried again, and a process that died in between is told again by the tenant's next call; the mark lets it through once.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{directory::Directory, limit_headers::unit_name, terms::QuotaTerms};
use crate::{
    identity::{self, Identity},
    kernel::{Act, Actor, EventName, Period, Quantity, TenantId, fault::chain},
    store::{Scope, Store},
    webhooks::Webhooks,
};

/// After a failure it is tried again this much later.
const AGAIN: Duration = Duration::from_secs(1);

/// A soft quota that was exceeded for the first time in its period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crossing {
    pub(super) tenant: TenantId,
    pub(super) quota: QuotaTerms,
    pub(super) period: Period,
    /// In thousandths.
    pub(super) used: i64,
}

/// What is to be told. One entry a tenant, quota and period, so it does not grow with calls.
#[derive(Debug, Default)]
pub(super) struct Crossings {
    waiting: Mutex<Vec<Crossing>>,
    wake: Notify,
}

impl Crossings {
    /// Must not wait: it is called where a body ends.
    pub(super) fn add(&self, crossing: Crossing) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(crossing);
        self.wake.notify_one();
    }

    fn take(&self) -> Vec<Crossing> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is told, and to whom.
#[derive(Clone)]
pub struct Teller {
    /// Who has what is to be told.
    pub directory: Directory,
    /// Where it is marked.
    pub store: Store,
    /// Who keeps the audit.
    pub identity: Identity,
    /// Who tells others.
    pub webhooks: Webhooks,
}

/// Tells of soft quotas as they are exceeded, until it is stopped, and of what there is then.
pub async fn tell(teller: Teller, stop: CancellationToken) {
    while stop.run_until_cancelled(teller.directory.crossings().wake.notified()).await.is_some() {
        while let Err(error) = tell_once(&teller).await {
            tracing::warn!(error = chain(&error), "a soft quota was exceeded, and it is not noted yet");
            if stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await.is_none() {
                break;
            }
        }
    }
    if let Err(error) = tell_once(&teller).await {
        tracing::warn!(error = chain(&error), "a soft quota was exceeded; the tenant's next call will note it");
    }
}

/// Tells of what there is; how many were news.
pub async fn tell_once(teller: &Teller) -> Result<usize, identity::Error> {
    let directory = &teller.directory;
    let mut waiting = directory.crossings().take();
    let mut news = 0;
    while let Some(crossing) = waiting.pop() {
        match note(teller, &crossing).await {
            Ok(new) => news += usize::from(new),
            Err(error) => {
                waiting.push(crossing);
                for crossing in waiting {
                    directory.crossings().add(crossing);
                }
                return Err(error);
            }
        }
    }
    Ok(news)
}

async fn note(teller: &Teller, crossing: &Crossing) -> Result<bool, identity::Error> {
    let Teller { store, identity, webhooks, .. } = teller;
    let Crossing { tenant, quota, period, used } = crossing;
    let unit = unit_name(quota.unit);
    let mut tx = store.begin(Scope::Job("quotas")).await?;
    if !tx.quota_crossing_insert(*tenant, &quota.key, unit, period.from(), quota.limit).await? {
        return Ok(false);
    }
    let quantity = |thousandths| Quantity::from_scaled(thousandths, 3).unwrap_or_default();
    let (used, limit) = (quantity(*used), quantity(quota.limit));
    let detail = format!("{used} of {limit} for the {unit} from {}", period.from());
    let subject = quota.key.to_string();
    let data = json!({
        "tenant_id": tenant,
        "meter": subject,
        "used": used,
        "limit": limit,
        "unit": unit,
        "period": {"from": period.from(), "to": period.to()},
    });
    let (actor, tenant, detail) = (Actor::Job("quotas"), Some(*tenant), Some(detail));
    identity.note(&mut tx, Act { actor, action: "quota.exceeded", tenant, subject, detail }).await?;
    webhooks.note_event_in(&mut tx, EventName::UsageThreshold, tenant, data).await?;
    tx.commit().await?;
    Ok(true)
}
