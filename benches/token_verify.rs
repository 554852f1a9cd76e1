//! What does checking a token cost, seen before and not, and what does a forged one cost us?

#![expect(clippy::unwrap_used, reason = "a bench shows what failed by where it panics")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{hint::black_box, time::Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use support::app::TestApp;
use tokio::runtime::Runtime;
use tollgate::identity::Verifier;

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

    let (signed, signature) = known.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{other}{}", &signature[1..]);
    c.bench_function("token_verify/forged", |b| b.iter(|| verifier.verify(black_box(&forged)).unwrap_err()));
}

criterion_group!(benches, token_verify);
criterion_main!(benches);
