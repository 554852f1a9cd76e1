//! Keys change under load, and nobody is turned away: not by us, and not by who keeps the published keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
use serde_json::{Value, json};

use super::{
    client::{Client, head},
    customer::{admin, customer},
    server::Server,
};

/// Somebody else's resource server: fetches the key set once, and again when a token names a key that it does not know.
struct Elsewhere {
    keys: BTreeMap<String, DecodingKey>,
    fetched: u64,
}

impl Elsewhere {
    fn verifies(&mut self, server: &Server, token: &str) -> bool {
        let kid = kid_of(token);
        if !self.keys.contains_key(&kid) {
            let set: JwkSet = serde_json::from_str(&server.get("/.well-known/jwks.json", "").body).unwrap();
            let decoded = set.keys.iter().map(|key| (key.common.key_id.clone().unwrap(), DecodingKey::from_jwk(key)));
            self.keys = decoded.map(|(kid, key)| (kid, key.unwrap())).collect();
            self.fetched += 1;
        }
        let mut validation = Validation::new(jsonwebtoken::Algorithm::ES256);
        validation.validate_aud = false;
        self.keys.get(&kid).is_some_and(|key| jsonwebtoken::decode::<Value>(token, key, &validation).is_ok())
    }
}

fn kid_of(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

#[test]
fn a_rotation_under_load_turns_nobody_away() {
    const ROTATIONS: usize = 3;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let token = customer(&server);
    let robot = server.call("POST", "/v1/clients", &token, &json!({"client_name": "robot"})).json();
    let (id, secret) = (robot["client_id"].as_str().unwrap(), robot["client_secret"].as_str().unwrap());
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let (over, calls, kids) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(BTreeSet::new()));

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut elsewhere = Elsewhere { keys: BTreeMap::new(), fetched: 0 };
                let mut client = Client::connect(&server);
                while !over.load(Ordering::Relaxed) {
                    let issued = server.form("/oauth2/token", &form);
                    assert_eq!(issued.status, 200, "{}", issued.body);
                    let token = issued.json()["access_token"].as_str().unwrap().to_owned();
                    assert!(elsewhere.verifies(&server, &token), "a resource server refused {token}");
                    // The token is used for a while, beyond the next change of keys.
                    for token in [&token, &token] {
                        let answer = client.get("/sample/hello", token);
                        assert_eq!(answer.status, 200, "{}", answer.body);
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                    kids.lock().unwrap().insert(kid_of(&token));
                }
                assert!(elsewhere.fetched <= 1 + u64::try_from(ROTATIONS).unwrap(), "{} fetches", elsewhere.fetched);
            });
        }
        let admin = admin(&server);
        let mut watch = Client::connect(&server);
        for rotation in 1..=ROTATIONS {
            let rotated = server.call("POST", "/admin/v1/keys/rotate?wait_s=1", &admin, &Value::Null);
            assert_eq!(rotated.status, 201, "{}", rotated.body);
            // Until the new key signs; each look is a call, so that this does not spin.
            while kids.lock().unwrap().len() <= rotation {
                let list = watch.send(&head("GET", "/admin/v1/keys", &admin, "")).answer();
                assert_eq!(list.status, 200, "{}", list.body);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    // The sign-in from before the first rotation still works.
    assert_eq!(server.get("/sample/hello", &token).status, 200);
    assert_eq!(server.used(&token), calls.load(Ordering::Relaxed) + 1);
}
