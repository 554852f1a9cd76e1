//! What can go wrong with billing.

use crate::{
    kernel::{CouponId, CreditNoteId, Currency, Fault, InvoiceId, MoneyError, TenantId, TierName},
    metering,
    store::StoreError,
};

/// An error of the billing service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tenant is not known, or has no billing account: nothing can be billed to it.
    #[error("tenant {0} has no billing account")]
    NoAccount(TenantId),
    /// The account has no period that begins in a month.
    #[error("no billing period of this tenant begins in {0}")]
    NoPeriod(String),
    /// No plan has this tier.
    #[error("there is no plan for the tier {0}")]
    UnknownTier(TierName),
    /// A tenant owes in one currency.
    #[error("the plan of {tier} is in {plan}, and this tenant owes in {account}")]
    OtherCurrency {
        /// The tier.
        tier: TierName,
        /// Its plan's currency.
        plan: Currency,
        /// The account's.
        account: Currency,
    },
    /// A plan or a rating request is not one.
    #[error("{} fields were refused", .0.len())]
    Invalid(Vec<Fault>),
    /// An amount cannot be worked out exactly.
    #[error("the amount cannot be worked out")]
    Rating(#[from] super::rules::RatingError),
    /// An amount cannot be formed.
    #[error("the amount cannot be formed")]
    Money(#[from] MoneyError),
    /// No such invoice, or one of somebody else.
    #[error("there is no invoice {0}")]
    UnknownInvoice(InvoiceId),
    /// No such credit note, or one of somebody else.
    #[error("there is no credit note {0}")]
    UnknownCreditNote(CreditNoteId),
    /// No such coupon, or one of somebody else.
    #[error("there is no coupon {0}")]
    UnknownCoupon(CouponId),
    /// No such line.
    #[error("invoice {0} has no line {1}")]
    UnknownLine(InvoiceId, usize),
    /// Its state does not allow it.
    #[error("invoice {id} is {status} and cannot {verb}")]
    InvoiceState {
        /// The invoice.
        id: InvoiceId,
        /// Its state's name.
        status: &'static str,
        /// What was asked for.
        verb: &'static str,
    },
    /// Invoices of a tenant are issued in order.
    #[error("invoice {id} cannot be issued before {earlier}, whose period is earlier")]
    EarlierDraft {
        /// The invoice.
        id: InvoiceId,
        /// The draft before it.
        earlier: InvoiceId,
    },
    /// The reference is that of another payment.
    #[error("there is a payment of another amount with the reference {0}")]
    ReferenceTaken(String),
    /// There is no room for another.
    #[error("a tenant has at most {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        most: usize,
    },
    /// Others changed what the tenant owes, again and again.
    #[error("what this tenant owes is being changed by others")]
    Contended,
    /// The server ends before it is done.
    #[error("the server stops")]
    Stopped,
    /// The usage could not be read.
    #[error("the usage could not be read")]
    Usage(#[from] metering::Error),
    /// The store failed.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}
