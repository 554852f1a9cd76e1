//! The same requests through us and through nginx reach the same upstream alike: whoever puts us in nginx's place changes
//! nothing that their service sees, but for the headers of [`OURS`].

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

use tollgate::kernel::{SeededRng, rng::random_bytes};

use super::{
    configured::with_settings,
    server::PATIENCE,
    target::{Request, Target, nobody, route},
    wait::eventually,
};
use crate::support::skip;

const REQUESTS: usize = 300;
/// Headers that differ, and why.
const OURS: [&str; 12] = [
    // Said by the gateway alone.
    "x-request-id",
    "traceparent",
    // Said anew by the gateway.
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    // Passed on only by name of the hop: nginx never says that trailers are taken.
    "te",
    "connection",
    // Of one hop; nginx passes them on.
    "proxy-authorization",
    "proxy-connection",
    "x-hop",
];

/// An nginx that forwards everything; ended on drop.
struct Nginx {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Nginx {
    fn start(target: SocketAddr) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (at, address) = (folder.path().display(), nobody());
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {at}/{name};"))
            .collect::<Vec<_>>()
            .join("\n");
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\nevents {{}}\n\
             http {{\naccess_log off; underscores_in_headers on; ignore_invalid_headers off; client_max_body_size 0;\n{temp}\n\
             server {{ listen {address}; location / {{\nproxy_pass http://{target}; proxy_http_version 1.1;\n\
             proxy_request_buffering off; proxy_set_header Connection \"\";\n}} }}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config).unwrap();
        // Debian has it where only root looks.
        let started = ["nginx", "/usr/sbin/nginx"].iter().find_map(|program| {
            let mut command = Command::new(program);
            command.arg("-c").arg(&file).arg("-p").arg(folder.path());
            command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().ok()
        });
        let mut nginx = Self { child: started?, address, _folder: folder };
        eventually("nginx listens", || {
            assert!(nginx.child.try_wait().unwrap().is_none(), "nginx ended");
            TcpStream::connect(address).is_ok()
        });
        Some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Draws from lists.
pub struct Draw(pub SeededRng);

impl Draw {
    pub fn below(&self, count: usize) -> usize {
        usize::try_from(u64::from_le_bytes(random_bytes(&self.0)) % u64::try_from(count).unwrap()).unwrap()
    }

    pub fn one<'a>(&self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

const METHODS: [&str; 10] = ["GET", "GET", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"];
const PATHS: [&str; 8] = ["", "a", "a/b/", "a%20b", "~user/@x:y", "a+b,c", "%E2%82%AC", "index.html"];
const QUERIES: [&str; 9] =
    ["", "?", "?a=1", "?a=1&a=2", "?q=%20%2B+x", "?a[]=1&b={c}", "?u=http://other/?x=1", "?empty=&", "?%E2%82%AC=1"];
pub const HEADERS: [&str; 34] = [
    "Accept: */*",
    "accept: text/html, application/json;q=0.9",
    "ACCEPT-ENCODING: gzip, br;q=0.5, *;q=0",
    "Accept-Language: de-CH, de;q=0.9",
    "Authorization: Basic dXNlcjpwYXNz",
    "Cache-Control: no-cache, max-age=0",
    "Cookie: a=1; b=\"2\"",
    "Cookie: c=3",
    "Range: bytes=0-99,200-",
    "If-Range: \"x\"",
    "If-None-Match: W/\"x\", \"y\"",
    "If-Modified-Since: Sat, 29 Oct 1994 19:43:31 GMT",
    "X-Repeated: 1",
    "X-Repeated: 2",
    "x-repeated:3",
    "X-Empty:",
    "X-Spaces:    a  b   ",
    "X-Latin: caf\u{e9}",
    "X_Under_Score: 1",
    "X.Dotted: 1",
    "X-Quoted: \"a, b\"; c=d",
    "X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "Referer: https://example.com/a?b#c",
    "Origin: null",
    "User-Agent: x/1.0 (y; z)",
    "Via: 1.0 fred, 1.1 p.example.net",
    "Date: Sat, 29 Oct 1994 19:43:31 GMT",
    "Priority: u=1, i",
    "Upgrade-Insecure-Requests: 1",
    "Keep-Alive: timeout=5",
    "TE: trailers",
    "Proxy-Authorization: Basic eA==",
    "X-Forwarded-For: 192.0.2.1",
    "X-Hop: 1\r\nConnection: x-hop",
];

/// A request as bytes, with these header lines and some of others.
pub fn made(draw: &Draw, lines: &str, others: &[&str]) -> Vec<u8> {
    let (method, path, query) = (draw.one(&METHODS), draw.one(&PATHS), draw.one(&QUERIES));
    let mut head = format!("{method} /x/{path}{query} HTTP/1.1\r\nHost: example.com\r\n{lines}");
    for _ in 0..draw.below(8) {
        // nginx refuses what may be there once, and is there twice.
        let line = draw.one(others);
        if !head.contains(line) {
            let _ = write!(head, "{line}\r\n");
        }
    }
    let body: String = (0..draw.below(5_000)).map(|at| char::from(b'a' + u8::try_from(at % 26).unwrap())).collect();
    let body = match (method, draw.below(4)) {
        ("GET" | "HEAD" | "OPTIONS", _) | (_, 0) => String::new(),
        (_, 1) => {
            head += "Content-Type: application/json\r\nContent-Length: 0\r\n";
            String::new()
        }
        (_, 2) => {
            let _ = write!(head, "content-type: text/plain\r\nCONTENT-LENGTH: {}\r\n", body.len());
            body
        }
        _ => {
            head += "Content-Encoding: identity\r\nTransfer-Encoding: chunked\r\n";
            let chunks = body.as_bytes().chunks(1 + draw.below(1_000));
            let chunks = chunks.map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)));
            chunks.collect::<String>() + "0\r\n\r\n"
        }
    };
    head += "\r\n";
    // One byte a character: what is beyond ASCII is Latin-1.
    let head = head.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap());
    head.chain(body.into_bytes()).collect()
}

/// Sends it; the status of the answer.
fn send(to: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().to_owned()
}

/// What the upstream sees: the request line; the headers by name, lower case, in the order of their values; the body. How a
/// body of unknown length is framed is a matter of the hop: nginx counts it when all of it came with the head.
fn seen(request: &Request, chunked: bool) -> (String, Vec<(String, String)>, String) {
    let (line, head) = request.head.split_once("\r\n").unwrap();
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let framing = |name: &str| chunked && ["content-length", "transfer-encoding"].contains(&name);
    let kept = |(name, _): &(String, String)| !OURS.contains(&&**name) && !framing(name);
    let mut headers: Vec<_> = head.lines().filter_map(field).filter(kept).collect();
    headers.sort_by(|(a, _), (b, _)| a.cmp(b));
    (line.to_owned(), headers, request.body.clone())
}

#[test]
fn the_same_requests_reach_an_upstream_through_us_and_through_nginx_alike() {
    let target = Target::start(|mut peer| while peer.request().is_some() && peer.answer("200 OK", "") {});
    let Some(nginx) = Nginx::start(target.address) else { return skip("nginx", "nginx to compare with") };
    let settings = route(&[target.address], "", "public = true\nforward_token = true");
    let (_folder, server) = with_settings(&settings);
    let (draw, nginx) = (Draw(SeededRng::new(1)), nginx.address.to_string());
    let mut different = Vec::new();
    for number in 0..REQUESTS {
        let request = made(&draw, "Connection: close\r\n", &HEADERS);
        let text = String::from_utf8_lossy(&request).into_owned();
        let (ours, theirs) = (send(&server.address, &request), send(&nginx, &request));
        assert_eq!((&*ours, &*theirs), ("200", "200"), "{number}: {text}");
        let arrived = [target.request(), target.request()];
        let [ours, theirs] = arrived.map(|request| seen(&request, text.contains("Transfer-Encoding")));
        if ours != theirs {
            different.push(format!("{number}: {:?} {:?}, by nginx {:?} {:?}", ours.0, ours.1, theirs.0, theirs.1));
        }
        assert_eq!(ours.2, theirs.2, "{number}: {text}");
    }
    assert!(different.is_empty(), "{} of {REQUESTS}:\n{}", different.len(), different.join("\n"));
}
