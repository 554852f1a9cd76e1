//! What can go wrong with a store.

/// An error of the store. Absence is not one: look-ups return `Ok(None)`.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A unique index refused a row.
    #[error("a row with this key exists")]
    Duplicate,
    /// The database did not answer, or answered with an error.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// A stored value is not what was written; the text names the column.
    #[error("stored value cannot be read: {0}")]
    Corrupt(String),
    /// The store was written by a newer version of this program.
    #[error(
        "the store has schema version {found}, this program knows up to {known}: start the newer program, or restore a backup"
    )]
    Newer {
        /// The version in the store.
        found: i64,
        /// The newest version this program has.
        known: i64,
    },
    /// The store was written by an older version of this program, and is only to be looked at.
    #[error(
        "the store has schema version {found}, this program looks at version {known}: start the server once, which brings it \
         up to date, or look with the program that wrote it"
    )]
    Older {
        /// The version in the store.
        found: i64,
        /// The version of this program.
        known: i64,
    },
    /// The address of the database is not one.
    #[error("not a database address: {0}")]
    Address(String),
    /// A transaction was asked for rows outside its scope: a bug of ours.
    #[error("outside the transaction's scope")]
    OutOfScope,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) if database.is_unique_violation() => Self::Duplicate,
            sqlx::Error::ColumnDecode { index, source } => Self::Corrupt(format!("{index}: {source}")),
            other => Self::Database(other),
        }
    }
}
