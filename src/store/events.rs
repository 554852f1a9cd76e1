//! Queries about meters and events.

use std::{collections::HashMap, fmt::Write as _};

use super::{StoreError, Tx, dialect::pieces, query::Statement, value::Row};
use crate::{
    kernel::{MeterId, TenantId},
    metering::{
        meter::{Meter, Source},
        model::{Event, EventsAfter, Identity, MeterKey, NewEvent},
    },
};

/// Rows of one statement; a power of two, and below either engine's limit of parameters.
const MOST_ROWS: usize = 256;
const EVENT_COLUMNS: &str = "id, source, tenant_id, type, at_ns, arrival, body, voided_at";

/// Which events are asked for.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of one tenant alone.
    pub tenant: Option<TenantId>,
    /// Of one type alone.
    pub kind: Option<String>,
    /// With this id alone.
    pub id: Option<String>,
    /// From this time on, in nanoseconds since 1970.
    pub from_ns: Option<i64>,
    /// Before this time.
    pub to_ns: Option<i64>,
    /// Arrived from this time on, in microseconds since 1970.
    pub arrived_from: Option<i64>,
    /// Arrived before this time.
    pub arrived_to: Option<i64>,
    /// Without those that were taken back.
    pub valid_only: bool,
}

fn read_event(row: &Row) -> Result<Event, StoreError> {
    Ok(Event {
        id: row.get("id")?,
        source: row.get("source")?,
        tenant: row.get("tenant_id")?,
        kind: row.get("type")?,
        at_ns: row.get("at_ns")?,
        arrival: row.get("arrival")?,
        body: row.get("body")?,
        voided_at: row.get("voided_at")?,
    })
}

fn read_meter(row: &Row) -> Result<Meter, StoreError> {
    let path = |text: String| text.parse().map_err(|_| StoreError::Corrupt(format!("meters.path: {text:?}")));
    let value: Option<String> = row.get("value_property")?;
    let group_by: HashMap<String, String> = row.json("group_by")?;
    Ok(Meter {
        id: row.get("id")?,
        key: row.parse("key")?,
        name: row.get("name")?,
        description: row.get("description")?,
        source: Source::Events {
            event_type: row.get("event_type")?,
            value: value.map(path).transpose()?,
            group_by: group_by
                .into_iter()
                .map(|(key, text)| Ok((key, path(text)?)))
                .collect::<Result<_, StoreError>>()?,
        },
        aggregation: row.parse("aggregation")?,
        created_at: row.get("created_at")?,
    })
}

/// What finds events. The scope is a condition of its own only where there is one: an index is not used for "any, or this".
fn events_sql(filter: &EventFilter, scoped: bool, direction: Option<&str>, limited: bool) -> String {
    let conditions = [
        ("tenant_id =", scoped),
        ("tenant_id =", filter.tenant.is_some()),
        ("type =", filter.kind.is_some()),
        ("id =", filter.id.is_some()),
        ("at_ns >=", filter.from_ns.is_some()),
        ("at_ns <", filter.to_ns.is_some()),
        ("arrival >=", filter.arrived_from.is_some()),
        ("arrival <", filter.arrived_to.is_some()),
    ];
    let wanted = conditions.into_iter().filter(|(_, wanted)| *wanted).zip(1..);
    let mut wanted: Vec<String> = wanted.map(|((text, _), place)| format!("{text} ${place}")).collect();
    let next = wanted.len() + 1;
    if filter.valid_only {
        wanted.push("voided_at IS NULL".to_owned());
    }
    let mut sql = format!("SELECT {EVENT_COLUMNS} FROM events");
    if !wanted.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(sql, " WHERE {}", wanted.join(" AND "));
    }
    if let Some(direction) = direction {
        let _ = write!(sql, " ORDER BY at_ns {direction}, arrival {direction}, id {direction}");
    }
    if limited {
        let _ = write!(sql, " LIMIT ${next}");
    }
    sql
}

impl Tx {
    /// All meters of events, by key.
    pub async fn meters(&mut self) -> Result<Vec<Meter>, StoreError> {
        self.query(
            "SELECT id, key, name, description, event_type, aggregation, value_property, group_by, created_at
             FROM meters ORDER BY key",
        )
        .map(read_meter)
        .await
    }

    /// A number that grows whenever a meter comes, goes or is renamed.
    pub async fn meters_version(&mut self) -> Result<i64, StoreError> {
        let version = self.query("SELECT version FROM meters_version WHERE id = 1");
        Ok(version.map_one(|row| row.get("version")).await?.unwrap_or(0))
    }

    /// The same, and it stays so until this transaction ends: whoever changes meters waits for that, and then sees all
    /// that this transaction wrote.
    pub async fn meters_version_held(&mut self) -> Result<i64, StoreError> {
        let sql = format!("SELECT version FROM meters_version WHERE id = 1{}", self.engine().for_share());
        Ok(self.assembled(sql).map_one(|row| row.get("version")).await?.unwrap_or(0))
    }

    async fn meters_changed(&mut self) -> Result<(), StoreError> {
        self.query("UPDATE meters_version SET version = version + 1 WHERE id = 1").execute().await.map(drop)
    }

    /// Adds a meter of events; `false` when its key is taken.
    pub async fn meter_insert(&mut self, meter: &Meter) -> Result<bool, StoreError> {
        let Source::Events { event_type, value, group_by } = &meter.source else { return Ok(false) };
        self.meters_changed().await?;
        let paths: HashMap<&str, &str> = group_by.iter().map(|(key, path)| (key.as_str(), path.as_str())).collect();
        let paths = serde_json::to_string(&paths).map_err(|error| StoreError::Corrupt(format!("group_by: {error}")))?;
        self.query(
            "INSERT INTO meters (id, key, name, description, event_type, aggregation, value_property, group_by, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (key) DO NOTHING",
        )
        .bind(meter.id)
        .bind(meter.key.as_str())
        .bind(meter.name.as_str())
        .bind(meter.description.as_str())
        .bind(event_type.as_str())
        .bind(meter.aggregation.name())
        .bind(value.as_ref().map(|path| path.as_str().to_owned()))
        .bind(paths.as_str())
        .bind(meter.created_at)
        .changed_one()
        .await
    }

    /// Sets what people call a meter.
    pub async fn meter_describe(&mut self, id: MeterId, name: &str, description: &str) -> Result<bool, StoreError> {
        self.meters_changed().await?;
        self.query("UPDATE meters SET name = $2, description = $3 WHERE id = $1")
            .bind(id)
            .bind(name)
            .bind(description)
            .changed_one()
            .await
    }

    /// Removes a meter with its totals; its events stay.
    pub async fn meter_delete(&mut self, id: MeterId, key: &MeterKey) -> Result<bool, StoreError> {
        self.meters_changed().await?;
        self.query("DELETE FROM usage_totals WHERE meter = $1").bind(key.as_str()).execute().await?;
        self.query("DELETE FROM journal_counted WHERE meter = $1").bind(key.as_str()).execute().await?;
        self.query("DELETE FROM meters WHERE id = $1").bind(id).changed_one().await
    }

    /// Those of some events that are kept.
    pub async fn events_known(&mut self, identities: &[Identity<'_>]) -> Result<Vec<Event>, StoreError> {
        let mut known = Vec::new();
        for piece in pieces(identities, MOST_ROWS) {
            let mut sql = format!("SELECT {EVENT_COLUMNS} FROM events WHERE (id, source, tenant_id) IN (VALUES ");
            sql.push_str(&self.engine().tuples(piece.len(), 3));
            sql.push(')');
            let mut statement = self.assembled(sql);
            for identity in piece {
                statement.push(identity.id);
                statement.push(identity.source);
                statement.push(identity.tenant);
            }
            known.extend(statement.map(read_event).await?);
        }
        Ok(known)
    }

    /// Adds events; how many were not there before.
    pub async fn events_insert(&mut self, events: &[NewEvent<'_>]) -> Result<u64, StoreError> {
        let mut added = 0;
        for piece in pieces(events, MOST_ROWS) {
            let mut sql =
                String::from("INSERT INTO events (id, source, tenant_id, type, at_ns, arrival, body) VALUES ");
            sql.push_str(&self.engine().tuples(piece.len(), 7));
            sql.push_str(" ON CONFLICT (id, source, tenant_id) DO NOTHING");
            let mut statement = self.assembled(sql);
            for event in piece {
                statement.push(event.identity.id);
                statement.push(event.identity.source);
                statement.push(event.identity.tenant);
                statement.push(event.kind);
                statement.push(event.at_ns);
                statement.push(event.arrival);
                statement.push(event.body);
            }
            added += statement.execute().await?;
        }
        Ok(added)
    }

    /// Events, the newest first.
    pub async fn events_newest(&mut self, filter: &EventFilter, most: i64) -> Result<Vec<Event>, StoreError> {
        self.select_events(filter, Some("DESC"), Some(most)).map(read_event).await
    }

    /// A tenant's events of a type in a time that were not taken back, in order, after one of them, so many at most.
    pub async fn events_after(
        &mut self,
        (tenant, kind): (TenantId, &str),
        (from_ns, to_ns): (i64, i64),
        after: Option<&EventsAfter>,
        most: i64,
    ) -> Result<Vec<Event>, StoreError> {
        let scope = self.tenant();
        let (at_ns, arrival, id) = after.map_or((i64::MIN, i64::MIN, ""), |last| (last.at_ns, last.arrival, &*last.id));
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM events
             WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2) AND type = $3 AND at_ns >= $4 AND at_ns < $5
               AND voided_at IS NULL AND (at_ns, arrival, id) > ($6, $7, $8)
             ORDER BY at_ns, arrival, id LIMIT $9"
        );
        let statement = self.assembled(sql).bind(tenant).bind(scope).bind(kind).bind(from_ns.max(at_ns)).bind(to_ns);
        statement.bind(at_ns).bind(arrival).bind(id).bind(most).map(read_event).await
    }

    /// Every event, in order of time and arrival, one at a time.
    pub async fn events_each<E: From<StoreError>>(
        &mut self,
        filter: &EventFilter,
        mut take: impl FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        self.select_events(filter, Some("ASC"), None).each(|row| take(read_event(row)?)).await
    }

    /// Every event, in no order, so that the store sorts nothing.
    pub async fn events_each_unordered<E: From<StoreError>>(
        &mut self,
        filter: &EventFilter,
        mut take: impl FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        self.select_events(filter, None, None).each(|row| take(read_event(row)?)).await
    }

    fn select_events(&mut self, filter: &EventFilter, direction: Option<&str>, most: Option<i64>) -> Statement<'_> {
        let scope = self.tenant();
        let mut statement = self.assembled(events_sql(filter, scope.is_some(), direction, most.is_some()));
        for tenant in [scope, filter.tenant].into_iter().flatten() {
            statement.push(tenant);
        }
        for text in [&filter.kind, &filter.id].into_iter().flatten() {
            statement.push(text.as_str());
        }
        for number in [filter.from_ns, filter.to_ns, filter.arrived_from, filter.arrived_to, most].into_iter().flatten()
        {
            statement.push(number);
        }
        statement
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Scope, Store};

    #[tokio::test]
    async fn a_tenants_events_are_found_by_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&folder.path().join("test.db")).await.unwrap();
        let mut tx = store.read(Scope::Job("test")).await.unwrap();
        let tenant = TenantId::from_uuid(uuid::Uuid::nil());
        let some = EventFilter { tenant: Some(tenant), ..EventFilter::default() };
        for (filter, scoped) in [(&EventFilter::default(), true), (&some, false), (&some, true)] {
            let sql = format!("EXPLAIN QUERY PLAN {}", events_sql(filter, scoped, Some("DESC"), true));
            let mut statement = tx.assembled(sql);
            for _ in 0..usize::from(scoped) + usize::from(filter.tenant.is_some()) {
                statement.push(tenant);
            }
            statement.push(100_i64);
            let plan = statement.map(|row| row.get::<String>("detail")).await.unwrap();
            assert!(plan[0].starts_with("SEARCH events USING INDEX events_by_time (tenant_id=?)"), "{plan:?}");
        }
    }
}
