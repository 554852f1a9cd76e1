//! Which call is to be made for whom, and what follows from its answer. Who makes it is `pushes.rs`.

use super::{
    error::Error,
    model::{Answer, Call, Job, Kind, Matter, Settled, UsageEvent},
    requests::{self, Next},
    rules::{self, Verdict},
    service::Stripe,
};
use crate::{
    billing::InvoiceDocument,
    kernel::{TenantId, Timestamp, rng::random_bytes},
    store::{Scope, Tx},
};

pub(super) const SCOPE: Scope = Scope::Job("stripe");
/// Whoever takes a lane and dies leaves it to others after this, in seconds: longer than a call takes.
const LEASE_S: i64 = 20;
/// Lanes that are looked for at once.
const BATCH: i64 = 64;

impl Stripe {
    /// Tenants for whom a call is due, those first that wait longest; none while Stripe is left alone.
    pub async fn due(&self) -> Result<Vec<TenantId>, Error> {
        let mut tx = self.store.read(SCOPE).await?;
        if self.config().is_none() || tx.stripe_halted().await?.is_some() {
            return Ok(Vec::new());
        }
        Ok(tx.stripe_lanes_due(self.clock.now(), BATCH).await?)
    }

    /// Takes a tenant's next call upon this process; `None` when nothing is due, or somebody else does it. What needs no call is
    /// settled on the way.
    pub async fn claim(&self, tenant: TenantId) -> Result<Option<Call>, Error> {
        let Some(config) = self.config() else { return Ok(None) };
        loop {
            let now = self.clock.now();
            let lease = now.plus_secs(LEASE_S);
            let mut tx = self.store.begin(SCOPE).await?;
            if tx.stripe_halted().await?.is_some() {
                return Ok(None);
            }
            let Some(lane) = tx.stripe_lane_claim(tenant, lease, now).await? else { return Ok(None) };
            let due = |job: &Job| job.parked_at.is_none() && job.next_try_at <= now;
            let Some(job) = tx.stripe_job_next(tenant).await?.filter(due) else { return Ok(None) };
            let job = rules::doubted(job, now);
            let matter = matter(&mut tx, &job).await?;
            let next = matter.and_then(|matter| requests::next(&job, &lane, &matter, &config.customer_metadata, now));
            let (job, ask) = match next {
                Ok((Next::Ask(step, request), steps)) => {
                    let is_first = job.tried_at.is_none();
                    let tried_at = if request.post.is_some() { job.tried_at.or(Some(now)) } else { job.tried_at };
                    (Job { tried_at, ..job }, Some((step, request, steps, is_first)))
                }
                Ok((Next::Nothing, _)) => (Job { settled: Some((now, Settled::Nothing)), ..job }, None),
                Err(why) => {
                    tracing::warn!(tenant_id = %tenant, kind = job.kind.name(), why, "a job for Stripe is parked");
                    (Job { parked_at: Some(now), error: Some(why), ..job }, None)
                }
            };
            tx.stripe_job_update(&job).await?;
            let Some((step, request, steps, is_first)) = ask else {
                tx.stripe_lane_release(&lane, lease, None).await?;
                tx.commit().await?;
                continue;
            };
            tx.commit().await?;
            return Ok(Some(Call { job, step, request, lease, steps, is_first }));
        }
    }

    /// Notes what a call came to; whether the tenant's lane goes on at once.
    pub async fn settle(&self, call: &Call, answer: &Answer) -> Result<bool, Error> {
        let (now, tenant) = (self.clock.now(), call.job.tenant);
        let lot = u16::from_be_bytes(random_bytes(&*self.rng));
        let mut tx = self.store.begin(SCOPE).await?;
        let Some(mut lane) = tx.stripe_lane(tenant).await? else { return Ok(false) };
        let job = rules::after(call, answer, &mut lane, now, lot);
        let verdict = rules::verdict(answer);
        let taken = matches!(verdict, Verdict::Done | Verdict::Known);
        if !tx.stripe_lane_release(&lane, call.lease, taken.then_some(now)).await? {
            // It took so long that somebody else does the same, under the same key.
            return Ok(false);
        }
        tx.stripe_job_update(&job).await?;
        if job.kind == Kind::Usage
            && taken
            && let Some((meter, hour, revision)) = read_subject(&job.subject)
            && let Some(event) = tx.stripe_usage_event((tenant, meter), hour, revision).await?
        {
            tx.stripe_usage_sent(&event, now).await?;
        }
        if let Verdict::Halt(why) = &verdict {
            tx.stripe_halt(Some((now, why))).await?;
        }
        tx.commit().await?;
        say(&job, &verdict);
        Ok(taken && job.parked_at.is_none())
    }
}

fn say(job: &Job, verdict: &Verdict) {
    let Job { tenant, kind, attempts, .. } = job;
    let (kind, error) = (kind.name(), job.error.as_deref().unwrap_or_default());
    if matches!(verdict, Verdict::Halt(_)) {
        tracing::error!(error, "Stripe refuses the secret key: nothing is sent any more until somebody says so");
    } else if job.parked_at.is_some() {
        tracing::warn!(tenant_id = %tenant, kind, error, "a job for Stripe is parked");
    } else if job.error.is_some() {
        tracing::warn!(tenant_id = %tenant, kind, attempts, error, "a call of Stripe came to nothing; it is made again");
    }
}

/// What a job is made of; an error in words when it is not there.
async fn matter(tx: &mut Tx, job: &Job) -> Result<Result<Matter, String>, Error> {
    let gone = || format!("{} {} is not there any more", job.kind.name(), job.subject);
    Ok(match job.kind {
        Kind::Customer => tx.stripe_customer(job.tenant).await?.map(Matter::Customer).ok_or_else(gone),
        Kind::Invoice => {
            let invoice = match job.subject.parse() {
                Ok(id) => tx.invoice(id).await?,
                Err(_) => None,
            };
            let document = |invoice: &crate::billing::Invoice| {
                serde_json::from_str::<InvoiceDocument>(&invoice.document).map_err(|error| error.to_string())
            };
            invoice.ok_or_else(gone).and_then(|invoice| {
                let document = document(&invoice)?;
                Ok(Matter::Invoice(Box::new((invoice, document))))
            })
        }
        Kind::Void | Kind::Paid => {
            let made = tx.stripe_job(Kind::Invoice, &job.subject).await?;
            Ok(Matter::Known(made.and_then(|made| made.remote)))
        }
        Kind::Usage | Kind::Cancel => match read_subject(&job.subject) {
            Some((meter, hour, revision)) => {
                let event = tx.stripe_usage_event((job.tenant, meter), hour, revision).await?;
                event.map(Matter::Usage).ok_or_else(gone)
            }
            None => Err(gone()),
        },
    })
}

/// What a job about a meter event is about.
pub(super) fn subject(event: &UsageEvent) -> String {
    let UsageEvent { tenant, meter, hour, revision, .. } = event;
    format!("{tenant}:{meter}:{}:{revision}", hour.as_secs())
}

/// Meter, hour and revision.
fn read_subject(subject: &str) -> Option<(&str, Timestamp, i64)> {
    let mut parts = subject.split(':').skip(1);
    let (meter, hour, revision) = (parts.next()?, parts.next()?, parts.next()?);
    Some((meter, Timestamp::from_secs(hour.parse().ok()?)?, revision.parse().ok()?))
}
