//! Mail: letters to people, written in the transaction that they are about and sent after it.
//!
//! Invariants: a letter whose transaction was rolled back is never sent; one that was committed is tried until the server
//! has it, for a day; whoever asked for it never waits for the server, and is answered the same whether it is up or down.
//! A process that dies between sending and noting it sends once more: at least once, not exactly once.
//!
//! Not here: what the letters say, which belongs to who sends them.

pub mod error;
pub mod http;
pub mod model;
pub mod rules;
mod service;
mod transport;

pub use error::Error;
pub use model::{Letter, Mailer, OutboxLetter, SmtpServer};
pub use service::Mail;
