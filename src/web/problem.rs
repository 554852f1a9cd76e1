//! How each feature's errors look from outside. This file alone turns errors into problems, by `match` without `_`: a
//! new variant needs a status and a documented kind before it compiles.

use super::{instance::Parts, kinds::Kind};
use crate::{provisioning, store::StoreError, tenants, users};

/// An RFC 9457 problem document in the making.
#[derive(Debug)]
pub struct Problem(pub(super) Box<Parts>);

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Duplicate => Self::new(Kind::CONFLICT, "this exists already").caused_by(error),
            StoreError::Database(_) => Self::new(Kind::UNAVAILABLE, "the store did not answer; nothing was changed")
                .retry_after(1)
                .caused_by(error),
            StoreError::Corrupt(_) | StoreError::Newer { .. } | StoreError::Address(_) | StoreError::OutOfScope => {
                Self::internal(error)
            }
        }
    }
}

impl From<tenants::Error> for Problem {
    fn from(error: tenants::Error) -> Self {
        use tenants::Error;
        let text = error.to_string();
        match error {
            Error::Unknown(_) => Self::new(Kind::NOT_FOUND, text),
            Error::WrongState { .. } | Error::NameTaken(_) | Error::ExternalIdTaken(_) => {
                Self::new(Kind::CONFLICT, text)
            }
            Error::UnknownTier(_) => Self::invalid_field("tier", text),
            Error::Store(error) => error.into(),
        }
    }
}

impl From<users::Error> for Problem {
    fn from(error: users::Error) -> Self {
        use users::Error;
        let text = error.to_string();
        match error {
            Error::Unknown(_) | Error::UnknownTenant(_) => Self::new(Kind::NOT_FOUND, text),
            Error::EmailElsewhere | Error::EmailOfAdministrator | Error::AlreadyMember(_) | Error::LastOwner(_) => {
                Self::new(Kind::CONFLICT, text)
            }
            Error::Store(error) => error.into(),
        }
    }
}

impl From<provisioning::Error> for Problem {
    fn from(error: provisioning::Error) -> Self {
        use provisioning::Error;
        match error {
            Error::None(_) => Self::new(Kind::NOT_FOUND, error.to_string()),
            Error::Driver { .. } => Self::new(Kind::UNAVAILABLE, error.to_string()).retry_after(5).caused_by(error),
            Error::ForeignDriver { .. } => Self::new(Kind::CONFLICT, error.to_string()),
            Error::Store(error) => error.into(),
        }
    }
}
