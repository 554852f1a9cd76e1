//! Letters, and where they go.

use std::{fmt, path::PathBuf, str::FromStr};

use uuid::Uuid;

use crate::kernel::{Email, Secret, Timestamp};

/// A letter to be sent: plain text.
#[derive(Clone)]
pub struct Letter {
    /// To whom.
    pub to: Email,
    /// What about, in one line.
    pub subject: String,
    /// What it says. It may have a link in it that is as good as a password.
    pub text: String,
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// A letter in the outbox.
#[derive(Debug, Clone)]
pub struct OutboxLetter {
    /// Its id, in order of time.
    pub id: Uuid,
    /// The letter. Its text is empty when a server has taken it.
    pub letter: Letter,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it is tried next.
    pub next_try_at: Timestamp,
    /// How often it was tried.
    pub attempts: i64,
    /// When it was sent.
    pub sent_at: Option<Timestamp>,
    /// When it was given up.
    pub given_up_at: Option<Timestamp>,
    /// Why the last try failed.
    pub error: Option<String>,
}

impl OutboxLetter {
    /// How it stands: `sent`, `given_up` or `waiting`.
    pub const fn state(&self) -> &'static str {
        match (self.sent_at, self.given_up_at) {
            (Some(_), _) => "sent",
            (None, Some(_)) => "given_up",
            (None, None) => "waiting",
        }
    }
}

/// Who takes letters.
#[derive(Debug, Clone)]
pub enum Mailer {
    /// A folder, a file each.
    Folder(PathBuf),
    /// A server.
    Smtp(SmtpServer),
}

/// A server that takes letters by SMTP: `smtp://user:password@host:587` (STARTTLS, but for loopback addresses) or
/// `smtps://…` (TLS from the first byte).
#[derive(Debug, Clone)]
pub struct SmtpServer(Secret);

/// Why a text is no such server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SmtpServerError {
    /// Not a URL, or without a host.
    #[error("must be a URL such as smtp://user:password@mail.example.com:587")]
    NotAUrl,
    /// Another scheme.
    #[error("must begin with smtp:// or smtps://")]
    Scheme,
    /// A path, a query or a fragment.
    #[error("must have nothing after host and port")]
    Rest,
}

impl FromStr for SmtpServer {
    type Err = SmtpServerError;

    fn from_str(text: &str) -> Result<Self, SmtpServerError> {
        let mut url = url::Url::parse(text).map_err(|_| SmtpServerError::NotAUrl)?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(SmtpServerError::NotAUrl)?.to_owned();
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(SmtpServerError::Rest);
        }
        match url.scheme() {
            "smtps" => {}
            // Passwords and links do not go over a network in the clear; within a machine there is nobody to hide them from.
            "smtp" if ["localhost", "127.0.0.1", "[::1]"].contains(&host.as_str()) => {}
            "smtp" => url.set_query(Some("tls=required")),
            _ => return Err(SmtpServerError::Scheme),
        }
        Ok(Self(Secret::new(url.into())))
    }
}

impl SmtpServer {
    /// The address, in the form that the client library reads.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_in_a_network_is_spoken_to_by_tls_alone() {
        let address = |text: &str| text.parse::<SmtpServer>().map(|server| server.expose().to_owned());
        assert_eq!(address("smtp://u:p@mail.example:587").unwrap(), "smtp://u:p@mail.example:587?tls=required");
        assert_eq!(address("smtps://mail.example").unwrap(), "smtps://mail.example");
        assert_eq!(address("smtp://127.0.0.1:2525").unwrap(), "smtp://127.0.0.1:2525");
        assert_eq!(address("smtp://mail.example?tls=none").unwrap_err(), SmtpServerError::Rest);
        assert_eq!(address("http://mail.example").unwrap_err(), SmtpServerError::Scheme);
        for text in ["", "mail.example", "smtp:", "smtp://"] {
            assert_eq!(address(text).unwrap_err(), SmtpServerError::NotAUrl, "{text}");
        }
    }
}
