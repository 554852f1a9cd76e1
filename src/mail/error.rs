//! What can go wrong with mail.

use std::io;

use crate::store::StoreError;

/// An error of the mail service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sender's address, or the server's, cannot be used.
    #[error("mail cannot be set up: {0}")]
    SetUp(String),
    /// The letter cannot be written as a message at all.
    #[error("the letter cannot be written: {0}")]
    Letter(String),
    /// The folder does not take it.
    #[error("the mail folder cannot be written")]
    Folder(#[from] io::Error),
    /// The server does not take it.
    #[error("the mail server did not take it: {0}")]
    Server(String),
    /// The store failed.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}
