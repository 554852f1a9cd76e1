//! Events in the words of AWS's SaaS Builder Toolkit (sbt-aws, `src/utils/event-manager.ts`), in envelopes as Amazon `EventBridge`
//! sends them. Some events are several there: what was asked for and that it was done, or that a part and the whole are done.

use std::str::FromStr;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::model::OutboxEvent;
use crate::kernel::EventName;

/// Of the control plane, and of the application plane: who says what in the toolkit (`SUPPORTED_EVENTS`).
const CONTROL_PLANE: &str = "controlPlaneEventSource";
const APPLICATION_PLANE: &str = "applicationPlaneEventSource";
/// What stands before each name in some versions of the toolkit.
const PREFIX: &str = "sbt_aws_";
/// There is no account of Amazon's; an envelope has twelve digits.
const NO_ACCOUNT: &str = "000000000000";

/// How a webhook is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// In Tollgate's own words.
    #[default]
    Standard,
    /// In the toolkit's.
    Sbt,
    /// In the toolkit's, with `sbt_aws_` before the names.
    SbtAws,
}

/// Not one of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be standard, sbt or sbt_aws")]
pub struct UnknownFormat;

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Standard, Self::Sbt, Self::SbtAws];

    /// The name in the API and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Sbt => "sbt",
            Self::SbtAws => "sbt_aws",
        }
    }

    /// Whether an event can be told in it.
    pub const fn has(self, name: EventName) -> bool {
        matches!(self, Self::Standard) || has_counterpart(name)
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or(UnknownFormat)
    }
}

/// Whether the toolkit has a word for it.
pub const fn has_counterpart(name: EventName) -> bool {
    match name {
        EventName::TenantCreated
        | EventName::TenantActivated
        | EventName::TenantFailed
        | EventName::TenantSuspended
        | EventName::TenantOffboarding
        | EventName::TenantDeleted
        | EventName::UserCreated
        | EventName::UserRemoved => true,
        EventName::TenantUnavailable
        | EventName::TenantAvailable
        | EventName::TenantLimited
        | EventName::TenantLimitLifted
        | EventName::TenantTierChanged
        | EventName::UsageThreshold
        | EventName::InvoiceDrafted
        | EventName::InvoiceFinalized
        | EventName::InvoicePaid
        | EventName::InvoiceOverdue
        | EventName::InvoiceVoided
        | EventName::WebhookDisabled => false,
    }
}

/// The toolkit's words for an event, and who says them there, in order.
fn words(name: EventName, data: &Value) -> &'static [(&'static str, &'static str)] {
    match name {
        EventName::TenantCreated => &[("onboardingRequest", CONTROL_PLANE)],
        EventName::TenantActivated if data["previous_status"] == "suspended" => {
            &[("activateRequest", CONTROL_PLANE), ("activateSuccess", APPLICATION_PLANE)]
        }
        EventName::TenantActivated => {
            &[("provisionSuccess", APPLICATION_PLANE), ("onboardingSuccess", APPLICATION_PLANE)]
        }
        EventName::TenantFailed => &[("provisionFailure", APPLICATION_PLANE), ("onboardingFailure", APPLICATION_PLANE)],
        EventName::TenantSuspended => &[("deactivateRequest", CONTROL_PLANE), ("deactivateSuccess", APPLICATION_PLANE)],
        EventName::TenantOffboarding => &[("offboardingRequest", CONTROL_PLANE)],
        EventName::TenantDeleted => {
            &[("deprovisionSuccess", APPLICATION_PLANE), ("offboardingSuccess", APPLICATION_PLANE)]
        }
        EventName::UserCreated => &[("tenantUserCreated", APPLICATION_PLANE)],
        EventName::UserRemoved => &[("tenantUserDeleted", APPLICATION_PLANE)],
        _ => &[],
    }
}

/// Members of an event's data, and what they are called there.
const FIELDS: [(&str, &str); 7] = [
    ("tenant_id", "tenantId"),
    ("customer_name", "tenantName"),
    ("external_id", "externalId"),
    ("tier", "tier"),
    ("status", "tenantStatus"),
    ("user_id", "userId"),
    ("role", "userRole"),
];

/// An envelope, to be sent under an id of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The event's for the first, and one that is made of it for each after that: the same at every try.
    pub id: Uuid,
    /// JSON.
    pub body: String,
}

/// An event in the toolkit's words, in order; none where it has none for it.
pub fn envelopes(event: &OutboxEvent, format: Format) -> Vec<Envelope> {
    let Ok(name) = event.name.parse::<EventName>() else { return Vec::new() };
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let field = |(own, theirs): (&str, &str)| {
        let value = data.get(own).filter(|value| !value.is_null())?;
        Some((theirs.to_owned(), value.clone()))
    };
    let detail: Map<String, Value> = FIELDS.into_iter().filter_map(field).collect();
    let prefix = if format == Format::SbtAws { PREFIX } else { "" };
    (0_u128..)
        .zip(words(name, &data))
        .map(|(place, (word, source))| {
            // The random bits at the end of an id: another place makes another id, and always the same one.
            let id = Uuid::from_u128(event.id.as_uuid().as_u128() ^ place);
            let body = json!({
                "version": "0",
                "id": id.to_string(),
                "detail-type": format!("{prefix}{word}"),
                "source": source,
                "account": NO_ACCOUNT,
                "time": event.occurred_at.to_string(),
                "region": "",
                "resources": [],
                "detail": detail,
            });
            Envelope { id, body: body.to_string() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{EventId, SeededRng, Timestamp};

    fn event(name: EventName, data: &Value) -> OutboxEvent {
        let now: Timestamp = "2026-11-10T12:00:00Z".parse().unwrap();
        let (name, data) = (name.name().to_owned(), data.to_string());
        OutboxEvent {
            id: EventId::generate(now, &SeededRng::new(7)),
            tenant: None,
            sequence: 1,
            name,
            occurred_at: now,
            data,
        }
    }

    #[test]
    fn an_event_has_words_just_when_it_is_said_to_have_a_counterpart() {
        for name in EventName::ALL {
            for data in [json!({}), json!({"previous_status": "suspended"})] {
                let told = envelopes(&event(*name, &data), Format::Sbt);
                assert_eq!(!told.is_empty(), has_counterpart(*name), "{name}");
                let mut ids: Vec<Uuid> = told.iter().map(|envelope| envelope.id).collect();
                ids.dedup();
                assert_eq!(ids.len(), told.len(), "{name}");
            }
            assert!(Format::Standard.has(*name));
        }
    }

    #[test]
    fn an_envelope_has_every_member_of_eventbridges_and_no_more() {
        let data = json!({"tenant_id": "t", "customer_name": "Acme", "external_id": null, "tier": "free", "status": "provisioning"});
        let told = envelopes(&event(EventName::TenantCreated, &data), Format::SbtAws);
        let body: Value = serde_json::from_str(&told[0].body).unwrap();
        assert_eq!(
            body,
            json!({"version": "0", "id": told[0].id.to_string(), "detail-type": "sbt_aws_onboardingRequest",
                "source": "controlPlaneEventSource", "account": "000000000000", "time": "2026-11-10T12:00:00Z", "region": "",
                "resources": [], "detail": {"tenantId": "t", "tenantName": "Acme", "tier": "free", "tenantStatus": "provisioning"}})
        );
    }

    #[test]
    fn formats_are_read_as_they_are_written() {
        for format in Format::ALL {
            assert_eq!(format.name().parse(), Ok(format));
            assert!(UnknownFormat.to_string().contains(format.name()));
        }
        assert_eq!("SBT".parse::<Format>(), Err(UnknownFormat));
    }
}
