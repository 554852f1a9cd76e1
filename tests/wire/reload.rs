//! Settings that are read again while requests are under way.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, mpsc},
};

use serde_json::{Value, json};

use super::{
    client::{Client, head},
    customer::{admin, customer, owner},
    server::Server,
    target::Target,
    wait::eventually,
};

/// A server with a settings file that can be written anew.
struct Case {
    folder: tempfile::TempDir,
    server: Server,
}

impl Case {
    fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tollgate.toml"), settings).unwrap();
        let server = Self::serve(&folder);
        Self { folder, server }
    }

    fn serve(folder: &tempfile::TempDir) -> Server {
        let file = folder.path().join("tollgate.toml");
        Server::start(&folder.path().join("data"), &["--config", file.to_str().unwrap()])
    }

    fn write(&self, settings: &str) -> PathBuf {
        let file = self.folder.path().join("tollgate.toml");
        fs::write(&file, settings).unwrap();
        file
    }

    fn reload(&self, settings: &str) -> Value {
        self.write(settings);
        let answer = self.server.call("POST", "/admin/v1/reload", &admin(&self.server), &Value::Null);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// What was used of a meter by each route, in the order of their names.
    fn used(&self, token: &str) -> Vec<(String, String)> {
        let usage = self.server.get("/v1/usage?meter=apis&group_by=route", token).json();
        let of = |item: &Value| {
            let text = |pointer| item.pointer(pointer).unwrap().as_str().unwrap().to_owned();
            (text("/group/route"), text("/value"))
        };
        let mut used: Vec<_> = usage["data"].as_array().unwrap().iter().map(of).collect();
        used.sort();
        used
    }
}

/// Settings with these routes, each to its target.
fn routes(routes: &[(&str, &Target)]) -> String {
    let upstream = |(number, (path, target)): (usize, &(&str, &Target))| {
        format!(
            "[[gateway.upstreams]]\nname = \"u{number}\"\ntargets = [\"http://{}\"]\n\
             [[gateway.routes]]\npath = \"{path}\"\nupstream = \"u{number}\"\n",
            target.address
        )
    };
    routes.iter().enumerate().map(upstream).collect()
}

fn counts(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(route, count)| ((*route).to_owned(), (*count).to_owned())).collect()
}

#[test]
fn usage_is_of_its_route_whatever_the_order_and_the_number_of_routes() {
    let [a, b, c] = [Target::answering("a"), Target::answering("b"), Target::answering("c")];
    let case = Case::start(&routes(&[("/a/", &a), ("/b/", &b)]));
    let token = customer(&case.server);
    let call = |server: &Server, token: &str, path: &str, times: usize| {
        let mut client = Client::connect(server);
        for _ in 0..times {
            let answer = client.get(path, token);
            assert_eq!((answer.status, answer.body.as_str()), (200, &path[1..2]), "{path}");
        }
    };
    call(&case.server, &token, "/a/", 3);
    call(&case.server, &token, "/b/", 5);
    // One more in front, the others the other way round.
    case.reload(&routes(&[("/c/", &c), ("/b/", &b), ("/a/", &a)]));
    call(&case.server, &token, "/a/", 10);
    call(&case.server, &token, "/b/", 20);
    call(&case.server, &token, "/c/", 40);
    assert_eq!(case.used(&token), counts(&[("/a/", "13"), ("/b/", "25"), ("/c/", "40")]));
    // One goes, and comes back.
    case.reload(&routes(&[("/c/", &c)]));
    assert_eq!(Client::connect(&case.server).get("/a/", &token).status, 404);
    call(&case.server, &token, "/c/", 1);
    case.reload(&routes(&[("/a/", &a), ("/c/", &c)]));
    call(&case.server, &token, "/a/", 1);
    call(&case.server, &token, "/c/", 1);
    // Killed before anything was counted for sure: the journal alone knows, and its next reader has other numbers.
    case.server.signal("KILL");
    let Case { folder, server } = case;
    let _ = server.ended();
    let server = Case::serve(&folder);
    let case = Case { folder, server };
    let token = owner(&case.server);
    assert_eq!(case.used(&token), counts(&[("/a/", "14"), ("/b/", "25"), ("/c/", "42")]));
    call(&case.server, &token, "/a/", 100);
    assert_eq!(case.used(&token), counts(&[("/a/", "114"), ("/b/", "25"), ("/c/", "42")]));
}

#[test]
fn requests_under_way_end_as_they_began_and_are_of_the_route_they_came_by() {
    let (go, going) = std::sync::mpsc::channel::<()>();
    let going = std::sync::Mutex::new(going);
    let slow = Target::start(move |mut peer| {
        while peer.request().is_some() {
            peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n");
            let _ = going.lock().unwrap().recv();
            peer.write(b"done");
        }
    });
    let quick = Target::answering("quick");
    let case = Case::start(&routes(&[("/old/", &slow)]));
    let token = customer(&case.server);
    let mut client = Client::connect(&case.server);
    client.send(&head("GET", "/old/", &token, ""));
    slow.request();
    case.reload(&routes(&[("/new/", &quick)]));
    // The same connection, and another.
    assert_eq!(Client::connect(&case.server).get("/new/", &token).body, "quick");
    go.send(()).unwrap();
    assert_eq!(client.answer().body, "done");
    assert_eq!(client.get("/new/", &token).body, "quick");
    assert_eq!(case.used(&token), counts(&[("/new/", "2"), ("/old/", "1")]));
}

#[test]
fn an_invalid_file_changes_nothing_and_every_fault_is_named() {
    let target = Target::answering("a");
    let good = routes(&[("/a/", &target)]);
    let case = Case::start(&good);
    let token = admin(&case.server);
    case.write(&format!(
        "{good}public = 3\n[[gateway.routes]]\npath = \"/b/\"\nupstream = \"nobody\"\n[server]\ndrain_s = \"x\"\n"
    ));
    let refused = case.server.call("POST", "/admin/v1/reload", &token, &Value::Null);
    assert_eq!(refused.status, 422, "{}", refused.body);
    let fields: Vec<Value> =
        refused.json()["errors"].as_array().unwrap().iter().map(|error| error["field"].clone()).collect();
    for field in ["gateway.routes[0].public", "gateway.routes[1].upstream", "server.drain_s"] {
        assert!(fields.contains(&json!(field)), "{field}: {fields:?}");
    }
    let routes = case.server.get("/admin/v1/routes", &token).json();
    let paths = |routes: &Value| {
        routes["items"].as_array().unwrap().iter().map(|route| route["path"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(paths(&routes), ["/sample/", "/a/"]);
    case.server.signal("HUP");
    let line = case.server.line_with("settings were not changed");
    assert!(line.contains("gateway.routes[1].upstream"), "{line}");
    assert_eq!(paths(&case.server.get("/admin/v1/routes", &token).json()), ["/sample/", "/a/"]);
}

#[test]
fn a_signal_reloads_and_what_needs_a_restart_is_named_and_left_alone() {
    let target = Target::answering("a");
    let case = Case::start("");
    let token = admin(&case.server);
    let new =
        format!("{}public = true\n[server]\ndrain_s = 7\n[metering]\nflush_ms = 5\n", routes(&[("/a/", &target)]));
    case.write(&new);
    case.server.signal("HUP");
    let line = case.server.line_with("settings were read again");
    assert!(line.contains("metering.flush_ms") && line.contains("server.drain_s"), "{line}");
    assert_eq!(Client::connect(&case.server).get("/a/", "").body, "a");
    let again = case.reload(&new);
    let noted = case.server.get("/admin/v1/audit?action=settings.reloaded", &admin(&case.server)).json();
    let acts: Vec<_> = noted["items"].as_array().unwrap().iter().map(|entry| entry["action"].as_str()).collect();
    assert_eq!(acts, [Some("settings.reloaded"); 2], "the signal's, and this one: {noted}");
    assert_eq!(again["restart"], json!(["metering.flush_ms", "server.drain_s"]));
    let nobody = case.server.call("POST", "/admin/v1/reload", "", &Value::Null);
    assert_eq!((nobody.status, token.is_empty()), (401, false));
}

#[test]
fn a_plan_that_the_file_changes_has_another_version_from_the_next_period_on() {
    let plans = include_str!("../../config/plans.toml");
    let case = Case::start("");
    let file = case.folder.path().join("plans.toml");
    fs::write(&file, plans).unwrap();
    let settings = format!("[billing]\nplans = {:?}\n", file.to_str().unwrap());
    // The same plans as those it began with.
    assert_eq!(case.reload(&settings)["plans"], json!([]));
    let changed = plans.replacen("requests = ", "requests = 1", 1);
    assert_ne!(changed, plans);
    fs::write(&file, changed).unwrap();
    let first = case.reload(&settings)["plans"].clone();
    assert_eq!(first.as_array().unwrap().len(), 1, "{first}");
    assert_eq!(case.reload(&settings)["plans"], json!([]), "once");
    fs::write(&file, "[[plans]]\ntier = 3\n").unwrap();
    let refused = case.server.call("POST", "/admin/v1/reload", &admin(&case.server), &Value::Null);
    assert!(refused.status == 422 && refused.body.contains("billing.plans"), "{}", refused.body);
}

#[test]
fn no_request_fails_while_routes_change_again_and_again() {
    let [a, b] = [Target::answering("a"), Target::answering("b")];
    // There may be more calls in a second than any plan that comes with the program allows.
    let folder = tempfile::tempdir().unwrap();
    let plans = folder.path().join("plans.toml");
    fs::write(&plans, include_str!("../../config/plans.toml").replace("requests = ", "requests = 10")).unwrap();
    let plans = format!("[billing]\nplans = {:?}\n", plans.to_str().unwrap());
    let orders = [routes(&[("/a/", &a), ("/b/", &b)]), routes(&[("/b/", &b), ("/x/", &a), ("/a/", &a)])];
    let orders = orders.map(|order| format!("{plans}{order}"));
    let case = Case::start(&orders[0]);
    let token = customer(&case.server);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let made = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(&case.server);
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                assert_eq!((client.get("/a/", &token).body, client.get("/b/", &token).body), ("a".into(), "b".into()));
                made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        });
        for round in 0..10 {
            case.reload(&orders[(round + 1) % 2]);
        }
        eventually("some calls", || made.load(std::sync::atomic::Ordering::SeqCst) > 20);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    let count = made.load(std::sync::atomic::Ordering::SeqCst).to_string();
    assert_eq!(case.used(&token), counts(&[("/a/", &count), ("/b/", &count)]));
}

#[test]
fn issuers_and_the_most_requests_under_way_change_with_the_next_request() {
    let (go, going) = mpsc::channel::<()>();
    let going = Mutex::new(going);
    let slow = Target::start(move |mut peer| {
        while peer.request().is_some() {
            going.lock().unwrap().recv().unwrap();
            peer.answer("200 OK", "late");
        }
    });
    let route = routes(&[("/slow/", &slow)]);
    let issuer = "[[identity.issuers]]\nissuer = \"https://idp.example.com\"\nalgorithms = [\"RS256\"]\n\
                  jwks_uri = \"http://127.0.0.1:9/k\"\naudience = [\"api\"]\ntenant_claim = \"org\"\ntenants = [\"*\"]\n";
    let case = Case::start(&route);
    let token = customer(&case.server);
    let issuers =
        || case.server.get("/admin/v1/issuers", &admin(&case.server)).json()["items"].as_array().unwrap().len();
    assert_eq!(issuers(), 0);
    let said = case.reload(&format!("{route}{issuer}[gateway]\nmax_in_flight = 1\n"));
    assert_eq!((said["restart"].as_array().unwrap().len(), issuers()), (0, 1), "{said}");
    let mut first = Client::connect(&case.server);
    first.send(&head("GET", "/slow/1", &token, ""));
    slow.request();
    let refused = case.server.get("/slow/2", &token);
    assert_eq!(refused.status, 503, "{}", refused.body);
    let said = case.reload(&route);
    assert_eq!((said["restart"].as_array().unwrap().len(), issuers()), (0, 0), "{said}");
    let mut second = Client::connect(&case.server);
    second.send(&head("GET", "/slow/3", &token, ""));
    slow.request();
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!([first.answer().body, second.answer().body], ["late", "late"]);
}
