//! How kernel values become bound parameters and columns come back, on either engine.

use rust_decimal::Decimal;
use sqlx::{Arguments, Row as _, postgres::PgArguments, postgres::PgRow, sqlite::SqliteArguments, sqlite::SqliteRow};
use uuid::Uuid;

use super::{StoreError, dialect::PgTime};
use crate::kernel::{
    BillingAccountId, BrowserId, ClientId, CouponId, CreditId, CreditNoteId, EventId, InfrastructureId, InitialTokenId,
    InvitationId, InvoiceId, MeterId, NodeId, PaymentId, Quantity, RegistrationId, SessionId, TenantId, TierChangeId,
    Timestamp, UserId, WebhookId,
};

/// Bound parameters of one statement.
pub(super) enum Args {
    Sqlite(SqliteArguments),
    Postgres(PgArguments),
}

impl Args {
    fn add<'t, S, P>(&mut self, sqlite: S, postgres: P) -> Result<(), StoreError>
    where
        S: sqlx::Encode<'t, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
        P: sqlx::Encode<'t, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        match self {
            Self::Sqlite(args) => args.add(sqlite),
            Self::Postgres(args) => args.add(postgres),
        }
        .map_err(|error| StoreError::Database(sqlx::Error::Encode(error)))
    }
}

/// A value that can be bound.
pub(super) trait Bind {
    fn bind(self, args: &mut Args) -> Result<(), StoreError>;
}

/// One row of an answer.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// The column `name`, in the type the caller wants.
    pub(super) fn get<T: Column>(&self, name: &str) -> Result<T, StoreError> {
        T::column(self, name)
    }

    /// A text column whose content is the text form of `T`: a state, a tier.
    pub(super) fn parse<T: std::str::FromStr>(&self, name: &str) -> Result<T, StoreError> {
        let text: String = self.get(name)?;
        text.parse().map_err(|_| StoreError::Corrupt(format!("{name}: {text:?}")))
    }

    /// A text column that holds JSON.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        let text: String = self.get(name)?;
        serde_json::from_str(&text).map_err(|error| StoreError::Corrupt(format!("{name}: {error}")))
    }
}

/// A value that a column can hold.
pub(super) trait Column: Sized {
    fn column(row: &Row, name: &str) -> Result<Self, StoreError>;
}

macro_rules! same_on_both {
    ($($type:ty),*) => {$(
        impl Bind for $type {
            fn bind(self, args: &mut Args) -> Result<(), StoreError> {
                match args {
                    Args::Sqlite(args) => args.add(self),
                    Args::Postgres(args) => args.add(self),
                }
                .map_err(|error| StoreError::Database(sqlx::Error::Encode(error)))
            }
        }
        impl Column for $type {
            fn column(row: &Row, name: &str) -> Result<Self, StoreError> {
                Ok(match row {
                    Row::Sqlite(row) => row.try_get(name)?,
                    Row::Postgres(row) => row.try_get(name)?,
                })
            }
        }
    )*};
}
same_on_both!(
    i64,
    bool,
    String,
    Uuid,
    Vec<u8>,
    Option<i64>,
    Option<bool>,
    Option<String>,
    Option<Uuid>,
    Option<Vec<u8>>
);

impl Bind for &str {
    fn bind(self, args: &mut Args) -> Result<(), StoreError> {
        args.add(self, self)
    }
}

impl Bind for Option<&str> {
    fn bind(self, args: &mut Args) -> Result<(), StoreError> {
        self.map(str::to_owned).bind(args)
    }
}

impl Bind for &[u8] {
    fn bind(self, args: &mut Args) -> Result<(), StoreError> {
        args.add(self, self)
    }
}

macro_rules! ids {
    ($($type:ty),*) => {$(
        impl Bind for $type {
            fn bind(self, args: &mut Args) -> Result<(), StoreError> {
                self.as_uuid().bind(args)
            }
        }
        impl Bind for Option<$type> {
            fn bind(self, args: &mut Args) -> Result<(), StoreError> {
                self.map(<$type>::as_uuid).bind(args)
            }
        }
        impl Column for $type {
            fn column(row: &Row, name: &str) -> Result<Self, StoreError> {
                Uuid::column(row, name).map(<$type>::from_uuid)
            }
        }
        impl Column for Option<$type> {
            fn column(row: &Row, name: &str) -> Result<Self, StoreError> {
                Ok(Option::<Uuid>::column(row, name)?.map(<$type>::from_uuid))
            }
        }
    )*};
}
ids!(
    TenantId,
    UserId,
    RegistrationId,
    TierChangeId,
    BillingAccountId,
    InfrastructureId,
    SessionId,
    ClientId,
    NodeId,
    MeterId,
    BrowserId,
    InitialTokenId,
    InvitationId,
    EventId,
    WebhookId,
    InvoiceId,
    CreditNoteId,
    PaymentId,
    CreditId,
    CouponId
);

impl Bind for Option<Quantity> {
    fn bind(self, args: &mut Args) -> Result<(), StoreError> {
        args.add(self.map(|quantity| quantity.to_string()), self.map(Quantity::as_decimal))
    }
}

impl Column for Option<Quantity> {
    fn column(row: &Row, name: &str) -> Result<Self, StoreError> {
        match row {
            Row::Sqlite(row) => row
                .try_get::<Option<String>, _>(name)?
                .map(|text| text.parse().map_err(|_| StoreError::Corrupt(format!("{name}: {text:?}"))))
                .transpose(),
            Row::Postgres(row) => Ok(row.try_get::<Option<Decimal>, _>(name)?.map(Quantity::new)),
        }
    }
}

impl Bind for Timestamp {
    fn bind(self, args: &mut Args) -> Result<(), StoreError> {
        args.add(self.as_micros(), PgTime(self))
    }
}

impl Bind for Option<Timestamp> {
    fn bind(self, args: &mut Args) -> Result<(), StoreError> {
        args.add(self.map(Timestamp::as_micros), self.map(PgTime))
    }
}

impl Column for Option<Timestamp> {
    fn column(row: &Row, name: &str) -> Result<Self, StoreError> {
        match row {
            Row::Sqlite(row) => row
                .try_get::<Option<i64>, _>(name)?
                .map(|micros| {
                    Timestamp::from_micros(micros).ok_or_else(|| StoreError::Corrupt(format!("{name}: {micros}")))
                })
                .transpose(),
            Row::Postgres(row) => Ok(row.try_get::<Option<PgTime>, _>(name)?.map(|time| time.0)),
        }
    }
}

impl Column for Timestamp {
    fn column(row: &Row, name: &str) -> Result<Self, StoreError> {
        Option::<Self>::column(row, name)?.ok_or_else(|| StoreError::Corrupt(format!("{name}: no time")))
    }
}

impl Bind for Quantity {
    fn bind(self, args: &mut Args) -> Result<(), StoreError> {
        args.add(self.to_string(), self.as_decimal())
    }
}

impl Column for Quantity {
    fn column(row: &Row, name: &str) -> Result<Self, StoreError> {
        match row {
            Row::Sqlite(row) => {
                let text: String = row.try_get(name)?;
                text.parse().map_err(|_| StoreError::Corrupt(format!("{name}: {text:?}")))
            }
            Row::Postgres(row) => Ok(Self::new(row.try_get::<Decimal, _>(name)?)),
        }
    }
}
