//! Lab mode of the real binary: its switch, its refusals, and a clock that outlives the process.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::server::{Server, tollgate};
use crate::support::app::ADMIN_PASSWORD;

const SEEDS: &str = r#"
[[seed.tenants]]
customer_name = "Acme"
external_id = "org_acme"
users = [{ email = "ada@acme.example", password = "ada" }]
"#;

fn admin(server: &Server) -> String {
    server.token("admin@localhost", ADMIN_PASSWORD)
}

fn clock(server: &Server) -> Value {
    server.get("/admin/v1/lab/clock", &admin(server)).json()
}

#[test]
fn the_labs_clock_outlives_a_killed_process_and_ends_with_the_mode() {
    let folder = tempfile::tempdir().unwrap();
    let (data, config) = (folder.path().join("data"), folder.path().join("lab.toml"));
    fs::write(&config, SEEDS).unwrap();
    let start = || {
        let mut command = tollgate();
        command.args(["serve", "--lab", "--listen", "127.0.0.1:0", "--config"]).arg(&config);
        // An RSA key takes longer to make than the rest of this test.
        command.env("TOLLGATE_IDENTITY__PUBLISHED_ALGS", r#"["ES256"]"#);
        Server::run(command.arg("--data").arg(&data))
    };
    let server = start();
    let frozen = json!({"set": "2031-05-06T07:08:09Z", "freeze": true});
    let turned = server.call("POST", "/admin/v1/lab/clock", &admin(&server), &frozen);
    assert_eq!((turned.status, turned.json()["now"].as_str()), (200, Some("2031-05-06T07:08:09Z")));
    let mint = |server: &Server| {
        let minted = server.call("POST", "/admin/v1/lab/tokens", &admin(server), &json!({"user": "ada@acme.example"}));
        minted.json()["token"].as_str().unwrap().to_owned()
    };
    let token = mint(&server);
    assert_eq!(server.get("/sample/hello", &token).status, 200);
    assert_eq!(server.used(&token), 1);
    server.signal("KILL");
    assert!(!server.ended().success());

    let server = start();
    assert_eq!(clock(&server), json!({"now": "2031-05-06T07:08:09Z", "frozen": true}));
    assert_eq!(server.get("/sample/hello", &token).status, 200, "it has not aged");
    assert_eq!(server.used(&mint(&server)), 2, "and its usage is in the frozen month");
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));

    // Without its fixtures the same data folder serves without the lab, in the machine's time.
    let server = Server::start(&data, &[]);
    let admin = admin(&server);
    assert_eq!(server.get("/admin/v1/lab/clock", &admin).status, 404);
    assert_eq!(server.get("/sample/hello", &token).status, 401, "a token from the year 2031");
}

#[test]
fn a_lab_says_what_it_is_when_it_starts() {
    let data = tempfile::tempdir().unwrap();
    let mut command = tollgate();
    command.args(["serve", "--lab", "--listen", "256.0.0.1:1"]);
    assert_eq!(command.output().unwrap().status.code(), Some(2));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = tollgate();
    command.args(["serve", "--lab", "--listen", &address, "--data"]).arg(data.path()).env("TOLLGATE_LOG", "warn");
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(said.contains("WARN") && said.contains("LAB MODE"), "{said}");
}

fn refused(config: &str, flags: &[&str], folder: &Path) -> String {
    let file = folder.join("lab.toml");
    fs::write(&file, config).unwrap();
    let mut command = tollgate();
    command.arg("serve").args(flags).arg("--config").arg(&file).arg("--data").arg(folder.join("data"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{config} {flags:?}");
    assert!(!folder.join("data").exists(), "nothing is begun");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_lab_that_others_could_take_for_real_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |config: &str, flags: &[&str]| refused(config, flags, folder.path());
    let said = refused("[server]\nissuer = \"https://id.example.com\"\n", &["--lab"]);
    assert!(said.contains("server.issuer: is a public name"), "{said}");
    let said = refused("", &["--lab", "--listen", "0.0.0.0:0"]);
    assert!(said.contains("server.listen: must be a loopback address"), "{said}");
    let said = refused("[server]\nissuer = \"https://id.example.com\"\n[lab]\nforce = true\n", &["--lab"]);
    assert!(said.contains("server.issuer"), "force does not make a public name a private one: {said}");
    for tests_only in ["[identity]\nallow_password_grant = true\n", "[identity]\nlogin_throttle = false\n", SEEDS] {
        let said = refused(tests_only, &[]);
        assert!(said.contains("is for tests only: it needs lab mode (--lab)"), "{said}");
    }
}
