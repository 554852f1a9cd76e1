//! What lies in the data folder: no secret in clear text, and nothing that others may read.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    customer::{admin, customer},
    server::Server,
};
use crate::support::{
    actors::{PASSWORD, email_of},
    app::{ADMIN_EMAIL, ADMIN_PASSWORD},
};

/// PKCS #8 of a private key, from its version to where the key begins (RFC 5958, RFC 5480, RFC 8017, RFC 8410).
const PRIVATE_KEYS: [&[u8]; 3] = [
    b"\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01",
    b"\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01",
    b"\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20",
];

/// Every file but letters, which have their links in clear text: that is what they are for.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            all.push(path);
        } else if !path.ends_with("mail") {
            all.extend(files(&path));
        }
    }
    all
}

/// Makes something once and asks for it once more; both answers are the same.
fn twice(server: &Server, token: &str, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nidempotency-key: once\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = || String::from_utf8(server.raw(request.as_bytes())).unwrap();
    let [first, second] = [answer(), answer()];
    let json = |answer: &str| serde_json::from_str::<Value>(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert!(first.starts_with("HTTP/1.1 201"), "{first}");
    assert!(second.contains("idempotency-replayed: true"), "{second}");
    assert_eq!(json(&first), json(&second));
    json(&first)
}

#[test]
fn no_secret_lies_in_the_data_folder_in_clear_text_and_nothing_is_for_others_to_read() {
    let folder = tempfile::tempdir().unwrap();
    // Made by somebody who thought nothing of it.
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let server = Server::start(&data, &[]);
    let (owner, platform) = (customer(&server), admin(&server));
    let client = twice(&server, &owner, "/v1/clients", &serde_json::json!({"client_name": "nightly"}));
    let initial = twice(&server, &platform, "/admin/v1/clients/initial-access-tokens", &serde_json::json!({}));
    let hook = serde_json::json!({"url": "https://hooks.example/", "events": ["*"]});
    let hook = twice(&server, &owner, "/v1/webhooks", &hook);
    let login = serde_json::json!({"email": email_of("Acme"), "password": PASSWORD});
    let login = server.call("POST", "/v1/login", "", &login).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let webhook_secret = text(&hook["secret"]);
    let key = STANDARD.decode(webhook_secret.strip_prefix("whsec_").unwrap()).unwrap();
    let secrets = [
        webhook_secret,
        text(&client["client_secret"]),
        text(&initial["initial_access_token"]),
        text(&login["access_token"]),
        text(&login["refresh_token"]),
        owner,
        PASSWORD.to_owned(),
        ADMIN_PASSWORD.to_owned(),
    ];
    let known = ADMIN_EMAIL.as_bytes();
    let mut found = false;
    for file in files(&data) {
        let bytes = fs::read(&file).unwrap();
        // Segments are reserved ahead.
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let holds = |text: &[u8]| bytes[..end].windows(text.len()).any(|window| window == text);
        found |= holds(known);
        for secret in &secrets {
            assert!(!holds(secret.as_bytes()), "{} holds {secret}", file.display());
        }
        assert!(!holds(&key), "{} holds a webhook's secret", file.display());
        assert!(!PRIVATE_KEYS.iter().any(|key| holds(key)), "{} holds a private key", file.display());
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} is {mode:o}", file.display());
    }
    assert!(found, "the search finds what is there");
}
