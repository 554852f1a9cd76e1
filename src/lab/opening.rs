//! Lab mode begins: fixtures are made, then the lab is there.

use std::sync::Arc;

use axum::extract::FromRef as _;

use super::{Error, Lab, LabClock, Parts, seed};
use crate::{
    app::AppState, gateway::Directory, identity::Identity, kernel::Rng, mail::Mail, metering::Metering,
    onboarding::Onboarding, settings::Settings, store::Store, tenants::Tenants, users::Users,
};

/// The lab, with its fixtures in place.
pub async fn open(
    settings: &Settings,
    state: &AppState,
    clock: Arc<LabClock>,
    rng: &Arc<dyn Rng>,
) -> Result<Lab, Error> {
    tracing::warn!("LAB MODE: anybody's token can be minted and the clock can be turned; this is for tests alone");
    let services = seed::Services {
        onboarding: Onboarding::from_ref(state),
        tenants: Tenants::from_ref(state),
        users: Users::from_ref(state),
        identity: Identity::from_ref(state),
    };
    seed::apply(&services, &settings.seed).await?;
    let points = services.onboarding.points().clone();
    Lab::open(Parts {
        data: settings.store.data.clone(),
        clock,
        rng: Arc::clone(rng),
        identity: services.identity,
        store: Store::from_ref(state),
        directory: Directory::from_ref(state),
        metering: Metering::from_ref(state),
        mail: Mail::from_ref(state),
        points,
    })
}
