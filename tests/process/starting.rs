//! What settings come from, what is said at the start and what never is, and folders and databases that cannot be used.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _};

use serde_json::json;

use super::{
    customer::{admin, customer},
    server::{Server, tollgate},
};
use crate::support::{
    actors::{PASSWORD, email_of},
    app::ADMIN_PASSWORD,
};

/// What a program says that does not start, in one line, with exit status 2.
fn refused(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(output.stdout.is_empty() && !text.contains("panicked"), "{text}");
    text
}

#[test]
fn the_environment_goes_over_the_file_and_flags_over_both() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("tollgate.toml"), folder.path().join("data"));
    let taken = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let [by_file, by_variable] = taken.each_ref().map(|listener| listener.local_addr().unwrap().to_string());
    fs::write(&file, format!("[server]\nlisten = \"{by_file}\"\n")).unwrap();
    let command = || {
        let mut command = tollgate();
        command.args(["serve", "--config"]).arg(&file).arg("--data").arg(&data);
        command
    };
    assert!(refused(&mut command()).contains(&by_file));
    let with_variable = refused(command().env("TOLLGATE_SERVER__LISTEN", &by_variable));
    assert!(with_variable.contains(&by_variable), "{with_variable}");
    let flag = ["--listen", "127.0.0.1:0"];
    let server = Server::run(command().env("TOLLGATE_SERVER__LISTEN", &by_variable).args(flag));
    assert_eq!(server.get("/readyz", "").status, 200);
}

#[test]
fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tollgate.toml");
    fs::write(&file, "[server]\nlistn = \"127.0.0.1:0\"\n[metering]\nrol_ms = 10\n").unwrap();
    let text = refused(tollgate().args(["check", "--config"]).arg(&file));
    let hints = ["server.listn: is not a setting; did you mean server.listen?", "did you mean metering.roll_ms?"];
    assert!(hints.iter().all(|hint| text.contains(hint)), "{text}");
    let variable = refused(tollgate().arg("check").env("TOLLGATE_SERVR__LISTEN", "127.0.0.1:0"));
    assert!(variable.contains("TOLLGATE_SERVR__LISTEN"), "{variable}");
}

#[test]
fn a_meter_of_the_settings_that_counts_otherwise_than_the_one_that_is_there_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("tollgate.toml"), folder.path().join("data"));
    let meter = "[[metering.meters]]\nkey = \"tokens\"\nevent_type = \"prompt\"\naggregation = ";
    let mut command = tollgate();
    command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&file).arg("--data").arg(&data);
    fs::write(&file, format!("{meter}\"count\"\n")).unwrap();
    drop(Server::run(&mut command));
    fs::write(&file, format!("{meter}\"sum\"\nvalue_property = \"$.n\"\n")).unwrap();
    let text = refused(&mut command);
    assert!(text.contains("tokens: aggregation is sum, not count, value_property is $.n, not absent"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    let check = tollgate().args(["check", "--config"]).arg(&file).output().unwrap();
    assert_eq!(check.status.code(), Some(0), "the settings by themselves are fine");
    fs::write(&file, format!("{meter}\"count\"\n")).unwrap();
    drop(Server::run(&mut command));
}

#[test]
fn a_data_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    let mut unusable = vec![file.clone(), file.join("below"), "/proc/tollgate-data".into()];
    // Root writes where it likes.
    if fs::write(closed.join("probe"), "").is_err() {
        unusable.push(closed);
    }
    for data in unusable {
        let text = refused(tollgate().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data));
        assert!(text.contains(data.to_str().unwrap()) && text.lines().count() == 1, "{text}");
    }
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("tollgate.db"), "this was a database once").unwrap();
    let text = refused(tollgate().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data));
    assert!(text.contains("not a database"), "{text}");
}

#[test]
fn a_data_folder_that_is_made_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    drop(Server::start(&data, &[]));
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn the_lock_of_a_killed_process_is_nobodys() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let pid = server.pid().to_string();
    server.signal("KILL");
    server.ended();
    assert_eq!(fs::read_to_string(data.path().join("lock")).unwrap(), pid, "it is still written there");
    assert_eq!(Server::start(data.path(), &[]).get("/readyz", "").status, 200);
}

#[test]
fn a_database_that_does_not_answer_is_given_up_on_with_the_reason_and_without_its_password() {
    let data = tempfile::tempdir().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://somebody:{PASSWORD}@{nobody}/db");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--database-url"];
    let text = refused(tollgate().args(serve).arg(&url).arg("--data").arg(data.path()));
    assert!(text.contains("refused") && !text.contains(PASSWORD), "{text}");
    for wrong in [format!("postgres://somebody:{PASSWORD}@host:port/db"), format!("mysql://somebody:{PASSWORD}@h/db")] {
        let text = refused(tollgate().args(serve).arg(&wrong).arg("--data").arg(data.path()));
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

#[test]
fn a_first_administrator_who_cannot_be_is_refused_and_leaves_none_behind() {
    let data = tempfile::tempdir().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data"];
    for (variable, value) in
        [("TOLLGATE_ADMIN_PASSWORD", "password"), ("TOLLGATE_ADMIN_PASSWORD", "x"), ("TOLLGATE_ADMIN_EMAIL", "nobody")]
    {
        let text = refused(tollgate().args(serve).arg(data.path()).env(variable, value));
        assert!(text.contains(variable) && !text.contains("panicked"), "{text}");
    }
    let email = "root@example.com";
    let server = Server::run(tollgate().args(serve).arg(data.path()).env("TOLLGATE_ADMIN_EMAIL", email));
    server.token(email, ADMIN_PASSWORD);
}

#[test]
fn nothing_that_is_said_has_a_secret_in_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let admin = admin(&server);
    let token = customer(&server);
    let session =
        server.call("POST", "/v1/login", "", &json!({"email": email_of("Acme"), "password": PASSWORD})).json();
    let refresh = session["refresh_token"].as_str().unwrap().to_owned();
    server.form("/oauth2/token", &format!("grant_type=refresh_token&refresh_token={refresh}"));
    server.call("POST", "/v1/login", "", &json!({"email": email_of("Acme"), "password": "wrong-Harbour-42"}));
    server.get("/sample/hello", &token);
    server.get(&format!("/sample/hello?access_token={token}"), &token[1..]);
    server.raw(format!("GET / HTTP/9.9\r\nauthorization: Bearer {token}\r\n\r\n").as_bytes());
    server.signal("TERM");
    let (said, status) = server.last_words();
    assert_eq!(status.code(), Some(0));
    let email = email_of("Acme");
    for secret in [PASSWORD, ADMIN_PASSWORD, "wrong-Harbour-42", &admin, &token, &token[1..], &refresh, &email] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() <= 2, "no line per request: {said}");
}

#[test]
fn a_password_that_was_made_up_is_not_shown_by_the_next_start() {
    let data = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = tollgate();
        command.env_remove("TOLLGATE_ADMIN_PASSWORD").args(["serve", "--listen", "127.0.0.1:0", "--data"]);
        command.arg(data.path());
        command
    };
    let mut first = start();
    let server = Server::run(&mut first);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    // The second start is stopped by a taken port, so that all it says is at hand.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = refused(start().args(["--listen", &taken.local_addr().unwrap().to_string()]));
    assert!(!text.contains("password"), "{text}");
}
