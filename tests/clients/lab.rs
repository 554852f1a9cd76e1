//! The examples of docs/lab.md, taken out of its text and run against a laboratory that its first block starts.
//!
//! Spring is not run. Its four properties must be those that Spring Boot documents, and a resource server that does with
//! their values what Spring Security's source does (discovery, the key set, RS256, `typ`, issuer, audience, `exp` and `nbf` where
//! they are, authorities) must take the good token and refuse the bad ones.

use std::{collections::BTreeMap, fs, net::TcpListener, process::Command};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    npm::Npm,
    scratch,
    server::{Server, tollgate},
    venv::Venv,
};
use crate::support;

/// Bad tokens that differ in what those settings do not look at.
const UNSEEN: [&str; 7] = ["20_kb", "future_iat", "missing_exp", "missing_iat", "missing_jti", "missing_sub", "no_kid"];

/// Where the document has the laboratory.
const WRITTEN: &str = "127.0.0.1:8080";

/// The code blocks of the document in a language.
fn blocks(language: &str) -> Vec<String> {
    let document = fs::read_to_string("docs/lab.md").unwrap();
    let (mut blocks, mut open): (Vec<(String, String)>, bool) = (Vec::new(), false);
    for line in document.lines() {
        match (line.strip_prefix("```"), open) {
            (Some(language), false) => blocks.push((language.to_owned(), String::new())),
            (Some(_), true) => {}
            (None, false) => continue,
            (None, true) => {
                let (_, text) = blocks.last_mut().unwrap();
                text.push_str(line);
                text.push('\n');
                continue;
            }
        }
        open = !open;
    }
    blocks.into_iter().filter(|(own, _)| own == language).map(|(_, text)| text).collect()
}

/// A laboratory as the first block starts it, but for its port and data folder.
struct Laboratory {
    server: Server,
    password: String,
    _data: TempDir,
}

impl Laboratory {
    fn start() -> Self {
        let first = &blocks("sh")[0];
        let (before, serve) = first.split_once("\ntollgate ").expect("the first block starts it");
        let password = before.split_once("export TOLLGATE_ADMIN_PASSWORD=").expect("a password before the start").1;
        let password = password.split_whitespace().next().unwrap().to_owned();
        let data = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = tollgate();
        command.env("TOLLGATE_ADMIN_PASSWORD", &password).args(["serve", "--listen", &free]);
        let own = data.path().to_str().unwrap();
        let given = serve.split_whitespace().skip(1).map(|word| if word == "./lab-data" { own } else { word });
        Self { server: Server::run(command.args(given)), password, _data: data }
    }

    /// A block as somebody uses it here.
    fn here(&self, block: &str) -> String {
        block.replace(WRITTEN, &self.server.address)
    }

    /// What a bash says that has read these blocks and knows a password.
    fn bash(&self, blocks: &str, password: Option<&str>) -> (String, String) {
        let mut bash = Command::new("bash");
        bash.args(["-c", &self.here(blocks)]).env_remove("TOLLGATE_ADMIN_PASSWORD");
        if let Some(password) = password {
            bash.env("TOLLGATE_ADMIN_PASSWORD", password);
        }
        let output = bash.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }
}

#[test]
fn the_labs_example_with_openid_client_does_what_it_says() {
    let Some(npm) = Npm::with(&["openid-client@6.9.0", "jose@6.2.18"]) else { return };
    let lab = Laboratory::start();
    let said = npm.run_text("login.mjs", &lab.here(&blocks("js")[0]));
    assert!(said.contains("\norg_acme openid profile email offline_access read:orders\ntrue\n"), "{said}");
}

#[test]
fn the_labs_example_with_authlib_does_what_it_says() {
    let Some(venv) = Venv::with(&["Authlib==1.9.10", "requests==2.34.2", "joserfc==1.8.0"]) else { return };
    let lab = Laboratory::start();
    let said = venv.run_text("login.py", &lab.here(&blocks("python")[0]));
    assert_eq!(said, "ada@acme.example ['org_acme']\n01900000-0000-7000-8000-000000000001\n");
}

#[test]
fn the_labs_calls_with_curl_do_what_they_say() {
    if !scratch::installed("bash", "--version") || !scratch::installed("curl", "--version") {
        return support::skip("clients", "bash with curl");
    }
    let lab = Laboratory::start();
    let all = blocks("bash");
    let (said, complaints) = lab.bash(&all.concat(), Some(&lab.password));
    let calls: Vec<&str> = all.iter().flat_map(|block| block.lines()).filter(|line| line.starts_with("lab ")).collect();
    let answers: Vec<&str> = said.lines().collect();
    assert!(calls.len() > 15 && answers.len() == calls.len() && complaints.is_empty(), "{said}{complaints}");
    for (call, answer) in calls.iter().zip(answers) {
        let body: Value = serde_json::from_str(answer).unwrap_or_else(|_| panic!("{call}: {answer}"));
        assert!(body.get("title").is_none(), "{call}: {answer}");
        if let Some((_, promised)) = call.split_once("# {") {
            assert_eq!(answer, format!("{{{promised}"), "{call}");
        }
    }

    // Whoever has not the password is told so.
    let (_, complaint) = lab.bash(&format!("{}lab GET clock\n", all[0]), None);
    assert!(complaint.contains("TOLLGATE_ADMIN_PASSWORD: is what the first start was given"), "{complaint}");
    let (said, complaint) = lab.bash(&format!("{}lab GET clock\n", all[0]), Some("another"));
    assert!(said.is_empty() && complaint.contains("cannot sign in with TOLLGATE_ADMIN_PASSWORD"), "{said}{complaint}");
}

/// The properties of a YAML file of nested names and texts, by their full names.
fn properties(yaml: &str) -> BTreeMap<String, String> {
    let (mut found, mut path) = (BTreeMap::new(), Vec::<(usize, &str)>::new());
    for line in yaml.lines() {
        let line = line.split(" #").next().unwrap();
        let depth = line.len() - line.trim_start().len();
        let (name, value) = line.trim().split_once(':').unwrap();
        path.retain(|(own, _)| *own < depth);
        path.push((depth, name));
        if !value.trim().is_empty() {
            let full: Vec<_> = path.iter().map(|(_, name)| *name).collect();
            found.insert(full.join("."), value.trim().to_owned());
        }
    }
    found
}

/// A resource server as those properties make it.
struct ResourceServer {
    keys: JwkSet,
    validation: Validation,
    claim: String,
    prefix: String,
}

impl ResourceServer {
    /// What it grants for a token.
    fn authorities(&self, token: &str) -> Option<Vec<String>> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let typed = header.typ.as_deref().is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
        // RFC 7515 section 4.1.11: of what it does not know, nothing may be critical.
        let raw = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
        let typed = typed && serde_json::from_slice::<Value>(&raw).ok()?.get("crit").is_none();
        let key = match header.kid {
            Some(kid) => self.keys.find(&kid),
            None => self.keys.keys.first(),
        };
        let key = key.filter(|_| typed)?;
        let key = DecodingKey::from_jwk(key).unwrap();
        let claims = jsonwebtoken::decode::<Value>(token, &key, &self.validation).ok()?.claims;
        let values = claims[&self.claim].as_array()?.iter();
        Some(values.map(|value| format!("{}{}", self.prefix, value.as_str().unwrap())).collect())
    }
}

/// Spring Boot, "Common application properties": the names below `spring.security.oauth2.resourceserver.jwt`.
#[test]
fn the_labs_settings_for_a_resource_server_take_its_good_token_and_refuse_the_bad() {
    if !scratch::installed("bash", "--version") || !scratch::installed("curl", "--version") {
        return support::skip("clients", "bash with curl");
    }
    let lab = Laboratory::start();
    let mut settings = properties(&lab.here(&blocks("yaml")[0]));
    let mut take = |name: &str| settings.remove(&format!("spring.security.oauth2.resourceserver.jwt.{name}")).unwrap();
    let (issuer, audience) = (take("issuer-uri"), take("audiences"));
    let (claim, prefix) = (take("authorities-claim-name"), take("authority-prefix"));
    assert!(settings.is_empty(), "{settings:?}");
    let base = format!("http://{}", lab.server.address);
    let get = |address: &str| lab.server.get(address.strip_prefix(&base).unwrap(), "").json();
    let discovered = get(&format!("{issuer}/.well-known/openid-configuration"));
    assert_eq!(discovered["issuer"], *issuer);
    let keys = serde_json::from_value(get(discovered["jwks_uri"].as_str().unwrap())).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["iss", "aud"]);
    validation.validate_nbf = true;
    let server = ResourceServer { keys, validation, claim, prefix };

    let all = blocks("bash");
    let tokens = all.iter().find(|block| block.contains("issuers/okta/tokens/bad")).unwrap();
    let (said, _) = lab.bash(&format!("{}{tokens}", all[0]), Some(&lab.password));
    let answers: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let granted = Some(vec!["SCOPE_read:orders".to_owned()]);
    assert_eq!(server.authorities(answers[0]["token"].as_str().unwrap()), granted);
    assert_eq!(server.authorities(answers[1]["good"].as_str().unwrap()), granted);
    let bad = answers[1]["items"].as_array().unwrap().iter();
    let mut taken: Vec<&str> = bad
        .filter(|item| server.authorities(item["token"].as_str().unwrap()).is_some())
        .map(|item| item["name"].as_str().unwrap())
        .collect();
    taken.sort_unstable();
    assert_eq!(taken, UNSEEN, "nor more nor fewer than the document says");
    let document = fs::read_to_string("docs/lab.md").unwrap();
    assert!(UNSEEN.iter().all(|name| document.contains(&format!("`{name}`"))));
}
