//! Where bills go: a text, or an object of lines.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::kernel::{Faults, names::plain_text};

/// A billing address, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillingAddress(AddressBody);

/// A billing address on the wire and in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AddressBody {
    /// As one text.
    Text(String),
    /// As lines.
    Lines(AddressLines),
}

/// The lines of an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressLines {
    /// Street and number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line1: Option<String>,
    /// More of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line2: Option<String>,
    /// City.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// State, province or canton.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Postal code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    /// Country.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

/// Longest address text, in characters.
const MAX_TEXT: usize = 1_000;
/// Longest line, in characters.
const MAX_LINE: usize = 200;

impl BillingAddress {
    /// The wire form.
    pub const fn body(&self) -> &AddressBody {
        &self.0
    }
}

impl AddressBody {
    /// Checks it, recording what is wrong below `field`.
    pub fn parse(self, field: &str, faults: &mut Faults) -> Option<BillingAddress> {
        let body = match self {
            Self::Text(text) => {
                // Line ends are how people write addresses; other control characters are not.
                let lines = text.replace("\r\n", "\n").replace('\n', "; ");
                Self::Text(faults.check(field, plain_text(&lines, MAX_TEXT))?)
            }
            Self::Lines(lines) => Self::Lines(lines.parse(field, faults)?),
        };
        Some(BillingAddress(body))
    }
}

impl AddressLines {
    fn parse(self, field: &str, faults: &mut Faults) -> Option<Self> {
        let Self { line1, line2, city, region, postal_code, country } = self;
        if [&line1, &line2, &city, &region, &postal_code, &country].into_iter().all(Option::is_none) {
            faults.add(field, "must have at least one line");
            return None;
        }
        let mut fine = true;
        let mut line = |name: &str, text: Option<String>| {
            let checked = text.map(|text| faults.check(&format!("{field}.{name}"), plain_text(&text, MAX_LINE)));
            fine &= checked.as_ref().is_none_or(Option::is_some);
            checked.flatten()
        };
        let checked = Self {
            line1: line("line1", line1),
            line2: line("line2", line2),
            city: line("city", city),
            region: line("region", region),
            postal_code: line("postal_code", postal_code),
            country: line("country", country),
        };
        fine.then_some(checked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<BillingAddress, Vec<crate::kernel::Fault>> {
        let mut faults = Faults::new();
        let address = serde_json::from_str::<AddressBody>(json).unwrap().parse("billing_address", &mut faults);
        faults.finish(address)
    }

    #[test]
    fn a_text_and_an_object_are_both_addresses() {
        assert!(parse(r#""1 Main St\nSpringfield""#).is_ok());
        assert!(parse(r#"{"line1":"1 Main St","country":"US"}"#).is_ok());
    }

    #[test]
    fn every_wrong_line_is_named() {
        let faults = parse(r#"{"line1":" ","city":"a\u0000b","country":"US"}"#).unwrap_err();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["billing_address.line1", "billing_address.city"]);
        assert_eq!(parse("{}").unwrap_err().len(), 1);
        assert_eq!(parse(r#""  ""#).unwrap_err().len(), 1);
    }
}
