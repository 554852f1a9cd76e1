//! `[webhooks]`: whom we call because somebody gave us their address.

use super::read::Reader;
use crate::outbound::Reach;

/// `[webhooks]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Whether addresses in loopback and private ranges may be called.
    pub allow_private: bool,
}

impl WebhookSettings {
    /// Whom that lets us call.
    pub const fn reach(self) -> Reach {
        if self.allow_private { Reach::Private } else { Reach::Public }
    }

    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        Some(Self { allow_private: reader.switch("webhooks.allow_private", false)? })
    }
}
