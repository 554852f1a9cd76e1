//! Usage put on record at will, by the way every settled request takes: the journal.

use axum::extract::FromRef as _;
use tollgate::kernel::Clock as _;
use tollgate::metering::{Amounts, JournalError, Metering, Record, STOCK_METERS};

use crate::support::app::TestApp;

/// Records that a tenant used so many thousandths of some meters, now, on the first route.
pub fn record(app: &TestApp, tenant: &str, thousandths: &[(&str, i64)]) {
    try_record(app, tenant, thousandths).unwrap();
}

/// The same, where the journal may have no room.
pub fn try_record(app: &TestApp, tenant: &str, thousandths: &[(&str, i64)]) -> Result<u64, JournalError> {
    let mut amounts = Amounts::default();
    for (key, amount) in thousandths {
        let number = STOCK_METERS.iter().position(|meter| meter.key == *key).unwrap();
        assert!(amounts.push(u16::try_from(number).unwrap(), *amount));
    }
    let metering = Metering::from_ref(app.app.state());
    let record = Record { tenant: tenant.parse().unwrap(), at: app.clock.now(), route: 0, amounts };
    metering.record(metering.reserve()?, &record)
}

/// The same in whole units.
pub fn record_units(app: &TestApp, tenant: &str, units: &[(&str, i64)]) {
    let thousandths: Vec<_> = units.iter().map(|(key, amount)| (*key, amount * 1_000)).collect();
    record(app, tenant, &thousandths);
}
