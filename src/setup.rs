//! What services take of the settings, in their own words.

use std::sync::Arc;

use crate::{
    gateway::Directory,
    identity::{IdentityConfig, Verifier},
    kernel::{Clock, Rng},
    mail::Mailer,
    metering::{self, Metering, journal},
    onboarding::{Moves, Onboarding, Retries, SignUps},
    reload::Hook,
    settings::Settings,
    store::Store,
    stripe::{self, Stripe},
};

/// Who takes letters.
pub(crate) fn mailer(settings: &Settings) -> Mailer {
    match &settings.mail.smtp {
        Some(server) => Mailer::Smtp(server.clone()),
        None => Mailer::Folder(settings.store.data.join("mail")),
    }
}

/// How identity is set up.
pub(crate) fn identity(settings: &Settings) -> IdentityConfig {
    IdentityConfig {
        issuer: settings.server.issuer(),
        signing_alg: settings.identity.signing_alg,
        published_algs: settings.identity.published_algs.clone(),
        key_wait_s: settings.identity.key_wait_s,
        access_token_ttl_s: settings.identity.access_token_ttl_s,
        refresh_token_ttl_s: settings.identity.refresh_token_ttl_s,
        refresh_grace_s: settings.identity.refresh_grace_s,
        hash_concurrency: settings.identity.hash_concurrency,
        allow_password_grant: settings.identity.allow_password_grant,
        audit_days: settings.identity.audit_days,
        login_throttle: settings.identity.login_throttle,
        issuers: settings.identity.issuers.clone(),
        key_file: settings.store.data.join("identity.key"),
    }
}

/// Who may sign up, and how often a step of a registration is tried.
pub(crate) fn onboarding(settings: &Settings, directory: &Directory) -> (SignUps, Retries, Moves) {
    let sign_ups = SignUps {
        allowed: settings.identity.allow_signup,
        // Where mail goes to a folder, whoever signs up has no way to it.
        verify_email: settings.identity.verify_email.unwrap_or(settings.mail.smtp.is_some()),
    };
    let (hold, drain) = settings.provisioning.waits;
    (sign_ups, settings.onboarding.retries, Moves { holder: Arc::new(directory.clone()), hold, drain })
}

/// What goes to Stripe, and comes from it.
pub(crate) async fn stripe(
    settings: &Settings,
    store: &Store,
    (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>),
    (onboarding, metering): (&Onboarding, &Metering),
) -> Result<Stripe, stripe::Error> {
    let setup = settings.billing.stripe.clone();
    Stripe::open(store.clone(), (clock, rng), onboarding.clone(), metering.clone(), setup).await
}

/// Where and how usage is kept.
pub(crate) fn metering(settings: &Settings) -> metering::Settings {
    metering::Settings {
        folder: settings.store.data.join("journal"),
        accept_loss: settings.store.accept_loss,
        options: journal::Options {
            segment_bytes: settings.metering.segment_bytes,
            flush_ms: settings.metering.flush_ms,
            meters: settings.gateway.meters.clone(),
            routes: settings.gateway.route_names(),
        },
        late_after_s: settings.metering.late_after_s,
        events_back_s: settings.metering.events_back_s,
        events_ahead_s: settings.metering.events_ahead_s,
    }
}

/// What else takes over settings that are read again.
pub(crate) fn reloaded(verifier: &Verifier, directory: &Directory) -> Vec<Hook> {
    let (verifier, directory) = (verifier.clone(), directory.clone());
    vec![
        Box::new(move |settings| verifier.replace_issuers(&settings.identity.issuers)),
        Box::new(move |settings| directory.set_max_in_flight(settings.gateway.max_in_flight)),
    ]
}
