//! `tollgate doctor`: whether journal, ledger, events and bills agree. Exits with 0 when they do, with 1 and the list of
//! what does not, with 2 when it could not look.

use super::{Failure, run_to_the_end};
use crate::{
    metering::{journal::Folder, reconcile::reconcile},
    settings::{self, Flags, Settings},
    store::Store,
    telemetry,
};

pub(super) fn run(flags: Flags) -> Result<(), Failure> {
    let settings = Settings::from_process(flags)
        .map_err(|faults| Failure { message: format!("settings:\n{faults}"), status: 2 })?;
    telemetry::start_quiet(settings::log_filter().as_deref());
    run_to_the_end(doctor(&settings))
}

async fn doctor(settings: &Settings) -> Result<(), Failure> {
    let data = &settings.store.data;
    let missing = |what: &std::path::Path| Failure { message: format!("there is no {}", what.display()), status: 2 };
    let (file, journal) = (data.join("tollgate.db"), data.join("journal"));
    // Looking must not make what is not there.
    if let Some(missing_path) = [&journal, &file].into_iter().find(|path| !path.exists())
        && (settings.store.url.is_none() || missing_path == &journal)
    {
        return Err(missing(missing_path));
    }
    let store = match &settings.store.url {
        Some(url) => Store::open_postgres(url, settings.store.max_connections).await,
        None => Store::open_sqlite(&file).await,
    };
    let store = store.map_err(|error| Failure::setup(&error))?;
    let disk = Folder::open(journal).map_err(|error| Failure::setup(&error))?;
    let report = reconcile(&store, &disk).await.map_err(|error| Failure::setup(&error))?;
    store.close().await;
    for difference in &report.differences {
        eprintln!("{difference}");
    }
    let (compared, uncounted) = (report.compared, report.uncounted);
    match report.differences.len() {
        0 => {
            eprintln!("all agrees: {compared} pairs of tenant and meter; {uncounted} records not counted yet");
            Ok(())
        }
        some => Err(Failure { message: format!("{some} of {compared} comparisons disagree"), status: 1 }),
    }
}
