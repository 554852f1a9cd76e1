//! Queries about what goes to Stripe: lanes of tenants, and the jobs that wait in them.
//!
//! Of a lane only the first job that is not settled is ever due. Whoever makes a call for it holds the lane until then, or until
//! the lease is over, and writes what came of it only while nobody else has taken the lane since.

use super::{StoreError, Tx, value::Row};
use crate::{
    billing::AddressBody,
    kernel::{InvoiceId, PageRequest, TenantId, Timestamp},
    stripe::model::{Customer, Job, Kind, Lane, Settled, Standing},
};

/// Whether `j` is the first of its lane that is not settled.
const FIRST: &str = "NOT EXISTS (SELECT 1 FROM stripe_jobs e
                     WHERE e.tenant_id = j.tenant_id AND e.settled_at IS NULL AND e.sequence < j.sequence)";

/// A customer, with the digest of what the last job about it says.
pub type CustomerRow = (Customer, Option<Vec<u8>>);

fn read_job(row: &Row) -> Result<Job, StoreError> {
    let settled = match row.get::<Option<Timestamp>>("settled_at")? {
        None => None,
        Some(at) => Some((at, read_outcome(&row.get::<String>("outcome")?)?)),
    };
    Ok(Job {
        tenant: row.get("tenant_id")?,
        sequence: row.get("sequence")?,
        kind: row.parse("kind")?,
        subject: row.get("subject")?,
        step: row.get("step")?,
        remote: row.get("remote")?,
        generation: row.get("generation")?,
        tried_at: row.get("tried_at")?,
        in_doubt: row.get::<i64>("in_doubt")? != 0,
        attempts: row.get("attempts")?,
        next_try_at: row.get("next_try_at")?,
        error: row.get("error")?,
        parked_at: row.get("parked_at")?,
        settled,
    })
}

fn read_outcome(name: &str) -> Result<Settled, StoreError> {
    let found = [Settled::Done, Settled::Nothing, Settled::Skipped].into_iter().find(|own| own.name() == name);
    found.ok_or_else(|| StoreError::Corrupt(format!("outcome: {name:?}")))
}

fn read_lane(row: &Row) -> Result<Lane, StoreError> {
    Ok(Lane { tenant: row.get("tenant_id")?, customer: row.get("customer")? })
}

fn read_customer(row: &Row) -> Result<CustomerRow, StoreError> {
    let address: Option<String> = row.get("billing_address")?;
    let address = address.map(|text| serde_json::from_str::<AddressBody>(&text));
    let address = address.transpose().map_err(|error| StoreError::Corrupt(format!("billing_address: {error}")))?;
    let (tenant, name, email) = (row.get("tenant_id")?, row.get("customer_name")?, row.get("email")?);
    Ok((Customer { tenant, name, email, address }, row.get("digest")?))
}

impl Tx {
    /// Why Stripe is left alone, while it is.
    pub async fn stripe_halted(&mut self) -> Result<Option<(Timestamp, String)>, StoreError> {
        let row =
            self.query("SELECT halted_at, halted_why FROM stripe_state WHERE halted_at IS NOT NULL").row().await?;
        row.map(|row| Ok((row.get("halted_at")?, row.get("halted_why")?))).transpose()
    }

    /// Leaves Stripe alone from now on, or no more.
    pub async fn stripe_halt(&mut self, why: Option<(Timestamp, &str)>) -> Result<(), StoreError> {
        self.query("UPDATE stripe_state SET halted_at = $1, halted_why = $2 WHERE id = 1")
            .bind(why.map(|(at, _)| at))
            .bind(why.map(|(_, text)| text))
            .execute()
            .await?;
        Ok(())
    }

    /// From when on usage goes to Stripe: what was noted first, or else an instant, which is noted.
    pub async fn stripe_usage_since(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        self.query("UPDATE stripe_state SET usage_since = $1 WHERE id = 1 AND usage_since IS NULL")
            .bind(now)
            .execute()
            .await?;
        let since =
            self.query("SELECT usage_since FROM stripe_state WHERE id = 1").map_one(|row| row.get("usage_since"));
        since.await?.ok_or_else(|| StoreError::Corrupt("stripe_state: no row".into()))
    }

    /// Adds a job to a tenant's lane, whose row is held until the transaction ends; before the first, one that makes the
    /// tenant a customer. `false` when there is one about the same.
    pub async fn stripe_job_insert(
        &mut self,
        tenant: TenantId,
        kind: Kind,
        subject: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.must_cover(tenant)?;
        let mut sequence = self.stripe_lane_next(tenant).await?;
        if sequence == 1 && kind != Kind::Customer {
            self.job_insert((tenant, sequence), Kind::Customer, &format!("{tenant}:{sequence}"), now).await?;
            sequence = self.stripe_lane_next(tenant).await?;
        }
        self.job_insert((tenant, sequence), kind, subject, now).await
    }

    /// Lets an invoice that was issued wait to be made at Stripe.
    pub async fn stripe_invoice_issued(
        &mut self,
        tenant: TenantId,
        invoice: InvoiceId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.stripe_job_insert(tenant, Kind::Invoice, &invoice.to_string(), now).await.map(drop)
    }

    /// Lets one that was taken back wait to be voided there, if it was to be made there.
    pub async fn stripe_invoice_voided(
        &mut self,
        tenant: TenantId,
        invoice: InvoiceId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.stripe_invoice_follows(tenant, Kind::Void, &invoice.to_string(), now).await
    }

    /// Lets one that was paid wait to be called paid there, if it was to be made there.
    pub async fn stripe_invoice_paid(
        &mut self,
        tenant: TenantId,
        invoice: InvoiceId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.stripe_invoice_follows(tenant, Kind::Paid, &invoice.to_string(), now).await
    }

    async fn stripe_invoice_follows(
        &mut self,
        tenant: TenantId,
        kind: Kind,
        subject: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if self.stripe_job(Kind::Invoice, subject).await?.is_some() {
            self.stripe_job_insert(tenant, kind, subject, now).await?;
        }
        Ok(())
    }

    /// Adds a job that tells Stripe of a customer as it is by now, and notes what it will say.
    pub async fn stripe_customer_changed(
        &mut self,
        tenant: TenantId,
        digest: &[u8],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sequence = self.stripe_lane_next(tenant).await?;
        self.job_insert((tenant, sequence), Kind::Customer, &format!("{tenant}:{sequence}"), now).await?;
        let sql = "UPDATE stripe_tenants SET digest = $2 WHERE tenant_id = $1";
        self.query(sql).bind(tenant).bind(digest).execute().await?;
        Ok(())
    }

    async fn stripe_lane_next(&mut self, tenant: TenantId) -> Result<i64, StoreError> {
        let last = self
            .query(
                "INSERT INTO stripe_tenants (tenant_id, last) VALUES ($1, 1)
                 ON CONFLICT (tenant_id) DO UPDATE SET last = stripe_tenants.last + 1 RETURNING last",
            )
            .bind(tenant)
            .map_one(|row| row.get("last"))
            .await?;
        last.ok_or_else(|| StoreError::Corrupt("stripe_tenants: no row".into()))
    }

    async fn job_insert(
        &mut self,
        (tenant, sequence): (TenantId, i64),
        kind: Kind,
        subject: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.query(
            "INSERT INTO stripe_jobs (tenant_id, sequence, kind, subject, step, generation, in_doubt, attempts, next_try_at,
                                      created_at)
             VALUES ($1, $2, $3, $4, 0, 1, 0, 0, $5, $5) ON CONFLICT (kind, subject) DO NOTHING",
        )
        .bind(tenant)
        .bind(sequence)
        .bind(kind.name())
        .bind(subject)
        .bind(now)
        .changed_one()
        .await
    }

    /// Lanes in which something is due and that nobody holds, those first that wait longest.
    pub async fn stripe_lanes_due(&mut self, now: Timestamp, most: i64) -> Result<Vec<TenantId>, StoreError> {
        self.assembled(format!(
            "SELECT j.tenant_id FROM stripe_jobs j JOIN stripe_tenants t ON t.tenant_id = j.tenant_id
             WHERE j.settled_at IS NULL AND j.parked_at IS NULL AND j.next_try_at <= $1
                 AND (t.claimed_until IS NULL OR t.claimed_until <= $1) AND {FIRST}
             ORDER BY j.next_try_at, j.tenant_id LIMIT $2"
        ))
        .bind(now)
        .bind(most)
        .map(|row| row.get("tenant_id"))
        .await
    }

    /// Takes a lane; `None` when somebody else has it.
    pub async fn stripe_lane_claim(
        &mut self,
        tenant: TenantId,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Lane>, StoreError> {
        self.query(
            "UPDATE stripe_tenants SET claimed_until = $2
             WHERE tenant_id = $1 AND (claimed_until IS NULL OR claimed_until <= $3)
             RETURNING tenant_id, customer",
        )
        .bind(tenant)
        .bind(until)
        .bind(now)
        .map_one(read_lane)
        .await
    }

    /// Gives a lane back; `false` when it was somebody else's by now.
    pub async fn stripe_lane_release(
        &mut self,
        lane: &Lane,
        lease: Timestamp,
        sent_at: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        self.query(
            "UPDATE stripe_tenants SET claimed_until = NULL, customer = $3, sent_at = COALESCE($4, sent_at)
             WHERE tenant_id = $1 AND claimed_until = $2",
        )
        .bind(lane.tenant)
        .bind(lease)
        .bind(lane.customer.as_deref())
        .bind(sent_at)
        .changed_one()
        .await
    }

    /// Tenants with a lane, after one in the order of ids.
    pub async fn stripe_lanes_after(
        &mut self,
        after: Option<TenantId>,
        most: i64,
    ) -> Result<Vec<TenantId>, StoreError> {
        self.query(
            "SELECT tenant_id FROM stripe_tenants WHERE $1 IS NULL OR tenant_id > $1 ORDER BY tenant_id LIMIT $2",
        )
        .bind(after)
        .bind(most)
        .map(|row| row.get("tenant_id"))
        .await
    }

    /// What a tenant's lane says.
    pub async fn stripe_lane(&mut self, tenant: TenantId) -> Result<Option<Lane>, StoreError> {
        let sql = "SELECT tenant_id, customer FROM stripe_tenants WHERE tenant_id = $1";
        self.query(sql).bind(tenant).map_one(read_lane).await
    }

    /// The first job of a lane that is not settled.
    pub async fn stripe_job_next(&mut self, tenant: TenantId) -> Result<Option<Job>, StoreError> {
        self.query("SELECT * FROM stripe_jobs WHERE tenant_id = $1 AND settled_at IS NULL ORDER BY sequence LIMIT 1")
            .bind(tenant)
            .map_one(read_job)
            .await
    }

    /// The job about something.
    pub async fn stripe_job(&mut self, kind: Kind, subject: &str) -> Result<Option<Job>, StoreError> {
        let sql = "SELECT * FROM stripe_jobs WHERE kind = $1 AND subject = $2";
        self.query(sql).bind(kind.name()).bind(subject).map_one(read_job).await
    }

    /// Writes how far a job is.
    pub async fn stripe_job_update(&mut self, job: &Job) -> Result<(), StoreError> {
        self.query(
            "UPDATE stripe_jobs SET step = $3, remote = $4, generation = $5, tried_at = $6, in_doubt = $7, attempts = $8,
                    next_try_at = $9, error = $10, parked_at = $11, settled_at = $12, outcome = $13
             WHERE tenant_id = $1 AND sequence = $2",
        )
        .bind(job.tenant)
        .bind(job.sequence)
        .bind(job.step)
        .bind(job.remote.as_deref())
        .bind(job.generation)
        .bind(job.tried_at)
        .bind(i64::from(job.in_doubt))
        .bind(job.attempts)
        .bind(job.next_try_at)
        .bind(job.error.as_deref())
        .bind(job.parked_at)
        .bind(job.settled.map(|(at, _)| at))
        .bind(job.settled.map(|(_, outcome)| outcome.name()))
        .execute()
        .await?;
        Ok(())
    }

    /// Jobs that are parked, or only those of a tenant; what holds up each lane.
    pub async fn stripe_jobs_parked(&mut self, tenant: Option<TenantId>) -> Result<Vec<Job>, StoreError> {
        self.query(
            "SELECT * FROM stripe_jobs WHERE settled_at IS NULL AND parked_at IS NOT NULL AND ($1 IS NULL OR tenant_id = $1)
             ORDER BY tenant_id, sequence",
        )
        .bind(tenant)
        .map(read_job)
        .await
    }

    /// A page of tenants with how they stand, in the order of ids.
    pub async fn stripe_standings(&mut self, page: PageRequest) -> Result<Vec<Standing>, StoreError> {
        let mut standings = self
            .query(
                "SELECT t.tenant_id, t.customer, t.sent_at,
                     (SELECT COUNT(*) FROM stripe_jobs j WHERE j.tenant_id = t.tenant_id AND j.outcome = 'done') AS done,
                     (SELECT COUNT(*) FROM stripe_jobs j WHERE j.tenant_id = t.tenant_id AND j.settled_at IS NULL) AS waiting
                 FROM stripe_tenants t WHERE t.tenant_id > $1 ORDER BY t.tenant_id LIMIT $2",
            )
            .bind(page.after())
            .bind(page.fetch_limit())
            .map(|row| {
                Ok(Standing {
                    tenant: row.get("tenant_id")?,
                    customer: row.get("customer")?,
                    done: row.get("done")?,
                    waiting: row.get("waiting")?,
                    next: None,
                    sent_at: row.get("sent_at")?,
                })
            })
            .await?;
        for standing in standings.iter_mut().filter(|standing| standing.waiting > 0) {
            standing.next = self.stripe_job_next(standing.tenant).await?;
        }
        Ok(standings)
    }

    /// A tenant as Stripe is to know it now.
    pub async fn stripe_customer(&mut self, tenant: TenantId) -> Result<Option<Customer>, StoreError> {
        let rows = self.customers("t.tenant_id = $1", tenant.as_uuid(), 1).await?;
        Ok(rows.into_iter().next().map(|(customer, _)| customer))
    }

    /// Tenants in use that Stripe is not to know yet.
    pub async fn stripe_customers_new(&mut self, most: i64) -> Result<Vec<CustomerRow>, StoreError> {
        self.customers(&format!("t.tenant_id > $1 AND s.digest IS NULL AND {IN_USE}"), uuid::Uuid::nil(), most).await
    }

    /// Tenants in use, after one in the order of ids.
    pub async fn stripe_customers_after(
        &mut self,
        after: Option<TenantId>,
        most: i64,
    ) -> Result<Vec<CustomerRow>, StoreError> {
        let after = after.map_or(uuid::Uuid::nil(), TenantId::as_uuid);
        self.customers(&format!("t.tenant_id > $1 AND {IN_USE}"), after, most).await
    }

    async fn customers(&mut self, which: &str, bound: uuid::Uuid, most: i64) -> Result<Vec<CustomerRow>, StoreError> {
        self.assembled(format!(
            "SELECT t.tenant_id, t.customer_name, b.billing_address, s.digest,
                 (SELECT u.email FROM memberships m JOIN users u ON u.user_id = m.user_id
                  WHERE m.tenant_id = t.tenant_id AND m.role = 'owner' ORDER BY m.user_id LIMIT 1) AS email
             FROM tenants t LEFT JOIN billing_accounts b ON b.tenant_id = t.tenant_id
                 LEFT JOIN stripe_tenants s ON s.tenant_id = t.tenant_id
             WHERE {which} ORDER BY t.tenant_id LIMIT $2"
        ))
        .bind(bound)
        .bind(most)
        .map(read_customer)
        .await
    }
}

/// Whether a tenant has something to be billed for.
const IN_USE: &str = "t.status IN ('active', 'suspended', 'changing_tier')";
