//! `[mail]`: who takes letters to people, and from whom they come.

use super::read::Reader;
use crate::mail::SmtpServer;

/// From whom letters come when nothing else is said.
const FROM: &str = "Tollgate <tollgate@localhost>";

/// `[mail]`
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// The server; without one, letters become files below the data folder.
    pub smtp: Option<SmtpServer>,
    /// From whom letters come: an address, with or without a name.
    pub from: String,
}

impl MailSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let smtp = reader
            .optional_string("mail.smtp")
            .map(|text| text.parse::<SmtpServer>().map_err(|error| reader.fault("mail.smtp", &error.to_string())).ok());
        let from = reader.string("mail.from", FROM)?;
        if from.parse::<lettre::message::Mailbox>().is_err() {
            reader.fault("mail.from", "must be an email address, such as Acme <no-reply@acme.example>");
            return None;
        }
        let smtp = match smtp {
            None => None,
            Some(server) => Some(server?),
        };
        Some(Self { smtp, from })
    }
}
