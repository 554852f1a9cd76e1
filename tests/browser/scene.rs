//! The server and the browser that the tests share, one test at a time.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    chromium::Chromium,
    server::{Server, tollgate},
    support::{
        self,
        actors::{email_of, registration},
        app::{ADMIN_EMAIL, ADMIN_PASSWORD},
    },
    tab::Tab,
};

/// Alive while a test has it or waits for it, so that both processes end with the last.
static SHARED: Mutex<Weak<Scene>> = Mutex::new(Weak::new());

/// A server under a name that browsers give passkeys to, and a browser.
pub struct Scene {
    pub server: Server,
    /// What the server calls itself.
    pub issuer: String,
    chromium: Chromium,
    turn: Mutex<()>,
    admin: String,
    data: TempDir,
}

impl Scene {
    /// `None`, said aloud, without a browser.
    pub fn shared() -> Option<Arc<Self>> {
        if !Chromium::is_installed() {
            support::skip("browser", "Chromium with its driver");
            return None;
        }
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scene) = shared.upgrade() {
            return Some(scene);
        }
        let scene = Arc::new(Self::start());
        *shared = Arc::downgrade(&scene);
        Some(scene)
    }

    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        // An issuer names its port, so it must be known beforehand.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let issuer = format!("http://localhost:{}", free.port());
        let mut command = tollgate();
        command.args(["serve", "--listen", &free.to_string(), "--data"]).arg(data.path());
        command.env("TOLLGATE_SERVER__ISSUER", &issuer).env("TOLLGATE_IDENTITY__VERIFY_EMAIL", "true");
        let server = Server::run(&mut command);
        let admin = server.token(ADMIN_EMAIL, ADMIN_PASSWORD);
        Self { server, issuer, chromium: Chromium::start(), turn: Mutex::default(), admin, data }
    }

    /// The browser as if it were new, for as long as the tab is held.
    pub fn tab(&self) -> Tab<'_> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        Tab::new(&self.chromium, &self.issuer, turn)
    }

    /// Brings a customer in; the email of its owner, whose password is `PASSWORD`.
    pub fn customer(&self, name: &str) -> String {
        let made = self.server.call("POST", "/admin/v1/registrations", &self.admin, &registration(name, "standard"));
        assert_eq!(made.status, 201, "{}", made.body);
        email_of(name)
    }

    /// Registers a client of people; what was answered.
    pub fn client(&self, name: &str, redirect_uri: &str, more: &Value) -> Value {
        let mut metadata = json!({"client_name": name, "redirect_uris": [redirect_uri]});
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.server.call("POST", "/admin/v1/clients", &self.admin, &metadata);
        assert_eq!(made.status, 201, "{}", made.body);
        made.json()
    }

    /// The link of the newest letter to an address, out of the folder that letters go to.
    pub fn link_to(&self, email: &str) -> String {
        let letter = self.newest_letter(email);
        let name = format!("{}.eml", letter["mail_id"].as_str().unwrap());
        let letter = std::fs::read_to_string(self.data.path().join("mail").join(name)).unwrap();
        // Quoted-printable (RFC 2045 section 6.7), as far as an address needs it.
        let text = letter.replace("=\r\n", "").replace("=3D", "=");
        let link = text.split_whitespace().find(|word| word.starts_with(&self.issuer));
        link.unwrap_or_else(|| panic!("no link: {text}")).to_owned()
    }

    /// The newest letter to an address, once it is in the folder.
    fn newest_letter(&self, email: &str) -> Value {
        loop {
            let letters = self.server.get("/admin/v1/mails", &self.admin).json();
            let letter = letters["items"].as_array().unwrap().iter().find(|letter| letter["to"] == email).cloned();
            let letter = letter.unwrap_or_else(|| panic!("no letter to {email}"));
            match letter["status"].as_str() {
                Some("sent") => return letter,
                Some("waiting") => {}
                _ => panic!("{letter}"),
            }
        }
    }
}
