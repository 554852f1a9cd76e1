//! What goes on in the background of a server that runs: keys and old sign-ins are tidied, clients are told of sessions
//! that ended (`OpenID` Connect Back-Channel Logout), invoices are made and pursued, registrations and changes of tier that wait are gone on
//! with,
//! and the audit is sealed.

use std::time::Duration;

use futures_util::{
    StreamExt as _,
    stream::{self, FuturesUnordered},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    identity::{Error, Identity, LogoutNotice},
    kernel::fault::chain,
    onboarding::{Closed, Onboarding},
    outbound::Outbound,
    provisioning::Reconciler,
    store::{Scope, Store, StoreError},
};

/// Keys and old sign-ins are tidied this often.
const TIDY: Duration = Duration::from_secs(30);
/// The store is asked this often whether a client is to be told something.
const TELL: Duration = Duration::from_secs(1);
/// The audit is sealed this often.
const SEAL: Duration = Duration::from_secs(2);
/// It is looked this often whether a registration is to be gone on with.
const GO_ON: Duration = Duration::from_secs(1);
/// A step of the round by all tenants is taken this often, and so many are under way at once: one tenant's infrastructure that
/// takes long is in nobody's way.
const RECONCILE: Duration = Duration::from_secs(5);
const STEPS: usize = 4;
/// Clients that are told at once.
const AT_ONCE: usize = 8;

/// Begins all of it; invoices are looked after every so often.
pub fn begin(
    (store, onboarding, identity): (Store, Onboarding, Identity),
    outbound: Outbound,
    close_every: Duration,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) {
    tasks.spawn(close_periods(onboarding.clone(), close_every, stop.clone()));
    tasks.spawn(go_on_with_offboardings(onboarding.clone(), stop.clone()));
    tasks.spawn(go_on_with_changes(onboarding.clone(), stop.clone()));
    tasks.spawn(go_on_with_registrations(onboarding, stop.clone()));
    tasks.spawn(seal_audit(store, stop.clone()));
    tasks.spawn(tidy(identity.clone(), stop.clone()));
    tasks.spawn(tell_logouts(identity, outbound, stop.clone()));
}

/// Tidies until it is stopped.
pub async fn tidy(identity: Identity, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(TIDY)).await.is_some() {
        if let Err(error) = identity.tidy().await {
            tracing::warn!(error = chain(&error), "keys could not be tidied");
        }
    }
}

/// Seals the audit until it is stopped, and then once more.
pub async fn seal_audit(store: Store, stop: CancellationToken) {
    loop {
        let goes_on = stop.run_until_cancelled(tokio::time::sleep(SEAL)).await.is_some();
        if let Err(error) = seal_audit_once(&store).await {
            tracing::warn!(error = chain(&error), "the audit could not be sealed");
        }
        if !goes_on {
            return;
        }
    }
}

/// Seals all entries of the audit that are not.
pub async fn seal_audit_once(store: &Store) -> Result<(), StoreError> {
    loop {
        if !store.read(Scope::Job("audit")).await?.audit_has_unsealed().await? {
            return Ok(());
        }
        let mut tx = store.begin(Scope::Job("audit")).await?;
        tx.audit_seal().await?;
        tx.commit().await?;
    }
}

/// Goes on with registrations that wait until it is stopped; a step that is under way then is finished, or taken up by the
/// next start.
pub async fn go_on_with_registrations(onboarding: Onboarding, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(GO_ON)).await.is_some() {
        if let Err(error) = onboarding.resume_due().await {
            tracing::warn!(error = chain(&error), "registrations could not be gone on with");
        }
    }
}

/// Goes on with tenants that leave until it is stopped, and forgets exports whose time is over.
pub async fn go_on_with_offboardings(onboarding: Onboarding, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(GO_ON)).await.is_some() {
        if let Err(error) = onboarding.resume_offboardings().await {
            tracing::warn!(error = chain(&error), "offboardings could not be gone on with");
        }
        if let Err(error) = onboarding.forget_exports().await {
            tracing::warn!(error = chain(&error), "exports could not be forgotten");
        }
    }
}

/// Goes on with changes of tier that wait until it is stopped, in the same way.
pub async fn go_on_with_changes(onboarding: Onboarding, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(GO_ON)).await.is_some() {
        if let Err(error) = onboarding.resume_changes().await {
            tracing::warn!(error = chain(&error), "changes of tier could not be gone on with");
        }
    }
}

/// Looks after tenants' infrastructure until it is stopped. Whatever this is stopped in is done again by the next step.
pub async fn reconcile(reconciler: Reconciler, stop: CancellationToken) {
    let mut steps = FuturesUnordered::new();
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => {}
            Some(()) = steps.next() => {}
            () = tokio::time::sleep(RECONCILE) => {
                if steps.len() < STEPS {
                    steps.push(Box::pin(step(&reconciler)));
                }
            }
        }
    }
}

async fn step(reconciler: &Reconciler) {
    if let Err(error) = reconciler.step().await {
        tracing::warn!(error = chain(&error), "tenants' infrastructure could not be looked after");
    }
}

/// Makes invoices and pursues them until it is stopped, at once and then every so often.
pub async fn close_periods(onboarding: Onboarding, every: Duration, stop: CancellationToken) {
    while !stop.is_cancelled() {
        // Whatever this is stopped in is one transaction, which is not made, and found again.
        match stop.run_until_cancelled(Box::pin(onboarding.close_periods())).await {
            Some(Ok(closed)) if closed != Closed::default() => {
                let Closed { drafted, finalized, overdue, suspended, limited } = closed;
                tracing::info!(drafted, finalized, overdue, suspended, limited, "invoices were made");
            }
            Some(Err(error)) => tracing::warn!(error = chain(&error), "invoices could not be made"),
            _ => {}
        }
        stop.run_until_cancelled(tokio::time::sleep(every)).await;
    }
}

/// Tells clients until it is stopped; what is under way then is finished, at the latest by its deadline.
pub async fn tell_logouts(identity: Identity, outbound: Outbound, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(TELL)).await.is_some() {
        if let Err(error) = tell_logouts_once(&identity, &outbound).await {
            tracing::warn!(error = chain(&error), "clients could not be told of sessions that ended");
        }
    }
}

/// Tells every client that is to be told now; how many were.
pub async fn tell_logouts_once(identity: &Identity, outbound: &Outbound) -> Result<usize, Error> {
    let due = identity.logouts_due().await?;
    let told = stream::iter(due).map(|notice| tell(identity, outbound, notice)).buffer_unordered(AT_ONCE);
    let told: Vec<Result<bool, Error>> = told.collect().await;
    told.into_iter().try_fold(0, |sum, told| Ok(sum + usize::from(told?)))
}

async fn tell(identity: &Identity, outbound: &Outbound, notice: LogoutNotice) -> Result<bool, Error> {
    let Some(address) = &notice.client.metadata.backchannel_logout_uri else { return Ok(false) };
    if !identity.claim_logout(&notice).await? {
        return Ok(false);
    }
    let token = identity.logout_token(&notice)?;
    // A JWS is made of characters that stand for themselves in a form.
    let sent = outbound.post_form(address, format!("logout_token={}", token.expose())).await;
    let (client_id, session_id, attempt) = (notice.client.id, notice.session_id, notice.attempts + 1);
    match sent {
        // Back-Channel Logout section 2.8: 200, and 204 from frameworks that cannot help it.
        Ok(status) if status.is_success() => {
            identity.logout_told(&notice).await?;
            return Ok(true);
        }
        Ok(status) => {
            tracing::warn!(%client_id, %session_id, attempt, %status, "a client did not take a logout token");
        }
        Err(error) => {
            tracing::warn!(%client_id, %session_id, attempt, error = chain(&error), "a client could not be told of a logout");
        }
    }
    Ok(false)
}
