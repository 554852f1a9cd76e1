//! Tells whoever asked for it of events: looks when a commit left something, and now and then while anything waits.
//!
//! Each address is served by itself, so that one that is slow or down keeps nobody but itself; after a failure it is left alone.
//! Without webhooks nothing waits, and nothing is done.

use std::{collections::HashSet, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream, stream::FuturesUnordered};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio_util::sync::CancellationToken;

use crate::{
    kernel::{WebhookId, fault::chain},
    outbound::Outbound,
    webhooks::{Answer, Claimed, Delivery, Error, Message, Outcome, Webhooks},
};

/// While anything waits it is looked this often what is due; else only now and then, for what another node left.
const WAITING: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_mins(1);
/// What is kept long enough is forgotten this often.
const TIDY: Duration = Duration::from_hours(1);
/// A call takes this long at most (Standard Webhooks, "Request timeouts").
const DEADLINE: Duration = Duration::from_secs(15);
/// Addresses that are served at once, and calls to one of them.
const ADDRESSES: usize = 64;
const CALLS: usize = 4;

/// Tells until it is stopped; calls that are under way then are finished, at the latest by their deadline.
pub async fn tell(webhooks: Webhooks, outbound: Outbound, stop: CancellationToken) {
    let tidying = stop.run_until_cancelled(tidy_for_ever(&webhooks).boxed());
    tokio::join!(tell_until(&stop, &webhooks, &outbound).boxed(), tidying);
}

async fn tell_until(stop: &CancellationToken, webhooks: &Webhooks, outbound: &Outbound) {
    let mut busy = HashSet::new();
    let mut served: FuturesUnordered<BoxFuture<'_, WebhookId>> = FuturesUnordered::new();
    while !stop.is_cancelled() {
        let pause = match begin(stop, webhooks, outbound, &mut busy).await {
            Ok((begun, pause)) => {
                served.extend(begun);
                pause
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "the outbox of events could not be read");
                WAITING
            }
        };
        tokio::select! {
            Some(webhook) = served.next() => drop(busy.remove(&webhook)),
            () = webhooks.something_to_deliver() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
    while served.next().await.is_some() {}
}

type Begun<'a> = (Vec<BoxFuture<'a, WebhookId>>, Duration);

/// Begins to serve addresses that something is due for and that are not served already, and says when to look again.
async fn begin<'a>(
    stop: &'a CancellationToken,
    webhooks: &'a Webhooks,
    outbound: &'a Outbound,
    busy: &mut HashSet<WebhookId>,
) -> Result<Begun<'a>, Error> {
    let mut begun = Vec::new();
    for webhook in webhooks.due().await? {
        if busy.len() < ADDRESSES && busy.insert(webhook) {
            let serve = async move {
                if let Err(error) = serve(stop, webhooks, outbound, webhook).await {
                    tracing::warn!(webhook_id = %webhook, error = chain(&error), "events could not be told");
                }
                webhook
            };
            begun.push(serve.boxed());
        }
    }
    let pause = if webhooks.any_waiting().await? { WAITING } else { IDLE };
    Ok((begun, pause))
}

async fn tidy_for_ever(webhooks: &Webhooks) {
    loop {
        if let Err(error) = webhooks.tidy().await {
            tracing::warn!(error = chain(&error), "old events could not be forgotten");
        }
        tokio::time::sleep(TIDY).await;
    }
}

/// Tells everybody of all that is due now; how many events were taken.
pub async fn tell_once(webhooks: &Webhooks, outbound: &Outbound) -> Result<usize, Error> {
    let (due, never) = (webhooks.due().await?, CancellationToken::new());
    let told = stream::iter(due).map(|webhook| serve(&never, webhooks, outbound, webhook)).buffer_unordered(ADDRESSES);
    let told: Vec<Result<usize, Error>> = told.collect().await;
    told.into_iter().try_fold(0, |sum, told| Ok(sum + told?))
}

/// Tells one address of all that is due for it, until nothing is, or it fails; how many events it took.
async fn serve(
    stop: &CancellationToken,
    webhooks: &Webhooks,
    outbound: &Outbound,
    webhook: WebhookId,
) -> Result<usize, Error> {
    let mut taken = 0;
    loop {
        let due = webhooks.due_for(webhook).await?;
        // Nothing more is begun once it is to end.
        let due = due.into_iter().take_while(|_| !stop.is_cancelled());
        let told = stream::iter(due).map(|delivery| tell_of(webhooks, outbound, delivery)).buffer_unordered(CALLS);
        let told: Vec<Result<Option<Outcome>, Error>> = told.collect().await;
        let told = told.into_iter().collect::<Result<Vec<_>, _>>()?;
        let now_taken = told.iter().filter(|outcome| **outcome == Some(Outcome::Delivered)).count();
        taken += now_taken;
        if now_taken == 0 {
            return Ok(taken);
        }
    }
}

/// `None` where another node does, or nobody now.
async fn tell_of(webhooks: &Webhooks, outbound: &Outbound, delivery: Delivery) -> Result<Option<Outcome>, Error> {
    let Some(claimed) = webhooks.claim(delivery).await? else { return Ok(None) };
    let answer = call(outbound, &claimed).await;
    let outcome = webhooks.settle(&claimed, &answer).await?;
    if outcome != Outcome::Delivered {
        let Delivery { webhook, attempts, event } = &claimed.delivery;
        let reason = answer.status.map_or_else(|reason| reason, |status| status.to_string());
        tracing::warn!(webhook_id = %webhook, event_id = %event.id, attempts, reason, "an event was not taken");
    }
    Ok(Some(outcome))
}

/// One message after the other; the first that is not taken is the answer, and all are sent again then.
async fn call(outbound: &Outbound, claimed: &Claimed) -> Answer {
    // What is told in no words is told.
    let mut answer = Answer { status: Ok(204), retry_after: None };
    for message in &claimed.messages {
        answer = send(outbound, claimed, message).await;
        if !matches!(answer.status, Ok(200..=299)) {
            break;
        }
    }
    answer
}

async fn send(outbound: &Outbound, claimed: &Claimed, message: &Message) -> Answer {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("webhook-id", message.id.as_str()),
        ("webhook-timestamp", &claimed.at.as_secs().to_string()),
        ("webhook-signature", message.signatures.expose()),
    ] {
        // Ids, numbers and base64 are fit for headers.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.insert(header::USER_AGENT, HeaderValue::from_static("tollgate"));
    match outbound.post_json(&claimed.url, headers, message.body.clone(), DEADLINE).await {
        Ok(head) => {
            let retry_after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            Answer { status: Ok(head.status.as_u16()), retry_after: retry_after.map(str::to_owned) }
        }
        Err(error) => Answer { status: Err(chain(&error)), retry_after: None },
    }
}
