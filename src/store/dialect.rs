//! The little that `SQLite` and `PostgreSQL` do differently: the types of columns and how values travel.
//!
//! | word in a migration | `SQLite` (STRICT tables) | `PostgreSQL` |
//! |---|---|---|
//! | `{uuid}` | `BLOB`, 16 bytes | `UUID` |
//! | `{time}` | `INTEGER`, microseconds since 1970 | `TIMESTAMPTZ` |
//! | `{decimal}` | `TEXT`, shortest exact form | `NUMERIC` |
//! | `{bytes}` | `BLOB` | `BYTEA` |
//! | `{int}` | `INTEGER` | `BIGINT` |
//! | `{bool}` | `INTEGER` | `BOOLEAN` |
//! | `{clustered}` | rows lie in the tree of the primary key | nothing |
//! | `{false}` | `0` | `FALSE` |
//!
//! What only one engine understands stands between the lines `-- only sqlite` or `-- only postgres` and `-- both`.
//!
//! Queries are written once, with `$1` placeholders, which both engines take; only the long lists of [`Engine::tuples`]
//! differ. They stay within what both do alike: `ON CONFLICT`, `RETURNING`, partial indexes, row values.

use std::fmt::Write as _;

use sqlx::{
    Decode, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo, PgValueFormat, PgValueRef},
};

use crate::kernel::Timestamp;

/// Which database answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The embedded store.
    Sqlite,
    /// A `PostgreSQL` server.
    Postgres,
}

impl Engine {
    /// Puts the engine's column types into a migration.
    pub(super) fn ddl(self, migration: &str) -> String {
        let words: [(&str, &str); 9] = match self {
            Self::Sqlite => [
                ("{uuid}", "BLOB"),
                ("{time}", "INTEGER"),
                ("{decimal}", "TEXT"),
                ("{bytes}", "BLOB"),
                ("{int}", "INTEGER"),
                ("{bool}", "INTEGER"),
                ("{strict}", "STRICT"),
                ("{clustered}", "STRICT, WITHOUT ROWID"),
                ("{false}", "0"),
            ],
            Self::Postgres => [
                ("{uuid}", "UUID"),
                ("{time}", "TIMESTAMPTZ"),
                ("{decimal}", "NUMERIC"),
                ("{bytes}", "BYTEA"),
                ("{int}", "BIGINT"),
                ("{bool}", "BOOLEAN"),
                ("{strict}", ""),
                ("{clustered}", ""),
                ("{false}", "FALSE"),
            ],
        };
        words.into_iter().fold(self.own_lines(migration), |text, (word, column_type)| text.replace(word, column_type))
    }

    /// A migration without what is for the other engine alone.
    fn own_lines(self, migration: &str) -> String {
        let other = match self {
            Self::Sqlite => "-- only postgres",
            Self::Postgres => "-- only sqlite",
        };
        let mut own = String::with_capacity(migration.len());
        let mut skips = false;
        for line in migration.split_inclusive('\n') {
            match line.trim_end() {
                "-- both" | "-- only sqlite" | "-- only postgres" => skips = line.trim_end() == other,
                _ if skips => {}
                _ => own.push_str(line),
            }
        }
        own
    }

    /// What makes a `SELECT` hold its rows as they are until the transaction ends, for readers beside each other. On
    /// `SQLite` a transaction that may write has no other beside it.
    pub(super) const fn for_share(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR SHARE",
        }
    }

    /// What makes a `SELECT` hold its rows against others who write, in the order in which it gives them. On `SQLite` a
    /// transaction that may write has no other beside it.
    pub(super) const fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// `($1, $2), ($3, $4)`: placeholders of so many rows of so many columns. They take the statement's first parameters,
    /// in order, and nothing before them may be bound.
    ///
    /// On `SQLite` they are `(?, ?), (?, ?)`: there `$1` is a name, and parsing and binding look each name up in a list from
    /// its start, which is quadratic (measured, `benches/gateway_load.rs`: a third of the server's CPU).
    pub(super) fn tuples(self, rows: usize, columns: usize) -> String {
        let mut sql = String::new();
        for row in 0..rows {
            sql.push_str(if row == 0 { "(" } else { ", (" });
            for column in 0..columns {
                sql.push_str(if column == 0 { "" } else { ", " });
                match self {
                    Self::Sqlite => sql.push('?'),
                    // Writing to a String cannot fail.
                    Self::Postgres => drop(write!(sql, "${}", row * columns + column + 1)),
                }
            }
            sql.push(')');
        }
        sql
    }
}

/// The lengths of the lists that a long list is sent in: powers of two, so that a few statements stay prepared whatever the
/// lengths are.
pub(super) fn pieces<T>(rows: &[T], most: usize) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let length = (1_usize << rest.len().checked_ilog2()?).min(most);
        let (piece, others) = rest.split_at(length);
        rest = others;
        Some(piece)
    })
}

/// A timestamp as `PostgreSQL`'s wire knows it: microseconds since 2000-01-01T00:00:00Z
/// (`PostgreSQL` documentation, "Date/Time Types").
pub(super) struct PgTime(pub(super) Timestamp);

/// 2000-01-01T00:00:00Z in microseconds since 1970.
const PG_EPOCH_MICROS: i64 = 946_684_800_000_000;

impl Type<Postgres> for PgTime {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("TIMESTAMPTZ")
    }
}

impl Encode<'_, Postgres> for PgTime {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<Postgres>>::encode(self.0.as_micros() - PG_EPOCH_MICROS, buffer)
    }
}

impl<'r> Decode<'r, Postgres> for PgTime {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        if value.format() == PgValueFormat::Text {
            return Err("a timestamp in text format".into());
        }
        let micros = <i64 as Decode<Postgres>>::decode(value)?.checked_add(PG_EPOCH_MICROS);
        micros
            .and_then(Timestamp::from_micros)
            .map(Self)
            .ok_or_else(|| "a timestamp outside the years 1 to 9998".into())
    }
}
