//! A foreign issuer of the tests' own: discovery and a key set on a port of its own, keys that come and go, tokens of any
//! content. It counts how often its keys are fetched.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    },
};
use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

/// A key pair and what is published of it.
#[derive(Clone)]
pub struct Key {
    pair: Arc<Pair>,
    pub alg: &'static str,
    pub jwk: Value,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Key {
    pub fn rs256(kid: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let jwk = json!({"kty": "RSA", "n": BASE64.encode(public.n), "e": BASE64.encode(public.e)});
        Self::published(Pair::Rsa(pair), "RS256", jwk, kid)
    }

    pub fn es256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref();
        let jwk =
            json!({"kty": "EC", "crv": "P-256", "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..])});
        Self::published(Pair::Ec(pair), "ES256", jwk, kid)
    }

    pub fn ed25519(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(pair.public_key().as_ref())});
        Self::published(Pair::Ed(pair), "EdDSA", jwk, kid)
    }

    fn published(pair: Pair, alg: &'static str, mut jwk: Value, kid: &str) -> Self {
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk["alg"] = alg.into();
        Self { pair: Arc::new(pair), alg, jwk }
    }

    /// The same key under another algorithm's name.
    pub fn as_alg(&self, alg: &'static str) -> Self {
        let mut other = self.clone();
        other.alg = alg;
        other.jwk["alg"] = alg.into();
        other
    }

    /// The key with members of its JWK changed; null takes one away.
    pub fn with(&self, member: &str, value: Value) -> Self {
        let mut other = self.clone();
        match value {
            Value::Null => drop(other.jwk.as_object_mut().unwrap().remove(member)),
            value => other.jwk[member] = value,
        }
        other
    }

    /// Signs a header and claims as they are.
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let random = SystemRandom::new();
        let signature = match &*self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding =
                    if self.alg == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                pair.sign(padding, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", BASE64.encode(signature))
    }

    /// Its header, and claims.
    pub fn token(&self, claims: &Value) -> String {
        let kid = &self.jwk["kid"];
        self.sign(&json!({"alg": self.alg, "typ": "JWT", "kid": kid}).to_string(), &claims.to_string())
    }

    /// The public half as PEM-less DER, what a careless verifier takes for a secret.
    pub fn public_der(&self) -> Vec<u8> {
        let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = match &*self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der().unwrap(),
            Pair::Ec(pair) => pair.public_key().as_der().unwrap(),
            Pair::Ed(pair) => pair.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }
}

/// A running issuer; it ends with this.
pub struct Issuer {
    pub origin: String,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

struct Shared {
    origin: String,
    keys: Mutex<Vec<Value>>,
    /// In place of the key set.
    instead: Mutex<Option<String>>,
    down: AtomicBool,
    fetches: AtomicUsize,
    /// Answers of the key set are held back while there are no permits.
    gate: Semaphore,
}

impl Issuer {
    pub async fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            origin: origin.clone(),
            keys: Mutex::default(),
            instead: Mutex::default(),
            down: AtomicBool::new(false),
            fetches: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let issuer = Self { origin, shared, _server: server };
        issuer.publish(keys);
        issuer
    }

    /// Publishes these keys and no others.
    pub fn publish(&self, keys: &[&Key]) {
        *self.shared.keys.lock().unwrap() = keys.iter().map(|key| key.jwk.clone()).collect();
    }

    /// Answers the key set's address with this.
    pub fn publish_instead(&self, document: &str) {
        *self.shared.instead.lock().unwrap() = Some(document.to_owned());
    }

    /// Whether everything is answered with 503.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    /// How often the key set was asked for.
    pub fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// Its section of the settings: found by discovery, for the audience `api`, with the claim `org`; `more` are further
    /// lines.
    pub fn settings(&self, more: &str) -> String {
        format!(
            "[[identity.issuers]]\nissuer = \"{}\"\naudience = [\"api\"]\ntenant_claim = \"org\"\n{more}\n",
            self.origin
        )
    }

    /// Claims of a good token for a tenant, which is good for ten minutes.
    pub fn claims(&self, org: &str, now: i64) -> Value {
        json!({
            "iss": self.origin, "sub": "user|1", "aud": "api", "iat": now, "exp": now + 600, "org": org,
            "scope": "read write", "client_id": "app", "jti": format!("{org}-1"),
        })
    }
}

async fn discovery(State(shared): State<Arc<Shared>>) -> Response {
    if shared.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let origin = &shared.origin;
    axum::Json(json!({"issuer": origin, "jwks_uri": format!("{origin}/jwks")})).into_response()
}

async fn jwks(State(shared): State<Arc<Shared>>) -> Response {
    shared.fetches.fetch_add(1, Ordering::SeqCst);
    drop(shared.gate.acquire().await.unwrap());
    if shared.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if let Some(document) = shared.instead.lock().unwrap().clone() {
        return document.into_response();
    }
    axum::Json(json!({"keys": *shared.keys.lock().unwrap()})).into_response()
}
