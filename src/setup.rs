//! What services take of the settings, in their own words.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    app::BuildError,
    billing::{self, Billing, UsageSource},
    gateway::Directory,
    identity::{Identity, IdentityConfig, Verifier},
    kernel::{Act, Actor, Clock, Rng, Secret, TenantObserver, rng::random_bytes},
    mail::Mailer,
    metering::{self, Metering, journal},
    onboarding::{Leaving, Moves, Onboarding, Retries, SignUps},
    reload::Hook,
    settings::Settings,
    store::{Scope, Store},
    stripe::{self, Stripe},
    users::Users,
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

/// Who may sign up, how often a step of a registration is tried, and how tenants are taken out and moved.
pub(crate) fn onboarding(settings: &Settings, directory: &Directory) -> (SignUps, Retries, Leaving, Moves) {
    let sign_ups = SignUps {
        allowed: settings.identity.allow_signup,
        tiers: settings.identity.signup_tiers.clone(),
        // Where mail goes to a folder, whoever signs up has no way to it.
        verify_email: settings.identity.verify_email.unwrap_or(settings.mail.smtp.is_some()),
    };
    let (hold, drain) = settings.provisioning.waits;
    let moves = Moves { holder: Arc::new(directory.clone()), hold, drain };
    let directory = directory.clone();
    let under_way = Arc::new(move |tenant| directory.under_way(tenant));
    let leaving = Leaving { export_days: settings.offboarding.export_days, under_way };
    (sign_ups, settings.onboarding.retries, leaving, moves)
}

/// Plans, accounts and invoices, of what is metered here.
pub(crate) async fn billing(
    settings: &Settings,
    store: &Store,
    metering: &Metering,
    (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>),
    observer: &Arc<dyn TenantObserver>,
) -> Result<Billing, billing::Error> {
    let (usage, own) = (UsageSource::Live(metering.clone()), &settings.billing);
    let observer = Arc::clone(observer);
    Billing::open(store.clone(), usage, clock, rng, observer, own.invoices.clone(), &own.plans).await
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

/// Makes the platform administrator when there is none. A password that nobody gave is made up.
pub(crate) async fn first_admin(
    settings: &Settings,
    store: &Store,
    (users, identity): (&Users, &Identity),
    rng: &dyn Rng,
) -> Result<Option<Secret>, BuildError> {
    let scope = Scope::Job("first-admin");
    if store.read(scope).await?.platform_admin_exists().await? {
        return Ok(None);
    }
    let made_up =
        settings.admin.password.is_none().then(|| Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<18>(rng))));
    let Some(password) = settings.admin.password.as_ref().or(made_up.as_ref()) else { return Ok(None) };
    let hash = identity.hash_new_password(password, &[settings.admin.email.as_str()]).await;
    let hash = hash.map_err(|error| BuildError::Admin(format!("TOLLGATE_ADMIN_PASSWORD {error}")))?;
    let mut tx = store.begin(scope).await?;
    let admin = users.platform_admin_in(&mut tx, &settings.admin.email).await;
    let admin = admin.map_err(|error| BuildError::Admin(error.to_string()))?;
    identity.set_password_in(&mut tx, admin.id, &hash).await?;
    let (actor, subject) = (Actor::Job("first-admin"), admin.id.to_string());
    identity.note(&mut tx, Act { actor, action: "admin.made", tenant: None, subject, detail: None }).await?;
    tx.commit().await?;
    Ok(made_up)
}
