//! A hard quota under any concurrency: exactly as many calls are answered as it says, whatever the order.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    body::Body,
    http::{Request, Response, header},
};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::task::JoinSet;
use tollgate::{
    gateway::RouteMeters,
    kernel::{SeededRng, rng::random_bytes},
};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use super::gateway::used;
use crate::support::app::TestApp;

/// Connections, and calls that the quota allows.
const CONNECTIONS: u64 = 64;
const LIMIT: u64 = 1_000;
const SEEDS: u64 = 50;

/// What chance makes of one call at the upstream.
#[derive(Clone, Copy)]
struct Fate {
    /// So often it lets others go first.
    yields: u8,
    fails: bool,
}

async fn upstream(fate: Fate) -> Result<Response<Body>, Infallible> {
    for _ in 0..fate.yields {
        tokio::task::yield_now().await;
    }
    let status = if fate.fails { 500 } else { 200 };
    Ok(Response::builder().status(status).body(Body::from("ok")).unwrap())
}

/// One connection: calls until the quota is used up; how many were answered.
async fn connection<S>(mut service: S, token: Arc<str>, rng: SeededRng, answered: Arc<AtomicU64>)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    loop {
        let [yields, fails, leaves] = random_bytes::<3>(&rng);
        let fate = Fate { yields: yields % 4, fails: fails % 16 == 0 };
        let mut request =
            Request::get("/x").header(header::AUTHORIZATION, format!("Bearer {token}")).body(Body::empty()).unwrap();
        request.extensions_mut().insert(fate);
        // Whoever finds the quota used up now may find a place again when a call under way fails.
        let was_full = answered.load(Ordering::SeqCst) >= LIMIT;
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        match response.status().as_u16() {
            200 if leaves % 32 == 0 => {
                // Gone before the body: the upstream did its work, so it is billed all the same.
                drop(response);
                answered.fetch_add(1, Ordering::SeqCst);
            }
            200 => {
                response.into_body().collect().await.unwrap();
                answered.fetch_add(1, Ordering::SeqCst);
            }
            429 if was_full => return,
            429 => tokio::task::yield_now().await,
            500 => {}
            other => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_connections_exactly_a_thousand_calls_are_answered_for_fifty_seeds() {
    let app = TestApp::with("[gateway]\nmax_in_flight = 1000\n").await;
    let tenant = app.tenant("Acme", "premium").await;
    let quotas = json!([{"meter": "apis", "limit": LIMIT.to_string(), "period": "minute", "mode": "hard"}]);
    app.admin().await.put(&format!("/admin/v1/tenants/{tenant}/quotas"), quotas).await.expect(200);
    // A rate that is no obstacle: this is about the quota.
    let mut plan = app.admin().await.get("/admin/v1/plans/premium").await.expect(200).body;
    (plan["effective"], plan["rate_limit"]) = (json!("now"), json!(null));
    app.admin().await.put("/admin/v1/plans/premium", plan).await.expect(200);
    let upstream = service_fn(|request: Request<Body>| upstream(*request.extensions().get::<Fate>().unwrap()));
    let layers = app.app.gateway_parts().layers(&[], RouteMeters::requests(0));
    let mut token: Arc<str> = "".into();
    for seed in 0..SEEDS {
        if seed % 8 == 0 {
            // The one before is about to expire.
            token = app.owner_of("Acme").await.token.into();
        }
        let answered = Arc::new(AtomicU64::new(0));
        let mut connections = JoinSet::new();
        for number in 0..CONNECTIONS {
            let service = layers.layer(upstream);
            let rng = SeededRng::new(seed * CONNECTIONS + number);
            connections.spawn(connection(service, Arc::clone(&token), rng, Arc::clone(&answered)));
        }
        connections.join_all().await;
        assert_eq!(answered.load(Ordering::SeqCst), LIMIT, "seed {seed}");
        // The next seed has a minute of its own.
        app.clock.advance_secs(60);
    }
    let owner = app.owner_of("Acme").await;
    assert_eq!(used(&owner, "apis").await, (SEEDS * LIMIT).to_string());
    let minutes = owner.get("/v1/usage?meter=apis&window=minute").await.expect(200).body;
    let minutes = minutes["data"].as_array().unwrap().clone();
    assert!(minutes.len() == 50 && minutes.iter().all(|minute| minute["value"] == "1000"), "{minutes:?}");
    assert_eq!(used(&owner, "compute").await, "0");
}
