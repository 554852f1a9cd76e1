//! The `webhook` driver: somebody else makes places, at an address. They are asked by a signed call, as often as it takes until it is
//! taken, and say what came of it by a signed callback, which may come to any node.
//!
//! What is asked for is noted before it is asked, and asked under the same id until it is answered, also after a crash: whoever is
//! asked twice under one id is asked for one thing.

use std::{error::Error as StdError, future::Future, pin::Pin, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};
use zeroize::Zeroizing;

use super::{
    Error,
    answer::{Answer, Unfit},
    driver::{Driver, Work},
    model::{Answered, Asked, Finding, Made, Place, Verb},
};
use crate::{
    identity::Identity,
    kernel::{
        Clock, Rng, TenantId,
        ids::uuid_v7,
        signature::{Signed, sign},
    },
    store::{Scope, Store},
};

pub(super) const SCOPE: Scope = Scope::Job("provisioning");
/// Waits between calls that are not taken: the first, doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The store is looked at this often for an answer that came to another node.
const LOOK: Duration = Duration::from_millis(500);

/// `[provisioning.webhook]`
#[derive(Clone)]
pub struct WebhookConfig {
    /// Who is asked.
    pub url: String,
    /// Signs both ways.
    pub key: Zeroizing<Vec<u8>>,
    /// How long the callback may take.
    pub timeout: Duration,
    /// How often a call is made that is not taken.
    pub attempts: u32,
    /// Where callbacks go.
    pub callback: String,
}

impl std::fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookConfig").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What a call came to: the status of its answer.
pub type Called<'a> = Pin<Box<dyn Future<Output = Result<u16, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// Makes calls over the web.
pub trait Calls: Send + Sync {
    /// Posts JSON with headers.
    fn post<'a>(&'a self, url: &'a str, headers: Vec<(&'static str, String)>, body: String) -> Called<'a>;
}

/// Asks somebody else.
#[derive(Clone)]
pub struct WebhookDriver {
    pub(super) config: Arc<WebhookConfig>,
    pub(super) store: Store,
    pub(super) identity: Identity,
    pub(super) clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    calls: Arc<dyn Calls>,
    /// An answer came to this node.
    pub(super) heard: Arc<Notify>,
}

/// Something that came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the call was not taken, {attempts} times: {why}")]
    NotTaken { attempts: u32, why: String },
    #[error("there was no callback within {} seconds", .0.as_secs())]
    NoCallback(Duration),
    #[error("it was answered that it failed: {0}")]
    Said(String),
    #[error("what was answered cannot be used")]
    Answer(#[from] Unfit),
}

impl WebhookDriver {
    /// The name in settings and in the store.
    pub const NAME: &'static str = "webhook";

    /// Asks by `calls`, and keeps in `store` what it asked for.
    pub fn new(
        config: WebhookConfig,
        store: Store,
        identity: Identity,
        (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>),
        calls: Arc<dyn Calls>,
    ) -> Self {
        let heard = Arc::default();
        Self { config: Arc::new(config), store, identity, clock, rng, calls, heard }
    }

    /// Has something done; what was answered.
    async fn ask(&self, verb: Verb, place: &Place) -> Result<Value, Error> {
        let asked = self.noted(verb, place).await?;
        let answered = if let Some(answered) = asked.answered.clone() {
            // It came when nobody waited any more.
            answered
        } else {
            self.call(&asked, place).await.map_err(|error| of(verb, error))?;
            self.wait(&asked).await?
        };
        let plain = self.identity.unseal_secret(&sealed_as(&asked), &answered.sealed)?;
        let mut tx = self.store.begin(SCOPE).await?;
        tx.asked_delete(asked.tenant_id, asked.isolation).await?;
        tx.commit().await?;
        let said: Value = serde_json::from_slice(&plain).unwrap_or_default();
        if answered.succeeded {
            return Ok(said);
        }
        let why = said["error"].as_str().unwrap_or("it is not said why").to_owned();
        Err(of(verb, Failed::Said(why)))
    }

    async fn noted(&self, verb: Verb, place: &Place) -> Result<Asked, Error> {
        let (now, tenant_id, isolation) = (self.clock.now(), place.tenant_id, place.isolation);
        let mut tx = self.store.begin(SCOPE).await?;
        if let Some(known) = tx.asked(tenant_id, isolation, verb).await? {
            return Ok(known);
        }
        let asked = Asked { id: uuid_v7(now, &*self.rng), tenant_id, isolation, verb, answered: None };
        tx.asked_insert(&asked, now).await?;
        tx.commit().await?;
        Ok(asked)
    }

    /// Calls until the call is taken.
    async fn call(&self, asked: &Asked, place: &Place) -> Result<(), Failed> {
        let (body, id) = (self.body(asked, place), asked.id.to_string());
        let mut wait = FIRST_WAIT;
        let mut why = String::new();
        for attempt in 1..=self.config.attempts {
            let at = self.clock.now();
            let signature = sign(&self.config.key, &Signed { id: &id, at, body: &body });
            let headers = vec![
                ("webhook-id", id.clone()),
                ("webhook-timestamp", at.as_secs().to_string()),
                ("webhook-signature", signature),
                ("user-agent", "tollgate".to_owned()),
            ];
            match self.calls.post(&self.config.url, headers, body.clone()).await {
                Ok(200..=299) => return Ok(()),
                Ok(status) => why = format!("the answer was {status}"),
                Err(error) => why = error.to_string(),
            }
            if attempt < self.config.attempts {
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
        }
        Err(Failed::NotTaken { attempts: self.config.attempts, why })
    }

    /// In our words, and in those of AWS's SaaS Builder Toolkit beside them.
    fn body(&self, asked: &Asked, place: &Place) -> String {
        let (id, tenant) = (asked.id.to_string(), place.tenant_id.to_string());
        let sbt = match asked.verb {
            Verb::Apply => "sbt_aws_onboardingRequest",
            Verb::Destroy => "sbt_aws_offboardingRequest",
        };
        json!({
            "type": format!("provisioning.{}", asked.verb.name()),
            "timestamp": self.clock.now().to_string(),
            "data": {
                "request_id": id,
                "tenant_id": tenant,
                "isolation": place.isolation.name(),
                "pool": place.pool,
                "location": place.location,
                "callback_url": self.config.callback,
            },
            "source": "controlPlaneEventSource",
            "detail-type": sbt,
            "detail": { "tenantRegistrationId": id, "tenantId": tenant },
        })
        .to_string()
    }

    async fn wait(&self, asked: &Asked) -> Result<Answered, Error> {
        let until = Instant::now() + self.config.timeout;
        loop {
            let heard = self.heard.notified();
            let found = self.store.read(SCOPE).await?.asked_by_id(asked.id).await?;
            if let Some(answered) = found.and_then(|found| found.answered) {
                return Ok(answered);
            }
            if Instant::now() >= until {
                return Err(of(asked.verb, Failed::NoCallback(self.config.timeout)));
            }
            // An answer to this node is heard of at once, one to another within the pause.
            drop(tokio::time::timeout(LOOK, heard).await);
        }
    }
}

/// No answer opens as that to something else.
pub(super) fn sealed_as(asked: &Asked) -> String {
    format!("provisioning request {}", asked.id)
}

fn of(verb: Verb, source: Failed) -> Error {
    let verb = match verb {
        Verb::Apply => "make a place",
        Verb::Destroy => "take a place down",
    };
    Error::of(WebhookDriver::NAME, verb, source)
}

fn otherwise(tenant: TenantId) -> String {
    format!("webhook:{tenant}")
}

impl Driver for WebhookDriver {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn plan<'a>(&'a self, place: &'a Place) -> Work<'a, Vec<String>> {
        let step = format!("ask {} for a {}", self.config.url, place.isolation.name());
        Box::pin(async { Ok(if place.location.is_empty() { vec![step] } else { Vec::new() }) })
    }

    fn apply<'a>(&'a self, place: &'a Place) -> Work<'a, Made> {
        Box::pin(async {
            let said = self.ask(Verb::Apply, place).await?;
            let made = Answer::of(said).and_then(|answer| answer.made(|| otherwise(place.tenant_id)));
            made.map_err(|error| of(Verb::Apply, error.into()))
        })
    }

    fn serves(&self) -> bool {
        false
    }

    /// Nobody can be asked: what was made is believed to be there.
    fn verify<'a>(&'a self, place: &'a Place) -> Work<'a, Finding> {
        let finding = if place.location.is_empty() { Finding::Absent } else { Finding::Present };
        Box::pin(async { Ok(finding) })
    }

    fn destroy<'a>(&'a self, place: &'a Place) -> Work<'a, ()> {
        Box::pin(async { self.ask(Verb::Destroy, place).await.map(drop) })
    }

    fn hear<'a>(&'a self, callback: &'a super::driver::Callback) -> Work<'a, ()> {
        Box::pin(self.take(callback))
    }
}
