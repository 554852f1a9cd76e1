//! What foreign issuers need of the rest of the program, joined together: calls over the web, tenants made by onboarding,
//! work on the server's own tracker.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::HeaderValue;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    identity::{Made, Named, Outside, OutsideError, Verifier, Work},
    kernel::{ExternalId, Secret},
    onboarding::{self, Onboarding},
    outbound::{Outbound, OutboundError, Reach},
};

/// Keys are looked at this often, whether they are to be fetched anew.
const LOOK: Duration = Duration::from_secs(1);

/// The rest of the program.
pub struct Rest {
    onboarding: Onboarding,
    tasks: TaskTracker,
    /// For addresses that settings name.
    anywhere: Outbound,
    /// For those that an issuer names.
    public: Outbound,
}

impl Rest {
    /// Makes tenants with `onboarding`; what nobody waits for any more runs on `tasks`.
    pub fn new(onboarding: Onboarding, tasks: TaskTracker) -> Arc<Self> {
        let (anywhere, public) = (Outbound::new(Reach::Private), Outbound::new(Reach::Public));
        Arc::new(Self { onboarding, tasks, anywhere, public })
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> OutsideError {
    OutsideError(Box::new(error))
}

fn body(answer: Result<Bytes, OutboundError>) -> Result<Vec<u8>, OutsideError> {
    answer.map(Vec::from).map_err(failed)
}

impl Outside for Rest {
    fn get<'a>(&'a self, address: &'a str, named: Named) -> Work<'a, Result<Vec<u8>, OutsideError>> {
        let outbound = match named {
            Named::BySettings => &self.anywhere,
            Named::ByIssuer => &self.public,
        };
        Box::pin(async move { body(outbound.get(address).await) })
    }

    fn post<'a>(
        &'a self,
        address: &'a str,
        form: String,
        (client_id, secret): (&'a str, &'a Secret),
    ) -> Work<'a, Result<Vec<u8>, OutsideError>> {
        // RFC 6749 section 2.3.1: both are encoded as in a form before they are joined.
        let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encoded(client_id), encoded(secret.expose()));
        let authorization = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
        Box::pin(async move {
            let mut authorization = authorization.map_err(failed)?;
            authorization.set_sensitive(true);
            body(self.anywhere.post_form_for(address, form, authorization).await)
        })
    }

    fn make_tenant<'a>(&'a self, name: ExternalId, issuer: &'a str) -> Work<'a, Result<Made, OutsideError>> {
        Box::pin(async move {
            match self.onboarding.ensure_named(name, issuer).await.map_err(failed)? {
                onboarding::Named::Exists => Ok(Made::Exists),
                onboarding::Named::Gone => Ok(Made::Gone),
            }
        })
    }

    fn run(&self, work: Work<'static, ()>) {
        drop(self.tasks.spawn(work));
    }
}

/// Fetches foreign issuers' keys before their lifetime is over, until it is stopped.
pub async fn keep_keys_fresh(verifier: Verifier, stop: CancellationToken) {
    loop {
        verifier.keep_keys_fresh().await;
        if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
            return;
        }
    }
}
