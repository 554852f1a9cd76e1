//! An application of other hands at an origin of its own: it sends people to sign in, and redeems what they bring back.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::scene::Scene;

/// The heading of its pages.
pub const HEADING: &str = "Application";
/// The verifier of RFC 7636 appendix B, and its challenge.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const PAGE: &str = "<!doctype html><html lang=en><title>Application</title><link rel=icon href=data:,>\
                    <main><h1>Application</h1></main></html>";

/// A registered client that listens.
pub struct Party {
    pub origin: String,
    pub client_id: String,
    secret: Option<String>,
    over: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl Party {
    /// One with a secret.
    pub fn web(scene: &Scene, name: &str) -> Self {
        Self::register(scene, name, &json!({}))
    }

    /// One that lives in the browser alone.
    pub fn public(scene: &Scene, name: &str) -> Self {
        Self::register(scene, name, &json!({"token_endpoint_auth_method": "none"}))
    }

    fn register(scene: &Scene, name: &str, more: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let over = Arc::new(AtomicBool::new(false));
        let made = scene.client(name, &format!("{origin}/callback"), more);
        let text = |member: &str| made[member].as_str().map(str::to_owned);
        let ends = Arc::clone(&over);
        let listening = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ends.load(Ordering::SeqCst) {
                    break;
                }
                // One each: browsers open connections that they may use later. One that closes early has its reasons.
                std::thread::spawn(move || answer(&stream).ok());
            }
        });
        Self {
            origin,
            client_id: text("client_id").unwrap(),
            secret: text("client_secret"),
            over,
            listening: Some(listening),
        }
    }

    pub fn callback(&self) -> String {
        format!("{}/callback", self.origin)
    }

    /// Where it sends people, with more parameters.
    pub fn request(&self, scope: &str, more: &[(&str, &str)]) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("response_type", "code").append_pair("client_id", &self.client_id);
        query.append_pair("redirect_uri", &self.callback()).append_pair("scope", scope);
        query.append_pair("state", "a b&c").append_pair("nonce", "n-1");
        query.append_pair("code_challenge", CHALLENGE).append_pair("code_challenge_method", "S256");
        query.extend_pairs(more);
        format!("/oauth2/authorize?{}", query.finish())
    }

    /// What it gets for what came back to it.
    #[track_caller]
    pub fn redeem(&self, scene: &Scene, address: &url::Url) -> Value {
        assert!(address.as_str().starts_with(&self.callback()), "{address}");
        assert_eq!(param(address, "state").as_deref(), Some("a b&c"));
        assert_eq!(param(address, "iss").as_deref(), Some(scene.issuer.as_str()));
        let code = param(address, "code").unwrap_or_else(|| panic!("no code: {address}"));
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code").append_pair("code", &code);
        form.append_pair("redirect_uri", &self.callback()).append_pair("code_verifier", VERIFIER);
        form.append_pair("client_id", &self.client_id);
        if let Some(secret) = &self.secret {
            form.append_pair("client_secret", secret);
        }
        let answer = scene.server.form("/oauth2/token", &form.finish());
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.origin.trim_start_matches("http://")));
        drop(self.listening.take().map(JoinHandle::join));
    }
}

/// One answer to whatever is asked.
fn answer(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(super::server::PATIENCE))?;
    let mut lines = BufReader::new(stream).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let length = PAGE.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close");
    write!(stream, "{head}\r\n\r\n{PAGE}")
}

/// A parameter of an address.
pub fn param(address: &url::Url, name: &str) -> Option<String> {
    address.query_pairs().find(|(own, _)| own == name).map(|(_, value)| value.into_owned())
}

/// What an ID token among tokens claims.
pub fn id_claims(tokens: &Value) -> Value {
    let payload = tokens["id_token"].as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
