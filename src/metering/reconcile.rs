//! Whether the journal, the ledger, the events and what bills are made of agree. Changes nothing.

use std::{collections::BTreeMap, fmt};

use uuid::Uuid;

use super::{
    error::Error,
    events::measured,
    journal::{Chain, Disk, survey},
    meter::Meter,
    meters::Meters,
    model::{MeterKey, Stretch, UNITS},
};
use crate::{
    kernel::{CalendarUnit, Period, Quantity, TenantId, Timestamp},
    store::{EventFilter, Scope, Store, Tx},
};

/// What was looked at, and what does not agree.
#[derive(Debug, Default)]
pub struct Report {
    /// Pairs of tenant and meter that were compared.
    pub compared: usize,
    /// Records in the journal that the ledger has not counted yet; no disagreement.
    pub uncounted: u64,
    /// What does not agree.
    pub differences: Vec<Difference>,
}

/// Two places that should say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Of whom and of what, or which journal.
    pub of: String,
    /// What one says.
    pub one: String,
    /// What the other says.
    pub other: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, but {}", self.of, self.one, self.other)
    }
}

/// A count and a sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Figure {
    count: i64,
    sum: Quantity,
}

impl Figure {
    fn add(&mut self, meter: &MeterKey, count: i64, sum: Quantity) -> Result<(), Error> {
        self.count += count;
        self.sum = self.sum.add(sum).map_err(|source| Error::Inexact { meter: meter.clone(), source })?;
        Ok(())
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} records", self.sum, self.count)
    }
}

/// Compares journal and ledger, the ledger's units among themselves, and events and ledger.
pub async fn reconcile(store: &Store, disk: &dyn Disk) -> Result<Report, Error> {
    let mut report = Report::default();
    // The ledger first: the journal of a running server goes on meanwhile, and may only be further.
    let cursors = store.read(Scope::Job("doctor")).await?.journal_cursors().await?;
    let journals = survey(disk)?;
    for (boot, last) in &journals {
        let cursor = cursors.iter().find(|(own, _)| own == boot).map(|(_, cursor)| cursor.seq);
        compare_journal(&mut report, *boot, *last, cursor);
    }
    let meters = Meters::open(store).await?.all();
    let tenants = store.read(Scope::Job("doctor")).await?.metered_tenants().await?;
    for tenant in tenants {
        // One moment for all of a tenant's figures.
        let mut tx = store.read(Scope::Job("doctor")).await?;
        for meter in meters.iter() {
            compare_tenant(&mut report, &mut tx, tenant, meter).await?;
        }
    }
    Ok(report)
}

fn compare_journal(report: &mut Report, boot: Uuid, last: Chain, cursor: Option<i64>) {
    let counted = cursor.map_or(0, |seq| u64::try_from(seq).unwrap_or(0));
    if counted > last.seq {
        report.differences.push(Difference {
            of: format!("journal {boot}"),
            one: format!("its last record is {}", last.seq),
            other: format!("the ledger has counted up to {counted}"),
        });
    }
    // Segments that are counted are deleted, so what is there and not counted is at most this.
    report.uncounted += if cursor.is_some() { last.seq.saturating_sub(counted) } else { 0 };
}

async fn compare_tenant(
    report: &mut Report,
    tx: &mut Tx,
    tenant: TenantId,
    meter: &std::sync::Arc<Meter>,
) -> Result<(), Error> {
    let of = format!("tenant {tenant}, meter {}", meter.key);
    let mut units = Vec::new();
    for unit in UNITS {
        units.push((unit, ledger(tx, tenant, &meter.key, unit).await?));
    }
    let (_, minutes) = &units[0];
    if minutes.is_empty() && meter.event_type().is_none() {
        return Ok(());
    }
    report.compared += 1;
    for (unit, longer) in &units[1..] {
        // Month by month, because that is what a bill is of.
        for (month, figure) in minutes {
            let other = longer.get(month).copied().unwrap_or_default();
            if other != *figure {
                report.differences.push(Difference {
                    of: format!("{of}, {month}"),
                    one: format!("its minutes have {figure}"),
                    other: format!("its cells by {unit:?} have {other}"),
                });
            }
        }
    }
    if let Some(kind) = meter.event_type() {
        let filter = EventFilter {
            tenant: Some(tenant),
            kind: Some(kind.to_owned()),
            valid_only: true,
            ..EventFilter::default()
        };
        let mut events = Figure::default();
        let add = |event| match measured(meter, &event) {
            Some((key, reading)) => events.add(&key, 1, reading.value),
            None => Ok(()),
        };
        tx.events_each(&filter, add).await?;
        let mut totals = Figure::default();
        for figure in minutes.values() {
            totals.add(&meter.key, figure.count, figure.sum)?;
        }
        if events != totals {
            report.differences.push(Difference {
                of,
                one: format!("its events have {events}"),
                other: format!("its totals have {totals}"),
            });
        }
    }
    Ok(())
}

/// The ledger's figures of one unit, by month.
async fn ledger(
    tx: &mut Tx,
    tenant: TenantId,
    meter: &MeterKey,
    unit: CalendarUnit,
) -> Result<BTreeMap<Timestamp, Figure>, Error> {
    let Ok(period) = Period::new(Timestamp::MIN, Timestamp::MAX) else { return Ok(BTreeMap::new()) };
    let mut months: BTreeMap<Timestamp, Figure> = BTreeMap::new();
    for found in tx.totals(Some(tenant), meter, &[Stretch { unit, period }]).await? {
        let month = Period::containing(found.start, CalendarUnit::Month).from();
        months.entry(month).or_default().add(meter, found.total.count, found.total.sum)?;
    }
    Ok(months)
}
