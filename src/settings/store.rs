//! `[store]`: where data is kept.

use std::path::PathBuf;

use super::read::Reader;
use crate::kernel::Secret;

/// The data folder when nothing else is said.
const DATA: &str = "./tollgate-data";
/// Connections to `PostgreSQL`.
const MAX_CONNECTIONS: i64 = 10;
/// Whoever closes periods holds two while others are read by.
const LEAST_CONNECTIONS: i64 = 4;

/// `[store]`
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The embedded store, the journal and the key file.
    pub data: PathBuf,
    /// `PostgreSQL`, in place of the embedded store.
    pub url: Option<Secret>,
    /// Connections to `PostgreSQL` at once.
    pub max_connections: u32,
    /// Goes on when journal records are damaged, which loses them: the flag `--accept-loss` of one start, and no setting,
    /// so that nobody forgets it.
    pub accept_loss: bool,
}

impl StoreSettings {
    pub(super) fn read(reader: &mut Reader, accept_loss: bool) -> Option<Self> {
        let data = reader.string("store.data", DATA);
        let url = reader.optional_string("store.url");
        if url.as_deref().is_some_and(|url| !url.starts_with("postgres://") && !url.starts_with("postgresql://")) {
            reader.fault("store.url", "must begin with postgres:// or postgresql://");
        }
        let max_connections = reader.number("store.max_connections", MAX_CONNECTIONS, LEAST_CONNECTIONS, 1_000);
        Some(Self {
            data: PathBuf::from(data?),
            url: url.map(Secret::new),
            max_connections: u32::try_from(max_connections?).unwrap_or(1),
            accept_loss,
        })
    }
}
