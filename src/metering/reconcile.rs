//! Whether the journal, the ledger and the events agree. Changes nothing, and may run beside a server.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use uuid::Uuid;

use super::{
    error::Error,
    events::measured,
    journal::{Chain, Disk, JournalError, Surveyed, survey},
    meter::Meter,
    meters::Meters,
    model::{Counted, Cursor, Found, MeterKey, Total, UNITS},
    routed::is_of_route,
    windows::always,
};
use crate::{
    kernel::{CalendarUnit, Period, Quantity, TenantId, Timestamp, fault::chain},
    store::{EventFilter, Scope, Store, Tx},
};

/// A running server goes on while its journal is looked at; what it did meanwhile is looked at again so often.
const ATTEMPTS: usize = 3;
/// Differences that are told of one pair of tenant and meter; the rest are counted.
const MOST_TOLD: usize = 20;

/// What was looked at, and what does not agree.
#[derive(Debug, Default)]
pub struct Report {
    /// Pairs of tenant and meter that were compared.
    pub compared: usize,
    /// Records in the journal that the ledger has not counted yet; no disagreement.
    pub uncounted: u64,
    /// Events that were taken back.
    pub voided: i64,
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

/// Compares journal and ledger, the ledger's units among themselves, and events and ledger.
pub async fn reconcile(store: &Store, disk: &dyn Disk) -> Result<Report, Error> {
    let mut report = Report::default();
    for attempt in 1..=ATTEMPTS {
        match compare_journals(store, disk).await {
            Ok((uncounted, differences)) if differences.is_empty() || attempt == ATTEMPTS => {
                report.uncounted = uncounted;
                report.differences = differences;
                break;
            }
            // A segment that was counted meanwhile is gone.
            Err(error) if attempt == ATTEMPTS => return Err(error),
            _ => {}
        }
    }
    let meters = Meters::open(store).await?.all();
    let mut tx = store.read(Scope::Job("doctor")).await?;
    let tenants = tx.metered_tenants().await?;
    report.voided = tx.events_voided().await?;
    drop(tx);
    for tenant in tenants {
        // One moment for all of a tenant's figures.
        let mut tx = store.read(Scope::Job("doctor")).await?;
        for meter in meters.iter() {
            match compare_tenant(&mut report, &mut tx, tenant, meter).await {
                // One tenant's trouble must not hide another's.
                Err(error @ Error::Inexact { .. }) => {
                    report.differences.push(too_long(format!("tenant {tenant}, meter {}", meter.key), &error));
                }
                done => done?,
            }
        }
    }
    report.differences.extend(compare_counted(store, &meters).await?);
    Ok(report)
}

/// Whether the totals of the gateway's meters are what the journals put into them, all in all.
async fn compare_counted(store: &Store, meters: &[Arc<Meter>]) -> Result<Vec<Difference>, Error> {
    // One moment for both.
    let mut tx = store.read(Scope::Job("doctor")).await?;
    let counted = tx.journal_counted(None).await?;
    let cursors = tx.journal_cursors().await?;
    let mut differences = Vec::new();
    for boot in counted.iter().map(|(boot, _)| *boot).collect::<BTreeSet<_>>() {
        if !boot.is_nil() && !cursors.iter().any(|(own, _)| *own == boot) {
            let one = "the ledger has what was counted of it".to_owned();
            differences.push(Difference { of: format!("journal {boot}"), one, other: "it has no cursor".into() });
        }
    }
    for meter in meters {
        let nothing = || Counted { meter: meter.key.clone(), count: 0, sum: Quantity::ZERO };
        let of_meter = counted.iter().filter(|(_, counted)| counted.meter == meter.key);
        let journals = of_meter.map(|(_, counted)| counted).try_fold(nothing(), |sum, more| sum.and(more));
        let months = tx.totals(None, &meter.key, &[always(CalendarUnit::Month)]).await?;
        let of_month =
            |found: &Found| Counted { meter: meter.key.clone(), count: found.total.count, sum: found.total.sum };
        let mut by_route = months.iter().filter(|found| is_of_route(meter, &found.group));
        let ledger = by_route.try_fold(nothing(), |sum, found| sum.and(&of_month(found)));
        match (journals, ledger) {
            (Ok(journals), Ok(ledger)) if journals == ledger => {}
            (Ok(journals), Ok(ledger)) => differences.push(Difference {
                of: format!("meter {}", meter.key),
                one: format!("the journals had {} in {} records", journals.sum, journals.count),
                other: format!("the totals of all tenants have {} in {}", ledger.sum, ledger.count),
            }),
            (Err(error), _) | (_, Err(error)) => differences.push(too_long(format!("meter {}", meter.key), &error)),
        }
    }
    Ok(differences)
}

fn too_long(of: String, error: &Error) -> Difference {
    Difference { of, one: chain(error), other: "every total must have 28 digits at most".into() }
}

/// What the ledger has not counted yet, and what does not agree with it.
async fn compare_journals(store: &Store, disk: &dyn Disk) -> Result<(u64, Vec<Difference>), Error> {
    let cursors = async || Ok::<_, Error>(store.read(Scope::Job("doctor")).await?.journal_cursors().await?);
    // The journal of a running server goes on meanwhile: it may only be further than the cursors that were read before,
    // and must still have what comes after those that are read later.
    let before = cursors().await?;
    let points: Vec<(Uuid, Chain)> = before.iter().filter_map(|(boot, cursor)| Some((*boot, place(cursor)?))).collect();
    let (journals, damage) = survey(disk, &points)?;
    let after = cursors().await?;
    let mut differences: Vec<Difference> = damage.iter().map(damaged).collect();
    let mut uncounted = 0;
    let seq = |cursors: &[(Uuid, Cursor)], boot: Uuid| {
        let cursor = cursors.iter().find(|(own, _)| *own == boot);
        cursor.map(|(_, cursor)| u64::try_from(cursor.seq).unwrap_or(0))
    };
    for (index, journal) in journals.iter().enumerate() {
        let Surveyed { boot, before: first, last, met } = *journal;
        let mut differs = |one: String, other: String| {
            differences.push(Difference { of: format!("journal {boot}"), one, other });
        };
        let (counted, counted_later) = (seq(&before, boot), seq(&after, boot));
        uncounted += last.saturating_sub(counted.unwrap_or(0).max(first));
        let is_last = index + 1 == journals.len();
        match counted {
            Some(counted) if counted > last && damage.is_none() => {
                differs(format!("its last record is {last}"), format!("the ledger has counted up to {counted}"));
            }
            // What an earlier process left may have been written again, with other hashes.
            Some(counted) if is_last && !met && counted >= first && damage.is_none() => {
                let one = format!("its record {counted} has another hash than the ledger counted, or is another one");
                differs(one, format!("the ledger has counted up to {counted}"));
            }
            _ => {}
        }
        if counted_later.is_some_and(|counted| counted < first) {
            let counted = counted_later.unwrap_or(0);
            differs(format!("its first record is {}", first + 1), format!("the ledger has counted up to {counted}"));
        }
    }
    Ok((uncounted, differences))
}

fn place(cursor: &Cursor) -> Option<Chain> {
    Some(Chain { seq: u64::try_from(cursor.seq).ok()?, hash: cursor.hash.as_slice().try_into().ok()? })
}

fn damaged(error: &JournalError) -> Difference {
    match error {
        JournalError::Damaged { path, offset, seq, why } => Difference {
            of: format!("journal {path}"),
            one: format!("after record {seq}, at byte {offset}, it has {why}"),
            other: "the disk had what follows".into(),
        },
        other => Difference {
            of: "journal".into(),
            one: chain(other),
            other: "each segment must go on where the one before it ends".into(),
        },
    }
}

/// What all writers together have in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Figure {
    total: Total,
    /// Something was taken out: its smallest, largest and latest are no longer those of the events.
    corrected: bool,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Total { count, sum, low, high, last } = &self.total;
        write!(f, "{sum} in {count} records (from {low} to {high}, the latest {})", last.value)
    }
}

/// Cells of one unit: the first instant and the group.
type Figures = BTreeMap<(Timestamp, String), Figure>;

fn add(figures: &mut Figures, meter: &MeterKey, cell: (Timestamp, String), more: Total) -> Result<(), Error> {
    let corrected = more.count < 0;
    match figures.get_mut(&cell) {
        None => drop(figures.insert(cell, Figure { total: more, corrected })),
        Some(known) => {
            let inexact = |source| Error::Inexact { meter: meter.clone(), source };
            known.total = known.total.and(&more).map_err(inexact)?;
            known.corrected |= corrected;
        }
    }
    Ok(())
}

async fn compare_tenant(report: &mut Report, tx: &mut Tx, tenant: TenantId, meter: &Arc<Meter>) -> Result<(), Error> {
    let minutes = figures(tx, tenant, &meter.key, CalendarUnit::Minute).await?;
    let mut told = Told { of: format!("tenant {tenant}, meter {}", meter.key), differences: Vec::new() };
    let mut any = !minutes.is_empty();
    for unit in &UNITS[1..] {
        let found = figures(tx, tenant, &meter.key, *unit).await?;
        any |= !found.is_empty();
        let mut expected = Figures::new();
        for ((start, group), figure) in &minutes {
            let cell = (Period::containing(*start, *unit).from(), group.clone());
            add(&mut expected, &meter.key, cell.clone(), figure.total.clone())?;
            if let Some(sum) = expected.get_mut(&cell) {
                sum.corrected |= figure.corrected;
            }
        }
        let names = ("its minutes have".to_owned(), format!("its cell by {unit:?} has"));
        told.compare(&expected, &found, &names, |one, other| one.total == other.total);
    }
    if meter.event_type().is_some() {
        let events = event_figures(tx, tenant, meter).await?;
        let mut minutes = minutes;
        minutes.retain(|(_, group), _| !is_of_route(meter, group));
        any |= !events.is_empty();
        let names = ("its events have".to_owned(), "its totals have".to_owned());
        told.compare(&events, &minutes, &names, |events, ledger| {
            let sums = |figure: &Figure| (figure.total.count, figure.total.sum);
            if ledger.corrected { sums(events) == sums(ledger) } else { events.total == ledger.total }
        });
    }
    report.compared += usize::from(any);
    report.differences.extend(told.finish());
    Ok(())
}

/// The differences of one pair of tenant and meter.
struct Told {
    of: String,
    differences: Vec<Difference>,
}

impl Told {
    fn compare(
        &mut self,
        one: &Figures,
        other: &Figures,
        names: &(String, String),
        same: impl Fn(&Figure, &Figure) -> bool,
    ) {
        // What was taken back altogether is as if it had never been.
        let nothing =
            |figure: Option<&Figure>| figure.is_none_or(|figure| figure.total.count == 0 && figure.total.sum.is_zero());
        let shown = |figure: Option<&Figure>| figure.map_or_else(|| "nothing".to_owned(), Figure::to_string);
        let cells: BTreeSet<_> = one.keys().chain(other.keys()).collect();
        for cell in cells {
            let (left, right) = (one.get(cell), other.get(cell));
            let agree = match (left, right) {
                (Some(left), Some(right)) => same(left, right),
                _ => nothing(left) && nothing(right),
            };
            if !agree {
                self.differences.push(Difference {
                    of: format!("{}, {} {}", self.of, cell.0, cell.1),
                    one: format!("{} {}", names.0, shown(left)),
                    other: format!("{} {}", names.1, shown(right)),
                });
            }
        }
    }

    fn finish(mut self) -> Vec<Difference> {
        let more = self.differences.len().saturating_sub(MOST_TOLD);
        self.differences.truncate(MOST_TOLD);
        if more > 0 {
            let one = format!("{more} more of its cells differ");
            self.differences.push(Difference { of: self.of, one, other: "they are not shown".into() });
        }
        self.differences
    }
}

/// The ledger's cells of one unit.
async fn figures(tx: &mut Tx, tenant: TenantId, meter: &MeterKey, unit: CalendarUnit) -> Result<Figures, Error> {
    let mut figures = Figures::new();
    for found in tx.totals(Some(tenant), meter, &[always(unit)]).await? {
        add(&mut figures, meter, (found.start, found.group), found.total)?;
    }
    Ok(figures)
}

/// What the events that are valid make by minute.
async fn event_figures(tx: &mut Tx, tenant: TenantId, meter: &Arc<Meter>) -> Result<Figures, Error> {
    let filter = EventFilter {
        tenant: Some(tenant),
        kind: meter.event_type().map(str::to_owned),
        valid_only: true,
        ..EventFilter::default()
    };
    let mut figures = Figures::new();
    let take = |event| match measured(meter, &event) {
        None => Ok(()),
        Some((key, reading)) => {
            let at = Timestamp::from_micros(event.at_ns.div_euclid(1_000)).unwrap_or(Timestamp::MIN);
            let total = Total::one(reading.value, event.at_ns, event.arrival);
            add(&mut figures, &key, (at.floor_minute(), reading.group.to_string()), total)
        }
    };
    tx.events_each(&filter, take).await?;
    Ok(figures)
}
