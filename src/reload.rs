//! Settings read again, without a connection that ends: routes, upstreams, plans and certificates change, all or none of
//! them. What cannot change while the program runs is named, and stays.

use std::sync::Arc;

use axum::extract::{FromRef, State};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    billing::{self, Billing, Effective},
    gateway::Gateway,
    identity::Verifier,
    kernel::{Actor, Fault, fault::chain},
    metering,
    settings::{SettingFault, SettingFaults, Settings},
    store::{Scope, acting_still},
    tls::Acceptor,
    web::{AdminScope, Json, Kind, Problem},
};

/// Reads settings again; cheap to clone.
#[derive(Clone)]
pub struct Reload(Arc<Live>);

struct Live {
    /// What is in force. One reload at a time.
    settings: Mutex<Settings>,
    gateway: Gateway,
    billing: Billing,
    tls: Option<Acceptor>,
    others: Vec<Hook>,
    /// A drain waits for what was begun.
    tasks: TaskTracker,
}

/// Takes over what else can change. It is told once nothing can fail any more, and must not fail itself.
pub type Hook = Box<dyn Fn(&Settings) + Send + Sync>;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The settings are wrong.
    #[error("the settings are not valid:\n{0}")]
    Settings(#[from] SettingFaults),
    /// The program was not started from a file, its environment and flags.
    #[error("there is nothing to read again: these settings came from the program that runs this server")]
    Given,
    /// The server stopped meanwhile.
    #[error("the server stops")]
    Stopped,
    /// The routes cannot be had.
    #[error(transparent)]
    Routes(#[from] metering::Error),
    /// A new plan could not be stored.
    #[error("the plans could not be stored")]
    Plans(#[source] billing::Error),
    /// The change holds, and the audit does not say so.
    #[error("settings were read again, and that could not be noted")]
    Noted(#[source] billing::Error),
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReloadView {
    /// Routes that are in force now.
    routes: usize,
    /// Tiers that get a new version of their plan with the next period, because the plans' file has another.
    plans: Vec<String>,
    /// Settings that differ from those that the program started with, and need a restart.
    restart: Vec<String>,
}

impl Reload {
    /// Of these settings, for these parts.
    pub fn new(
        settings: Settings,
        gateway: Gateway,
        billing: Billing,
        tls: Option<Acceptor>,
        others: Vec<Hook>,
        tasks: TaskTracker,
    ) -> Self {
        Self(Arc::new(Live { settings: Mutex::new(settings), gateway, billing, tls, others, tasks }))
    }

    /// Reads the settings and has what can change changed, to the end, whoever waits for it. After an error nothing is.
    pub async fn now(&self, actor: Actor) -> Result<ReloadView, ReloadError> {
        let own = self.clone();
        let done = self.0.tasks.spawn(acting_still(async move { own.change(actor).await }));
        done.await.unwrap_or(Err(ReloadError::Stopped))
    }

    async fn change(&self, actor: Actor) -> Result<ReloadView, ReloadError> {
        let live = &*self.0;
        let mut current = live.settings.lock().await;
        let before = current.clone();
        let read = tokio::task::spawn_blocking(move || before.again()).await;
        // A thread that panicked has said so.
        let next = read.ok().flatten().ok_or(ReloadError::Given)??;
        let prepared = live.gateway.prepare(&next.gateway.routes).await?;
        let plans = self.change_plans(&current, &next).await.map_err(ReloadError::Plans)?;
        live.gateway.change(prepared);
        if let (Some(acceptor), Some(pair)) = (&live.tls, &next.server.tls) {
            acceptor.change(pair);
        }
        live.others.iter().for_each(|other| other(&next));
        let restart = current.fixed_that_differ(&next);
        let routes = next.gateway.routes.len();
        current.take_over(next);
        drop(current);
        live.billing.note_reload(actor, format!("{routes} routes")).await.map_err(ReloadError::Noted)?;
        Ok(ReloadView { routes, plans, restart })
    }

    /// Plans that are not what they were when the file was last read: what was set by the API meanwhile is not undone by a
    /// file that says what it always said.
    async fn change_plans(&self, current: &Settings, next: &Settings) -> Result<Vec<String>, billing::Error> {
        let mut changed = Vec::new();
        // In another currency they belong to the next start.
        if current.billing.currency != next.billing.currency {
            return Ok(changed);
        }
        for plan in &next.billing.plans {
            if !current.billing.plans.contains(plan) {
                let scope = Scope::Job("reload");
                self.0.billing.put_plan(scope, Actor::Job("reload"), plan.clone(), Effective::NextPeriod).await?;
                changed.push(plan.tier.to_string());
            }
        }
        Ok(changed)
    }

    /// The same, told to the log: what a signal asks for.
    pub async fn logged(&self) {
        match self.now(Actor::Job("reload")).await {
            Ok(ReloadView { routes, plans, restart }) => {
                tracing::info!(routes, ?plans, ?restart, "settings were read again");
            }
            Err(error) => tracing::error!(error = chain(&error), "settings were not changed"),
        }
    }
}

fn problem(error: ReloadError) -> Problem {
    let text = error.to_string();
    match error {
        ReloadError::Settings(SettingFaults(faults)) => {
            let fault = |fault: SettingFault| Fault { field: fault.path, detail: fault.detail };
            Problem::invalid(&faults.into_iter().map(fault).collect::<Vec<_>>())
        }
        ReloadError::Given => Problem::new(Kind::CONFLICT, text),
        ReloadError::Stopped => Problem::new(Kind::UNAVAILABLE, text).retry_after(1),
        ReloadError::Routes(error) => error.into(),
        ReloadError::Plans(error) | ReloadError::Noted(error) => error.into(),
    }
}

/// The route.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Reload: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(reload_settings))
}

/// Reads the settings again: routes, upstreams, plans, certificates. Nothing changes when anything is wrong; `errors` names
/// every fault by its key. SIGHUP does the same, and tells the log.
#[utoipa::path(post, path = "/admin/v1/reload", tag = "gateway",
    responses((status = 200, body = ReloadView), (status = 422), (status = 503)))]
async fn reload_settings(scope: AdminScope, State(reload): State<Reload>) -> Result<Json<ReloadView>, Problem> {
    reload.now(scope.actor()).await.map(Json).map_err(problem)
}
