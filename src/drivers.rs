//! Who makes infrastructure, as settings say; joined to the rest of the program: the data folder, calls over the web, secrets.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    app::BuildError,
    billing::Billing,
    identity::Identity,
    kernel::{Clock, Rng, TenantObserver},
    outbound::Outbound,
    provisioning::{
        Called, Calls, Driver, Drivers, ExecDriver, NoDriver, PostgresDriver, ProcessDriver, Provisioning, Reconciler,
        SqliteDriver, Wanted, WebhookConfig, WebhookDriver,
    },
    settings::Settings,
    store::Store,
    tenants::Tenants,
};

/// A call may take so long (Standard Webhooks, "Request timeouts").
const DEADLINE: Duration = Duration::from_secs(15);

/// The service, with the drivers that settings name.
pub(crate) fn provisioning(
    settings: &Settings,
    store: &Store,
    identity: &Identity,
    (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>),
    observer: &Arc<dyn TenantObserver>,
) -> Result<Provisioning, BuildError> {
    let drivers = open(settings, store, identity, (Arc::clone(&clock), Arc::clone(&rng)), observer)?;
    Ok(Provisioning::new(store.clone(), drivers, identity.clone(), clock, rng, Arc::clone(observer)))
}

/// Who looks after what they made.
pub(crate) fn reconciler(
    settings: &Settings,
    provisioning: &Provisioning,
    tenants: &Tenants,
    billing: &Billing,
) -> Reconciler {
    let plans = billing.clone();
    let wanted: Wanted = Arc::new(move |tier| plans.plan(tier).map(|plan| plan.isolation));
    Reconciler::new(provisioning.clone(), tenants.clone(), wanted, settings.provisioning.reconcile)
}

/// Every driver that settings know, and which makes what.
fn open(
    settings: &Settings,
    store: &Store,
    identity: &Identity,
    (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>),
    observer: &Arc<dyn TenantObserver>,
) -> Result<Drivers, BuildError> {
    let own = &settings.provisioning;
    let folder = settings.store.data.join("infrastructure");
    let mut all: Vec<Arc<dyn Driver>> = vec![Arc::new(SqliteDriver::new(folder.clone())), Arc::new(NoDriver)];
    if let Some(config) = &own.postgres {
        let made = PostgresDriver::new(config);
        all.push(Arc::new(made.map_err(|why| BuildError::Driver(format!("provisioning.postgres.url: {why}")))?));
    }
    if let Some(config) = own.process.clone() {
        let folder = folder.join("process");
        let opened = ProcessDriver::open(config, folder, &*rng, Arc::clone(observer));
        all.push(Arc::new(opened.map_err(|error| BuildError::Driver(format!("provisioning.process: {error}")))?));
    }
    if let Some(config) = own.exec.clone() {
        all.push(Arc::new(ExecDriver::new(config)));
    }
    if let Some((config, reach)) = own.webhook.clone() {
        let callback = format!("{}/v1/provisioning/callback", settings.server.issuer());
        let config = WebhookConfig { callback, ..config };
        let calls = Arc::new(ByOutbound(Outbound::new(reach)));
        all.push(Arc::new(WebhookDriver::new(config, store.clone(), identity.clone(), (clock, rng), calls)));
    }
    let named = |name: &String| all.iter().find(|driver| driver.name() == name).map(Arc::clone);
    let [Some(pool), Some(bridge), Some(silo)] = own.drivers.each_ref().map(named) else {
        return Err(BuildError::Driver("provisioning: a driver that is named is not set up".to_owned()));
    };
    Ok(Drivers::new([pool, bridge, silo], all, own.pools.clone()))
}

struct ByOutbound(Outbound);

impl Calls for ByOutbound {
    fn post<'a>(&'a self, url: &'a str, headers: Vec<(&'static str, String)>, body: String) -> Called<'a> {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            // Ids, numbers and base64 are fit for headers.
            if let Ok(value) = HeaderValue::from_str(&value) {
                all.insert(HeaderName::from_static(name), value);
            }
        }
        Box::pin(async move {
            let head = self.0.post_json(url, all, body, DEADLINE).await?;
            Ok(head.status.as_u16())
        })
    }
}
