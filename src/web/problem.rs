//! How each feature's errors look from outside. This file alone turns errors into problems, by `match` without `_`: a
//! new variant needs a status and a documented kind before it compiles.

use axum::http::HeaderValue;
use serde_json::json;

use super::{instance::Parts, kinds::Kind};
use crate::{
    billing, identity, mail, metering, onboarding, provisioning, store::StoreError, stripe, tenants, users, webhooks,
};

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
            StoreError::Corrupt(_)
            | StoreError::Newer { .. }
            | StoreError::Older { .. }
            | StoreError::Address(_)
            | StoreError::OutOfScope => Self::internal(error),
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
            Error::ForeignDriver { .. }
            | Error::CannotMove { .. }
            | Error::PlaceKept(..)
            | Error::InUse(_)
            | Error::NoCredentials(_)
            | Error::CredentialsRead(_)
            | Error::NotMade(_) => Self::new(Kind::CONFLICT, error.to_string()),
            Error::Full { .. } => Self::new(Kind::UNAVAILABLE, error.to_string()),
            Error::Callback => Self::new(Kind::UNAUTHENTICATED, error.to_string()),
            Error::CallbackBody(detail) => Self::new(Kind::MALFORMED, detail),
            Error::Tenants(error) => error.into(),
            Error::Identity(error) => error.into(),
            Error::Store(error) => error.into(),
        }
    }
}

impl From<identity::Error> for Problem {
    fn from(error: identity::Error) -> Self {
        use identity::Error;
        let text = error.to_string();
        match error {
            Error::WrongCredentials | Error::UnauthorizedClient(_) | Error::InvalidClient => {
                Self::new(Kind::WRONG_CREDENTIALS, text)
                    .header(axum::http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tollgate\""))
            }
            Error::ChooseTenant(tenants) => {
                let tenants = tenants.iter().map(|(id, name)| json!({"tenant_id": id, "customer_name": name}));
                Self::new(Kind::CHOOSE_TENANT, text).member("tenants", tenants.collect())
            }
            Error::TenantNotActive(_) => Self::new(Kind::TENANT_NOT_ACTIVE, text),
            Error::TooManyTries { retry_after_s } => Self::new(Kind::TOO_MANY_TRIES, text).retry_after(retry_after_s),
            Error::FactorNeeded { .. } => Self::new(Kind::SECOND_FACTOR, text)
                .header(axum::http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tollgate\"")),
            Error::WrongFactor => Self::new(Kind::WRONG_SECOND_FACTOR, text)
                .header(axum::http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tollgate\"")),
            Error::InvalidLink => Self::new(Kind::INVALID_LINK, text),
            Error::SharedUser => Self::new(Kind::CONFLICT, text),
            Error::WeakPassword(why) => Self::invalid_field("password", why),
            Error::InvalidGrant(_) | Error::InvalidInitialToken | Error::Waiting(_) => {
                Self::new(Kind::UNAUTHENTICATED, text)
            }
            Error::InvalidRequest(_) => Self::new(Kind::MALFORMED, text),
            Error::Disabled | Error::InvalidTarget(_) | Error::TooManyGuesses => Self::new(Kind::FORBIDDEN, text),
            Error::InvalidScope(_) | Error::MalformedScope => Self::invalid_field("scope", text),
            Error::UnknownClient(_)
            | Error::UnknownTenant(_)
            | Error::UnknownSession(_)
            | Error::UnknownBrowser(_)
            | Error::UnknownInitialToken(_) => Self::new(Kind::NOT_FOUND, text),
            Error::KeyFile { .. } | Error::Key(_) | Error::Stopped => Self::internal(error),
            Error::Store(error) => error.into(),
        }
    }
}

impl From<mail::Error> for Problem {
    fn from(error: mail::Error) -> Self {
        use mail::Error;
        match error {
            Error::SetUp(_) | Error::Letter(_) | Error::Folder(_) | Error::Server(_) => Self::internal(error),
            Error::Store(error) => error.into(),
        }
    }
}

impl From<webhooks::Error> for Problem {
    fn from(error: webhooks::Error) -> Self {
        use webhooks::Error;
        let text = error.to_string();
        match error {
            Error::Unknown(_) | Error::UnknownEvent { .. } => Self::new(Kind::NOT_FOUND, text),
            Error::Url(_) => Self::invalid_field("url", text),
            Error::TooMany(_) | Error::TooManySecrets(_) | Error::Off(_) => Self::new(Kind::CONFLICT, text),
            Error::Identity(error) => error.into(),
            Error::Store(error) => error.into(),
        }
    }
}

impl From<metering::Error> for Problem {
    fn from(error: metering::Error) -> Self {
        use metering::Error;
        let text = error.to_string();
        match error {
            Error::UnknownMeter(_) => Self::invalid_field("meter", text),
            Error::TooManyWindows(_) => Self::invalid_field("window", text),
            Error::UnknownGroupKey { .. } => Self::invalid_field("group_by", text),
            Error::MeterTaken(_)
            | Error::StockMeter(_)
            | Error::RoutedMeter(_)
            | Error::PricedMeter(_)
            | Error::MetersDiffer(_)
            | Error::AmbiguousEvent(..)
            | Error::AlreadyVoid(_)
            | Error::Inexact { .. } => Self::new(Kind::CONFLICT, text),
            Error::UnknownSubject { field, subject } => {
                Self::bad_field(&field, format!("there is no tenant {subject}"))
            }
            Error::Unreadable { field, source } => Self::bad_field(&field, source.to_string()),
            Error::ForeignSubject(_) | Error::Takes { .. } => Self::new(Kind::FORBIDDEN, text),
            Error::Conflict(conflict) => {
                let hex = |digest: &[u8]| blake3::Hash::from_slice(digest).map(|hash| hash.to_hex().to_string()).ok();
                Self::new(Kind::CONFLICT, text)
                    .member("index", conflict.index.into())
                    .member("event_id", conflict.id.into())
                    .member("kept_digest", hex(&conflict.kept).into())
                    .member("sent_digest", hex(&conflict.sent).into())
            }
            Error::UnknownTenant(_) | Error::UnknownEvent(_) => Self::new(Kind::NOT_FOUND, text),
            Error::Amendment(faults) => Self::invalid(&faults),
            Error::CursorMoved | Error::MetersChanged | Error::Gap { .. } | Error::Journal(_) => {
                Self::new(Kind::UNAVAILABLE, "usage is recorded but cannot be counted now")
                    .retry_after(1)
                    .caused_by(error)
            }
            Error::Crowded => Self::new(Kind::UNAVAILABLE, text).retry_after(1),
            Error::TryAgain => Self::new(Kind::UNAVAILABLE, "the events were not taken; send them again")
                .retry_after(1)
                .caused_by(error),
            Error::Stopped | Error::NamelessMeter(_) | Error::UnroutableMeter(..) => Self::internal(error),
            Error::Store(error) => error.into(),
        }
    }
}

impl From<billing::Error> for Problem {
    fn from(error: billing::Error) -> Self {
        use billing::Error;
        let text = error.to_string();
        match error {
            Error::UnknownTier(_) => Self::invalid_field("tier", text),
            Error::Invalid(faults) => Self::invalid(&faults),
            Error::Rating(error) => Self::invalid_field("usage", error),
            Error::NoAccount(_)
            | Error::NoPeriod(_)
            | Error::UnknownInvoice(_)
            | Error::UnknownCreditNote(_)
            | Error::UnknownCoupon(_)
            | Error::UnknownLine(..) => Self::new(Kind::NOT_FOUND, text),
            Error::InvoiceState { .. }
            | Error::EarlierDraft { .. }
            | Error::OtherCurrency { .. }
            | Error::ReferenceTaken(_)
            | Error::TooMany { .. }
            | Error::Money(_) => Self::new(Kind::CONFLICT, text),
            Error::Contended | Error::Stopped => Self::new(Kind::UNAVAILABLE, text).retry_after(1),
            Error::Usage(error) => error.into(),
            Error::Store(error) => error.into(),
        }
    }
}

impl From<stripe::Error> for Problem {
    fn from(error: stripe::Error) -> Self {
        use stripe::Error;
        let text = error.to_string();
        match error {
            Error::Off("Stripe") | Error::NothingParked(_) => Self::new(Kind::CONFLICT, text),
            Error::Off(_) | Error::UnknownInvoice(_) => Self::new(Kind::NOT_FOUND, text),
            Error::Signature(_) | Error::Malformed(_) => Self::new(Kind::MALFORMED, text),
            Error::Meter(_) => Self::internal(error),
            Error::Billing(error) => error.into(),
            Error::Onboarding(error) => error.into(),
            Error::Metering(error) => error.into(),
            Error::Store(error) => error.into(),
        }
    }
}

impl From<onboarding::Error> for Problem {
    fn from(error: onboarding::Error) -> Self {
        use onboarding::Error;
        let text = error.to_string();
        match error {
            Error::Unknown(_)
            | Error::UnknownInvitation(_)
            | Error::UnknownChange(_)
            | Error::NotLeaving(_)
            | Error::NotErased(_) => Self::new(Kind::NOT_FOUND, text),
            Error::NothingLeft(_) | Error::LeftToAnother(_) | Error::UnderWay(_) | Error::NotGone(_) => {
                Self::new(Kind::CONFLICT, text)
            }
            Error::ExportGone(_) => Self::new(Kind::GONE, text),
            Error::UnknownTier(_) => Self::invalid_field("tier", text),
            Error::NameTaken(_)
            | Error::EmailTaken
            | Error::NothingToRetry { .. }
            | Error::Lost(_)
            | Error::ChangeUnderWay { .. }
            | Error::LostChange(_)
            | Error::NotQuiet { .. }
            | Error::NothingKept(_)
            | Error::StillThere { .. }
            | Error::Rigged { lasting: true, .. } => Self::new(Kind::CONFLICT, text),
            Error::Rigged { lasting: false, .. } => Self::new(Kind::UNAVAILABLE, text),
            Error::Domain { .. } => Self::invalid_field("allowed_domains", text),
            Error::NoIntent(_) | Error::NobodyReads | Error::Packing(_) | Error::Unsigned(_) => Self::internal(error),
            Error::SignUpClosed | Error::TierClosed(_) => Self::new(Kind::FORBIDDEN, text),
            Error::Tenants(error) => error.into(),
            Error::Users(error) => error.into(),
            Error::Identity(error) => error.into(),
            Error::Billing(error) => error.into(),
            Error::Provisioning(error) => error.into(),
            Error::Store(error) => error.into(),
        }
    }
}
