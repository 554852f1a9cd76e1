//! Billing: plans and what they entitle to, rating, billing accounts, what a tenant owes for a period, and its invoices.
//!
//! Invariants: a tenant has at most one billing account; a plan is never changed, a new version takes its place from
//! a stated time on; an amount is exact until its line is rounded, once; a bill can be worked out again from the
//! usage totals, the tiers a tenant had and the versions of their plans, and comes out the same. A period has one invoice that
//! holds; an issued one never changes, its number is one more than that of the one before, and what was metered is on invoices
//! once, still to be billed, or was voided.
//!
//! Not here: counting (`metering`), which tier a tenant has (`tenants`), and what becomes of one that does not pay (`onboarding`).

pub mod address;
mod amounts;
mod arithmetic;
pub mod audit;
mod books;
pub mod cadence;
pub mod cadence_wire;
mod charges;
mod closing;
mod costs;
mod costs_http;
mod credit_note_http;
mod credit_printing;
mod entitlements;
pub mod error;
mod everybody;
mod everybody_http;
pub mod evidence;
mod explaining;
pub mod export;
mod exporting;
mod form_http;
pub mod forms;
pub mod http;
pub mod invoice;
mod invoice_audit;
pub mod invoice_document;
mod invoice_http;
mod invoice_views;
mod invoicing;
mod leaving;
mod limits;
mod margin;
mod margin_http;
pub mod model;
pub mod periods;
pub mod plan;
mod printing;
mod printing_lines;
pub mod recompute;
pub mod rules;
mod running;
pub mod schedule;
mod sealing;
mod service;
mod settling;
mod shares;
mod source;
pub mod span_bill;
pub mod span_evidence;
mod spans;
pub mod terms;
mod terms_http;
mod tier_split;
mod transactions;
mod views;
mod what_if;
mod what_if_http;
pub mod wire;

pub use address::{AddressBody, BillingAddress};
pub use entitlements::{Entitlement, EntitlementQuery, Metered};
pub use error::Error;
pub use export::Export;
pub use invoice::{BillingConfig, CreditedLine, Invoice, InvoiceState, OverduePolicy, Proration};
pub use invoice_audit::Balance;
pub use invoice_document::{InvoiceDocument, InvoiceLineBody, InvoiceSeller};
pub use invoice_views::{CreditNoteView, InvoiceView, PaymentView};
pub use limits::{Limited, Limits};
pub use model::{Account, Bill, Plan, Quota, QuotaMode, RateLimit};
pub use plan::{parse_plans, stock_plans};
pub use service::{Billing, Effective};
pub use settling::{Credited, NewCreditNote, NewPayment, Paid, Settlement};
pub use source::UsageSource;
pub use spans::{Catalogue, PlanVersion, Span};
pub use tier_split::{TierPart, TierSplit};
