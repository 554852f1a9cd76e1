//! TLS on our listeners: rustls on aws-lc, ALPN `h2` and `http/1.1`. Certificate and key are read again on a reload, and when
//! the files have changed; a handshake takes what is there when it begins, and connections keep what they began with.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::{Ticketer, default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{net::TcpStream, time::MissedTickBehavior};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A handshake is over by then, or given up.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The files are looked at this often.
const LOOK: Duration = Duration::from_mins(1);

/// What a listener proves who it is with, and where that is from.
#[derive(Clone)]
pub struct Pair {
    cert: PathBuf,
    key: PathBuf,
    /// When the files were written that were read.
    written: Written,
    certified: Arc<CertifiedKey>,
}

type Written = [Option<SystemTime>; 2];

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate's file.
    #[error("the certificate {path} cannot be read: {why}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The key's file.
    #[error("the key {path} cannot be read: {why}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// One does not go with the other.
    #[error("the key {key} does not go with the certificate {cert}: {why}")]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        why: String,
    },
    /// The library refused.
    #[error("TLS cannot be set up")]
    SetUp(#[from] rustls::Error),
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("cert", &self.cert).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Pair {
    /// Reads both files; a chain begins with the server's own certificate.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        // Before the files: what is written meanwhile is read the next time.
        let written = written(cert, key);
        let unreadable = |why: String| TlsError::Certificate { path: cert.to_owned(), why };
        let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let chain = chain.map_err(|error| unreadable(error.to_string()))?;
        if chain.is_empty() {
            return Err(unreadable("it has no certificate in PEM".to_owned()));
        }
        let private = PrivateKeyDer::from_pem_file(key);
        let private = private.map_err(|error| TlsError::Key { path: key.to_owned(), why: error.to_string() })?;
        let certified = CertifiedKey::from_der(chain, private, &default_provider());
        let certified = certified.map_err(|error| TlsError::Pair {
            cert: cert.to_owned(),
            key: key.to_owned(),
            why: error.to_string(),
        })?;
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), written, certified: Arc::new(certified) })
    }
}

fn written(cert: &Path, key: &Path) -> Written {
    [cert, key].map(|path| path.metadata().and_then(|metadata| metadata.modified()).ok())
}

/// Accepts TLS; cheap to clone.
#[derive(Debug, Clone)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
}

/// What handshakes take.
struct Current {
    certified: ArcSwap<CertifiedKey>,
    pair: Mutex<Pair>,
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("pair", &self.pair).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified.load_full())
    }
}

impl Acceptor {
    /// Begins with a pair.
    pub fn open(pair: &Pair) -> Result<Self, TlsError> {
        let current =
            Arc::new(Current { certified: ArcSwap::new(Arc::clone(&pair.certified)), pair: Mutex::new(pair.clone()) });
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
        let mut config = config.with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = Ticketer::new()?;
        Ok(Self { config: Arc::new(config), current })
    }

    /// The connection after its handshake.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(Arc::clone(&self.config)).accept(stream)).await?
    }

    /// Uses another pair from the next handshake on.
    pub fn change(&self, pair: &Pair) {
        self.current.certified.store(Arc::clone(&pair.certified));
        *self.current.pair.lock().unwrap_or_else(PoisonError::into_inner) = pair.clone();
    }

    /// Looks at the files now and then, until it is dropped.
    pub async fn watch(self) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let its = self.clone();
            // A thread that panicked has said so.
            drop(tokio::task::spawn_blocking(move || its.look()).await);
        }
    }

    /// Reads the files if they were written since. What cannot be used is said once, and changes nothing.
    fn look(&self) {
        let pair = self.current.pair.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = written(&pair.cert, &pair.key);
        if now == pair.written {
            return;
        }
        match Pair::read(&pair.cert, &pair.key) {
            Ok(pair) => {
                self.change(&pair);
                tracing::info!(cert = %pair.cert.display(), "the certificate was read again");
            }
            Err(error) => {
                let error = crate::kernel::fault::chain(&error);
                tracing::error!(error, "the certificate has changed and cannot be used; the former one goes on");
                self.current.pair.lock().unwrap_or_else(PoisonError::into_inner).written = now;
            }
        }
    }
}

/// Whether a client chose HTTP/2.
pub fn is_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Writes a pair of its own name into a folder.
    fn write(folder: &Path, name: &str) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.join("own-key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    fn read(folder: &Path) -> Result<Pair, TlsError> {
        Pair::read(&folder.join("cert.pem"), &folder.join("own-key.pem"))
    }

    /// Gives a file another time, so that it does not matter how fast a test is.
    fn touch(path: &Path, secs: u64) {
        let file = fs::File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(secs)).unwrap();
    }

    #[test]
    fn files_that_were_written_anew_are_used_and_broken_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (first, cert) = (write(folder.path(), "one.example"), folder.path().join("cert.pem"));
        let acceptor = Acceptor::open(&read(folder.path()).unwrap()).unwrap();
        let used = || acceptor.current.certified.load().cert[0].clone();
        acceptor.look();
        assert_eq!(used(), first);
        let second = write(folder.path(), "two.example");
        touch(&cert, 1);
        acceptor.look();
        assert_eq!(used(), second);
        fs::write(&cert, "no certificate").unwrap();
        touch(&cert, 2);
        acceptor.look();
        assert_eq!(used(), second);
        let third = write(folder.path(), "three.example");
        touch(&cert, 3);
        acceptor.look();
        assert_eq!(used(), third);
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let refused = || read(folder.path()).unwrap_err().to_string();
        assert!(refused().contains("cert.pem cannot be read"), "{}", refused());
        write(folder.path(), "one.example");
        fs::write(folder.path().join("own-key.pem"), "nothing").unwrap();
        assert!(refused().contains("own-key.pem cannot be read"), "{}", refused());
        write(folder.path(), "one.example");
        let other = rcgen::generate_simple_self_signed(vec!["other.example".to_owned()]).unwrap();
        fs::write(folder.path().join("own-key.pem"), other.signing_key.serialize_pem()).unwrap();
        assert!(refused().contains("does not go with"), "{}", refused());
    }
}
