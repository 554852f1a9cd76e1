//! What keeps the program from starting is said in one line, and it exits with 2.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Output, Stdio},
};

use super::server::{Server, tollgate};

fn refused(arguments: &[&str], data: &Path) -> String {
    let output = tollgate().args(arguments).arg("--data").arg(data).stdout(Stdio::null()).output().unwrap();
    said(&output)
}

fn said(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn a_data_folder_in_use_names_the_process_that_has_it() {
    let data = tempfile::tempdir().unwrap();
    let _server = Server::start(data.path(), &[]);
    let pid = fs::read_to_string(data.path().join("lock")).unwrap();
    let text = refused(&["serve", "--listen", "127.0.0.1:0"], data.path());
    assert!(text.contains("in use") && text.contains(&pid), "{text}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let text = refused(&["serve", "--listen", &address], data.path());
    assert!(text.contains(&address), "{text}");
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused() {
    let data = tempfile::tempdir().unwrap();
    drop(Server::start(data.path(), &[]));
    let url = format!("sqlite:{}", data.path().join("tollgate.db").display());
    let mut store = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sqlx::query("UPDATE schema_version SET version = 999").execute(&mut store).await.unwrap();
    sqlx::Connection::close(store).await.unwrap();
    let path = data.path().to_owned();
    let refused = move || refused(&["serve", "--listen", "127.0.0.1:0"], &path);
    let text = tokio::task::spawn_blocking(refused).await.unwrap();
    assert!(text.contains("999") && text.contains("newer"), "{text}");
}

#[test]
fn a_corrupt_settings_file_is_told_all_its_faults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    let text =
        "[server]\nlisten = \"nowhere\"\nsurprise = 1\n[identity]\nsigning_alg = \"none\"\nrefresh_grace_s = -1\n";
    fs::write(&file, text).unwrap();
    for command in ["serve", "check"] {
        let output = tollgate().args([command, "--config"]).arg(&file).output().unwrap();
        let text = said(&output);
        for key in ["server.listen", "server.surprise", "identity.signing_alg", "identity.refresh_grace_s"] {
            assert!(text.contains(key), "{command}: no {key} in {text}");
        }
    }
    fs::write(&file, "[server\n").unwrap();
    assert!(said(&tollgate().args(["check", "--config"]).arg(&file).output().unwrap()).contains("TOML"));
    let missing = tollgate().args(["check", "--config", "/nowhere/at/all.toml"]).output().unwrap();
    assert!(said(&missing).contains("/nowhere/at/all.toml"));
    let variable = tollgate().arg("check").env("TOLLGATE_SERVER__SURPRISE", "1").output().unwrap();
    assert!(said(&variable).contains("TOLLGATE_SERVER__SURPRISE"));
    assert_eq!(tollgate().arg("check").output().unwrap().status.code(), Some(0));
}

#[test]
fn the_key_file_is_for_its_owner_and_must_stay() {
    let data = tempfile::tempdir().unwrap();
    drop(Server::start(data.path(), &[]));
    let key = data.path().join("identity.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&["serve", "--listen", "127.0.0.1:0"], data.path()).contains("identity.key"));
    fs::remove_file(&key).unwrap();
    assert!(refused(&["serve", "--listen", "127.0.0.1:0"], data.path()).contains("identity.key"));
    fs::write(&key, [7; 32]).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    refused(&["serve", "--listen", "127.0.0.1:0"], data.path());
}

#[test]
fn a_made_up_password_is_shown_once() {
    let data = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut first = tollgate();
    first.env_remove("TOLLGATE_ADMIN_PASSWORD").args(["serve", "--listen", &address, "--data"]).arg(data.path());
    let text = said(&first.output().unwrap());
    let password = text.split("password: ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let password = password.unwrap_or_else(|| panic!("even when the port is taken: {text}")).to_owned();
    let mut second = tollgate();
    second.env_remove("TOLLGATE_ADMIN_PASSWORD").args(["serve", "--listen", "127.0.0.1:0", "--data"]);
    let server = Server::run(second.arg(data.path()));
    server.token("admin@localhost", &password);
}

#[test]
fn help_and_version_are_answered_on_standard_output() {
    for (argument, shown) in [("--help", "serve"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let output = tollgate().arg(argument).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(shown));
    }
    assert_eq!(tollgate().arg("--surprise").output().unwrap().status.code(), Some(2));
}
