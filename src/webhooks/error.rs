//! What can go wrong with webhooks.

use crate::{identity, kernel::WebhookId, store::StoreError};

/// An error of the webhooks service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such webhook within the caller's reach.
    #[error("there is no webhook {0}")]
    Unknown(WebhookId),
    /// The webhook was never to be told of such an event, or it is forgotten.
    #[error("there is no event {event} for the webhook {webhook}")]
    UnknownEvent {
        /// Which webhook.
        webhook: WebhookId,
        /// Which event.
        event: String,
    },
    /// The address is not one that is called.
    #[error("{0}")]
    Url(super::rules::UrlFault),
    /// There are as many as one may have.
    #[error("there are {0} webhooks, and there may be no more")]
    TooMany(i64),
    /// So many secrets are in force that another would make the header too long.
    #[error("{0} secrets sign already; let the old ones go with \"keep_old_s\": 0")]
    TooManySecrets(usize),
    /// Nothing goes to a webhook that is off.
    #[error("the webhook {0} is switched off; switch it on first")]
    Off(WebhookId),
    /// Its secret does not open.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The store failed.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}
