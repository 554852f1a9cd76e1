//! TLS and HTTP/2, on our side and on the upstream's: who is believed, what is spoken, and gRPC from end to end.

use std::{fs, path::Path, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::CertificateDer};
use tokio::{io::AsyncReadExt as _, net::TcpListener, task::JoinSet};

use super::{
    configured::with_settings,
    server::{Server, tollgate},
    target::{Target, public_route},
};

/// A certificate for `localhost` that stands for itself.
struct Made {
    cert: CertificateDer<'static>,
    pem: String,
    key: String,
}

fn make() -> Made {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    Made { cert: made.cert.der().clone(), pem: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

impl Made {
    fn write(&self, folder: &Path) {
        fs::write(folder.join("cert.pem"), &self.pem).unwrap();
        fs::write(folder.join("key.pem"), &self.key).unwrap();
    }
}

type Secure = Client<HttpsConnector<HttpConnector>, Body>;

/// A client that believes this certificate alone; HTTP/2 where both can.
fn believing(made: &Made, http2: bool) -> Secure {
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.clone()).unwrap();
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1();
    let connector = if http2 { builder.enable_http2().build() } else { builder.build() };
    Client::builder(TokioExecutor::new()).build(connector)
}

async fn get(client: &Secure, server: &Server, path: &str) -> Option<(Version, String)> {
    let port = server.address.rsplit(':').next().unwrap();
    let request = Request::get(format!("https://localhost:{port}{path}")).body(Body::empty()).unwrap();
    let response = client.request(request).await.ok()?;
    let version = response.version();
    let body = response.into_body().collect().await.ok()?.to_bytes();
    Some((version, String::from_utf8(body.to_vec()).unwrap()))
}

fn served(settings: &str, folder: &Path) -> String {
    let of = |name| folder.join(name).display().to_string();
    format!("[server]\ntls = {{ cert = {:?}, key = {:?} }}\n{settings}", of("cert.pem"), of("key.pem"))
}

#[tokio::test(flavor = "multi_thread")]
async fn our_listener_speaks_tls_and_both_versions_and_changes_its_certificate_while_it_runs() {
    let target = Target::answering("through");
    let (folder, first, second) = (tempfile::tempdir().unwrap(), make(), make());
    first.write(folder.path());
    let (_data, server) = with_settings(&served(&public_route(&[target.address], ""), folder.path()));
    let (old, plain) = (believing(&first, true), believing(&first, false));
    assert_eq!(get(&old, &server, "/x/").await, Some((Version::HTTP_2, "through".to_owned())));
    assert_eq!(get(&plain, &server, "/x/").await, Some((Version::HTTP_11, "through".to_owned())));
    assert_eq!(get(&believing(&second, true), &server, "/x/").await, None);
    // Without TLS there is nothing here.
    assert!(!String::from_utf8_lossy(&server.raw(b"GET /x/ HTTP/1.1\r\nhost: x\r\n\r\n")).contains("200"));
    second.write(folder.path());
    server.signal("HUP");
    server.line_with("settings were read again");
    assert!(get(&believing(&second, true), &server, "/x/").await.is_some());
    assert_eq!(get(&believing(&first, true), &server, "/x/").await, None);
    assert!(get(&old, &server, "/x/").await.is_some(), "its connection goes on");
    // What cannot be used changes nothing.
    fs::write(folder.path().join("key.pem"), &first.key).unwrap();
    server.signal("HUP");
    let line = server.line_with("settings were not changed");
    assert!(line.contains("server.tls.key") && line.contains("does not go with"), "{line}");
    assert!(get(&believing(&second, true), &server, "/x/").await.is_some());
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tollgate.toml");
    fs::write(&file, served("", folder.path())).unwrap();
    let check = || {
        let output = tollgate().args(["check", "--config"]).arg(&file).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = check();
    assert!(status == Some(2) && said.contains("server.tls.cert: the certificate"), "{said}");
    make().write(folder.path());
    assert_eq!(check().0, Some(0));
    fs::write(folder.path().join("key.pem"), make().key).unwrap();
    let (status, said) = check();
    assert!(status == Some(2) && said.contains("server.tls.key: the key"), "{said}");
}

/// Serves HTTP with a function; ends with what it gives.
async fn upstream(tls: Option<ServerConfig>, http2: bool) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tls.map(|config| tokio_rustls::TlsAcceptor::from(Arc::new(config)));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let builder = if http2 { builder.http2_only() } else { builder };
                let service = hyper_util::service::TowerToHyperService::new(tower::service_fn(answer));
                match acceptor {
                    None => drop(builder.serve_connection(TokioIo::new(stream), service).await),
                    Some(acceptor) => {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        drop(builder.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            });
        }
    });
    (port, tasks)
}

type Frames =
    StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, std::convert::Infallible>>>>;

/// Says what arrived, in headers; the body comes back, and trailers behind it.
async fn answer(request: Request<hyper::body::Incoming>) -> Result<Response<Frames>, std::convert::Infallible> {
    let said = |name: &str| request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let seen = format!("{:?} te={} host={}", request.version(), said("te"), said("host"));
    let content_type = said("content-type");
    let body = request.into_body().collect().await.unwrap();
    let mut trailers = HeaderMap::new();
    let came: Vec<String> = body.trailers().into_iter().flat_map(HeaderMap::keys).map(ToString::to_string).collect();
    for (name, value) in [("grpc-status", "0"), ("x-tenant-id", "forged"), ("tollgate-usage", "compute=1")] {
        trailers.insert(name, value.parse().unwrap());
    }
    trailers.insert("x-came", came.join(" ").parse().unwrap());
    let frames = vec![Ok(Frame::data(body.to_bytes())), Ok(Frame::trailers(trailers))];
    let response = Response::builder().header("x-seen", seen).header("content-type", content_type);
    Ok(response.body(StreamBody::new(futures_util::stream::iter(frames))).unwrap())
}

fn h2c() -> Client<HttpConnector, Frames> {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

/// A message as gRPC frames it, and trailers of the request, which some clients send.
fn message() -> Frames {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "1".parse().unwrap());
    trailers.insert("x-user-id", "forged".parse().unwrap());
    let frames = vec![Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x05hello"))), Ok(Frame::trailers(trailers))];
    StreamBody::new(futures_util::stream::iter(frames))
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_passes_from_end_to_end_with_its_trailers_and_without_forged_ones() {
    let (port, _tasks) = upstream(None, true).await;
    let settings = public_route(&[([127, 0, 0, 1], port).into()], "http = \"2\"");
    let (_folder, server) = with_settings(&format!("[server]\nh2c = true\n{settings}"));
    for (content_type, passes) in [("application/grpc", true), ("application/octet-stream", false)] {
        let request = Request::post(format!("http://{}/x/Greeter/SayHello", server.address));
        let request = request.header("content-type", content_type).body(message()).unwrap();
        let response = h2c().request(request).await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
        let seen = response.headers()["x-seen"].to_str().unwrap().to_owned();
        assert_eq!(seen, if passes { "HTTP/2.0 te=trailers host=" } else { "HTTP/2.0 te= host=" });
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let mut names: Vec<&str> = trailers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, if passes { vec!["grpc-status", "x-came"] } else { vec![] });
        if passes {
            assert_eq!(trailers["x-came"], "x-checksum");
        }
        assert_eq!(body.to_bytes(), &b"\0\0\0\0\x05hello"[..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_over_tls_is_believed_by_its_authority_alone() {
    let made = make();
    let folder = tempfile::tempdir().unwrap();
    made.write(folder.path());
    let ca = folder.path().join("cert.pem");
    for (http, version) in [("1", "HTTP/1.1"), ("2", "HTTP/2.0")] {
        let key =
            rustls::pki_types::PrivateKeyDer::try_from(rcgen::KeyPair::from_pem(&made.key).unwrap().serialize_der());
        let mut tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.clone()], key.unwrap())
            .unwrap();
        tls.alpn_protocols = vec![if http == "2" { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let (port, _tasks) = upstream(Some(tls), false).await;
        for (more, status) in [(format!("ca = {:?}", ca.to_str().unwrap()), 200), (String::new(), 502)] {
            let settings = format!(
                "[[gateway.upstreams]]\nname = \"x\"\nhttp = \"{http}\"\n{more}\ntargets = [\"https://localhost:{port}\"]\n\
                 [[gateway.routes]]\npath = \"/x/\"\nupstream = \"x\"\npublic = true\n"
            );
            let (_data, server) = with_settings(&settings);
            let answer = server.get("/x/", "");
            assert_eq!(answer.status, status, "{}", answer.body);
            assert!(status == 502 || answer.head.contains(&format!("x-seen: {version} ")), "{}", answer.head);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let (folder, made) = (tempfile::tempdir().unwrap(), make());
    made.write(folder.path());
    let settings = served("header_read_timeout_s = 1\n", folder.path());
    let (_data, server) = with_settings(&settings);
    let mut silent = tokio::net::TcpStream::connect(&server.address).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(15), silent.read(&mut [0])).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "it is still open");
    assert!(get(&believing(&made, true), &server, "/healthz").await.is_some());
}
