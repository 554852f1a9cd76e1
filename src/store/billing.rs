//! Queries about billing accounts, plans and quotas.

use super::{StoreError, Tx, dialect::pieces, value::Row};
use crate::{
    billing::{Account, AddressBody, BillingAddress, plan::PlanBody},
    kernel::{Faults, TenantId, TierName, Timestamp},
    metering::MeterKey,
};

/// Tenants that one statement is about; a power of two.
const TENANTS_PER_STATEMENT: usize = 256;

/// A version of a plan as kept.
#[derive(Debug, Clone)]
pub struct PlanRow {
    /// Whose plan.
    pub tier: String,
    /// Which version.
    pub version: u32,
    /// From when it holds.
    pub effective_from: Timestamp,
    /// From when it is on bills; `None` in a row from before that was kept.
    pub billed_from: Option<Timestamp>,
    /// Whether it holds from then on whatever period runs, or from the next period of each account on.
    pub cuts: Option<bool>,
    /// The plan, as on the wire.
    pub body: String,
}

pub(super) fn read_account(row: &Row) -> Result<Account, StoreError> {
    let body: AddressBody = row.json("billing_address")?;
    let address: Option<BillingAddress> = body.parse("billing_address", &mut Faults::new());
    Ok(Account {
        id: row.get("account_id")?,
        tenant_id: row.get("tenant_id")?,
        billing_address: address.ok_or_else(|| StoreError::Corrupt("billing_address".into()))?,
        currency: row.parse("currency")?,
        opened_at: row.get("opened_at")?,
        closed_at: row.get("closed_at")?,
    })
}

fn read_plan(row: &Row) -> Result<PlanRow, StoreError> {
    let version: i64 = row.get("version")?;
    Ok(PlanRow {
        tier: row.get("tier")?,
        version: u32::try_from(version).map_err(|_| StoreError::Corrupt(format!("version: {version}")))?,
        effective_from: row.get("effective_from")?,
        billed_from: row.get("billed_from")?,
        cuts: row.get::<Option<i64>>("cuts")?.map(|cuts| cuts != 0),
        body: row.get("body")?,
    })
}

impl Tx {
    /// A tenant's billing account, a closed one too.
    pub async fn billing_account(&mut self, tenant: TenantId) -> Result<Option<Account>, StoreError> {
        let scope = self.tenant();
        self.query("SELECT * FROM billing_accounts WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2)")
            .bind(tenant)
            .bind(scope)
            .map_one(read_account)
            .await
    }

    /// Opens a billing account, whose first period is over at an instant; `false` when the tenant has one.
    pub async fn billing_account_insert(&mut self, account: &Account, next_due: Timestamp) -> Result<bool, StoreError> {
        self.must_cover(account.tenant_id)?;
        self.query(
            "INSERT INTO billing_accounts (account_id, tenant_id, billing_address, currency, opened_at, next_due)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id) DO NOTHING",
        )
        .bind(account.id)
        .bind(account.tenant_id)
        .bind(serde_json::to_string(account.billing_address.body()).unwrap_or_default())
        .bind(account.currency.code())
        .bind(account.opened_at)
        .bind(next_due)
        .changed_one()
        .await
    }

    /// Sets where bills go; `false` when there is no open account.
    pub async fn billing_address_set(
        &mut self,
        tenant: TenantId,
        address: &BillingAddress,
    ) -> Result<bool, StoreError> {
        self.must_cover(tenant)?;
        self.query("UPDATE billing_accounts SET billing_address = $2 WHERE tenant_id = $1 AND closed_at IS NULL")
            .bind(tenant)
            .bind(serde_json::to_string(address.body()).unwrap_or_default())
            .changed_one()
            .await
    }

    /// Closes an account; closing twice changes nothing. Its address is forgotten once nothing of it is still to be invoiced.
    pub async fn billing_account_close(&mut self, tenant: TenantId, now: Timestamp) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        let sql = "UPDATE billing_accounts SET closed_at = $2 WHERE tenant_id = $1 AND closed_at IS NULL";
        self.query(sql).bind(tenant).bind(now).execute().await?;
        self.billing_address_forget(tenant).await
    }

    /// Forgets the address of a closed account that has its last invoice: until then, invoices are for that address.
    pub(super) async fn billing_address_forget(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        self.billing_addresses_forget(&[tenant]).await
    }

    /// The same of several.
    pub(super) async fn billing_addresses_forget(&mut self, tenants: &[TenantId]) -> Result<(), StoreError> {
        for piece in pieces(tenants, TENANTS_PER_STATEMENT) {
            let these = self.engine().tuples(piece.len(), 1);
            let mut statement = self.assembled(format!(
                "UPDATE billing_accounts SET billing_address = '\"closed\"'
                 WHERE tenant_id IN (VALUES {these}) AND closed_at IS NOT NULL AND next_due IS NULL
                   AND NOT EXISTS (SELECT 1 FROM invoices i
                                   WHERE i.tenant_id = billing_accounts.tenant_id AND i.status = 'draft')"
            ));
            for tenant in piece {
                statement.push(*tenant);
            }
            statement.execute().await?;
        }
        Ok(())
    }

    /// Adds a version of a plan; `false` when that version exists.
    pub async fn plan_insert(&mut self, plan: &PlanRow, now: Timestamp) -> Result<bool, StoreError> {
        self.query(
            "INSERT INTO plans (tier, version, effective_from, body, created_at, cuts, billed_from)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tier, version) DO NOTHING",
        )
        .bind(plan.tier.as_str())
        .bind(i64::from(plan.version))
        .bind(plan.effective_from)
        .bind(plan.body.as_str())
        .bind(now)
        .bind(plan.cuts.map(i64::from))
        .bind(plan.billed_from)
        .changed_one()
        .await
    }

    /// All versions of all plans.
    pub async fn plans(&mut self) -> Result<Vec<PlanRow>, StoreError> {
        self.query("SELECT * FROM plans ORDER BY tier, version").map(read_plan).await
    }

    /// Whether any version of any plan has a price for a meter.
    pub async fn meter_is_priced(&mut self, key: &MeterKey) -> Result<bool, StoreError> {
        let plans: Vec<PlanBody> = self.query("SELECT body FROM plans").map(|row| row.json("body")).await?;
        Ok(plans.iter().flat_map(|plan| &plan.prices).any(|price| price.meter == key.as_str()))
    }

    /// The tiers a tenant has had and since when, oldest first: read here so that a bill needs no other service.
    pub async fn billed_tiers(&mut self, tenant: TenantId) -> Result<Vec<(Timestamp, TierName)>, StoreError> {
        Ok(self.tenant_tiers(tenant).await?.into_iter().map(|span| (span.since, span.tier)).collect())
    }

    /// The quotas that override a tenant's plan, as JSON.
    pub async fn tenant_quotas(&mut self, tenant: TenantId) -> Result<Option<String>, StoreError> {
        let scope = self.tenant();
        self.query("SELECT quotas FROM tenant_quotas WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2)")
            .bind(tenant)
            .bind(scope)
            .map_one(|row| row.get("quotas"))
            .await
    }

    /// Overrides the quotas of a tenant's plan; `None` ends that.
    pub async fn tenant_quotas_set(
        &mut self,
        tenant: TenantId,
        quotas: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        match quotas {
            None => self.query("DELETE FROM tenant_quotas WHERE tenant_id = $1").bind(tenant).execute().await?,
            Some(quotas) => {
                self.query(
                    "INSERT INTO tenant_quotas (tenant_id, quotas, updated_at) VALUES ($1, $2, $3)
                     ON CONFLICT (tenant_id) DO UPDATE SET quotas = excluded.quotas, updated_at = excluded.updated_at",
                )
                .bind(tenant)
                .bind(quotas)
                .bind(now)
                .execute()
                .await?
            }
        };
        Ok(())
    }

    /// Notes that a soft quota was exceeded in the period that begins then; `false` when that is known.
    pub async fn quota_crossing_insert(
        &mut self,
        tenant: TenantId,
        meter: &MeterKey,
        unit: &str,
        start: Timestamp,
        most: i64,
    ) -> Result<bool, StoreError> {
        self.must_cover(tenant)?;
        self.query(
            "INSERT INTO quota_crossings (tenant_id, meter, unit, start, most) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant_id, meter, unit, start, most) DO NOTHING",
        )
        .bind(tenant)
        .bind(meter.as_str())
        .bind(unit)
        .bind(start)
        .bind(most)
        .changed_one()
        .await
    }
}
