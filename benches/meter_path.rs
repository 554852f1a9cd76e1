//! What does a metered request cost on top of its handler: the three layers with their journal record, and the record
//! alone?

#![expect(clippy::unwrap_used, reason = "a bench shows what failed by where it panics")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{convert::Infallible, hint::black_box, sync::Arc};

use axum::{
    body::Body,
    http::{Request, Response},
};
use criterion::{Criterion, criterion_group, criterion_main};
use http_body_util::BodyExt as _;
use support::app::TestApp;
use tollgate::{
    gateway::RouteMeters,
    kernel::{NodeId, SystemClock, TenantId, Timestamp},
    metering::journal::{Amounts, Counted, Flusher, Folder, Identity, Journal, Options, Record, recover},
};
use tower::{Layer, Service, ServiceExt as _, service_fn};
use uuid::Uuid;

async fn answer(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from("hello")))
}

/// One request, its answer read to the end.
async fn once<S>(service: &mut S, token: &str)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let request = Request::get("/bench/").header("authorization", token).body(Body::empty()).unwrap();
    let response = service.ready().await.unwrap().call(request).await.unwrap();
    black_box(response.into_body().collect().await.unwrap());
}

fn layers(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (app, token) = runtime.block_on(async {
        let app = TestApp::new().await;
        let admin = app.admin().await;
        // A plan that refuses nobody, whatever the clock says.
        let mut plan = admin.get("/admin/v1/plans/premium").await.expect(200).body;
        for field in ["version", "effective_from", "rate_limit"] {
            plan.as_object_mut().unwrap().remove(field);
        }
        plan["quotas"] =
            serde_json::json!([{"meter": "apis", "limit": "1000000000000", "period": "day", "mode": "hard"}]);
        plan["effective"] = "now".into();
        admin.put("/admin/v1/plans/premium", plan).await.expect(200);
        app.tenant("Acme", "premium").await;
        let token = format!("Bearer {}", app.owner_of("Acme").await.token);
        (app, token)
    });
    let mut bare = service_fn(answer);
    let stack = app.app.gateway_parts().layers(&[], RouteMeters::requests(0));
    let mut metered = stack.layer(service_fn(answer));
    c.bench_function("meter_path/handler alone", |b| b.iter(|| runtime.block_on(once(&mut bare, &token))));
    c.bench_function("meter_path/handler in the layers", |b| {
        b.iter(|| runtime.block_on(once(&mut metered, &token)));
    });
}

fn record(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(Folder::open(folder.path().join("journal")).unwrap());
    let past = recover(&*disk, &Counted::new(), false).unwrap();
    let identity = Identity { node: NodeId::from_uuid(Uuid::from_u128(1)), epoch: 1, boot: Uuid::from_u128(2) };
    let options = Options {
        segment_bytes: Options::SEGMENT_BYTES,
        flush_ms: Options::FLUSH_MS,
        meters: vec!["apis".into(), "compute".into()],
        routes: vec!["/bench/".into()],
    };
    let journal = Journal::begin(disk, options, &past, identity, Arc::new(SystemClock)).unwrap();
    let flusher = Flusher::start(&journal).unwrap();
    let mut amounts = Amounts::default();
    amounts.push(0, 1_000);
    amounts.push(1, 12_345);
    let tenant = TenantId::from_uuid(Uuid::from_u128(3));
    let record = Record { tenant, at: Timestamp::from_secs(1_800_000_000).unwrap(), route: 0, amounts };
    let mut refused: u64 = 0;
    c.bench_function("meter_path/reserve and record", |b| {
        b.iter(|| {
            let written = journal.reserve().and_then(|room| room.append(black_box(&record)));
            // The loop is faster than the disk can make room; a server would answer 503 here.
            refused += u64::from(written.is_err());
        });
    });
    if refused > 0 {
        eprintln!("meter_path: {refused} records of {} found no room", refused + journal.last_seq());
    }
    drop(flusher);
}

criterion_group!(benches, layers, record);
criterion_main!(benches);
