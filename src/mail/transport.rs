//! Letters as messages (RFC 5322), and the two ways out: a folder, or a server by SMTP (RFC 5321).

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue},
    },
};

use super::{
    error::Error,
    model::{Mailer, OutboxLetter},
};

/// A server that does not answer for this long is down.
const PATIENCE: Duration = Duration::from_secs(15);

/// Takes letters.
pub(super) struct Transport {
    from: Mailbox,
    way: Way,
}

enum Way {
    Folder(PathBuf),
    Smtp(Box<AsyncSmtpTransport<Tokio1Executor>>),
}

impl Transport {
    pub(super) fn new(mailer: &Mailer, from: &str) -> Result<Self, Error> {
        let from = from.parse::<Mailbox>().map_err(|error| Error::SetUp(format!("{from}: {error}")))?;
        let way = match mailer {
            Mailer::Folder(path) => Way::Folder(path.clone()),
            Mailer::Smtp(server) => {
                let client = AsyncSmtpTransport::<Tokio1Executor>::from_url(server.expose());
                let client = client.map_err(|error| Error::SetUp(error.to_string()))?;
                Way::Smtp(Box::new(client.timeout(Some(PATIENCE)).build()))
            }
        };
        Ok(Self { from, way })
    }

    /// Whether letters stay on this machine, where whoever runs it may read them.
    pub(super) const fn is_folder(&self) -> bool {
        matches!(self.way, Way::Folder(_))
    }

    pub(super) async fn send(&self, mail: &OutboxLetter) -> Result<(), Error> {
        let message = self.message(mail)?;
        match &self.way {
            Way::Folder(folder) => {
                let (folder, name, bytes) = (folder.clone(), mail.id.to_string(), message.formatted());
                let written = tokio::task::spawn_blocking(move || put(&folder, &name, &bytes)).await;
                Ok(written.unwrap_or_else(|_| Err(io::Error::other("the writer stopped")))?)
            }
            Way::Smtp(client) => client.send(message).await.map(drop).map_err(|error| Error::Server(error.to_string())),
        }
    }

    fn message(&self, mail: &OutboxLetter) -> Result<Message, Error> {
        let broken = |error: &dyn std::fmt::Display| Error::Letter(error.to_string());
        let address = mail.letter.to.as_str().parse().map_err(|error| broken(&error))?;
        let written = u64::try_from(mail.created_at.as_secs()).unwrap_or_default();
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, address))
            .subject(mail.letter.subject.as_str())
            .date(SystemTime::UNIX_EPOCH + Duration::from_secs(written))
            .message_id(Some(format!("<{}@{}>", mail.id, self.from.email.domain())))
            .header(ContentType::TEXT_PLAIN)
            .body(mail.letter.text.clone())
            .map_err(|error| broken(&error))?;
        // RFC 3834 section 5: nobody's holiday answers this.
        let automatic = HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".into());
        message.headers_mut().insert_raw(automatic);
        Ok(message)
    }
}

/// Whole or not at all, and its owner's alone: there are links in it.
fn put(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let half = folder.join(format!("{name}.part"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&half, folder.join(format!("{name}.eml")))?;
    File::open(folder)?.sync_all()
}
