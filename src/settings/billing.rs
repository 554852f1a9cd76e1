//! `[billing]`: currency, plans, and how invoices are made.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::read::Reader;
use crate::{
    billing::{
        self, BillingConfig, InvoiceSeller, OverduePolicy, Plan, Proration,
        cadence::{CadenceRule, Interval},
        cadence_wire::IntervalBody,
    },
    kernel::{Currency, TierName, names::plain_text},
    stripe::{Mode, StripeSetup},
};

/// It is looked this often whether something is to be done for invoices, in seconds.
const CLOSE_EVERY_S: i64 = 20;
/// A period's invoice waits so long for late usage, in seconds.
const GRACE_S: i64 = 3_600;
/// By so many days an invoice is to be paid.
const PAYMENT_TERMS_DAYS: i64 = 14;
/// The longest name of an entity, or prefix of a number, in characters.
const MAX_NAME: usize = 100;
const MAX_PREFIX: usize = 20;
/// The most lines of an address or of payment instructions, and the longest of them, in characters.
const MAX_LINES: usize = 12;
const MAX_LINE: usize = 200;

/// `[billing]`
#[derive(Debug, Clone)]
pub struct BillingSettings {
    /// The currency of the business: one plan at least has it.
    pub currency: Currency,
    /// The plans that a store without any begins with.
    pub plans: Vec<Plan>,
    /// How invoices are made.
    pub invoices: BillingConfig,
    /// `[billing.stripe]` and `billing.payment_webhook_secret`.
    pub stripe: StripeSetup,
    /// How often it is looked whether a period is over, an invoice to be issued, or overdue.
    pub close_every: Duration,
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
        let close_every_s = reader.number("billing.close_every_s", CLOSE_EVERY_S, 1, 86_400);
        let invoices = read_invoices(reader, currency, fonts);
        let (currency, plans) = (currency?, plans?);
        if !plans.iter().any(|plan| plan.currency() == currency) {
            reader.fault("billing.currency", &format!("is {currency}, which no plan has"));
        }
        let (stripe, invoices) = (stripe?, invoices?);
        let to_stripe = stripe.stripe.as_ref().is_some_and(|config| config.mode == Mode::InvoiceItems);
        let invoices = BillingConfig { stripe_invoices: to_stripe, ..invoices };
        Some(Self {
            currency,
            plans,
            invoices,
            stripe,
            close_every: Duration::from_secs(u64::try_from(close_every_s?).unwrap_or(1)),
        })
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
    let seller = read_seller(reader, entity.as_deref());
    let grace_s = reader.number("billing.grace_s", GRACE_S, 0, 31 * 86_400);
    let payment_terms_days = reader.number("billing.payment_terms_days", PAYMENT_TERMS_DAYS, 0, 365);
    let cadence = read_cadence(reader);
    let overdue = reader.choice("billing.overdue", "warn", &["warn", "limit", "suspend"]);
    let overdue_tier = reader
        .optional_string("billing.overdue_tier")
        .map(|text| text.parse::<TierName>().map_err(|error| reader.fault("billing.overdue_tier", &error.to_string())));
    let proration = reader.choice("billing.proration", "second", &["second", "day"]);
    Some(BillingConfig {
        currency: currency?,
        entity: entity?,
        seller: seller?,
        invoice_prefix: invoice_prefix?,
        credit_note_prefix: credit_note_prefix?,
        grace_s: grace_s?,
        // Metering's own setting, which `Settings` fills in.
        late_after_s: 0,
        payment_terms_days: payment_terms_days?,
        cadence: cadence?,
        overdue: match overdue?.as_str() {
            "suspend" => OverduePolicy::Suspend,
            "limit" => OverduePolicy::Limit,
            _ => OverduePolicy::Warn,
        },
        overdue_tier: overdue_tier.and_then(Result::ok),
        proration: if proration? == "day" { Proration::Day } else { Proration::Second },
        stripe_invoices: false,
        fonts: fonts?,
    })
}

fn read_cadence(reader: &mut Reader) -> Option<CadenceRule> {
    let interval = match reader.take("billing.interval") {
        None => Some(Interval::Month),
        Some(value) => {
            let body = value.try_into::<IntervalBody>().map_err(|error| error.message().to_owned());
            let interval = body.and_then(|body| body.parse().map_err(|error| error.to_string()));
            interval.map_err(|detail| reader.fault("billing.interval", &detail)).ok()
        }
    };
    let anchor = reader.parsed("billing.anchor", "month");
    let zone = reader.parsed("billing.zone", "UTC");
    Some(CadenceRule { interval: interval?, anchor: anchor?, zone: zone? })
}

/// What documents say of the legal entity: its name, unless there is another.
fn read_seller(reader: &mut Reader, entity: Option<&str>) -> Option<InvoiceSeller> {
    const PATH: &str = "billing.seller";
    let named = |name: &str| InvoiceSeller { name: name.to_owned(), ..InvoiceSeller::default() };
    if !reader.has(PATH) {
        return entity.map(named);
    }
    let mut own = reader.table(PATH)?;
    let text = |own: &mut Reader, path: &str| match own.optional_string(path) {
        None => Some(None),
        Some(text) => match plain_text(&text, MAX_LINE) {
            Ok(text) => Some(Some(text)),
            Err(error) => {
                own.fault(path, &error.to_string());
                None
            }
        },
    };
    let lines = |own: &mut Reader, path: &str| {
        let lines = own.strings(path, &[])?;
        if lines.len() > MAX_LINES {
            own.fault(path, &format!("must be at most {MAX_LINES} lines"));
            return None;
        }
        let checked: Result<Vec<String>, _> = lines.iter().map(|line| plain_text(line, MAX_LINE)).collect();
        checked.map_err(|error| own.fault(path, &error.to_string())).ok()
    };
    let name = text(&mut own, ".name");
    let address = lines(&mut own, ".address");
    let tax_id = text(&mut own, ".tax_id");
    let registration = text(&mut own, ".registration");
    let payment_instructions = lines(&mut own, ".payment_instructions");
    reader.finish_item(PATH, own);
    Some(InvoiceSeller {
        name: name?.or_else(|| entity.map(str::to_owned))?,
        address: address?,
        tax_id: tax_id?,
        registration: registration?,
        payment_instructions: payment_instructions?,
    })
}

#[cfg(test)]
mod tests {
    use crate::settings::{Flags, SettingFaults, Settings, Sources};

    fn load(billing: &str) -> Result<Settings, SettingFaults> {
        let file = Some(("tollgate.toml".to_owned(), format!("[billing]\n{billing}")));
        Settings::load(&Sources { file, env: Vec::new(), flags: Flags::default() })
    }

    #[test]
    fn billing_periods_are_calendar_months_unless_they_are_set() {
        let cadence = |text: &str| load(text).unwrap().billing.invoices.cadence;
        let opened_at = "2026-11-10T20:00:00Z".parse().unwrap();
        assert!(cadence("").cadence(opened_at).is_calendar_month());
        let own = cadence("interval = { days = 30 }\nanchor = \"sign_up\"\nzone = \"Asia/Kathmandu\"");
        assert_eq!(own.cadence(opened_at).to_string(), "every 30 days from 2026-11-11 in Asia/Kathmandu");
        for (text, fault) in [
            ("interval = \"week\"", "billing.interval: must be month, year, or days from 1 to 366"),
            ("interval = { days = 0 }", "billing.interval: must be month, year, or days from 1 to 366"),
            ("interval = 30", "billing.interval: must be month, year, or {\"days\": N}"),
            (
                "anchor = \"2026-02-30\"",
                "billing.anchor: must be sign_up, month, or a day from 1970-01-01 to 2999-12-31",
            ),
            ("zone = \"Mars/Phobos\"", "billing.zone: not a time zone of the IANA database such as Europe/Berlin"),
        ] {
            let faults = load(text).unwrap_err().to_string();
            assert!(faults.contains(fault), "{faults}");
        }
    }
}
