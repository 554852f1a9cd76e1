//! Names that several services share: tiers, customers, email addresses.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// Why a text is not such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing but white space.
    #[error("must not be empty")]
    Empty,
    /// Longer than the limit.
    #[error("must be at most {0} characters long")]
    TooLong(usize),
    /// A control character.
    #[error("must not contain control characters")]
    Control,
    /// Not the form of a tier's name.
    #[error("must be lower-case letters, digits, `-` or `_`, beginning with a letter")]
    Tier,
    /// Not a kind of isolation.
    #[error("must be pool, bridge or silo")]
    Isolation,
    /// Not the form of a domain.
    #[error("is not a domain such as example.com, in lower case and in ASCII")]
    Domain,
    /// Not the form of an email address.
    #[error("is not an email address such as ada@example.com")]
    Email,
}

macro_rules! text_type {
    ($name:ident) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

/// The name of a tier: `free`, `standard`, `premium` or one that settings add.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TierName(String);
text_type!(TierName);

impl FromStr for TierName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        const MAX: usize = 32;
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX {
            return Err(NameError::TooLong(MAX));
        }
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if text.as_bytes()[0].is_ascii_lowercase() && text.bytes().all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Tier)
        }
    }
}

/// The name of a customer, as people write it. Two names are the same customer only when they are the same text:
/// joining a tenant because its name looks alike would let somebody in where they do not belong.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CustomerName(String);
text_type!(CustomerName);

impl FromStr for CustomerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Ok(Self(plain_text(text, 200)?))
    }
}

/// What a person is called, as they write it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PersonName(String);
text_type!(PersonName);

impl FromStr for PersonName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Ok(Self(plain_text(text, 200)?))
    }
}

/// What a foreign system calls a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExternalId(String);
text_type!(ExternalId);

impl FromStr for ExternalId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Ok(Self(plain_text(text, 256)?))
    }
}

/// An email address. Compared without regard to the case of ASCII letters, and of no others: some of those fold into ASCII, and
/// the address is another's. Kept as it was written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);
text_type!(Email);

impl Email {
    /// The form under which it is unique.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// Where it is read: what stands behind the last `@`. `None` for a domain that is not ASCII.
    pub fn domain(&self) -> Option<EmailDomain> {
        self.key().rsplit_once('@').and_then(|(_, domain)| domain.parse().ok())
    }
}

/// The domain of email addresses, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmailDomain(String);
text_type!(EmailDomain);

impl FromStr for EmailDomain {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        const MAX: usize = 253; // RFC 1035 section 2.3.4, as text
        const MAX_LABEL: usize = 63;
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= MAX_LABEL
                && label.bytes().all(good)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() <= MAX && text.contains('.') && text.split('.').all(label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Domain)
        }
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(…)")
    }
}

impl FromStr for Email {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        const MAX: usize = 254; // RFC 5321 section 4.5.3.1.3, less the angle brackets
        let text = plain_text(text, MAX)?;
        // A display name or a domain literal is an address for a header, not a login.
        let options = email_address::Options::default().without_display_text().without_domain_literal();
        match email_address::EmailAddress::parse_with_options(&text, options) {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(NameError::Email),
        }
    }
}

/// Whether a tier's tenants share infrastructure or have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A place in what all share.
    Pool,
    /// A store of their own, behind what all share: the pool answers their calls.
    Bridge,
    /// A place of their own.
    Silo,
}

impl Isolation {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Pool, Self::Bridge, Self::Silo];

    /// The name in the API and in plans.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Bridge => "bridge",
            Self::Silo => "silo",
        }
    }
}

impl FromStr for Isolation {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "pool" => Ok(Self::Pool),
            "bridge" => Ok(Self::Bridge),
            "silo" => Ok(Self::Silo),
            _ => Err(NameError::Isolation),
        }
    }
}

/// Text without control characters, trimmed, not empty, at most `max` characters.
pub fn plain_text(text: &str, max: usize) -> Result<String, NameError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.chars().count() > max {
        return Err(NameError::TooLong(max));
    }
    if text.chars().any(|own| own.is_control() || is_unseen(own)) {
        return Err(NameError::Control);
    }
    Ok(text.to_owned())
}

/// Whether a character has no width of its own and only changes what others look like: two names that differ by it look the same.
/// Joiners between letters (U+200C, U+200D) are part of how words are written.
pub const fn is_unseen(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_nothing_in_it_that_nobody_sees() {
        for unseen in ["Cor\u{200b}p", "\u{feff}Corp", "Co\u{2060}rp", "\u{202e}Corp", "Co\u{ad}rp", "Corp\n1"] {
            assert!(plain_text(unseen, 100).is_err(), "{unseen:?}");
        }
        assert_eq!(plain_text(" \u{645}\u{6cc}\u{200c}\u{62e} ", 100).unwrap(), "\u{645}\u{6cc}\u{200c}\u{62e}");
    }

    #[test]
    fn tiers_are_short_plain_words() {
        assert!("premium".parse::<TierName>().is_ok());
        for wrong in ["", "Premium", "1st", "pre mium", "prémium"] {
            assert!(wrong.parse::<TierName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn customer_names_are_trimmed_and_bounded() {
        assert_eq!("  Acme & Söhne ".parse::<CustomerName>().unwrap().as_str(), "Acme & Söhne");
        assert_eq!(" ".parse::<CustomerName>(), Err(NameError::Empty));
        assert_eq!("x".repeat(10_000).parse::<CustomerName>(), Err(NameError::TooLong(200)));
        assert_eq!("a\0b".parse::<CustomerName>(), Err(NameError::Control));
    }

    #[test]
    fn emails_are_addresses_and_compare_without_case() {
        assert_eq!("Ada@Example.com".parse::<Email>().unwrap().key(), "ada@example.com");
        assert!("admin@localhost".parse::<Email>().is_ok());
        for wrong in ["", "ada", "ada@", "@example.com", "Ada <ada@example.com>", "a b@example.com", "ada@[127.0.0.1]"]
        {
            assert!(wrong.parse::<Email>().is_err(), "{wrong}");
        }
    }
}
