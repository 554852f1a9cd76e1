//! Settings: defaults, then the TOML file, then `TOLLGATE_SECTION__KEY`, then flags.
//!
//! Every fault is reported at once, with its key path. An unknown key is a fault. This module alone reads the
//! environment.

mod again;
mod billing;
mod gateway;
mod identity;
mod issuers;
mod lab;
mod mail;
mod metering;
mod offboarding;
mod onboarding;
mod provisioning;
pub mod read;
mod routes;
mod seed;
mod server;
mod store;
mod stripe;
mod upstreams;
mod webhooks;

use std::{ffi::OsString, fs, path::PathBuf};

use toml::{Table, Value};

pub use again::Given;
pub use billing::BillingSettings;
pub use gateway::GatewaySettings;
pub use identity::IdentitySettings;
pub use lab::LabSettings;
pub use mail::MailSettings;
pub use metering::MeteringSettings;
pub use offboarding::OffboardingSettings;
pub use onboarding::OnboardingSettings;
pub use provisioning::ProvisioningSettings;
pub use read::{SettingFault, SettingFaults};
pub use seed::{SeedClient, SeedSettings, SeedTenant, SeedUser};
pub use server::ServerSettings;
pub use store::StoreSettings;
pub use webhooks::WebhookSettings;

use crate::kernel::{Email, Secret};
use read::Reader;

/// Everything that can be set, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `[server]`
    pub server: ServerSettings,
    /// `[store]`
    pub store: StoreSettings,
    /// `[identity]`
    pub identity: IdentitySettings,
    /// `[mail]`
    pub mail: MailSettings,
    /// `[gateway]`
    pub gateway: GatewaySettings,
    /// `[metering]`
    pub metering: MeteringSettings,
    /// `[billing]`
    pub billing: BillingSettings,
    /// `[onboarding]`
    pub onboarding: OnboardingSettings,
    /// `[offboarding]`
    pub offboarding: OffboardingSettings,
    /// `[provisioning]`
    pub provisioning: Box<ProvisioningSettings>,
    /// `[lab]`
    pub lab: LabSettings,
    /// `[[seed.tenants]]` and `[[seed.clients]]`
    pub seed: SeedSettings,
    /// `[webhooks]`
    pub webhooks: WebhookSettings,
    /// `TOLLGATE_ADMIN_EMAIL` and `TOLLGATE_ADMIN_PASSWORD`.
    pub admin: AdminSettings,
    /// What of all this was given, to be compared with what is read later.
    pub given: Given,
    /// The command line; `None` when these settings are not the process's own.
    pub flags: Option<Flags>,
}

/// The first platform administrator.
#[derive(Debug, Clone)]
pub struct AdminSettings {
    /// Their email.
    pub email: Email,
    /// Their password; made up and printed once when absent.
    pub password: Option<Secret>,
}

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--data`
    pub data: Option<String>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--database-url`
    pub database_url: Option<String>,
    /// `--accept-loss`
    pub accept_loss: bool,
    /// `--lab`
    pub lab: bool,
}

/// The texts that settings are made of.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file's name and content.
    pub file: Option<(String, String)>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// The command line.
    pub flags: Flags,
}

/// Variables that begin with `TOLLGATE_` and are no settings.
const NO_SETTINGS: [&str; 4] = ["TOLLGATE_ADMIN_EMAIL", "TOLLGATE_ADMIN_PASSWORD", "TOLLGATE_REQUIRE", "TOLLGATE_LOG"];
/// Email of the first administrator when nothing else is said.
const ADMIN_EMAIL: &str = "admin@localhost";

/// What is logged: `TOLLGATE_LOG`.
#[expect(clippy::disallowed_methods, reason = "settings alone read the environment")]
pub fn log_filter() -> Option<String> {
    std::env::var("TOLLGATE_LOG").ok()
}

impl Settings {
    /// Reads the process's own file, environment and flags.
    #[expect(clippy::disallowed_methods, reason = "settings alone read the environment")]
    pub fn from_process(flags: Flags) -> Result<Self, SettingFaults> {
        let mut sources = Sources { flags, ..Sources::default() };
        if let Some(path) = &sources.flags.config {
            let text = fs::read_to_string(path).map_err(|error| {
                SettingFaults::one(&path.display().to_string(), &format!("cannot be read: {error}"), "--config")
            })?;
            sources.file = Some((path.display().to_string(), text));
        }
        let ours = |(name, value): (OsString, OsString)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("TOLLGATE_"))?;
            Some((name, value.to_string_lossy().into_owned()))
        };
        sources.env = std::env::vars_os().filter_map(ours).collect();
        let settings = Self::load(&sources)?;
        Ok(Self { flags: Some(sources.flags), ..settings })
    }

    /// Puts settings together; every fault at once.
    pub fn load(sources: &Sources) -> Result<Self, SettingFaults> {
        let mut reader = Reader::new();
        if let Some((name, text)) = &sources.file {
            let table = text.parse::<Table>().map_err(|error| {
                SettingFaults::one(name, &format!("is not TOML: {}", error.to_string().trim()), "file")
            })?;
            reader.add_layer(table, name);
        }
        for (name, value) in &sources.env {
            if !NO_SETTINGS.contains(&name.as_str()) {
                reader.add_variable(name, value);
            }
        }
        let flags = &sources.flags;
        let text = |text: &Option<String>| text.clone().map(Value::String);
        reader.add_flag("store.data", text(&flags.data), "--data");
        reader.add_flag("store.url", text(&flags.database_url), "--database-url");
        reader.add_flag("server.listen", text(&flags.listen), "--listen");
        reader.add_flag("lab.enabled", flags.lab.then_some(Value::Boolean(true)), "--lab");

        let settings = Self::read(&mut reader, sources);
        reader.finish(settings)
    }

    fn read(reader: &mut Reader, sources: &Sources) -> Option<Self> {
        let given = reader.given();
        let server = ServerSettings::read(reader);
        let store = StoreSettings::read(reader, sources.flags.accept_loss);
        let identity = IdentitySettings::read(reader);
        if let (Some(server), Some(identity)) = (&server, &identity) {
            issuers::must_be_foreign(reader, &identity.issuers, &server.issuer());
        }
        let mail = MailSettings::read(reader);
        let gateway = GatewaySettings::read(reader);
        let metering = MeteringSettings::read(reader);
        let mut billing = BillingSettings::read(reader);
        if let (Some(billing), Some(metering)) = (&mut billing, &metering) {
            billing.invoices.late_after_s = metering.late_after_s;
        }
        let onboarding = OnboardingSettings::read(reader);
        let offboarding = OffboardingSettings::read(reader);
        let provisioning = ProvisioningSettings::read(reader);
        let seed = SeedSettings::read(reader);
        let lab = LabSettings::read(reader, server.as_ref(), identity.as_ref(), seed.as_ref());
        let webhooks = WebhookSettings::read(reader);
        let variable = |name: &str| sources.env.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        let email = variable("TOLLGATE_ADMIN_EMAIL").unwrap_or_else(|| ADMIN_EMAIL.to_owned());
        let email =
            email.parse::<Email>().map_err(|error| reader.fault("TOLLGATE_ADMIN_EMAIL", &error.to_string())).ok();
        let password = variable("TOLLGATE_ADMIN_PASSWORD").map(Secret::new);
        Some(Self {
            server: server?,
            store: store?,
            identity: identity?,
            mail: mail?,
            gateway: gateway?,
            metering: metering?,
            billing: billing?,
            onboarding: onboarding?,
            offboarding: offboarding?,
            provisioning: Box::new(provisioning?),
            lab: lab?,
            seed: seed?,
            webhooks: webhooks?,
            admin: AdminSettings { email: email?, password },
            given,
            flags: None,
        })
    }
}

#[cfg(test)]
mod tests;
