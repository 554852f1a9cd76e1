//! How long a token lets its caller in, for answers that outlast a moment: streams, sockets, long downloads.

use std::{sync::Arc, time::Duration};

use super::{access::Access, verifier::Verifier};

/// The longest time without looking at our clock, which may be set otherwise than the machine's.
const MOST: Duration = Duration::from_mins(1);

/// What a verified token lives by. Whoever serves an answer that takes long ends it when [`Self::ended`] resolves.
#[derive(Clone)]
pub struct TokenLife {
    pub(super) verifier: Verifier,
    pub(super) access: Arc<Access>,
}

impl TokenLife {
    /// Whether the token still lets its caller in: it has not expired, nobody withdrew it, and its key is not gone from its
    /// issuer's set. A few loads from memory.
    pub fn holds(&self) -> bool {
        let has_key = self.access.foreign.as_ref().is_none_or(|life| !life.key.has_ended());
        has_key && self.verifier.now() < self.access.expires_at && !self.verifier.revocations().covers(&self.access)
    }

    /// Resolves when it does so no more.
    pub async fn ended(self) {
        loop {
            let changed = self.verifier.revocations().changes().notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if !self.holds() {
                return;
            }
            let left = self.access.expires_at.micros_since(self.verifier.now());
            let left = Duration::from_micros(u64::try_from(left).unwrap_or(0)).min(MOST);
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}
