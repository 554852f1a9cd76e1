//! Whether a process answers on its port: the least of a client.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// An answer may take so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether a path is answered with a 2xx.
pub(super) async fn is_well(port: u16, path: &str) -> bool {
    matches!(tokio::time::timeout(PATIENCE, status(port, path)).await, Ok(Ok(200..=299)))
}

async fn status(port: u16, path: &str) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nuser-agent: tollgate-health\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    // `HTTP/1.1 200`
    let mut begins = [0; 12];
    stream.read_exact(&mut begins).await?;
    let status = begins.strip_prefix(b"HTTP/1.").and_then(|rest| std::str::from_utf8(rest.get(2..)?).ok());
    Ok(status.and_then(|text| text.parse().ok()).unwrap_or(0))
}
