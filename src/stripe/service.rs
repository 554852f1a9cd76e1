//! How Stripe stands, and what people say about what is parked.

use std::sync::Arc;

use super::{
    error::Error,
    model::{Job, Mode, PaymentEvent, Settled, Standing, StripeConfig},
    rules,
};
use crate::{
    kernel::{Act, Actor, Clock, Page, PageRequest, Rng, Secret, TenantId, Timestamp, ids::uuid_v7},
    metering::{Aggregation, Metering},
    onboarding::Onboarding,
    store::{Scope, Store},
};

/// What of payments is shown that came to something else.
const MOST_EVENTS: i64 = 100;

/// What is set up.
#[derive(Debug, Clone, Default)]
pub struct StripeSetup {
    /// Stripe, where it is used.
    pub stripe: Option<StripeConfig>,
    /// What others who take payments sign with.
    pub payment_secrets: Vec<Secret>,
}

/// The service; cheap to clone.
#[derive(Clone)]
pub struct Stripe {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Arc<dyn Rng>,
    pub(super) onboarding: Onboarding,
    pub(super) metering: Metering,
    pub(super) setup: Arc<StripeSetup>,
}

/// How Stripe stands.
#[derive(Debug, Clone)]
pub struct Overview {
    /// What it is told, if it is used.
    pub mode: Option<&'static str>,
    /// Since when and why nothing is sent, while nothing is.
    pub halted: Option<(Timestamp, String)>,
    /// What was told of payments and came to something else than a payment, the newest first.
    pub events: Vec<PaymentEvent>,
    /// Tenants.
    pub tenants: Page<Standing>,
}

impl Stripe {
    /// Over a store; `onboarding` takes payments, `metering` has usage. An error when a meter cannot be sent.
    pub async fn open(
        store: Store,
        (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>),
        onboarding: Onboarding,
        metering: Metering,
        setup: StripeSetup,
    ) -> Result<Self, Error> {
        let own = Self { store, clock, rng, onboarding, metering, setup: Arc::new(setup) };
        own.check_meters()?;
        if own.config().is_some() {
            // Whoever starts it again has seen to the key.
            let mut tx = own.store.begin(Scope::Job("stripe")).await?;
            tx.stripe_halt(None).await?;
            tx.commit().await?;
        }
        Ok(own)
    }

    /// How Stripe is used, if it is.
    pub fn config(&self) -> Option<&StripeConfig> {
        self.setup.stripe.as_ref()
    }

    /// Only what adds up can be sent hour by hour.
    fn check_meters(&self) -> Result<(), Error> {
        let Some(Mode::MeterEvents(meters)) = self.config().map(|config| &config.mode) else { return Ok(()) };
        for sent in meters {
            let key = sent.meter.as_str();
            let meter = self.metering.meter(key).ok_or_else(|| Error::Meter(format!("there is no meter {key}")))?;
            if !matches!(meter.aggregation, Aggregation::Sum | Aggregation::Count) {
                let name = meter.aggregation.name();
                return Err(Error::Meter(format!("{key} is a {name}; only sum and count can be sent")));
            }
        }
        Ok(())
    }

    /// How everything stands, with a page of tenants.
    pub async fn overview(&self, scope: Scope, page: PageRequest) -> Result<Overview, Error> {
        let mut tx = self.store.read(scope).await?;
        Ok(Overview {
            mode: self.config().map(|config| config.mode.name()),
            halted: tx.stripe_halted().await?,
            events: tx.payment_events_odd(MOST_EVENTS).await?,
            tenants: page.page(tx.stripe_standings(page).await?, |standing| standing.tenant.as_uuid()),
        })
    }

    /// Has what is parked tried again, of one tenant or of all, or left for good; and Stripe no more left alone. How many jobs.
    pub async fn retry(&self, scope: Scope, actor: Actor, tenant: Option<TenantId>) -> Result<usize, Error> {
        self.unpark(scope, actor, (tenant, "stripe.retried"), rules::again).await
    }

    /// The same for one tenant, where what is parked is left undone.
    pub async fn skip(&self, scope: Scope, actor: Actor, tenant: TenantId) -> Result<usize, Error> {
        let skipped = |job, now| Job { settled: Some((now, Settled::Skipped)), parked_at: None, ..job };
        self.unpark(scope, actor, (Some(tenant), "stripe.skipped"), skipped).await
    }

    async fn unpark(
        &self,
        scope: Scope,
        actor: Actor,
        (tenant, action): (Option<TenantId>, &'static str),
        how: impl Fn(Job, Timestamp) -> Job,
    ) -> Result<usize, Error> {
        self.config().ok_or(Error::Off("Stripe"))?;
        let now = self.clock.now();
        let mut tx = self.store.begin(scope).await?;
        let jobs = tx.stripe_jobs_parked(tenant).await?;
        let halted = tx.stripe_halted().await?.is_some();
        if let (Some(tenant), true, false) = (tenant, jobs.is_empty(), halted) {
            return Err(Error::NothingParked(tenant));
        }
        tx.stripe_halt(None).await?;
        for job in &jobs {
            tx.stripe_job_update(&how(job.clone(), now)).await?;
        }
        let subject = tenant.map_or_else(|| "stripe".to_owned(), |tenant| tenant.to_string());
        let detail = Some(format!("{} jobs", jobs.len()));
        let act = Act { actor, action, tenant, subject, detail };
        tx.audit_insert(uuid_v7(now, &*self.rng), now, &act).await?;
        tx.commit().await?;
        Ok(jobs.len())
    }
}
