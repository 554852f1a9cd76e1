//! `[billing]`: currency, plans, and how invoices are made.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::read::Reader;
use crate::{
    billing::{self, BillingConfig, OverduePolicy, Plan, Proration},
    kernel::{Currency, names::plain_text},
    stripe::{Mode, StripeSetup},
};

/// A period's invoice waits so long for late usage, in seconds.
const GRACE_S: i64 = 3_600;
/// By so many days an invoice is to be paid.
const PAYMENT_TERMS_DAYS: i64 = 14;
/// The longest name of an entity, or prefix of a number, in characters.
const MAX_NAME: usize = 100;
const MAX_PREFIX: usize = 20;

/// `[billing]`
#[derive(Debug, Clone)]
pub struct BillingSettings {
    /// The currency of new billing accounts.
    pub currency: Currency,
    /// The plans that a store without any begins with.
    pub plans: Vec<Plan>,
    /// How invoices are made.
    pub invoices: BillingConfig,
    /// `[billing.stripe]` and `billing.payment_webhook_secret`.
    pub stripe: StripeSetup,
}

impl BillingSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let currency = reader.parsed::<Currency>("billing.currency", "USD");
        let plans = match reader.optional_string("billing.plans") {
            None => Some(billing::stock_plans()),
            Some(path) => match fs::read_to_string(&path)
                .map_err(|error| error.to_string())
                .map(|text| billing::parse_plans(&text))
            {
                Ok(Ok(plans)) => Some(plans),
                Ok(Err(faults)) => {
                    for fault in faults {
                        reader.fault("billing.plans", &format!("{path}: {}: {}", fault.field, fault.detail));
                    }
                    None
                }
                Err(error) => {
                    reader.fault("billing.plans", &format!("{path} cannot be read: {error}"));
                    None
                }
            },
        };
        let fonts = reader.strings("billing.fonts", &[]).map(|folders| {
            for folder in folders.iter().filter(|folder| !Path::new(folder).is_dir()) {
                reader.fault("billing.fonts", &format!("{folder} is no folder"));
            }
            folders.into_iter().map(PathBuf::from).collect()
        });
        let stripe = super::stripe::read(reader);
        let invoices = read_invoices(reader, currency, fonts);
        let (currency, plans) = (currency?, plans?);
        if let Some(plan) = plans.iter().find(|plan| plan.currency() != currency) {
            let detail = format!("is {currency}, and the plan of {} has {}", plan.tier, plan.currency());
            reader.fault("billing.currency", &detail);
        }
        let (stripe, invoices) = (stripe?, invoices?);
        let to_stripe = stripe.stripe.as_ref().is_some_and(|config| config.mode == Mode::InvoiceItems);
        let invoices = BillingConfig { stripe_invoices: to_stripe, ..invoices };
        Some(Self { currency, plans, invoices, stripe })
    }
}

fn read_invoices(
    reader: &mut Reader,
    currency: Option<Currency>,
    fonts: Option<Vec<PathBuf>>,
) -> Option<BillingConfig> {
    let mut text = |path: &str, default: &str, most: usize| {
        let text = reader.string(path, default)?;
        let checked = plain_text(&text, most);
        checked.map_err(|error| reader.fault(path, &error.to_string())).ok()
    };
    let entity = text("billing.entity", "default", MAX_NAME);
    let invoice_prefix = text("billing.invoice_prefix", "INV-", MAX_PREFIX);
    let credit_note_prefix = text("billing.credit_note_prefix", "CN-", MAX_PREFIX);
    let grace_s = reader.number("billing.grace_s", GRACE_S, 0, 31 * 86_400);
    let payment_terms_days = reader.number("billing.payment_terms_days", PAYMENT_TERMS_DAYS, 0, 365);
    let overdue = reader.choice("billing.overdue", "warn", &["warn", "suspend"]);
    let proration = reader.choice("billing.proration", "second", &["second", "day"]);
    Some(BillingConfig {
        currency: currency?,
        entity: entity?,
        invoice_prefix: invoice_prefix?,
        credit_note_prefix: credit_note_prefix?,
        grace_s: grace_s?,
        payment_terms_days: payment_terms_days?,
        overdue: if overdue? == "suspend" { OverduePolicy::Suspend } else { OverduePolicy::Warn },
        proration: if proration? == "day" { Proration::Day } else { Proration::Second },
        stripe_invoices: false,
        fonts: fonts?,
    })
}
