//! `[webhooks]`: whom we call because somebody gave us their address, and for how long.

use super::read::Reader;
use crate::{outbound::Reach, webhooks::WebhooksConfig};

/// An address that fails for so many hours is switched off: five days.
const DISABLE_AFTER_H: i64 = 120;
/// Events and tries are kept for so many days.
const RETENTION_DAYS: i64 = 30;

/// `[webhooks]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Whether addresses in loopback and private ranges may be called, and addresses without TLS.
    pub allow_private: bool,
    /// After so many hours in which nothing succeeded an address is switched off.
    pub disable_after_h: i64,
    /// So many days events and tries are kept.
    pub retention_days: i64,
}

impl WebhookSettings {
    /// Whom that lets us call.
    pub const fn reach(self) -> Reach {
        if self.allow_private { Reach::Private } else { Reach::Public }
    }

    /// How the service is set up.
    pub const fn config(self) -> WebhooksConfig {
        WebhooksConfig {
            allow_private: self.allow_private,
            disable_after_s: self.disable_after_h * 3_600,
            retention_s: self.retention_days * 86_400,
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let allow_private = reader.switch("webhooks.allow_private", false);
        let disable_after_h = reader.number("webhooks.disable_after_h", DISABLE_AFTER_H, 1, 8_760);
        let retention_days = reader.number("webhooks.retention_days", RETENTION_DAYS, 1, 3_650);
        Some(Self { allow_private: allow_private?, disable_after_h: disable_after_h?, retention_days: retention_days? })
    }
}
