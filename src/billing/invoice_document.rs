//! An invoice's document: all that it says, as it is kept and as it is shown. It is put together once, when the invoice is
//! issued, and never again.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    address::AddressBody,
    cadence::Zone,
    charges::Charges,
    invoice::{InvoiceLine, Terms},
    model::TierLine,
};
use crate::kernel::{CouponId, CreditId, Currency, InvoiceId, Period, Quantity, Timestamp};

/// All that an invoice says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceDocument {
    /// Who issues it, as they were called when it was issued; `null` on those from before that was noted.
    #[serde(default)]
    pub seller: Option<InvoiceSeller>,
    /// Whom it is for, as they were called when it was issued.
    pub customer: InvoiceCustomer,
    /// For which period.
    pub period: InvoicePeriod,
    /// The zone whose days the period has, by its IANA name.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// ISO 4217.
    pub currency: Currency,
    /// What was used and what it costs.
    pub lines: Vec<InvoiceLineBody>,
    /// The sum of the lines.
    pub subtotal: String,
    /// What coupons take off.
    pub discounts: Vec<InvoiceDiscount>,
    /// What taxes add.
    pub taxes: Vec<InvoiceTax>,
    /// The sum of the taxes.
    pub tax: String,
    /// Subtotal, less discounts, plus taxes.
    pub total: String,
    /// What prepaid credits pay.
    pub credits: Vec<InvoiceCredit>,
    /// What is owed after credits; nothing when the total is below zero, which becomes a credit.
    pub amount_due: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Who issues an invoice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceSeller {
    /// Their name.
    pub name: String,
    /// Their address, line by line.
    pub address: Vec<String>,
    /// Their number with the tax office.
    pub tax_id: Option<String>,
    /// Where they are registered, and as what.
    pub registration: Option<String>,
    /// How to pay them, line by line.
    pub payment_instructions: Vec<String>,
}

/// Whom an invoice is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceCustomer {
    /// The customer's name.
    pub name: String,
    /// Where bills go.
    pub billing_address: AddressBody,
    /// Their number with the tax office.
    pub tax_id: Option<String>,
}

/// A half-open period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoicePeriod {
    /// The first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub to: Timestamp,
}

impl From<Period> for InvoicePeriod {
    fn from(period: Period) -> Self {
        Self { from: period.from(), to: period.to() }
    }
}

/// A line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceLineBody {
    /// `base`, `usage`, `commitment` or `adjustment`.
    pub kind: String,
    /// The meter, or `base`, or `commitment`.
    pub meter: String,
    /// The price model.
    pub model: String,
    /// The tier whose plan priced it.
    pub tier: String,
    /// The version of that plan.
    pub price_version: u32,
    /// The part of the period that it is about.
    pub period: InvoicePeriod,
    /// How much; of an adjustment, how much more or less than was billed.
    pub quantity: Quantity,
    /// What earlier parts of the period used of the same tier; of an adjustment, what was billed before.
    pub already: Option<Quantity>,
    /// The exact amount.
    pub unrounded: Quantity,
    /// Rounded half up to the currency's digits.
    pub amount: String,
    /// How the quantity fell into tiers.
    pub tiers: Vec<InvoiceTier>,
    /// The invoice that it adjusts.
    pub adjusts: Option<AdjustedInvoice>,
}

/// What fell into one tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceTier {
    /// The tier's last unit.
    pub up_to: Option<Quantity>,
    /// Units in it.
    pub quantity: Quantity,
    /// The price of a unit.
    pub unit: Quantity,
    /// Due for entering it.
    pub flat: Quantity,
    /// Exact.
    pub amount: Quantity,
}

/// The invoice that a line adjusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdjustedInvoice {
    /// Which.
    pub invoice_id: InvoiceId,
    /// Its number.
    pub number: String,
    /// Its period.
    pub period: InvoicePeriod,
}

/// What a coupon takes off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceDiscount {
    /// Which coupon.
    pub coupon_id: CouponId,
    /// What it is called.
    pub name: String,
    /// How much.
    pub amount: String,
}

/// What a tax adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceTax {
    /// What it is called.
    pub name: String,
    /// How much in a hundred.
    pub percent: Quantity,
    /// Of what.
    pub taxable: String,
    /// How much.
    pub amount: String,
}

/// What a prepaid credit pays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceCredit {
    /// Which.
    pub credit_id: CreditId,
    /// How much.
    pub amount: String,
}

impl From<&TierLine> for InvoiceTier {
    fn from(tier: &TierLine) -> Self {
        let TierLine { up_to, quantity, unit, flat, amount } = *tier;
        Self { up_to, quantity, unit, flat, amount }
    }
}

impl From<&InvoiceLine> for InvoiceLineBody {
    fn from(line: &InvoiceLine) -> Self {
        let key = &line.key;
        Self {
            kind: line.kind.name().to_owned(),
            meter: key.meter.clone(),
            model: key.model.clone(),
            tier: key.tier.clone(),
            price_version: key.version,
            period: InvoicePeriod { from: key.from, to: key.to },
            quantity: line.quantity,
            already: line.already,
            unrounded: line.unrounded,
            amount: line.amount.amount(),
            tiers: line.tiers.iter().map(Into::into).collect(),
            adjusts: line.adjusts.as_ref().map(|adjusted| AdjustedInvoice {
                invoice_id: adjusted.invoice,
                number: adjusted.number.clone(),
                period: adjusted.period.into(),
            }),
        }
    }
}

/// Whom an invoice is for: their name, where bills go, and their terms.
pub type Customer<'a> = (&'a str, &'a AddressBody, &'a Terms);

/// Puts a document together.
pub fn document(
    seller: &InvoiceSeller,
    (name, address, terms): Customer<'_>,
    (period, zone): (Period, &Zone),
    lines: &[InvoiceLine],
    charges: &Charges,
) -> InvoiceDocument {
    let discount = |(coupon_id, name, amount): &(CouponId, String, crate::kernel::Money)| InvoiceDiscount {
        coupon_id: *coupon_id,
        name: name.clone(),
        amount: amount.amount(),
    };
    let tax = |(rate, amount): &(super::invoice::TaxRate, crate::kernel::Money)| InvoiceTax {
        name: rate.name.clone(),
        percent: rate.percent,
        taxable: charges.taxable.amount(),
        amount: amount.amount(),
    };
    InvoiceDocument {
        seller: Some(seller.clone()),
        customer: InvoiceCustomer {
            name: name.to_owned(),
            billing_address: address.clone(),
            tax_id: terms.tax_id.clone(),
        },
        period: period.into(),
        time_zone: zone.name().to_owned(),
        currency: charges.total.currency(),
        lines: lines.iter().map(Into::into).collect(),
        subtotal: charges.subtotal.amount(),
        discounts: charges.discounts.iter().map(discount).collect(),
        taxes: charges.taxes.iter().map(tax).collect(),
        tax: charges.tax.amount(),
        total: charges.total.amount(),
        credits: charges
            .draws
            .iter()
            .map(|(credit_id, amount)| InvoiceCredit { credit_id: *credit_id, amount: amount.amount() })
            .collect(),
        amount_due: charges.due.amount(),
    }
}
