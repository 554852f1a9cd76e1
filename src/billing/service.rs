//! Use cases of billing.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    address::BillingAddress,
    error::Error,
    export::plan_digest,
    forms::Fonts,
    invoice::BillingConfig,
    model::{Account, Plan, Quota},
    plan::{PlanBody, QuotaBody},
    rules::{self, Quantities, UsageByMeter},
    sealing::unwritten,
    source::UsageSource,
    spans::{Catalogue, PlanVersion},
};
use crate::{
    kernel::{
        Act, Actor, BillingAccountId, CalendarUnit, Clock, Currency, Digest, Fault, Faults, Period, Rng, TenantId,
        TenantObserver, TierName, Timestamp, ids::uuid_v7,
    },
    store::{PlanRow, Scope, Store, StoreError, Tx},
};

/// So many look at one moment of the ledger at once: half of the embedded store's readers.
const MOMENTS: usize = 2;

/// From when a new version of a plan holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effective {
    /// From this minute on, also in periods that run.
    Now,
    /// From the next month on (UTC), and on bills from the next period of each account on.
    NextPeriod,
}

/// The billing service; cheap to clone.
#[derive(Clone)]
pub struct Billing {
    pub(super) store: Store,
    usage: UsageSource,
    /// Who looks at one moment of the ledger.
    moments: Arc<Semaphore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Arc<dyn Rng>,
    observer: Arc<dyn TenantObserver>,
    pub(super) config: Arc<BillingConfig>,
    pub(super) fonts: Arc<Fonts>,
    catalogue: Arc<RwLock<Arc<Catalogue>>>,
    /// The hash of each plan as it is kept, whatever this program makes of it.
    digests: Arc<RwLock<PlanDigests>>,
}

type PlanDigests = HashMap<(TierName, u32), Digest>;

impl Billing {
    /// Over a store; `stock` are the plans that a store without any begins with.
    pub async fn open(
        store: Store,
        usage: UsageSource,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        observer: Arc<dyn TenantObserver>,
        config: BillingConfig,
        stock: &[Plan],
    ) -> Result<Self, Error> {
        let fonts = Arc::new(Fonts::new(config.fonts.clone()));
        let config = Arc::new(config);
        let catalogue = Arc::new(RwLock::new(Arc::new(Catalogue::default())));
        let digests = Arc::default();
        let moments = Arc::new(Semaphore::new(MOMENTS));
        let billing = Self { store, usage, moments, clock, rng, observer, config, fonts, catalogue, digests };
        billing.put_stock_plans(stock).await?;
        billing.reload_plans().await?;
        Ok(billing)
    }

    async fn put_stock_plans(&self, stock: &[Plan]) -> Result<(), Error> {
        if stock.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let mut tx = self.store.begin(Scope::Job("stock-plans")).await?;
        let known = tx.plans().await?;
        for plan in stock.iter().filter(|plan| !known.iter().any(|row| row.tier == plan.tier.as_str())) {
            let version = PlanVersion::at_once(now, plan.clone());
            tx.plan_insert(&plan_row(&version), now).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Reads the plans from the store anew.
    pub async fn reload_plans(&self) -> Result<(), Error> {
        let rows = self.store.read(Scope::Job("plans")).await?.plans().await?;
        let versions = rows.iter().map(read_plan).collect::<Result<Vec<_>, _>>()?;
        let digests = versions.iter().zip(&rows).map(|(version, row)| {
            let kept = serde_json::from_str(&row.body).map_err(unwritten)?;
            let digest = plan_digest(&kept).map_err(unwritten)?;
            Ok(((version.plan.tier.clone(), row.version), digest))
        });
        let digests = digests.collect::<Result<PlanDigests, Error>>()?;
        *self.digests.write().unwrap_or_else(PoisonError::into_inner) = digests;
        *self.catalogue.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Catalogue::new(versions));
        Ok(())
    }

    /// All plans, as a snapshot.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The hash of a version of a plan, as it is kept.
    pub(super) fn plan_digest(&self, tier: &TierName, version: u32) -> Option<Digest> {
        self.digests.read().unwrap_or_else(PoisonError::into_inner).get(&(tier.clone(), version)).copied()
    }

    pub(super) const fn usage(&self) -> &UsageSource {
        &self.usage
    }

    /// The same over the usage of one moment, in which all that was settled on this node by now is counted. Who has it holds a
    /// connection while waiting for others, so few have it at once; the permit goes with it.
    pub(super) async fn at_this_moment(&self, of: &[TenantId]) -> Result<(Self, Option<OwnedSemaphorePermit>), Error> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.moments).acquire_owned().await.ok();
        Ok((Self { usage: self.usage.at_this_moment(&self.store, of).await?, ..self.clone() }, permit))
    }

    /// The time, for callers that ask about now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The plan of a tier in force now.
    pub fn plan(&self, tier: &TierName) -> Option<Arc<Plan>> {
        self.catalogue().at(tier, self.clock.now()).map(|version| Arc::clone(&version.plan))
    }

    /// Adds a version of a tier's plan.
    pub async fn put_plan(
        &self,
        scope: Scope,
        actor: Actor,
        mut plan: Plan,
        effective: Effective,
    ) -> Result<PlanVersion, Error> {
        let now = self.clock.now();
        let before = self.catalogue().newest(&plan.tier).map(|version| Arc::clone(&version.plan));
        if let Some(before) = before.as_ref().filter(|before| before.currency() != plan.currency()) {
            let detail = format!("must be {}, as that of the versions before", before.currency());
            return Err(Error::Invalid(vec![Fault { field: "currency".into(), detail }]));
        }
        let newest = before.as_ref().map_or(0, |before| before.version);
        plan.version = newest + 1;
        let version = match effective {
            Effective::Now => PlanVersion::at_once(now.floor_minute(), plan),
            // The first plan of a new tier holds at once: nobody has that tier yet.
            Effective::NextPeriod if newest == 0 => {
                PlanVersion { cuts: false, ..PlanVersion::at_once(now.floor_minute(), plan) }
            }
            Effective::NextPeriod => PlanVersion {
                effective_from: Period::containing(now, CalendarUnit::Month).to(),
                // Not on the bill of a period that begins just now: it runs. Periods begin on the minute.
                billed_from: now.floor_minute().plus_secs(60),
                cuts: false,
                plan: Arc::new(plan),
            },
        };
        let mut tx = self.store.begin(scope).await?;
        if !tx.plan_insert(&plan_row(&version), now).await? {
            return Err(Error::Store(StoreError::Duplicate));
        }
        let body = |plan: &Plan| json!(PlanBody::from(plan));
        tx.changes(before.as_deref().map(body), Some(body(&version.plan)));
        let (subject, detail) = (version.plan.tier.to_string(), Some(format!("version {}", version.plan.version)));
        let act = Act { actor, action: "plan.put", tenant: None, subject, detail };
        tx.audit_insert(uuid_v7(now, &*self.rng), now, &act).await?;
        tx.commit().await?;
        self.reload_plans().await?;
        self.observer.all_changed();
        Ok(version)
    }

    /// An error if a tenant owes in another currency than that of a tier's plan.
    pub async fn must_owe_in_currency_of(&self, scope: Scope, tenant: TenantId, tier: &TierName) -> Result<(), Error> {
        let account = self.store.read(scope).await?.billing_account(tenant).await?;
        match account.zip(self.plan(tier)) {
            Some((account, plan)) if account.currency != plan.currency() => {
                let (plan, account) = (plan.currency(), account.currency);
                Err(Error::OtherCurrency { tier: tier.clone(), plan, account })
            }
            _ => Ok(()),
        }
    }

    /// A tenant's account, opened when there is none, within the caller's transaction: in the currency of its tier's plan.
    pub async fn ensure_account_in(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        address: &BillingAddress,
    ) -> Result<Account, Error> {
        if let Some(account) = tx.billing_account(tenant).await? {
            return Ok(account);
        }
        let now = self.clock.now();
        let tier = tx.billed_tiers(tenant).await?.pop();
        let plan = tier.and_then(|(_, tier)| self.plan(&tier));
        let account = Account {
            id: BillingAccountId::generate(now, &*self.rng),
            tenant_id: tenant,
            billing_address: address.clone(),
            currency: plan.map_or(self.config.currency, |plan| plan.currency()),
            opened_at: now,
            closed_at: None,
        };
        let cadence = self.config.cadence.cadence(now);
        if tx.billing_account_insert(&account, cadence.containing(now).to()).await? {
            if !cadence.is_calendar_month() {
                tx.billing_cadence_insert(tenant, Timestamp::MIN, &cadence).await?;
            }
            return Ok(account);
        }
        tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))
    }

    /// Closes a tenant's account within the caller's transaction.
    pub async fn close_account_in(&self, tx: &mut Tx, tenant: TenantId) -> Result<(), Error> {
        tx.tenant_quotas_set(tenant, None, self.clock.now()).await?;
        Ok(tx.billing_account_close(tenant, self.clock.now()).await?)
    }

    /// Closes the account of a tenant that was never in use, which owes nothing, within the caller's transaction.
    pub async fn abandon_account_in(&self, tx: &mut Tx, tenant: TenantId) -> Result<(), Error> {
        self.close_account_in(tx, tenant).await?;
        if let Some(revision) = tx.accounts_hold(&[tenant]).await?.remove(&tenant) {
            tx.drafts_drop(tenant).await?;
            tx.account_due_set(tenant, revision, None).await?;
        }
        Ok(())
    }

    /// A tenant's account.
    pub async fn account(&self, scope: Scope, tenant: TenantId) -> Result<Account, Error> {
        let mut tx = self.store.read(scope).await?;
        tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))
    }

    /// Sets where bills go.
    pub async fn set_address(
        &self,
        scope: Scope,
        actor: Actor,
        tenant: TenantId,
        address: &BillingAddress,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        let before = tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))?;
        if !tx.billing_address_set(tenant, address).await? {
            return Err(Error::NoAccount(tenant));
        }
        tx.changes(Some(json!(before.billing_address.body())), Some(json!(address.body())));
        self.note(&mut tx, actor, "billing_address.changed", (tenant, tenant.to_string(), None)).await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn note(
        &self,
        tx: &mut Tx,
        actor: Actor,
        action: &'static str,
        (tenant, subject, detail): (TenantId, String, Option<String>),
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let act = Act { actor, action, tenant: Some(tenant), subject, detail };
        Ok(tx.audit_insert(uuid_v7(now, &*self.rng), now, &act).await?)
    }

    /// Notes that the settings were read again, and with them the plans' file.
    pub async fn note_reload(&self, actor: Actor, detail: String) -> Result<(), Error> {
        let now = self.clock.now();
        let act =
            Act { actor, action: "settings.reloaded", tenant: None, subject: "settings".into(), detail: Some(detail) };
        let mut tx = self.store.begin(Scope::Job("reload")).await?;
        tx.audit_insert(uuid_v7(now, &*self.rng), now, &act).await?;
        Ok(tx.commit().await?)
    }

    /// A tenant's own quotas in place of its plan's, if it has any.
    pub async fn quotas(&self, scope: Scope, tenant: TenantId) -> Result<Option<Vec<Quota>>, Error> {
        let Some(json) = self.store.read(scope).await?.tenant_quotas(tenant).await? else { return Ok(None) };
        let bodies: Vec<QuotaBody> =
            serde_json::from_str(&json).map_err(|error| StoreError::Corrupt(format!("quotas: {error}")))?;
        let mut faults = Faults::new();
        let quotas = bodies.iter().map(|body| body.parse("", &mut faults)).collect::<Option<_>>();
        Ok(Some(faults.finish(quotas).map_err(Error::Invalid)?))
    }

    /// Overrides the quotas of a tenant's plan; an empty list ends that.
    pub async fn set_quotas(
        &self,
        scope: Scope,
        actor: Actor,
        tenant: TenantId,
        quotas: &[Quota],
    ) -> Result<(), Error> {
        let bodies: Vec<QuotaBody> = quotas.iter().map(QuotaBody::from).collect();
        let json = serde_json::to_string(&bodies).unwrap_or_default();
        let json = (!quotas.is_empty()).then_some(json.as_str());
        let mut tx = self.store.begin(scope).await?;
        let account = tx.billing_account(tenant).await?;
        account.filter(|account| account.closed_at.is_none()).ok_or(Error::NoAccount(tenant))?;
        let before = tx.tenant_quotas(tenant).await?;
        tx.tenant_quotas_set(tenant, json, self.clock.now()).await?;
        let parsed = |text: &str| serde_json::from_str(text).ok();
        tx.changes(before.as_deref().and_then(parsed), json.and_then(parsed));
        let detail = json.unwrap_or("those of the plan").to_owned();
        self.note(&mut tx, actor, "quotas.changed", (tenant, tenant.to_string(), Some(detail))).await?;
        tx.commit().await?;
        self.observer.tenant_changed(tenant);
        Ok(())
    }

    /// Rates usage by prices; changes nothing.
    pub fn rate(
        prices: &[super::model::Price],
        usage: &UsageByMeter,
        already: Option<&Quantities>,
        currency: Currency,
    ) -> Result<super::model::Rated, Error> {
        Ok(rules::rate(prices, usage, already, currency)?)
    }
}

fn plan_row(version: &PlanVersion) -> PlanRow {
    let PlanVersion { effective_from, billed_from, cuts, plan } = version;
    let body = serde_json::to_string(&PlanBody::from(&**plan)).unwrap_or_default();
    let (effective_from, billed_from, cuts) = (*effective_from, Some(*billed_from), Some(*cuts));
    PlanRow { tier: plan.tier.to_string(), version: plan.version, effective_from, billed_from, cuts, body }
}

fn read_plan(row: &PlanRow) -> Result<PlanVersion, Error> {
    let body: PlanBody =
        serde_json::from_str(&row.body).map_err(|error| StoreError::Corrupt(format!("plan: {error}")))?;
    let mut faults = Faults::new();
    let plan = body.parse("", row.version, &mut faults);
    let plan = faults.finish(plan).map_err(Error::Invalid)?;
    let effective_from = row.effective_from;
    // Where it was not kept: those that were to hold from the next period on begin with a month.
    let begins_month = || Period::containing(effective_from, CalendarUnit::Month).from() == effective_from;
    let cuts = row.cuts.unwrap_or_else(|| !begins_month());
    // Where that was not kept, bills were made by it from then on, and come out the same.
    let billed_from = row.billed_from.unwrap_or(effective_from);
    Ok(PlanVersion { effective_from, billed_from, cuts, plan: Arc::new(plan) })
}
