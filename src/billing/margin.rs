//! What is left of a tenant's bill when what it costs us is taken off. Worked out anew whenever it is asked for, from the same
//! usage, instants and plans as the bill, and from the cost rates that held.

use std::collections::BTreeMap;

use super::{
    charges,
    costs::CostBook,
    error::Error,
    invoice::InvoiceState,
    invoice_document::InvoiceDocument,
    model::{Bill, LineKind},
    rules::RatingError,
    service::Billing,
    settling::{minor, read_document},
    shares::Shares,
    spans::Span,
};
use crate::{
    kernel::{Currency, Money, Period, Quantity, QuantityError, TenantId, TierName, Timestamp},
    metering::MeterKey,
    store::Scope,
};

/// What a tenant brings for a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revenue {
    /// The plan's base, by time.
    pub base: Money,
    /// Of meters.
    pub usage: Money,
    /// What was missing to the plan's commitment.
    pub commitment: Money,
    /// What coupons take off.
    pub discounts: Money,
    /// What was taken back with the period's invoice.
    pub voided: Money,
    /// Base, usage and commitment, without discounts and what was taken back.
    pub total: Money,
}

/// What the usage of a meter costs, or a tenant as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostLine {
    /// The meter; `None` for what a tenant costs whatever it uses.
    pub meter: Option<MeterKey>,
    /// The tier that it had.
    pub tier: TierName,
    /// By which version of the rates; `None` where none has a rate of it.
    pub version: Option<u32>,
    /// The part of the period.
    pub period: Period,
    /// What was used.
    pub quantity: Quantity,
    /// What one of it costs; `None` where nobody said, and then it is not free but unknown.
    pub unit: Option<Quantity>,
    /// Exact.
    pub cost: Quantity,
}

/// A tenant's margin of a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Margin {
    /// Whose.
    pub tenant: TenantId,
    /// Of which period.
    pub period: Period,
    /// What it brings.
    pub revenue: Revenue,
    /// What it costs, line by line.
    pub lines: Vec<CostLine>,
    /// What it costs, exactly.
    pub cost_exact: Quantity,
    /// The same, rounded once.
    pub cost: Money,
    /// What is left.
    pub amount: Money,
}

impl Margin {
    /// The meters that were used and whose cost nobody said.
    pub fn unknown(&self) -> Vec<&MeterKey> {
        let mut meters: Vec<_> =
            self.lines.iter().filter(|line| line.unit.is_none()).filter_map(|line| line.meter.as_ref()).collect();
        meters.sort_unstable();
        meters.dedup();
        meters
    }

    /// Whether it is known what everything costs.
    pub fn is_complete(&self) -> bool {
        self.lines.iter().all(|line| line.unit.is_some())
    }

    /// What is left of a hundred, to two digits; `None` where nothing comes in.
    pub fn percent(&self) -> Option<Quantity> {
        percent(self.amount, self.revenue.total)
    }

    /// Whether the tenant had an account then.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.revenue == nothing(self.cost.currency())
    }
}

/// One amount in a hundred of another, to two digits half away from zero; `None` unless the other is above zero.
pub fn percent(amount: Money, of: Money) -> Option<Quantity> {
    if of.minor() <= 0 {
        return None;
    }
    let ratio = rust_decimal::Decimal::from(amount.minor()).checked_mul(100.into())?;
    Some(Quantity::new(ratio.checked_div(of.minor().into())?).rounded(2))
}

const fn nothing(currency: Currency) -> Revenue {
    let zero = Money::zero(currency);
    Revenue { base: zero, usage: zero, commitment: zero, discounts: zero, voided: zero, total: zero }
}

impl Billing {
    /// A tenant's margin of the period that an instant lies in.
    pub async fn margin(
        &self,
        scope: Scope,
        tenant: TenantId,
        at: Timestamp,
        book: &CostBook,
    ) -> Result<Margin, Error> {
        let bill = self.bill(scope, tenant, at).await?;
        let currency = bill.total.currency();
        let (period, mut lines) = (bill.period, Vec::new());
        let revenue = self.revenue(scope, &bill).await?;
        // Who had no account in the period has no lines, and costs nothing.
        if !bill.lines.is_empty() {
            let mut tx = self.store.read(scope).await?;
            let tiers = tx.billed_tiers(tenant).await?;
            let schedule = tx.billing_schedule(tenant).await?;
            drop(tx);
            let cadence = schedule.in_force(period.from());
            let shares = Shares::new(period, cadence, cadence.interval, super::Proration::Second);
            let own = book.within(currency);
            for span in self.catalogue().spans(period, &tiers) {
                for part in parts(&span, &own) {
                    lines.extend(self.cost_of(scope, tenant, (&span, part, &shares), &own).await?);
                }
                let tier = &span.plan.tier;
                // It costs something to have the tenant, and nobody said what in its currency.
                if own.0.is_empty() && book.0.iter().any(|costs| costs.fixed(tier).is_some()) {
                    let (tier, quantity, cost) = (tier.clone(), Quantity::ONE, Quantity::ZERO);
                    let period = span.period;
                    lines.push(CostLine { meter: None, tier, version: None, period, quantity, unit: None, cost });
                }
            }
        }
        let inexact = |source: QuantityError| RatingError::Inexact { meter: "cost".into(), source };
        let exact = lines.iter().try_fold(Quantity::ZERO, |sum, line| sum.add(line.cost)).map_err(inexact)?;
        let cost = Money::round_half_up(exact, currency)?;
        let amount = revenue.total.sub(cost)?;
        Ok(Margin { tenant, period, revenue, lines, cost_exact: exact, cost, amount })
    }

    async fn revenue(&self, scope: Scope, bill: &Bill) -> Result<Revenue, Error> {
        let mut revenue = nothing(bill.total.currency());
        for line in &bill.lines {
            let sum = match line.kind {
                LineKind::Base => &mut revenue.base,
                LineKind::Usage | LineKind::Adjustment => &mut revenue.usage,
                LineKind::Commitment => &mut revenue.commitment,
            };
            *sum = sum.add(line.line.amount)?;
        }
        let mut tx = self.store.read(scope).await?;
        let invoice = tx.invoice_of_period(bill.tenant_id, bill.period.from()).await?;
        let coupons = tx.coupons(bill.tenant_id).await?;
        drop(tx);
        match invoice {
            Some(invoice) if matches!(invoice.state, InvoiceState::Void { .. }) => revenue.voided = bill.total,
            Some(invoice) if invoice.issue.is_some() => {
                let document: InvoiceDocument = read_document(&invoice.document)?;
                for discount in &document.discounts {
                    let off = minor(&discount.amount, document.currency)?;
                    revenue.discounts = revenue.discounts.add(Money::from_minor(off, document.currency))?;
                }
            }
            // What it would come to now.
            _ => {
                let own = charges::own_lines(bill, &BTreeMap::new())?;
                let charges = charges::charge(&own, (&coupons, &[], &[]), bill.total.currency(), self.clock.now())?;
                for (_, _, off) in &charges.discounts {
                    revenue.discounts = revenue.discounts.add(*off)?;
                }
            }
        }
        let total = bill.total.sub(revenue.voided)?;
        revenue.total = total.sub(revenue.discounts)?;
        Ok(revenue)
    }

    /// What a part of a span costs.
    async fn cost_of(
        &self,
        scope: Scope,
        tenant: TenantId,
        (span, part, shares): (&Span, Period, &Shares),
        book: &CostBook,
    ) -> Result<Vec<CostLine>, Error> {
        let costs = book.at(part.from());
        let tier = &span.plan.tier;
        let of = |meter: Option<&MeterKey>, quantity, unit: Option<Quantity>, cost| CostLine {
            meter: meter.cloned(),
            tier: tier.clone(),
            version: unit.and_then(|_| costs.map(|costs| costs.version)),
            period: part,
            quantity,
            unit,
            cost,
        };
        let mut lines = Vec::new();
        if let Some(fixed) = costs.and_then(|costs| costs.fixed(tier)) {
            let share = shares.of(fixed, part)?;
            lines.push(of(None, Quantity::ONE, Some(fixed.quantity()), share.quantity()));
        }
        for (meter, is_cheap) in self.usage().meters() {
            let priced = span.plan.prices.iter().any(|price| price.meter == meter);
            // What takes reading all events is read only where somebody wants to know.
            if !is_cheap && !priced && !costs.is_some_and(|costs| costs.knows(&meter)) {
                continue;
            }
            let used = self.usage().total(scope, tenant, &meter, part).await?.max(Quantity::ZERO);
            if used.is_zero() {
                continue;
            }
            let unit = costs.and_then(|costs| costs.unit(&meter, tier));
            let cost = used.mul(unit.unwrap_or_default());
            let cost = cost.map_err(|source| RatingError::Inexact { meter: meter.to_string(), source })?;
            lines.push(of(Some(&meter), used, unit, cost));
        }
        Ok(lines)
    }
}

/// A span, cut where the cost rates change.
fn parts(span: &Span, book: &CostBook) -> Vec<Period> {
    let period = span.period;
    let mut cuts: Vec<Timestamp> = book.0.iter().map(|costs| costs.effective_from).collect();
    cuts.retain(|at| period.from() < *at && *at < period.to());
    cuts.extend([period.from(), period.to()]);
    cuts.sort_unstable();
    cuts.dedup();
    let pieces = cuts.windows(2).filter_map(|cut| Period::new(cut[0], cut[1]).ok());
    let mut parts: Vec<Period> = Vec::new();
    for piece in pieces {
        let version = |at: Timestamp| book.at(at).map(|costs| costs.version);
        match parts.last_mut() {
            // A version that others took the place of cuts nothing.
            Some(last) if version(last.from()) == version(piece.from()) => {
                *last = Period::new(last.from(), piece.to()).unwrap_or(*last);
            }
            _ => parts.push(piece),
        }
    }
    parts
}
