//! What is asked about all tenants at once: page by page, so that however many there are, few are in memory.

use std::{
    collections::{BTreeMap, BinaryHeap},
    iter::once,
};

use super::{
    costs::CostBook,
    error::Error,
    margin::Margin,
    service::Billing,
    what_if::{Compared, Range, WhatIf},
};
use crate::{
    kernel::{Currency, Money, Page, PageRequest, TenantId, Timestamp},
    metering,
    store::Scope,
};

/// What was worked out of a tenant, or why it could not be: one tenant's trouble does not keep the others'.
#[derive(Debug)]
pub struct Answer<T> {
    /// Who.
    pub tenant: TenantId,
    /// What.
    pub found: Result<T, Error>,
}

/// What tenants that owe in one currency come to.
pub trait Totals {
    /// What each of them has.
    type Of;

    /// Of nobody.
    fn new(currency: Currency) -> Self;

    /// Their currency.
    fn currency(&self) -> Currency;

    /// That of one tenant.
    fn currency_of(found: &Self::Of) -> Currency;

    /// Adds one that owes in this currency, or one for whom nothing could be worked out. One that is too large to be added is not:
    /// the others' totals are still of use.
    fn add(&mut self, found: Option<&Self::Of>);
}

/// Totals by currency: amounts of two are never added.
#[derive(Debug, Clone)]
pub struct ByCurrency<T> {
    /// In that of the settings, with those for whom nothing could be worked out.
    pub own: T,
    /// In others that tenants owe in, by their codes.
    others: BTreeMap<&'static str, T>,
}

impl<T: Totals> ByCurrency<T> {
    /// Of nobody; `currency` is that of the settings.
    pub fn new(currency: Currency) -> Self {
        Self { own: T::new(currency), others: BTreeMap::new() }
    }

    /// Adds one.
    pub fn add(&mut self, answer: &Answer<T::Of>) {
        let (found, own) = (answer.found.as_ref().ok(), self.own.currency());
        let currency = found.map_or(own, T::currency_of);
        let totals = if currency == own {
            &mut self.own
        } else {
            self.others.entry(currency.code()).or_insert_with(|| T::new(currency))
        };
        totals.add(found);
    }

    /// In currencies other than that of the settings.
    pub fn others(&self) -> impl Iterator<Item = &T> {
        self.others.values()
    }

    /// In all of them.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        once(&self.own).chain(self.others())
    }
}

/// What margins come to.
#[derive(Debug, Clone, Copy)]
pub struct MarginTotals {
    /// Of so many tenants.
    pub tenants: u64,
    /// Of so many the cost is not known, or not all of it.
    pub incomplete: u64,
    /// What came in.
    pub revenue: Money,
    /// What it cost.
    pub cost: Money,
    /// What is left.
    pub amount: Money,
}

impl Totals for MarginTotals {
    type Of = Margin;

    fn new(currency: Currency) -> Self {
        let zero = Money::zero(currency);
        Self { tenants: 0, incomplete: 0, revenue: zero, cost: zero, amount: zero }
    }

    fn currency(&self) -> Currency {
        self.revenue.currency()
    }

    fn currency_of(margin: &Margin) -> Currency {
        margin.amount.currency()
    }

    fn add(&mut self, found: Option<&Margin>) {
        self.tenants += 1;
        match found {
            Some(margin) => {
                let sums =
                    [(self.revenue, margin.revenue.total), (self.cost, margin.cost), (self.amount, margin.amount)];
                match sums.map(|(sum, more)| sum.add(more)) {
                    [Ok(revenue), Ok(cost), Ok(amount)] => {
                        self.incomplete += u64::from(!margin.is_complete());
                        (self.revenue, self.cost, self.amount) = (revenue, cost, amount);
                    }
                    _ => self.incomplete += 1,
                }
            }
            None => self.incomplete += 1,
        }
    }
}

/// What comparisons come to.
#[derive(Debug, Clone, Copy)]
pub struct WhatIfTotals {
    /// Of so many tenants.
    pub tenants: u64,
    /// Of so many it could not be worked out.
    pub failed: u64,
    /// What they owe.
    pub billed: Money,
    /// What they would owe.
    pub would_be: Money,
}

impl Totals for WhatIfTotals {
    type Of = Compared;

    fn new(currency: Currency) -> Self {
        let zero = Money::zero(currency);
        Self { tenants: 0, failed: 0, billed: zero, would_be: zero }
    }

    fn currency(&self) -> Currency {
        self.billed.currency()
    }

    fn currency_of(compared: &Compared) -> Currency {
        compared.currency
    }

    fn add(&mut self, found: Option<&Compared>) {
        self.tenants += 1;
        match found {
            Some(compared) => {
                match compared.sums().ok().map(|(is, would)| (self.billed.add(is), self.would_be.add(would))) {
                    Some((Ok(billed), Ok(would_be))) => (self.billed, self.would_be) = (billed, would_be),
                    _ => self.failed += 1,
                }
            }
            None => self.failed += 1,
        }
    }
}

/// In which order margins are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarginOrder {
    /// What leaves least first.
    Lowest,
    /// What leaves most first.
    Highest,
}

/// A margin's place in an order: smaller ones come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The code of the currency, unless it is that of the settings, which comes first: amounts of two are in no order.
    pub currency: Option<&'static str>,
    /// The margin in minor units, below zero when the highest come first.
    pub rank: i64,
    /// Of equal ones.
    pub tenant: TenantId,
}

struct Ranked {
    place: Place,
    margin: Margin,
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.place.cmp(&other.place)
    }
}

/// Margins in order.
#[derive(Debug)]
pub struct RankedPage {
    /// The next ones.
    pub items: Vec<Margin>,
    /// The place of the last of them, when more follow.
    pub next: Option<Place>,
    /// Of all tenants.
    pub totals: ByCurrency<MarginTotals>,
}

impl Billing {
    /// A page of those who may have owed something in a time, by their ids; or one of them.
    pub async fn owing(
        &self,
        scope: Scope,
        range: Range,
        only: Option<TenantId>,
        page: PageRequest,
    ) -> Result<Page<TenantId>, Error> {
        let mut tx = self.store.read(scope).await?;
        if let Some(tenant) = only {
            tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))?;
            return Ok(Page { items: vec![tenant], next_cursor: None });
        }
        Ok(page.page(tx.accounts_within(range.reach(), page).await?, |tenant| tenant.as_uuid()))
    }

    /// What some tenants owe and would owe. Who owes nothing by any plan, because it had no account, is left out.
    pub async fn compare_page(
        &self,
        scope: Scope,
        question: &WhatIf,
        only: Option<TenantId>,
        page: PageRequest,
    ) -> Result<Page<Answer<Compared>>, Error> {
        let Page { items, next_cursor } = self.owing(scope, question.range(), only, page).await?;
        let mut answers = Vec::with_capacity(items.len());
        for tenant in items {
            let found = of_one(self.compare(scope, tenant, question).await)?;
            if only.is_some() || !found.as_ref().is_ok_and(|compared| compared.periods.is_empty()) {
                answers.push(Answer { tenant, found });
            }
        }
        Ok(Page { items: answers, next_cursor })
    }

    /// The margins of some tenants. Who had no account in its period is left out.
    pub async fn margin_page(
        &self,
        scope: Scope,
        (at, book): (Timestamp, &CostBook),
        only: Option<TenantId>,
        page: PageRequest,
    ) -> Result<Page<Answer<Margin>>, Error> {
        let Page { items, next_cursor } = self.owing(scope, Range::At(at), only, page).await?;
        let mut answers = Vec::with_capacity(items.len());
        for tenant in items {
            let found = of_one(self.margin(scope, tenant, at, book).await)?;
            if only.is_some() || !found.as_ref().is_ok_and(Margin::is_empty) {
                answers.push(Answer { tenant, found });
            }
        }
        Ok(Page { items: answers, next_cursor })
    }

    /// The next margins in an order, after a place. All are worked out for it, and as many as are asked for are kept.
    pub async fn margins_ranked(
        &self,
        scope: Scope,
        (at, book): (Timestamp, &CostBook),
        (order, after): (MarginOrder, Option<Place>),
        limit: usize,
    ) -> Result<RankedPage, Error> {
        let mut totals = ByCurrency::new(self.config.currency);
        let mut kept: BinaryHeap<Ranked> = BinaryHeap::new();
        let mut cursor = None;
        loop {
            let page = PageRequest::new(Some(PageRequest::MAX_LIMIT), cursor).unwrap_or_default();
            let Page { items, next_cursor } = self.margin_page(scope, (at, book), None, page).await?;
            for answer in items {
                totals.add(&answer);
                let Ok(margin) = answer.found else { continue };
                let minor = margin.amount.minor();
                let rank = if order == MarginOrder::Lowest { minor } else { minor.saturating_neg() };
                let other = Some(margin.amount.currency()).filter(|currency| *currency != self.config.currency);
                let place = Place { currency: other.map(Currency::code), rank, tenant: margin.tenant };
                if after.is_none_or(|after| place > after) {
                    kept.push(Ranked { place, margin });
                }
                // One more than the page holds tells that there is another page.
                if kept.len() > limit + 1 {
                    kept.pop();
                }
            }
            cursor = next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let mut kept = kept.into_sorted_vec();
        let more = kept.len() > limit;
        kept.truncate(limit);
        let next = kept.last().filter(|_| more).map(|last| last.place);
        Ok(RankedPage { items: kept.into_iter().map(|ranked| ranked.margin).collect(), next, totals })
    }
}

/// Keeps what is one tenant's trouble apart from what is everybody's.
fn of_one<T>(found: Result<T, Error>) -> Result<Result<T, Error>, Error> {
    match found {
        Ok(found) => Ok(Ok(found)),
        Err(
            error @ (Error::Rating(_)
            | Error::Money(_)
            | Error::NoAccount(_)
            | Error::OtherCurrency { .. }
            | Error::Usage(metering::Error::Inexact { .. })),
        ) => Ok(Err(error)),
        Err(error) => Err(error),
    }
}
