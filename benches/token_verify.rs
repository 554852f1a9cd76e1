//! What does checking a token cost, seen before and not, and what does a forged one cost us?

#![expect(clippy::unwrap_used, reason = "a bench shows what failed by where it panics")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use support::{
    app::TestApp,
    issuer::{Issuer, Key},
};
use tokio::runtime::Runtime;
use tollgate::{identity::Verifier, kernel::Clock as _};

/// Tokens that are made beforehand.
const POOL: usize = 2_000;

/// A verifier, and a way to get tokens of a machine client from it.
struct Tokens {
    runtime: Runtime,
    app: TestApp,
    client: (String, String),
}

impl Tokens {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let (app, client) = runtime.block_on(async {
            let app = TestApp::new().await;
            let tenant = app.tenant("Acme", "premium").await;
            let made = app.admin().await.post("/admin/v1/clients", json!({"tenant_id": tenant})).await.expect(201);
            let client = (made.text("/client_id"), made.text("/client_secret"));
            (app, client)
        });
        Self { runtime, app, client }
    }

    fn verifier(&self) -> Verifier {
        self.app.app.gateway_parts().verifier.clone()
    }

    fn token(&self) -> String {
        let (id, secret) = &self.client;
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let request = axum::http::Request::post("/oauth2/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(axum::body::Body::from(form));
        self.runtime.block_on(self.app.send(request.unwrap())).expect(200).text("/access_token")
    }
}

/// Tokens of a foreign issuer, each of which was not seen before, and the bare check of their signatures.
#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn foreign(c: &mut Criterion, runtime: &Runtime) {
    for (name, key, padding) in [
        ("RS256", Key::rs256("one"), &RSA_PKCS1_2048_8192_SHA256 as &'static dyn VerificationAlgorithm),
        ("ES256", Key::es256("one"), &ECDSA_P256_SHA256_FIXED),
    ] {
        let (verifier, new, _kept) = runtime.block_on(async {
            let issuer = Issuer::start(&[&key]).await;
            let more = format!("algorithms = [\"{name}\"]\non_unknown_tenant = \"create\"");
            let app = TestApp::with(&issuer.settings(&more)).await;
            let now = app.clock.now().as_secs();
            let token = |n: usize| {
                let mut claims = issuer.claims("org_1", now);
                claims["jti"] = format!("{n:032x}").into();
                key.token(&claims)
            };
            let new: Vec<String> = (0..POOL).map(token).collect();
            let verifier = app.app.gateway_parts().verifier.clone();
            verifier.resolve(&new[0]).await.unwrap();
            (verifier, new, (issuer, app))
        });
        let mut group = c.benchmark_group("token_verify");
        group.sample_size(20);
        group.bench_function(format!("foreign, new, {name}"), |b| {
            b.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                let mut left = usize::try_from(times).unwrap();
                while left > 0 {
                    verifier.forget();
                    let some = &new[..left.min(POOL)];
                    let started = Instant::now();
                    for token in some {
                        black_box(verifier.decide(token).unwrap().unwrap());
                    }
                    spent += started.elapsed();
                    left -= some.len();
                }
                spent
            });
        });
        let public = ParsedPublicKey::new(padding, key.public_der()).unwrap();
        let (signed, signature) = new[0].rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        group.bench_function(format!("the bare check of {name}"), |b| {
            b.iter(|| public.verify_sig(black_box(signed.as_bytes()), black_box(&signature)).unwrap());
        });
        group.finish();
    }
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn token_verify(c: &mut Criterion) {
    let tokens = Tokens::new();
    let verifier = tokens.verifier();
    let known = tokens.token();
    verifier.verify(&known).unwrap();
    c.bench_function("token_verify/seen before", |b| b.iter(|| verifier.verify(black_box(&known)).unwrap()));

    let mut group = c.benchmark_group("token_verify");
    group.sample_size(10);
    group.bench_function("new", |b| {
        b.iter_custom(|times| {
            let new: Vec<String> = (0..times).map(|_| tokens.token()).collect();
            let started = Instant::now();
            for token in &new {
                black_box(verifier.verify(token).unwrap());
            }
            started.elapsed()
        });
    });
    group.finish();

    foreign(c, &tokens.runtime);

    let (signed, signature) = known.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{other}{}", &signature[1..]);
    c.bench_function("token_verify/forged", |b| b.iter(|| verifier.verify(black_box(&forged)).unwrap_err()));
}

criterion_group!(benches, token_verify);
criterion_main!(benches);
