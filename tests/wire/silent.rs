//! Clients that open connections and say nothing.

use std::{net::TcpStream, process::Command};

use super::server::{Server, tollgate};

#[test]
fn those_who_say_nothing_do_not_keep_others_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tollgate.toml");
    std::fs::write(&file, "[server]\nheader_read_timeout_s = 1\n").unwrap();
    // Fewer files than there will be connections.
    let binary = tollgate();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 128; exec \"$0\" \"$@\""]).arg(binary.get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&file);
    command.arg("--data").arg(folder.path().join("data"));
    command.env_clear().envs(binary.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let server = Server::run(&mut command);
    let silent: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    server.line_with("a connection could not be accepted");
    assert_eq!(server.get("/healthz", "").status, 200);
    drop(silent);
}
