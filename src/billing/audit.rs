//! Whether bills have what the ledger has. Changes nothing, and may run beside a server: bills and recount must be over
//! one snapshot, so that what is counted meanwhile is in neither.
//!
//! Per tenant, period and meter: what the lines of the bill say of each span of tier and plan is what the ledger has of it,
//! worked out anew; and what is billed, and what is not because the plan of its span has no price for it, make up all that
//! was metered.

use std::collections::BTreeMap;

use super::{
    error::Error,
    invoice_audit::{Balance, Invoiced, OfPeriod, audit_invoices},
    model::{Bill, BillLine, LineKind},
    service::Billing,
};
use crate::{
    kernel::{Period, Quantity, TenantId, fault::chain},
    metering::{self, Difference, MeterKey, Recount},
    store::Scope,
};

/// What was looked at, and what does not agree.
#[derive(Debug, Default)]
pub struct BillsReport {
    /// Bills that were compared.
    pub bills: usize,
    /// Tenants with usage and without a billing account: nothing of theirs is billed.
    pub without_account: usize,
    /// Invoices that were looked at.
    pub invoices: usize,
    /// Where what was metered is, by meter that adds up; of periods whose bills agree.
    pub balances: BTreeMap<MeterKey, Balance>,
    /// What does not agree.
    pub differences: Vec<Difference>,
}

/// Compares every bill since the first usage with the ledger.
pub async fn audit(billing: &Billing, recount: &Recount) -> Result<BillsReport, Error> {
    let mut report = BillsReport::default();
    for tenant in recount.tenants().await? {
        match billing.account(Scope::Job("doctor"), tenant).await {
            Ok(_) => {}
            Err(Error::NoAccount(_)) => {
                report.without_account += 1;
                continue;
            }
            Err(error) => return Err(error),
        }
        for period in periods(billing, recount, tenant).await? {
            report.bills += 1;
            match compare(billing, recount, (tenant, period), &mut report.balances).await {
                // One tenant's trouble must not hide another's.
                Err(Error::Usage(error @ metering::Error::Inexact { .. })) => report.differences.push(Difference {
                    of: format!("tenant {tenant}, {}", named(period)),
                    one: chain(&error),
                    other: "every total must have 28 digits at most".into(),
                }),
                compared => report.differences.extend(compared?),
            }
        }
    }
    report.invoices = audit_invoices(billing, &mut report.differences).await?;
    Ok(report)
}

/// A tenant's billing periods from its first usage to now.
async fn periods(billing: &Billing, recount: &Recount, tenant: TenantId) -> Result<Vec<Period>, Error> {
    let months = recount.months(tenant).await?;
    let (Some(first), Some(last)) = (months.first(), months.last()) else { return Ok(Vec::new()) };
    let schedule = billing.schedule(Scope::Job("doctor"), tenant).await?;
    let mut periods = vec![schedule.containing(first.from())];
    while let Some(before) = periods.last().filter(|before| before.to() < last.to()) {
        periods.push(schedule.containing(before.to()));
    }
    Ok(periods)
}

type Balances = BTreeMap<MeterKey, Balance>;

async fn compare(
    billing: &Billing,
    recount: &Recount,
    (tenant, whole): (TenantId, Period),
    balances: &mut Balances,
) -> Result<Vec<Difference>, Error> {
    match billing.bill_of(Scope::Job("doctor"), tenant, whole).await {
        Ok(bill) => {
            let invoiced = Invoiced::of(billing, tenant, whole).await?;
            of_bill(recount, (tenant, whole), &bill, (&invoiced, balances)).await
        }
        Err(error @ (Error::Store(_) | Error::Usage(_))) => Err(error),
        Err(error) => {
            let of = format!("tenant {tenant}, {}", named(whole));
            let one = format!("its bill cannot be worked out: {}", chain(&error));
            Ok(vec![Difference { of, one, other: "the ledger has its usage".into() }])
        }
    }
}

async fn of_bill(
    recount: &Recount,
    (tenant, whole): (TenantId, Period),
    bill: &Bill,
    (invoiced, balances): (&Invoiced, &mut Balances),
) -> Result<Vec<Difference>, Error> {
    let mut differences = Vec::new();
    // Every span has a base; a commitment is about several.
    let spans = bill.lines.iter().filter(|line| line.kind == LineKind::Base);
    let parts: Vec<Period> = spans.map(|line| line.period).collect();
    for meter in recount.meters() {
        let differs = |period: Period, one: String, other: String| Difference {
            of: format!("tenant {tenant}, meter {meter}, {}", named(period)),
            one,
            other,
        };
        let before = differences.len();
        let (mut billed, mut unbilled) = (Quantity::ZERO, Quantity::ZERO);
        let adds_up = recount.adds_up(&meter);
        for part in &parts {
            let of_meter = |line: &&BillLine| {
                line.period == *part && line.line.meter == meter.as_str() && line.line.model != "flat"
            };
            let lines: Vec<_> = bill.lines.iter().filter(of_meter).collect();
            if lines.is_empty() && !adds_up {
                continue;
            }
            let metered = recount.value(tenant, &meter, *part).await?;
            for line in lines.iter().filter(|line| line.line.quantity != metered) {
                let one = format!("its bill has {}", line.line.quantity);
                differences.push(differs(*part, one, format!("the ledger has {metered}")));
            }
            let sum = if lines.is_empty() { &mut unbilled } else { &mut billed };
            let quantity = lines.first().map_or(metered, |line| line.line.quantity);
            *sum = sum.add(quantity).unwrap_or(quantity);
        }
        // What was told of a span is not told of the period again.
        if adds_up && !parts.is_empty() && differences.len() == before {
            let all = recount.value(tenant, &meter, whole).await?;
            if billed.add(unbilled) != Ok(all) {
                let one = format!("{billed} is billed and {unbilled} has no price");
                differences.push(differs(whole, one, format!("the ledger has {all}")));
                continue;
            }
            let of_period = OfPeriod { metered: all, priced: billed, unpriced: unbilled };
            let inexact = |source| metering::Error::Inexact { meter: meter.clone(), source };
            let balance = invoiced.balance(&meter, &of_period).map_err(inexact)?;
            if !balance.agrees() {
                let Balance { metered, billed, unbilled, voided } = balance;
                let one = format!("{billed} is on invoices, {unbilled} is not, {voided} was");
                differences.push(differs(whole, one, format!("the ledger has {metered}")));
            }
            if let Some(due) = invoiced.due(&meter, &of_period).filter(|due| *due != balance.billed) {
                let one = format!("{} is on invoices", balance.billed);
                differences.push(differs(whole, one, format!("{due} must be")));
            }
            let sum = balances.get(&meter).copied().unwrap_or_default().and(balance).map_err(inexact)?;
            balances.insert(meter.clone(), sum);
        }
    }
    Ok(differences)
}

fn named(period: Period) -> String {
    format!("from {} to {}", period.from(), period.to())
}
