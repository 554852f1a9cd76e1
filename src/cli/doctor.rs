//! `tollgate doctor`: whether journal, ledger, events and bills agree, and whether anything belongs to nobody. Exits with 0 when all
//! agrees, with 1 and the list of what does not, with 2 when it could not look. `--repair` mends what belongs to nobody, with the
//! data folder to itself.

use std::sync::Arc;

use super::{
    Failure, run_to_the_end,
    strays::{self, Doctor},
};
use crate::{
    app::BuildError,
    billing::{
        self, Balance, Billing, UsageSource,
        audit::{BillsReport, audit},
    },
    data_folder::lock_data,
    kernel::{Clock, ManualClock, SystemClock, SystemRng, TenantId, TenantObserver, audit::ChainWalk},
    metering::{
        Recount, Snapshot, UsageReader,
        journal::Folder,
        reconcile::{Report, reconcile},
    },
    settings::{self, Flags, Settings},
    store::{Scope, Store, StoreError},
    telemetry,
    users::Users,
};

/// Entries of the audit that are read at once.
const ENTRIES: i64 = 500;
/// Entries that do not fit, of which it is said: after so many, there is nothing more to learn.
const MOST_BROKEN: usize = 10;

/// What it does about what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It says it.
    Look,
    /// It mends what it can.
    Mend,
}

pub(super) fn run(flags: Flags, mode: Mode) -> Result<(), Failure> {
    let settings = Settings::from_process(flags)
        .map_err(|faults| Failure { message: format!("settings:\n{faults}"), status: 2 })?;
    telemetry::start_quiet(settings::log_filter().as_deref());
    run_to_the_end(doctor(&settings, mode))
}

async fn doctor(settings: &Settings, mode: Mode) -> Result<(), Failure> {
    let data = &settings.store.data;
    let missing = |what: &std::path::Path| Failure { message: format!("there is no {}", what.display()), status: 2 };
    let (file, journal) = (data.join("tollgate.db"), data.join("journal"));
    // Looking must not make what is not there.
    if let Some(missing_path) = [&journal, &file].into_iter().find(|path| !path.exists())
        && (settings.store.url.is_none() || missing_path == &journal)
    {
        return Err(missing(missing_path));
    }
    let _lock = match mode {
        Mode::Look => None,
        Mode::Mend => Some(lock_data(data).map_err(|error| held(&error))?),
    };
    let store = match &settings.store.url {
        Some(url) => Store::look_postgres(url, settings.store.max_connections).await,
        None => Store::look_sqlite(&file).await,
    };
    let store = store.map_err(|error| Failure::setup(&error))?;
    let disk = Folder::open(journal).map_err(|error| Failure::setup(&error))?;
    let report = reconcile(&store, &disk).await.map_err(|error| Failure::setup(&error))?;
    let bills = bills(&store, settings).await.map_err(|error| Failure::setup(&error))?;
    let (sealed, broken) = audit_chain(&store).await.map_err(|error| Failure::setup(&error))?;
    let strays = strays(&store, settings, mode).await.map_err(|error| Failure::setup(&error))?;
    store.close().await;
    let differences = report.differences.iter().chain(&bills.differences).map(ToString::to_string);
    let differences: Vec<String> = differences.chain(broken).chain(strays).collect();
    for difference in &differences {
        eprintln!("{difference}");
    }
    for (meter, balance) in bills.balances.iter().filter(|(_, balance)| !balance.metered.is_zero()) {
        let Balance { metered, billed, unbilled, voided } = balance;
        eprintln!("{meter}: metered {metered} = billed {billed} + unbilled {unbilled} + voided {voided}");
    }
    let Report { compared, uncounted, voided, .. } = report;
    let looked_at = format!(
        "{compared} pairs of tenant and meter, {} bills, {} invoices and {sealed} entries of the audit",
        bills.bills, bills.invoices
    );
    match differences.len() {
        0 => {
            eprintln!(
                "all agrees: {looked_at}; {uncounted} records not counted yet, {voided} events taken back, {} tenants \
                 without a billing account",
                bills.without_account
            );
            Ok(())
        }
        some => Err(Failure { message: format!("{some} differences in {looked_at}"), status: 1 }),
    }
}

/// Whoever mends must be alone: a server has the data folder, and knows by heart what would be changed under it.
fn held(error: &BuildError) -> Failure {
    let mut failure = Failure::setup(error);
    if let BuildError::DataInUse { .. } = error {
        failure.message += "; --repair needs it to itself: stop the server first. Infrastructure of tenants that are there it mends \
                            by itself, and when POST /admin/v1/tenants/{id}/reconcile asks it to";
    }
    failure
}

/// What belongs to nobody; when it is to be mended, what of it is left.
async fn strays(store: &Store, settings: &Settings, mode: Mode) -> Result<Vec<String>, strays::Error> {
    let doctor = Doctor::new(store, settings)?;
    let found = doctor.find().await?;
    if mode == Mode::Look || found.is_empty() {
        return Ok(found.iter().map(strays::Stray::sentence).collect());
    }
    let billing = billing(store, settings, Snapshot::take(store).await?).await?;
    let users = Users::new(store.clone(), Arc::new(SystemClock), Arc::new(SystemRng));
    let mut left = Vec::new();
    for stray in &found {
        match doctor.mend(stray, &billing, &users).await {
            Ok(()) if stray.is_for_somebody() => left.push(stray.sentence()),
            Ok(()) => eprintln!("{}", stray.done()),
            Err(error) => left.push(stray.failed(&error)),
        }
    }
    Ok(left)
}

/// Walks along the audit's chain: how many entries, and what does not fit.
async fn audit_chain(store: &Store) -> Result<(usize, Vec<String>), StoreError> {
    let mut tx = store.read(Scope::Job("doctor")).await?;
    let ends = tx.audit_ends().await?;
    let (mut walk, mut last) = (ChainWalk::after(ends.forgotten), ends.forgotten.0);
    let (mut walked, mut broken) = (0, Vec::new());
    loop {
        let entries = tx.audit_sealed(last, ENTRIES).await?;
        let Some(seal) = entries.last().and_then(|entry| entry.seal) else { break };
        last = seal.serial;
        walked += entries.len();
        broken.extend(entries.iter().filter_map(|entry| walk.step(entry)).take(MOST_BROKEN - broken.len()));
        if broken.len() == MOST_BROKEN {
            return Ok((walked, broken));
        }
    }
    broken.extend(walk.end(ends.last));
    Ok((walked, broken))
}

/// Compares bills and ledger, all as of one moment.
async fn bills(store: &Store, settings: &Settings) -> Result<BillsReport, billing::Error> {
    let now = SystemClock.now();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(now));
    let then = Snapshot::take(store).await?;
    let recount = Recount::open(store, then.clone(), now).await?;
    audit(&billing_at(store, settings, then, clock).await?, &recount).await
}

async fn billing(store: &Store, settings: &Settings, then: Snapshot) -> Result<Billing, billing::Error> {
    billing_at(store, settings, then, Arc::new(SystemClock)).await
}

/// Over what was counted by a moment.
async fn billing_at(
    store: &Store,
    settings: &Settings,
    then: Snapshot,
    clock: Arc<dyn Clock>,
) -> Result<Billing, billing::Error> {
    let usage = UsageSource::Ledger(UsageReader::open(store, then, Arc::clone(&clock)).await?);
    let (rng, nobody) = (Arc::new(SystemRng), Arc::new(Nobody));
    Billing::open(store.clone(), usage, clock, rng, nobody, settings.billing.invoices.clone(), &[]).await
}

/// Nothing changes, so nobody hears of it.
struct Nobody;

impl TenantObserver for Nobody {
    fn tenant_changed(&self, _: TenantId) {}

    fn all_changed(&self) {}
}
