//! A server with settings of its own.

use super::server::Server;

/// Its folder, and the server.
pub fn with_settings(text: &str) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tollgate.toml");
    std::fs::write(&file, text).unwrap();
    let server = Server::start(&folder.path().join("data"), &["--config", file.to_str().unwrap()]);
    (folder, server)
}
