//! Queries about tenants.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{
    StoreError, Tx,
    dialect::pieces,
    value::{Bind, Row},
};
use crate::{
    kernel::{CustomerName, ExternalId, PageRequest, TenantId, TierName, Timestamp},
    tenants::model::{Failure, Status, Suspension, Tenant, TenantFilter, TierSpan, Unavailable},
    tenants::rules::TRANSITIONS,
};

/// Subjects of one statement; a power of two.
const MOST_SUBJECTS: usize = 256;

/// What a state carries besides its name, as kept in `status_detail`.
#[derive(Serialize, Deserialize)]
struct FailureRow {
    step: String,
    reason: String,
    retryable: bool,
}

fn read_status(row: &Row) -> Result<Status, StoreError> {
    let name: String = row.get("status")?;
    Ok(match name.as_str() {
        "provisioning" => Status::Provisioning,
        "active" => Status::Active,
        // A store of before there was a reason has none.
        "suspended" => Status::Suspended(match row.get::<Option<String>>("status_detail")?.as_deref() {
            Some("unpaid") => Suspension::Unpaid,
            _ => Suspension::Asked,
        }),
        "changing_tier" => Status::ChangingTier { to: row.parse("status_detail")? },
        "failed" => {
            let FailureRow { step, reason, retryable } = row.json("status_detail")?;
            Status::Failed(Failure { step, reason, retryable })
        }
        "offboarding" => Status::Offboarding,
        "deleted" => Status::Deleted { at: row.get("deleted_at")? },
        other => return Err(StoreError::Corrupt(format!("status: {other:?}"))),
    })
}

fn status_detail(status: &Status) -> Option<String> {
    match status {
        Status::ChangingTier { to } => Some(to.to_string()),
        Status::Failed(Failure { step, reason, retryable }) => {
            let row = FailureRow { step: step.clone(), reason: reason.clone(), retryable: *retryable };
            Some(serde_json::to_string(&row).unwrap_or_default())
        }
        Status::Suspended(why) => Some(why.name().to_owned()),
        _ => None,
    }
}

const fn deleted_at(status: &Status) -> Option<Timestamp> {
    match status {
        Status::Deleted { at } => Some(*at),
        _ => None,
    }
}

fn read_unavailable(row: &Row) -> Result<Option<Unavailable>, StoreError> {
    let Some(since) = row.get("unavailable_since")? else { return Ok(None) };
    let reason: Option<String> = row.get("unavailable_reason")?;
    Ok(Some(Unavailable { since, reason: reason.unwrap_or_default() }))
}

fn read_tenant(row: &Row) -> Result<Tenant, StoreError> {
    let external_id: Option<String> = row.get("external_id")?;
    Ok(Tenant {
        id: row.get("tenant_id")?,
        customer_name: row.parse("customer_name")?,
        external_id: external_id
            .map(|text| text.parse().map_err(|_| StoreError::Corrupt("external_id".into())))
            .transpose()?,
        tier: row.parse("tier")?,
        status: read_status(row)?,
        unavailable: read_unavailable(row)?,
        revision: row.get("revision")?,
        created_at: row.get("created_at")?,
    })
}

impl Tx {
    /// Adds a tenant; `false` when its customer name is taken, and nothing is changed then.
    pub async fn tenant_insert(&mut self, tenant: &Tenant) -> Result<bool, StoreError> {
        let inserted = self
            .query(
                "INSERT INTO tenants (tenant_id, customer_name, external_id, tier, status, status_detail, revision,
                                      created_at, updated_at, deleted_at, unavailable_since, unavailable_reason)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11)
                 ON CONFLICT (customer_name) WHERE deleted_at IS NULL DO NOTHING",
            )
            .bind(tenant.id)
            .bind(tenant.customer_name.as_str())
            .bind(tenant.external_id.as_ref().map(ExternalId::as_str))
            .bind(tenant.tier.as_str())
            .bind(tenant.status.name())
            .bind(status_detail(&tenant.status))
            .bind(tenant.revision)
            .bind(tenant.created_at)
            .bind(deleted_at(&tenant.status))
            .bind(tenant.unavailable.as_ref().map(|fault| fault.since))
            .bind(tenant.unavailable.as_ref().map(|fault| fault.reason.as_str()))
            .changed_one()
            .await?;
        if inserted {
            self.tenant_tier_insert(tenant.id, tenant.created_at, &tenant.tier).await?;
        }
        Ok(inserted)
    }

    /// Writes a changed tenant, if nobody changed it since it was read and its state may follow the one that is there; its
    /// revision grows by one.
    pub async fn tenant_update(&mut self, tenant: &Tenant, now: Timestamp) -> Result<bool, StoreError> {
        self.must_cover(tenant.id)?;
        let name = tenant.status.name();
        let from = TRANSITIONS.iter().filter(|(_, to)| *to == name).map(|(from, _)| format!("'{from}'"));
        let from: Vec<String> = from.chain([format!("'{name}'")]).collect();
        self.assembled(format!(
            "UPDATE tenants
             SET customer_name = $2, external_id = $3, tier = $4, status = $5, status_detail = $6, deleted_at = $7,
                 updated_at = $8, unavailable_since = $10, unavailable_reason = $11, revision = revision + 1
             WHERE tenant_id = $1 AND revision = $9 AND status IN ({})",
            from.join(", ")
        ))
        .bind(tenant.id)
        .bind(tenant.customer_name.as_str())
        .bind(tenant.external_id.as_ref().map(ExternalId::as_str))
        .bind(tenant.tier.as_str())
        .bind(name)
        .bind(status_detail(&tenant.status))
        .bind(deleted_at(&tenant.status))
        .bind(now)
        .bind(tenant.revision)
        .bind(tenant.unavailable.as_ref().map(|fault| fault.since))
        .bind(tenant.unavailable.as_ref().map(|fault| fault.reason.as_str()))
        .changed_one()
        .await
    }

    /// Keeps others from joining a tenant, and from changing it, until the transaction ends.
    pub async fn tenant_lock(&mut self, id: TenantId) -> Result<(), StoreError> {
        self.must_cover(id)?;
        self.query("UPDATE tenants SET updated_at = updated_at WHERE tenant_id = $1").bind(id).execute().await?;
        Ok(())
    }

    /// The tenant that has a customer name now, which stays as it is until the transaction ends: for joining it.
    pub async fn tenant_to_join(&mut self, name: &CustomerName) -> Result<Option<Tenant>, StoreError> {
        let (scope, share) = (self.tenant(), self.engine().for_share());
        self.assembled(format!(
            "SELECT * FROM tenants
             WHERE customer_name = $1 AND deleted_at IS NULL AND ($2 IS NULL OR tenant_id = $2){share}"
        ))
        .bind(name.as_str())
        .bind(scope)
        .map_one(read_tenant)
        .await
    }

    /// Notes that a tier holds from `since` on; a second note for the same instant replaces the first.
    pub async fn tenant_tier_insert(
        &mut self,
        id: TenantId,
        since: Timestamp,
        tier: &TierName,
    ) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO tenant_tiers (tenant_id, since, tier) VALUES ($1, $2, $3)
             ON CONFLICT (tenant_id, since) DO UPDATE SET tier = excluded.tier",
        )
        .bind(id)
        .bind(since)
        .bind(tier.as_str())
        .execute()
        .await?;
        Ok(())
    }

    /// The tiers a tenant has had, oldest first.
    pub async fn tenant_tiers(&mut self, id: TenantId) -> Result<Vec<TierSpan>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT since, tier FROM tenant_tiers WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2) ORDER BY since",
        )
        .bind(id)
        .bind(scope)
        .map(|row| Ok(TierSpan { since: row.get("since")?, tier: row.parse("tier")? }))
        .await
    }

    /// A tenant by its id, deleted ones too.
    pub async fn tenant_by_id(&mut self, id: TenantId) -> Result<Option<Tenant>, StoreError> {
        let scope = self.tenant();
        self.query("SELECT * FROM tenants WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2)")
            .bind(id)
            .bind(scope)
            .map_one(read_tenant)
            .await
    }

    /// The tenant that has a customer name now.
    pub async fn tenant_by_customer_name(&mut self, name: &CustomerName) -> Result<Option<Tenant>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM tenants
             WHERE customer_name = $1 AND deleted_at IS NULL AND ($2 IS NULL OR tenant_id = $2)",
        )
        .bind(name.as_str())
        .bind(scope)
        .map_one(read_tenant)
        .await
    }

    /// The tenant that has an external id now.
    pub async fn tenant_by_external_id(&mut self, id: &ExternalId) -> Result<Option<Tenant>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM tenants WHERE external_id = $1 AND deleted_at IS NULL AND ($2 IS NULL OR tenant_id = $2)",
        )
        .bind(id.as_str())
        .bind(scope)
        .map_one(read_tenant)
        .await
    }

    /// Whether a tenant that was taken out had an external id.
    pub async fn external_id_is_buried(&mut self, id: &ExternalId) -> Result<bool, StoreError> {
        let scope = self.tenant();
        let buried = self
            .query(
                "SELECT tenant_id FROM tenants
                 WHERE external_id = $1 AND deleted_at IS NOT NULL AND ($2 IS NULL OR tenant_id = $2) LIMIT 1",
            )
            .bind(id.as_str())
            .bind(scope)
            .map_one(|row| row.get::<TenantId>("tenant_id"))
            .await?;
        Ok(buried.is_some())
    }

    /// The tenants that some texts name: by id, else by external id; without those that are deleted.
    pub async fn tenants_by_subject<'s>(
        &mut self,
        subjects: &[&'s str],
    ) -> Result<HashMap<&'s str, TenantId>, StoreError> {
        let id = |subject: &&'s str| Some((subject.parse::<TenantId>().ok()?, *subject));
        let by_id: HashMap<TenantId, &'s str> = subjects.iter().filter_map(id).collect();
        let ids: Vec<TenantId> = by_id.keys().copied().collect();
        let names: Vec<&'s str> = subjects.iter().filter(|subject| id(subject).is_none()).copied().collect();
        let mut found = HashMap::with_capacity(subjects.len());
        for piece in pieces(&ids, MOST_SUBJECTS) {
            for (tenant, _) in self.tenants_alive("tenant_id", piece).await? {
                found.extend(by_id.get(&tenant).map(|subject| (*subject, tenant)));
            }
        }
        for piece in pieces(&names, MOST_SUBJECTS) {
            for (tenant, external_id) in self.tenants_alive("external_id", piece).await? {
                let subject = piece.iter().find(|subject| Some(**subject) == external_id.as_deref());
                found.extend(subject.map(|subject| (*subject, tenant)));
            }
        }
        Ok(found)
    }

    /// Ids and external ids of those tenants that are not deleted and have one of some values in a column.
    async fn tenants_alive(
        &mut self,
        column: &'static str,
        values: &[impl Bind + Copy],
    ) -> Result<Vec<(TenantId, Option<String>)>, StoreError> {
        let scope = self.tenant();
        let (list, scope_at) = (self.engine().tuples(values.len(), 1), values.len() + 1);
        let mut statement = self.assembled(format!(
            "SELECT tenant_id, external_id FROM tenants
             WHERE {column} IN ({list}) AND deleted_at IS NULL AND (${scope_at} IS NULL OR tenant_id = ${scope_at})"
        ));
        for value in values {
            statement.push(*value);
        }
        statement.bind(scope).map(|row| Ok((row.get("tenant_id")?, row.get("external_id")?))).await
    }

    /// A page of tenants. Deleted ones are listed only when their state is asked for.
    pub async fn tenants(&mut self, filter: &TenantFilter, page: PageRequest) -> Result<Vec<Tenant>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM tenants
             WHERE tenant_id > $1 AND ($2 IS NULL OR tenant_id = $2)
               AND ($3 IS NULL OR customer_name = $3)
               AND ((CAST($4 AS TEXT) IS NULL AND deleted_at IS NULL) OR status = $4)
               AND ($5 IS NULL OR tier = $5)
             ORDER BY tenant_id LIMIT $6",
        )
        .bind(page.after())
        .bind(scope)
        .bind(filter.customer_name.as_ref().map(CustomerName::as_str))
        .bind(filter.status.as_deref())
        .bind(filter.tier.as_ref().map(TierName::as_str))
        .bind(page.fetch_limit())
        .map(read_tenant)
        .await
    }
}
