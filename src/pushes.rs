//! Makes the calls that wait for Stripe, tenant by tenant, and has looked now and then what else it is to be told.
//!
//! Each tenant is served by itself, one call after the other, so that one whose calls fail or are slow keeps nobody but itself.
//! Where Stripe is not set up, nothing of this runs.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream, stream::FuturesUnordered};
use http::{HeaderMap, HeaderValue, Method, Request, header};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    kernel::{TenantId, fault::chain},
    outbound::{Outbound, OutboundError, Reach},
    stripe::{Answer, Call, Error, Stripe, StripeConfig},
};

/// It is looked this often what is due.
const DUE: Duration = Duration::from_secs(2);
/// And this often whether tenants are new or changed, and whether an hour is over: then all usage is looked at.
const PLAN: Duration = Duration::from_mins(1);
/// A call takes this long at most.
const DEADLINE: Duration = Duration::from_secs(15);
/// Tenants that are served at once: well below Stripe's limit of calls a second.
const LANES: usize = 8;
/// What answers are shaped by (docs.stripe.com/api/versioning), whatever the account's own is.
const VERSION: &str = "2026-10-28.endive";

/// Begins it, where Stripe is set up.
pub fn begin(stripe: &Stripe, tasks: &TaskTracker, stop: &CancellationToken) {
    let Some(config) = stripe.config() else { return };
    let outbound = outbound(config);
    tasks.spawn(push(stripe.clone(), outbound, stop.clone()));
    tasks.spawn(plan(stripe.clone(), stop.clone()));
}

/// To whoever the settings name, and nobody else: a double is on this machine.
pub fn outbound(config: &StripeConfig) -> Outbound {
    Outbound::new(if config.api_base.starts_with("http:") { Reach::Private } else { Reach::Public })
}

/// Makes calls until it is stopped; what is under way then is finished, at the latest by its deadline.
async fn push(stripe: Stripe, outbound: Outbound, stop: CancellationToken) {
    let mut busy = HashSet::new();
    let mut served = FuturesUnordered::new();
    while !stop.is_cancelled() {
        match stripe.due().await {
            Ok(due) => {
                for tenant in due {
                    if busy.len() < LANES && busy.insert(tenant) {
                        served.push(serve_one(&stripe, &outbound, &stop, tenant));
                    }
                }
            }
            Err(error) => tracing::warn!(error = chain(&error), "what waits for Stripe could not be read"),
        }
        tokio::select! {
            Some(tenant) = served.next() => drop(busy.remove(&tenant)),
            () = tokio::time::sleep(DUE) => {}
            () = stop.cancelled() => {}
        }
    }
    while served.next().await.is_some() {}
}

async fn serve_one(stripe: &Stripe, outbound: &Outbound, stop: &CancellationToken, tenant: TenantId) -> TenantId {
    if let Err(error) = serve(stripe, outbound, stop, tenant).await {
        tracing::warn!(tenant_id = %tenant, error = chain(&error), "what waits for Stripe could not be sent");
    }
    tenant
}

async fn plan(stripe: Stripe, stop: CancellationToken) {
    let (mut after, mut planned) = (None, None);
    loop {
        let hour = stripe.counted_hour();
        let look = async {
            let (_, next) = stripe.plan_customers(after).await?;
            if planned != Some(hour) {
                stripe.plan_usage().await?;
            }
            Ok::<_, Error>(next)
        };
        match stop.run_until_cancelled(Box::pin(look)).await {
            Some(Ok(next)) => (after, planned) = (next, Some(hour)),
            Some(Err(error)) => tracing::warn!(error = chain(&error), "what Stripe is to be told could not be found"),
            None => return,
        }
        if stop.run_until_cancelled(tokio::time::sleep(PLAN)).await.is_none() {
            return;
        }
    }
}

/// Looks once what Stripe is to be told, of tenants after one; after whom to go on.
pub async fn plan_once(stripe: &Stripe, after: Option<TenantId>) -> Result<Option<TenantId>, Error> {
    let (_, next) = stripe.plan_customers(after).await?;
    stripe.plan_usage().await?;
    Ok(next)
}

/// Makes all calls that are due now, and those that follow from them; how many were answered as was hoped for.
pub async fn push_once(stripe: &Stripe, outbound: &Outbound, stop: &CancellationToken) -> Result<usize, Error> {
    let due = stripe.due().await?;
    let served = stream::iter(due).map(|tenant| serve(stripe, outbound, stop, tenant)).buffer_unordered(LANES);
    let served: Vec<Result<usize, Error>> = served.collect().await;
    served.into_iter().try_fold(0, |sum, made| Ok(sum + made?))
}

/// Makes a tenant's calls one after the other, until nothing is due or one comes to nothing.
async fn serve(
    stripe: &Stripe,
    outbound: &Outbound,
    stop: &CancellationToken,
    tenant: TenantId,
) -> Result<usize, Error> {
    let mut made = 0;
    while !stop.is_cancelled() {
        let Some((config, call)) = stripe.config().zip(stripe.claim(tenant).await?) else { break };
        let answer = make(config, outbound, &call).await;
        if !stripe.settle(&call, &answer).await? {
            break;
        }
        made += 1;
    }
    Ok(made)
}

async fn make(config: &StripeConfig, outbound: &Outbound, call: &Call) -> Answer {
    let failed = |failure: String| Answer { failure: Some(failure), ..Answer::default() };
    let Some(request) = request(config, call) else { return failed("the request cannot be written".to_owned()) };
    match outbound.exchange(request, DEADLINE).await {
        Ok((head, body)) => answer(head.status.as_u16(), &head.headers, &body),
        Err(error) => Answer { unsent: is_unsent(&error), ..failed(chain(&error)) },
    }
}

/// Whether a call that failed has certainly not come to Stripe: there was no connection.
fn is_unsent(error: &OutboundError) -> bool {
    match error {
        OutboundError::Address | OutboundError::Private => true,
        OutboundError::Failed(error) => error.is_connect(),
        OutboundError::Deadline(_) | OutboundError::Status(_) | OutboundError::Body(_) => false,
    }
}

fn request(config: &StripeConfig, call: &Call) -> Option<Request<http_body_util::Full<Bytes>>> {
    let mut request = Request::builder().uri(format!("{}{}", config.api_base, call.request.path));
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", config.secret_key.expose())).ok()?;
    bearer.set_sensitive(true);
    request = request.header(header::AUTHORIZATION, bearer).header("stripe-version", VERSION);
    request = request.header(header::USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")));
    let body = match &call.request.post {
        None => Bytes::new(),
        Some((form, key)) => {
            request = request.method(Method::POST).header("idempotency-key", key);
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            let pairs = form.iter().map(|(name, value)| (name, value));
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish().into()
        }
    };
    request.body(body.into()).ok()
}

fn answer(status: u16, headers: &HeaderMap, body: &[u8]) -> Answer {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Answer {
        status: Some(status),
        failure: None,
        unsent: false,
        retry_after_s: text("retry-after").and_then(|text| text.trim().parse().ok()),
        should_retry: text("stripe-should-retry").and_then(|text| text.parse().ok()),
        replayed: text("idempotent-replayed") == Some("true"),
        request_id: text("request-id").map(str::to_owned),
        body: serde_json::from_slice(body).unwrap_or_default(),
    }
}
