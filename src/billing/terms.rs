//! What a tenant is billed by, besides its plan: taxes, coupons and prepaid credits.

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    cadence_wire::IntervalBody,
    error::Error,
    invoice::{Coupon, Credit, Draw, Off, TaxRate, Terms},
    periods::CadencePatch,
    service::Billing,
    wire::non_negative,
};
use crate::{
    kernel::{Actor, CouponId, CreditId, Faults, Money, Quantity, TenantId, Timestamp, names::plain_text},
    store::{Scope, StoreError, Tx},
};

/// The most tax rates of a tenant, coupons and credits.
const MOST_RATES: usize = 10;
const MOST: usize = 1_000;
/// The longest name of a tax or a coupon, number with the tax office, or reason, in characters.
const MAX_TEXT: usize = 200;

/// Terms on the wire and in the store.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TermsBody {
    /// Added to each invoice, each on what is left of the subtotal after coupons.
    #[serde(default)]
    pub tax_rates: Vec<TaxRateBody>,
    /// The tenant's number with the tax office.
    #[serde(default)]
    pub tax_id: Option<String>,
}

/// A tax.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaxRateBody {
    /// What it is called.
    pub name: String,
    /// How much in a hundred, 0 to 100.
    pub percent: String,
}

/// What of a tenant's terms is changed; what is absent stays.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TermsPatch {
    /// Added to each invoice from the next one on.
    #[serde(default)]
    tax_rates: Option<Vec<TaxRateBody>>,
    /// The tenant's number with the tax office; empty for none.
    #[serde(default)]
    tax_id: Option<String>,
    /// How long a billing period is, from the end of the running one on: `month`, `year`, or so many days, `{"days": 30}`.
    #[serde(default)]
    interval: Option<IntervalBody>,
    /// A day on which one begins, from which all are counted (31 is the last day of a shorter month): `2026-01-31`; `sign_up`
    /// for the day on which the account was opened, `month` for the first of that month.
    #[serde(default)]
    anchor: Option<String>,
    /// The IANA time zone whose midnights they begin at: `Europe/Berlin`.
    #[serde(default)]
    zone: Option<String>,
}

impl TermsPatch {
    /// What of it is about billing periods.
    fn cadence(&self) -> CadencePatch {
        CadencePatch { interval: self.interval.clone(), anchor: self.anchor.clone(), zone: self.zone.clone() }
    }

    /// Whether nothing else is changed.
    const fn is_about_cadence(&self) -> bool {
        let about = self.interval.is_some() || self.anchor.is_some() || self.zone.is_some();
        about && self.tax_rates.is_none() && self.tax_id.is_none()
    }
}

impl From<&Terms> for TermsBody {
    fn from(terms: &Terms) -> Self {
        let body = |rate: &TaxRate| TaxRateBody { name: rate.name.clone(), percent: rate.percent.to_string() };
        Self { tax_rates: terms.tax_rates.iter().map(body).collect(), tax_id: terms.tax_id.clone() }
    }
}

impl TermsBody {
    fn parse(&self, faults: &mut Faults) -> Option<Terms> {
        if self.tax_rates.len() > MOST_RATES {
            faults.add("tax_rates", format!("must be at most {MOST_RATES}"));
        }
        let rates = self.tax_rates.iter().enumerate().map(|(place, rate)| {
            let name = faults.check(&format!("tax_rates[{place}].name"), plain_text(&rate.name, MAX_TEXT));
            let percent = percent(faults, &format!("tax_rates[{place}].percent"), &rate.percent);
            Some(TaxRate { name: name?, percent: percent? })
        });
        let rates: Vec<Option<TaxRate>> = rates.collect();
        let tax_id = self.tax_id.as_ref().filter(|id| !id.is_empty());
        let tax_id = tax_id.map(|id| faults.check("tax_id", plain_text(id, MAX_TEXT)));
        Some(Terms { tax_rates: rates.into_iter().collect::<Option<_>>()?, tax_id: tax_id.flatten() })
    }
}

fn percent(faults: &mut Faults, field: &str, text: &str) -> Option<Quantity> {
    let percent = non_negative(faults, field, text)?;
    if percent > Quantity::from(100_i64) || !percent.fits(3, 6) {
        faults.add(field, "must be from 0 to 100, with at most 6 decimals");
        return None;
    }
    Some(percent)
}

/// Terms as they are kept.
pub(super) fn read_terms(json: Option<&str>) -> Result<Terms, StoreError> {
    let Some(json) = json else { return Ok(Terms::default()) };
    let corrupt = |detail: String| StoreError::Corrupt(format!("terms: {detail}"));
    let body: TermsBody = serde_json::from_str(json).map_err(|error| corrupt(error.to_string()))?;
    let mut faults = Faults::new();
    let terms = body.parse(&mut faults);
    faults.finish(terms).map_err(|faults| corrupt(format!("{faults:?}")))
}

/// A coupon to be given.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CouponRequest {
    /// What it is called.
    name: String,
    /// A share of the subtotal in a hundred; or `amount_off`.
    #[serde(default)]
    percent_off: Option<String>,
    /// An amount in the account's currency.
    #[serde(default)]
    amount_off: Option<String>,
    /// For how many invoices that it takes something off; for all when absent.
    #[serde(default)]
    periods: Option<i64>,
}

/// A credit to be granted.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreditRequest {
    /// How much, in the account's currency.
    amount: String,
    /// Lower ones are drawn first; 100 when absent.
    #[serde(default)]
    priority: Option<i64>,
    /// From when on nothing is drawn of it.
    #[serde(default)]
    expires_at: Option<String>,
    /// What for.
    #[serde(default)]
    reason: Option<String>,
}

/// The priority of credits that say none.
const PRIORITY: i64 = 100;

impl Billing {
    /// A tenant's terms.
    pub async fn terms(&self, scope: Scope, tenant: TenantId) -> Result<Terms, Error> {
        let mut tx = self.store.read(scope).await?;
        tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))?;
        Ok(read_terms(tx.billing_terms(tenant).await?.as_deref())?)
    }

    /// Changes a tenant's terms, from its next invoice on, and its periods, from the end of the running one on.
    pub async fn change_terms(
        &self,
        scope: Scope,
        actor: Actor,
        tenant: TenantId,
        patch: TermsPatch,
    ) -> Result<Terms, Error> {
        let (mut tx, account) = self.open_account(scope, tenant).await?;
        let (cadence, only_cadence) = (patch.cadence(), patch.is_about_cadence());
        if cadence != CadencePatch::default() {
            self.change_cadence_in(&mut tx, actor, &account, &cadence).await?;
        }
        let mut body = TermsBody::from(&read_terms(tx.billing_terms(tenant).await?.as_deref())?);
        let before = json!(body);
        body.tax_rates = patch.tax_rates.unwrap_or(body.tax_rates);
        body.tax_id = patch.tax_id.or(body.tax_id);
        let mut faults = Faults::new();
        let terms = body.parse(&mut faults);
        let terms = faults.finish(terms).map_err(Error::Invalid)?;
        tx.changes(Some(before), Some(json!(TermsBody::from(&terms))));
        let json = serde_json::to_string(&TermsBody::from(&terms)).unwrap_or_default();
        if !only_cadence {
            tx.billing_terms_set(tenant, &json).await?;
            self.note(&mut tx, actor, "billing_terms.changed", (tenant, tenant.to_string(), Some(json))).await?;
        }
        tx.commit().await?;
        Ok(terms)
    }

    /// A transaction in which nobody else changes what a tenant owes.
    async fn open_account(&self, scope: Scope, tenant: TenantId) -> Result<(Tx, super::Account), Error> {
        let mut tx = self.store.begin(scope).await?;
        tx.account_lock(tenant).await?;
        let account = tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))?;
        Ok((tx, account))
    }

    /// A tenant's coupons, oldest first.
    pub async fn coupons(&self, scope: Scope, tenant: TenantId) -> Result<Vec<Coupon>, Error> {
        let mut tx = self.store.read(scope).await?;
        tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))?;
        Ok(tx.coupons(tenant).await?)
    }

    /// Gives a tenant a coupon, for its next invoices.
    pub async fn add_coupon(
        &self,
        scope: Scope,
        actor: Actor,
        tenant: TenantId,
        request: CouponRequest,
    ) -> Result<Coupon, Error> {
        let (mut tx, account) = self.open_account(scope, tenant).await?;
        if tx.coupons(tenant).await?.len() >= MOST {
            return Err(Error::TooMany { what: "coupons", most: MOST });
        }
        let mut faults = Faults::new();
        let name = faults.check("name", plain_text(&request.name, MAX_TEXT));
        let off = match (&request.percent_off, &request.amount_off) {
            (Some(text), None) => percent(&mut faults, "percent_off", text).map(Off::Percent),
            (None, Some(text)) => amount(&mut faults, "amount_off", text, &account).map(Off::Amount),
            _ => {
                faults.add("percent_off", "either it or amount_off must be there");
                None
            }
        };
        if request.periods.is_some_and(|periods| !(1..=1_200).contains(&periods)) {
            faults.add("periods", "must be from 1 to 1200");
        }
        let (name, off) = faults.finish(name.zip(off)).map_err(Error::Invalid)?;
        let now = self.clock.now();
        let id = CouponId::generate(now, &*self.rng);
        let coupon = Coupon { id, name, off, periods: request.periods, uses: 0, created_at: now, ended_at: None };
        tx.coupon_insert(tenant, &coupon).await?;
        self.note(&mut tx, actor, "coupon.made", (tenant, id.to_string(), Some(coupon.name.clone()))).await?;
        tx.commit().await?;
        Ok(coupon)
    }

    /// Ends a coupon: invoices that used it stay as they are.
    pub async fn end_coupon(&self, scope: Scope, actor: Actor, tenant: TenantId, id: CouponId) -> Result<(), Error> {
        let mut tx = self.open_account(scope, tenant).await?.0;
        if !tx.coupons(tenant).await?.iter().any(|coupon| coupon.id == id) {
            return Err(Error::UnknownCoupon(id));
        }
        if tx.coupon_end(tenant, id, self.clock.now()).await? {
            self.note(&mut tx, actor, "coupon.ended", (tenant, id.to_string(), None)).await?;
        }
        Ok(tx.commit().await?)
    }

    /// A tenant's credits, oldest first, and what was drawn of them.
    pub async fn credits(&self, scope: Scope, tenant: TenantId) -> Result<(Vec<Credit>, Vec<Draw>), Error> {
        let mut tx = self.store.read(scope).await?;
        tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))?;
        Ok((tx.credits(tenant).await?, tx.credit_draws(tenant).await?))
    }

    /// Grants a tenant a credit, which its next invoices draw.
    pub async fn grant_credit(
        &self,
        scope: Scope,
        actor: Actor,
        tenant: TenantId,
        request: CreditRequest,
    ) -> Result<Credit, Error> {
        let (mut tx, account) = self.open_account(scope, tenant).await?;
        if tx.credits(tenant).await?.len() >= MOST {
            return Err(Error::TooMany { what: "credits", most: MOST });
        }
        let mut faults = Faults::new();
        let now = self.clock.now();
        let granted = amount(&mut faults, "amount", &request.amount, &account);
        let expires_at = request.expires_at.as_deref().map(|text| faults.parse::<Timestamp>("expires_at", text));
        if expires_at.flatten().is_some_and(|at| at <= now) {
            faults.add("expires_at", "must be in the future");
        }
        let priority = request.priority.unwrap_or(PRIORITY);
        if !(0..=1_000_000).contains(&priority) {
            faults.add("priority", "must be from 0 to 1000000");
        }
        let reason = request.reason.as_deref().filter(|reason| !reason.is_empty());
        let reason = reason.map(|reason| faults.check("reason", plain_text(reason, MAX_TEXT)));
        let granted = faults.finish(granted).map_err(Error::Invalid)?;
        let id = CreditId::generate(now, &*self.rng);
        let credit = Credit {
            id,
            amount: granted,
            drawn: Money::zero(granted.currency()),
            priority,
            expires_at: expires_at.flatten(),
            reason: reason.flatten().unwrap_or_default(),
            granted_at: now,
        };
        tx.credit_insert(tenant, &credit).await?;
        self.note(&mut tx, actor, "credit.granted", (tenant, id.to_string(), Some(granted.to_string()))).await?;
        tx.commit().await?;
        Ok(credit)
    }
}

/// An amount above zero in an account's currency.
fn amount(faults: &mut Faults, field: &str, text: &str, account: &super::Account) -> Option<Money> {
    let exact = faults.parse(field, text)?;
    let money = faults.check(field, Money::from_exact(exact, account.currency))?;
    if money.minor() <= 0 {
        faults.add(field, "must be above zero");
        return None;
    }
    Some(money)
}
