//! Queries about the audit: entries are written with what they are about, and sealed in a chain of hashes soon after, by one
//! node at a time, so that acts do not wait for each other.

use std::net::IpAddr;

use serde_json::Value;
use uuid::Uuid;

use super::{StoreError, Tx, dialect::pieces, value::Row};
use crate::kernel::{
    PageRequest, Timestamp,
    audit::{Act, AuditEntry, AuditFilter, Change, Hash, Seal},
};

tokio::task_local! {
    /// From where somebody acts.
    static ADDRESS: Option<IpAddr>;
}

/// Does something of which every entry of the audit says that it was asked for from this address.
pub fn acting_from<F: Future>(address: Option<IpAddr>, work: F) -> impl Future<Output = F::Output> {
    ADDRESS.scope(address, work)
}

/// The same for what goes on by itself: from the address of whoever calls this.
pub fn acting_still<F: Future>(work: F) -> impl Future<Output = F::Output> {
    acting_from(ADDRESS.try_with(|address| *address).ok().flatten(), work)
}

/// Entries that one statement writes; a power of two.
const ENTRIES_PER_STATEMENT: usize = 128;
/// Entries that are sealed in one transaction.
const AT_ONCE: i64 = 500;

/// The ends of the chain that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainEnds {
    /// Of the last entry.
    pub last: (i64, Hash),
    /// Of the last that was forgotten.
    pub forgotten: (i64, Hash),
}

fn hash(row: &Row, column: &str) -> Result<Hash, StoreError> {
    let bytes: Vec<u8> = row.get(column)?;
    bytes.try_into().map_err(|_| StoreError::Corrupt(format!("audit: {column}")))
}

fn read_ends(row: &Row) -> Result<ChainEnds, StoreError> {
    Ok(ChainEnds {
        last: (row.get("serial")?, hash(row, "hash")?),
        forgotten: (row.get("forgotten_serial")?, hash(row, "forgotten_hash")?),
    })
}

fn read_entry(row: &Row) -> Result<AuditEntry, StoreError> {
    let address: Option<String> = row.get("address")?;
    let json = |column: &str| {
        let text: Option<String> = row.get(column)?;
        let read = |text: String| serde_json::from_str(&text);
        text.map(read).transpose().map_err(|error| StoreError::Corrupt(format!("audit: {column}: {error}")))
    };
    let (before, after) = (json("before")?, json("after")?);
    let seal = match row.get::<Option<i64>>("serial")? {
        None => None,
        Some(serial) => Some(Seal { serial, digest: hash(row, "digest")?, hash: hash(row, "hash")? }),
    };
    Ok(AuditEntry {
        id: row.get("audit_id")?,
        at: row.get("at")?,
        actor: row.get("actor")?,
        action: row.get("action")?,
        tenant: row.get("tenant_id")?,
        subject: row.get("subject")?,
        detail: row.get("detail")?,
        address: address.and_then(|text| text.parse().ok()),
        change: (before.is_some() || after.is_some()).then_some(Change { before, after }),
        seal,
    })
}

impl Tx {
    /// Notes an act, with what else this transaction does; `id` is a `UUIDv7` of `at`.
    pub async fn audit_insert(&mut self, id: Uuid, at: Timestamp, act: &Act) -> Result<(), StoreError> {
        let change = self.take_change();
        let (before, after) = change.map_or((None, None), |change| (change.before, change.after));
        self.audit_write(at, &[(id, act)], [before, after]).await
    }

    /// Notes several acts of one instant, which say nothing of what was before.
    pub async fn audit_insert_all(&mut self, at: Timestamp, acts: &[(Uuid, &Act)]) -> Result<(), StoreError> {
        for piece in pieces(acts, ENTRIES_PER_STATEMENT) {
            self.audit_write(at, piece, [None, None]).await?;
        }
        Ok(())
    }

    async fn audit_write(
        &mut self,
        at: Timestamp,
        acts: &[(Uuid, &Act)],
        [before, after]: [Option<Value>; 2],
    ) -> Result<(), StoreError> {
        for tenant in acts.iter().filter_map(|(_, act)| act.tenant) {
            self.must_cover(tenant)?;
        }
        let address = ADDRESS.try_with(|address| *address).ok().flatten().map(|address| address.to_string());
        let rows = self.engine().tuples(acts.len(), 10);
        let mut statement = self.assembled(format!(
            "INSERT INTO audit (audit_id, at, actor, action, tenant_id, subject, detail, address, before, after)
             VALUES {rows}"
        ));
        for (id, act) in acts {
            statement.push(*id);
            statement.push(at);
            statement.push(act.actor.to_string());
            statement.push(act.action);
            statement.push(act.tenant);
            statement.push(act.subject.as_str());
            statement.push(act.detail.clone());
            statement.push(address.clone());
            statement.push(before.as_ref().map(Value::to_string));
            statement.push(after.as_ref().map(Value::to_string));
        }
        statement.execute().await?;
        Ok(())
    }

    /// A page of entries, the oldest first.
    pub async fn audit(&mut self, filter: &AuditFilter, page: PageRequest) -> Result<Vec<AuditEntry>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM audit
             WHERE audit_id > $1 AND ($2 IS NULL OR tenant_id = $2) AND ($3 IS NULL OR tenant_id = $3)
                 AND ($4 IS NULL OR actor = $4) AND ($5 IS NULL OR action = $5) AND ($6 IS NULL OR subject = $6)
             ORDER BY audit_id LIMIT $7",
        )
        .bind(page.after())
        .bind(filter.tenant)
        .bind(scope)
        .bind(filter.actor.clone())
        .bind(filter.action.clone())
        .bind(filter.subject.clone())
        .bind(page.fetch_limit())
        .map(read_entry)
        .await
    }

    /// Sealed entries after one, in the order of the chain.
    pub async fn audit_sealed(&mut self, after: i64, most: i64) -> Result<Vec<AuditEntry>, StoreError> {
        let sql = "SELECT * FROM audit WHERE serial > $1 ORDER BY serial LIMIT $2";
        self.query(sql).bind(after).bind(most).map(read_entry).await
    }

    /// The ends of the chain.
    pub async fn audit_ends(&mut self) -> Result<ChainEnds, StoreError> {
        let ends = self.query("SELECT * FROM audit_chain WHERE id = 1").map_one(read_ends).await?;
        ends.ok_or_else(|| StoreError::Corrupt("audit_chain: no row".into()))
    }

    /// Whether there are entries that are not sealed.
    pub async fn audit_has_unsealed(&mut self) -> Result<bool, StoreError> {
        Ok(self.query("SELECT 1 AS one FROM audit WHERE serial IS NULL LIMIT 1").row().await?.is_some())
    }

    /// Seals entries that are not, the oldest first; how many. Whoever else seals waits until this transaction ends.
    pub async fn audit_seal(&mut self) -> Result<usize, StoreError> {
        let held = "UPDATE audit_chain SET serial = serial WHERE id = 1 RETURNING *";
        let ends = self.query(held).map_one(read_ends).await?;
        let (mut serial, mut last) = ends.ok_or_else(|| StoreError::Corrupt("audit_chain: no row".into()))?.last;
        let entries = self
            .query("SELECT * FROM audit WHERE serial IS NULL ORDER BY audit_id LIMIT $1")
            .bind(AT_ONCE)
            .map(read_entry)
            .await?;
        let mut seals = Vec::with_capacity(entries.len());
        for entry in &entries {
            serial += 1;
            let seal = entry.sealed_after(serial, &last, entry.digest());
            last = seal.hash;
            seals.push((entry.id, seal));
        }
        for piece in pieces(&seals, ENTRIES_PER_STATEMENT) {
            let rows = self.engine().tuples(piece.len(), 4);
            let mut statement = self.assembled(format!(
                "UPDATE audit SET serial = v.column2, digest = v.column3, hash = v.column4
                 FROM (VALUES {rows}) AS v WHERE audit_id = v.column1 AND serial IS NULL"
            ));
            for (id, seal) in piece {
                statement.push(*id);
                statement.push(seal.serial);
                statement.push(&seal.digest[..]);
                statement.push(&seal.hash[..]);
            }
            statement.execute().await?;
        }
        self.query("UPDATE audit_chain SET serial = $1, hash = $2 WHERE id = 1")
            .bind(serial)
            .bind(&last[..])
            .execute()
            .await?;
        Ok(entries.len())
    }

    /// Takes what may be personal out of an entry.
    pub async fn audit_erase(&mut self, id: Uuid) -> Result<(), StoreError> {
        let sql = "UPDATE audit SET address = NULL, detail = NULL, before = NULL, after = NULL WHERE audit_id = $1";
        self.query(sql).bind(id).execute().await?;
        Ok(())
    }

    /// Forgets the beginning of the chain, up to the last entry of before an instant. Ids tell when entries were made.
    pub async fn audit_forget(&mut self, before: Timestamp) -> Result<(), StoreError> {
        let millis = u64::try_from(before.as_millis()).unwrap_or(0);
        let first = uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid();
        let sql =
            "SELECT serial, hash FROM audit WHERE audit_id < $1 AND serial IS NOT NULL ORDER BY serial DESC LIMIT 1";
        let last =
            self.query(sql).bind(first).map_one(|row| Ok((row.get::<i64>("serial")?, hash(row, "hash")?))).await?;
        let Some((serial, hash)) = last else { return Ok(()) };
        self.query("UPDATE audit_chain SET forgotten_serial = $1, forgotten_hash = $2 WHERE id = 1")
            .bind(serial)
            .bind(&hash[..])
            .execute()
            .await?;
        self.query("DELETE FROM audit WHERE serial <= $1").bind(serial).execute().await?;
        Ok(())
    }
}
