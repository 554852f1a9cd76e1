//! Mail: written with what it is about, to a folder or to a server, tried again while the server is down.
//!
//! The server is a double: it speaks as much of RFC 5321 as a client needs to hand letters over, on a loopback port.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
};

use axum::extract::FromRef as _;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};
use tollgate::{
    mail::{Letter, Mail},
    store::{Scope, Store},
};

use crate::support::app::TestApp;

/// The mail service of an app.
pub fn mail(app: &TestApp) -> Mail {
    Mail::from_ref(app.app.state())
}

/// What letters to an address said, the newest first.
pub async fn letters_to(app: &TestApp, address: &str) -> Vec<(String, String)> {
    let mails = app.admin().await.get("/admin/v1/mails?limit=500").await.expect(200).body;
    let to = |mail: &&Value| mail["to"] == address;
    let text = |mail: &Value, name: &str| mail[name].as_str().unwrap_or_default().to_owned();
    mails["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(to)
        .map(|mail| (text(mail, "subject"), text(mail, "text")))
        .collect()
}

/// The token of the newest link in a letter to an address.
pub async fn token_of_newest(app: &TestApp, address: &str) -> String {
    let letters = letters_to(app, address).await;
    let rest = letters.iter().find_map(|(_, text)| Some(text.split_once("token=")?.1));
    let rest = rest.unwrap_or_else(|| panic!("no link to {address}: {letters:?}"));
    rest.split_whitespace().next().unwrap().to_owned()
}

/// Writes a letter in a transaction.
async fn write(app: &TestApp, subject: &str, commit: bool) {
    let mut tx = Store::from_ref(app.app.state()).begin(Scope::Job("test")).await.unwrap();
    let letter =
        Letter { to: "ada@example.com".parse().unwrap(), subject: subject.into(), text: "Füße\n.dot\n".into() };
    mail(app).enqueue_in(&mut tx, &letter).await.unwrap();
    if commit {
        tx.commit().await.unwrap();
    }
}

/// A server that takes letters, or says that it cannot now; each connection's lines are kept.
async fn sink(refusals: usize) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let letters = Arc::clone(&taken);
    #[expect(clippy::disallowed_methods, reason = "the double ends with the test's runtime")]
    tokio::spawn(async move {
        let mut left = refusals;
        while let Ok((stream, _)) = listener.accept().await {
            let (reader, mut writer) = stream.into_split();
            let mut lines = BufReader::new(reader).lines();
            writer.write_all(b"220 sink\r\n").await.unwrap();
            let mut letter: Option<String> = None;
            while let Ok(Some(line)) = lines.next_line().await {
                let answer = match (&mut letter, line.as_str()) {
                    (Some(text), ".") => {
                        letters.lock().unwrap().push(std::mem::take(text));
                        letter = None;
                        "250 taken"
                    }
                    (Some(text), line) => {
                        text.push_str(line);
                        text.push('\n');
                        continue;
                    }
                    (None, line) if line.starts_with("EHLO") => "250-sink\r\n250 8BITMIME",
                    (None, line) if line.starts_with("MAIL") && left > 0 => {
                        left -= 1;
                        "451 later"
                    }
                    (None, "DATA") => {
                        letter = Some(String::new());
                        "354 go on"
                    }
                    (None, "QUIT") => "221 bye",
                    (None, _) => "250 yes",
                };
                if writer.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    });
    (port, taken)
}

#[tokio::test]
async fn letters_become_files_that_only_their_owner_reads() {
    let app = TestApp::new().await;
    write(&app, "Hello", true).await;
    write(&app, "Never sent", false).await;
    assert_eq!(mail(&app).deliver_due().await.unwrap(), 1);
    assert_eq!(mail(&app).deliver_due().await.unwrap(), 0, "once");
    let folder = app.folder.path().join("mail");
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(std::fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let message = std::fs::read_to_string(&files[0]).unwrap();
    for line in [
        "To: ada@example.com",
        "Subject: Hello",
        "From: Tollgate <tollgate@localhost>",
        "Auto-Submitted: auto-generated",
        "Date: Tue, 10 Nov 2026 12:00:00 +0000",
        "Message-ID: <",
    ] {
        assert!(message.contains(line), "{line}: {message}");
    }
    assert_eq!(letters_to(&app, "ada@example.com").await, [("Hello".into(), "Füße\n.dot\n".into())]);
}

#[tokio::test]
async fn a_server_that_is_down_is_tried_again_and_gets_each_letter_once() {
    let (port, taken) = sink(2).await;
    let app =
        TestApp::with(&format!("[mail]\nsmtp = \"smtp://127.0.0.1:{port}\"\nfrom = \"no-reply@acme.example\"")).await;
    write(&app, "Hello", true).await;
    // Refused, tried too early, refused, and taken.
    for (wait_s, sent) in [(0, 0), (14, 0), (1, 0), (30, 1), (3_600, 0)] {
        app.clock.advance_secs(wait_s);
        assert_eq!(mail(&app).deliver_due().await.unwrap(), sent, "after {wait_s} s");
    }
    let taken = taken.lock().unwrap().clone();
    assert_eq!(taken.len(), 1);
    assert!(taken[0].contains("From: no-reply@acme.example"), "{}", taken[0]);
    let mails = app.admin().await.get("/admin/v1/mails").await.expect(200).body;
    assert_eq!((&mails["items"][0]["status"], &mails["items"][0]["attempts"]), (&"sent".into(), &3.into()));
    assert!(mails["items"][0]["text"].is_null(), "what went to somebody is theirs");
}

#[tokio::test]
async fn a_letter_that_nobody_takes_for_a_day_is_given_up() {
    // A port that nobody listens on any more.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let app = TestApp::with(&format!("[mail]\nsmtp = \"smtp://127.0.0.1:{port}\"")).await;
    // Whoever asks for a letter is not told, and does not wait.
    for email in [crate::support::app::ADMIN_EMAIL, "nobody@acme.example"] {
        super::pages::Browser::new(&app).fill("/reset", &[("email", email)]).await.expect(200);
    }
    // Where mail goes to people, a sign-up is verified unless the settings say otherwise.
    let sign_up = serde_json::json!({"email": "ann@acme.example", "password": "amber-Quarry-58-winds",
        "customer_name": "Acme", "billing_address": "1 Main Street"});
    app.anon().post("/v1/signup", sign_up).await.expect(202);
    app.clock.advance_secs(1);
    write(&app, "Hello", true).await;
    assert_eq!(mail(&app).deliver_due().await.unwrap(), 0);
    app.clock.advance_secs(86_400);
    assert_eq!(mail(&app).deliver_due().await.unwrap(), 0);
    let mails = app.admin().await.get("/admin/v1/mails").await.expect(200).body;
    assert_eq!(mails["items"][0]["status"], "given_up");
    assert!(mails["items"][0]["error"].as_str().unwrap().contains("the mail server did not take it"));
    app.clock.advance_secs(3_600);
    assert_eq!(mail(&app).deliver_due().await.unwrap(), 0);
    assert_eq!(app.admin().await.get("/admin/v1/mails").await.body["items"][0]["attempts"], 2);
}
