//! `[billing.stripe]`, and what payments are told with.

use toml::Value;

use super::read::Reader;
use crate::{
    kernel::Secret,
    stripe::{Mode, SentMeter, StripeConfig, StripeSetup, is_standard_secret},
};

const API_BASE: &str = "https://api.stripe.com";
/// The most secrets at once: the one in force, and the one that takes its place.
const MOST_SECRETS: usize = 2;
/// The longest `event_name`, and value of metadata (Stripe, "Create a billing meter event", "Metadata").
const MAX_EVENT_NAME: usize = 100;
const MAX_METADATA_KEY: usize = 40;
const MAX_METADATA: usize = 500;
/// Keys of metadata that are ours.
const OWN: [&str; 1] = ["tenant_id"];

/// What is set up of Stripe and of other payment providers; `None` is a fault.
pub(super) fn read(reader: &mut Reader) -> Option<StripeSetup> {
    let payment_secrets = secrets(reader, "billing.payment_webhook_secret");
    for (place, secret) in payment_secrets.iter().flatten().enumerate() {
        if !is_standard_secret(secret.expose()) {
            let detail = format!("{}must be whsec_ and base64 of 24 to 64 bytes", nth(place));
            reader.fault("billing.payment_webhook_secret", &detail);
        }
    }
    // Secrets may come by the environment while the rest is in the file.
    let given = ["secret_key", "webhook_secret"].map(|name| format!("billing.stripe.{name}"));
    let own_key = reader.optional_string(&given[0]);
    let own_webhooks = secrets(reader, &given[1]);
    let table = reader.table("billing.stripe");
    let stripe = match table {
        None if own_key.is_none() => Some(None),
        None => {
            reader.fault("billing.stripe.mode", "must be meter_events or invoice_items");
            None
        }
        Some(mut item) => {
            let config = read_stripe(&mut item, own_key, own_webhooks);
            reader.finish_item("billing.stripe", item);
            config.map(Some)
        }
    };
    Some(StripeSetup { stripe: stripe?, payment_secrets: payment_secrets? })
}

fn read_stripe(item: &mut Reader, own_key: Option<String>, own_webhooks: Option<Vec<Secret>>) -> Option<StripeConfig> {
    let secret_key = own_key.or(item.optional_string(".secret_key"));
    if !secret_key.as_deref().is_some_and(|key| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic())) {
        item.fault(".secret_key", "is required: a key such as sk_live_… or rk_live_…");
    }
    let webhook_secrets = secrets(item, ".webhook_secret");
    let webhook_secrets = own_webhooks.filter(|own| !own.is_empty()).or(webhook_secrets);
    let api_base = item.string(".api_base", API_BASE);
    let api_base = api_base.and_then(|text| address(item, &text));
    let mode = item.choice(".mode", "", &["meter_events", "invoice_items"]);
    let meters = read_meters(item);
    let customer_metadata = item.texts(".customer_metadata");
    for (key, value) in &customer_metadata {
        let fits = key.chars().count() <= MAX_METADATA_KEY && value.chars().count() <= MAX_METADATA;
        if !fits || key.contains(['[', ']']) || OWN.contains(&key.as_str()) {
            let detail = "must be texts under keys of 40 characters without brackets, other than tenant_id";
            item.fault(&format!(".customer_metadata.{key}"), detail);
        }
    }
    let mode = match (mode?.as_str(), meters) {
        ("meter_events", meters) if meters.is_empty() => {
            item.fault(".meters", "names no meter, and mode is meter_events");
            return None;
        }
        ("meter_events", meters) => Mode::MeterEvents(meters),
        (_, meters) if meters.is_empty() => Mode::InvoiceItems,
        _ => {
            item.fault(".meters", "are for the mode meter_events");
            return None;
        }
    };
    Some(StripeConfig {
        secret_key: Secret::new(secret_key?),
        webhook_secrets: webhook_secrets?,
        api_base: api_base?,
        mode,
        customer_metadata,
    })
}

fn read_meters(item: &mut Reader) -> Vec<SentMeter> {
    let mut meters: Vec<SentMeter> = Vec::new();
    for (prefix, mut one) in item.tables(".meters") {
        let meter = one.parsed(".meter", "");
        let event = one.string(".event", "");
        let fits = |event: &String| !event.is_empty() && event.chars().count() <= MAX_EVENT_NAME;
        if event.as_ref().is_some_and(|event| !fits(event)) {
            one.fault(".event", "must be Stripe's event_name, of 1 to 100 characters");
        }
        let times = one.number(".times", 1, 1, 1_000_000_000);
        if let (Some(meter), Some(event), Some(times)) = (meter, event, times) {
            if meters.iter().any(|other| other.meter == meter || other.event == event) {
                one.fault(".meter", "is there twice, or its event is");
            }
            meters.push(SentMeter { meter, event, times });
        }
        item.finish_item(&prefix, one);
    }
    meters
}

/// A text, or an array of texts; `None` is a fault.
fn secrets(reader: &mut Reader, path: &str) -> Option<Vec<Secret>> {
    let texts = match reader.take(path) {
        None => Some(Vec::new()),
        Some(Value::String(text)) => Some(vec![text]),
        Some(Value::Array(items)) => items.into_iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    };
    let fits = |texts: &Vec<String>| texts.len() <= MOST_SECRETS && texts.iter().all(|text| !text.is_empty());
    let Some(texts) = texts.filter(fits) else {
        reader.fault(path, "must be a text, or two of them while one takes the other's place");
        return None;
    };
    Some(texts.into_iter().map(Secret::new).collect())
}

/// Where Stripe is: with TLS, but for a double on this machine, so that the key goes nowhere in the clear.
fn address(item: &mut Reader, text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok();
    let fits = url.as_ref().is_some_and(|url| {
        let local = match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        plain && (url.scheme() == "https" || (url.scheme() == "http" && local))
    });
    if !fits {
        item.fault(".api_base", "must be an https address; http only to this machine");
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}

fn nth(place: usize) -> String {
    if place == 0 { String::new() } else { format!("[{place}] ") }
}

#[cfg(test)]
mod tests {
    use crate::settings::{SettingFaults, Settings, Sources};

    fn load(file: &str, variable: Option<(&str, &str)>) -> Result<Settings, SettingFaults> {
        let env = variable.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let file = Some(("tollgate.toml".to_owned(), file.to_owned()));
        Settings::load(&Sources { file, env, ..Sources::default() })
    }

    #[test]
    fn stripe_is_off_until_it_has_a_key_and_a_mode() {
        assert!(load("", None).unwrap().billing.stripe.stripe.is_none());
        let file = "[billing.stripe]\nmode = \"invoice_items\"\nwebhook_secret = [\"a\", \"b\"]\n";
        let key = ("TOLLGATE_BILLING__STRIPE__SECRET_KEY", "rk_live_1");
        let settings = load(file, Some(key)).unwrap();
        let stripe = settings.billing.stripe.stripe.as_ref().unwrap();
        assert_eq!((stripe.secret_key.expose(), stripe.webhook_secrets.len()), ("rk_live_1", 2));
        assert_eq!(stripe.api_base, "https://api.stripe.com");
        assert!(settings.billing.invoices.stripe_invoices && !format!("{settings:?}").contains("rk_live_1"));
        let faults = |file: &str| load(file, None).unwrap_err().to_string();
        for (file, fault) in [
            ("mode = \"invoice_items\"", "billing.stripe.secret_key: is required"),
            ("secret_key = \"sk\"", "billing.stripe.mode: must be one of meter_events, invoice_items"),
            ("secret_key = \"sk\"\nmode = \"meter_events\"", "billing.stripe.meters: names no meter"),
            (
                "secret_key = \"sk\"\nmode = \"invoice_items\"\napi_base = \"http://stripe.example\"",
                "billing.stripe.api_base: must be",
            ),
            (
                "secret_key = \"sk\"\nmode = \"invoice_items\"\nwebhook_secret = []\nwebhok = 1",
                "billing.stripe.webhok: is not a setting",
            ),
            (
                "secret_key = \"sk\"\nmode = \"invoice_items\"\nwebhook_secret = [1]",
                "billing.stripe.webhook_secret: must be a text",
            ),
            (
                "secret_key = \"sk\"\nmode = \"meter_events\"\nmeters = [{ meter = \"A\", event = \"\" }]",
                "billing.stripe.meters[0].event: must be",
            ),
            (
                "secret_key = \"sk\"\nmode = \"invoice_items\"\ncustomer_metadata = { tenant_id = \"x\" }",
                "billing.stripe.customer_metadata.tenant_id: must be",
            ),
        ] {
            let said = faults(&format!("[billing.stripe]\n{file}\n"));
            assert!(said.contains(fault), "{said}");
        }
        let said = faults("[billing]\npayment_webhook_secret = \"secret\"\n");
        assert!(said.contains("billing.payment_webhook_secret: must be whsec_"), "{said}");
    }
}
