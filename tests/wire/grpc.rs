//! gRPC: a tonic service behind the layers, called over a socket; and what the gateway's own refusals are to a client of gRPC.

use std::{future::Future, sync::Arc};

use axum::{Router, body::Body, extract::Request, http::Uri, routing::post};
use bytes::{Buf as _, BufMut as _};
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tollgate::{
    app::{App, Deps},
    gateway::{Parts, RouteMeters, RouteTerms, Ticket},
    kernel::{SystemClock, SystemRng},
    settings::{Flags, Settings, Sources},
};
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tower::ServiceExt as _;

use super::{
    configured::with_settings,
    customer::customer,
    target::{nobody, route},
};
use crate::support::{
    actors::PASSWORD,
    app::{ADMIN_EMAIL, ADMIN_PASSWORD},
};

/// Messages that are texts.
#[derive(Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(text.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = from.copy_to_bytes(from.remaining()).to_vec();
        String::from_utf8(bytes).map(Some).map_err(|_| Status::invalid_argument("not a text"))
    }
}

/// A client on a connection of HTTP/2.
struct Caller(tonic::client::Grpc<Client<HttpConnector, tonic::body::Body>>);

impl Caller {
    fn new(address: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        Self(tonic::client::Grpc::with_origin(client, format!("http://{address}").parse::<Uri>().unwrap()))
    }

    async fn call(&mut self, path: &'static str, token: &str, message: &str) -> Result<String, Status> {
        let mut request = tonic::Request::new(message.to_owned());
        if !token.is_empty() {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        self.0.ready().await.unwrap();
        let answer = self.0.unary(request, path.parse().unwrap(), Text).await?;
        Ok(answer.into_inner())
    }
}

fn run<F: Future>(test: F) -> F::Output {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test)
}

/// Tells who calls; fails when it is asked to.
async fn total(request: tonic::Request<String>) -> Result<tonic::Response<String>, Status> {
    let ticket = request.extensions().get::<Arc<Ticket>>().expect("a layer left it");
    match request.get_ref().as_str() {
        "fail" => Err(Status::failed_precondition("as you wish")),
        report => Ok(tonic::Response::new(format!("{report} for {}", ticket.tier))),
    }
}

fn reports(parts: &Parts, number: u16) -> Router {
    let serve = |request: Request| async {
        tonic::server::Grpc::new(Text).unary(tower::service_fn(total), request).await.map(Body::new)
    };
    let meters = RouteMeters::everything(number);
    let terms = RouteTerms { body_limit: Some(100), ..meters.terms() };
    let (authenticate, admit, meter) = parts.layers(&["usage:read".to_owned()], meters);
    let layers = (authenticate, admit.for_route(terms), meter);
    Router::new().route("/reports.Reports/Total", post(serve)).route_layer(layers)
}

const TOTAL: &str = "/reports.Reports/Total";

/// A program with the service in it.
async fn embedded(folder: &tempfile::TempDir) -> App {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nh2c = true\nissuer = \"http://localhost\"\n\
         [identity]\npublished_algs = [\"ES256\"]\n[lab]\nenabled = true\n\
         [[seed.tenants]]\ncustomer_name = \"Acme\"\ntier = \"free\"\n\
         users = [{{ email = \"ada@acme.example\", password = \"{PASSWORD}\" }}]\n"
    );
    let sources = Sources {
        file: Some(("test".to_owned(), text)),
        env: vec![("TOLLGATE_ADMIN_PASSWORD".to_owned(), ADMIN_PASSWORD.to_owned())],
        flags: Flags { data: Some(folder.path().display().to_string()), ..Flags::default() },
    };
    let mut settings = Settings::load(&sources).unwrap();
    let number = settings.gateway.mount("/reports.Reports/");
    let deps = Deps { clock: Arc::new(SystemClock), rng: Arc::new(SystemRng) };
    let mut app = App::build(settings, deps).await.unwrap();
    app.mount(reports(app.gateway_parts(), number));
    app
}

/// A call of the API, without a socket.
async fn ask(router: &Router, method: &str, path: &str, token: &str, body: Value) -> Value {
    let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
    let request = request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap();
    let Ok(response) = router.clone().oneshot(request).await;
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

async fn sign_in(router: &Router, email: &str, password: &str) -> String {
    let login = ask(router, "POST", "/v1/login", "", json!({"email": email, "password": password})).await;
    login["access_token"].as_str().unwrap_or_else(|| panic!("{login}")).to_owned()
}

async fn counted(router: &Router, token: &str, meter: &str) -> String {
    let usage = ask(router, "GET", &format!("/v1/usage?meter={meter}"), token, Value::Null).await;
    usage["data"][0]["value"].as_str().unwrap_or("0").to_owned()
}

#[test]
fn a_tonic_service_behind_the_layers_is_called_with_a_token_and_counted() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let app = embedded(&folder).await;
        let router = app.router();
        let listeners = app.listen().await.unwrap();
        let address = listeners.public.local_addr().unwrap().to_string();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = app.run(listeners, async { drop(stopped.await) });
        let test = async {
            let token = sign_in(&router, "ada@acme.example", PASSWORD).await;
            let mut caller = Caller::new(&address);
            assert_eq!(caller.call(TOTAL, &token, "q3").await.unwrap(), "q3 for free");
            // The handler's own failures are its own.
            assert_eq!(caller.call(TOTAL, &token, "fail").await.unwrap_err().code(), Code::FailedPrecondition);

            let nobody = caller.call(TOTAL, "", "q3").await.unwrap_err();
            assert_eq!(nobody.code(), Code::Unauthenticated, "{nobody:?}");
            assert!(nobody.metadata().contains_key("www-authenticate") && !nobody.message().is_empty(), "{nobody:?}");
            assert_eq!(caller.call(TOTAL, "no.good.token", "q3").await.unwrap_err().code(), Code::Unauthenticated);
            let admin = sign_in(&router, ADMIN_EMAIL, ADMIN_PASSWORD).await;
            assert_eq!(caller.call(TOTAL, &admin, "q3").await.unwrap_err().code(), Code::PermissionDenied);
            let large = caller.call(TOTAL, &token, &"x".repeat(100)).await.unwrap_err();
            assert_eq!(large.code(), Code::ResourceExhausted, "{large:?}");
            assert_eq!(caller.call("/no.Such/Method", &token, "q3").await.unwrap_err().code(), Code::Unimplemented);

            // Each message has five bytes before it; "fail" was answered, with a status of gRPC.
            assert_eq!(counted(&router, &token, "apis").await, "2");
            assert_eq!(counted(&router, &token, "ingress_bytes").await, (5 + 2 + 5 + 4).to_string());
            assert_eq!(counted(&router, &token, "egress_bytes").await, (5 + 11).to_string());

            // The free tier's rate.
            let mut last = None;
            for _ in 0..200 {
                last = caller.call(TOTAL, &token, "q3").await.err();
                if last.is_some() {
                    break;
                }
            }
            let refused = last.expect("a tier with a rate");
            assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
            assert!(refused.metadata().contains_key("retry-after"), "{refused:?}");
            drop((caller, stop));
        };
        let (ran, ()) = tokio::join!(running, test);
        ran.unwrap();
    });
}

#[test]
fn the_gateways_own_answers_are_statuses_to_a_client_of_grpc_and_not_billed() {
    let settings = route(&[nobody()], "http = \"2\"", "scopes = [\"usage:read\"]\nbody_limit = 100");
    let (_folder, server) = with_settings(&format!("[server]\nh2c = true\n{settings}"));
    let token = customer(&server);
    run(async {
        let mut caller = Caller::new(&server.address);
        let mut code =
            async |path, token: &str, size| caller.call(path, token, &"x".repeat(size)).await.unwrap_err().code();
        assert_eq!(code("/x/Method", "", 1).await, Code::Unauthenticated);
        assert_eq!(code("/x/Method", &token, 1).await, Code::Unavailable, "nobody listens there");
        assert_eq!(code("/none/Method", &token, 1).await, Code::Unimplemented);
    });
    assert_eq!(server.used(&token), 0);
    // Whoever speaks no gRPC gets what they know.
    let plain = server.get("/x/Method", "");
    assert_eq!((plain.status, plain.json()["status"].as_u64()), (401, Some(401)));
}
