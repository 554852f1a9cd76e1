//! An exported invoice: the document, what it was worked out from, and the hashes that hold it in its place. The format is
//! described in `docs/verify-invoices.md`, so that somebody else can write what checks it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::invoice::{Invoice, Issue};
use crate::kernel::{Digest, InvoiceId, NotCanonical, TenantId, Timestamp};

/// What the file is, and of which version.
pub const FORMAT: &str = "tollgate-invoice/1";
/// The purposes of its hashes.
const SEAL: &str = "tollgate-invoice-seal/1";
const PLAN: &str = "tollgate-plan/1";
const MARK: &str = "tollgate-journal-mark/1";
const FILE: &str = "tollgate-invoice-file/1";

/// An exported invoice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// `tollgate-invoice/1`.
    pub format: String,
    /// When it was made.
    pub exported_at: Timestamp,
    /// What had become of the invoice by then: `finalized`, `overdue`, `paid` or `void`.
    pub status: String,
    /// What was issued.
    pub invoice: ExportedInvoice,
    /// What it was worked out from (`Evidence`); `null` for an invoice that was issued before that was kept.
    #[schema(value_type = Option<super::evidence::Evidence>)]
    pub evidence: Option<Value>,
    /// The plans that the evidence names, as they were kept.
    pub plans: Vec<ExportedPlan>,
    /// The marks of the journals after that of the tenant's invoice before, up to that of the evidence.
    pub chain: Vec<Mark>,
    /// The hash that holds the invoice in its series; `null` like the evidence.
    pub seal: Option<Seal>,
    /// Who says so.
    pub signature: Signature,
}

/// What was issued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportedInvoice {
    /// The invoice's id.
    pub invoice_id: InvoiceId,
    /// Whose.
    pub tenant_id: TenantId,
    /// Who issued it.
    pub entity: String,
    /// Its place in the entity's series.
    pub serial: i64,
    /// The same as it is written.
    pub number: String,
    /// When.
    pub issued_at: Timestamp,
    /// By when it is to be paid.
    pub due_at: Timestamp,
    /// All that it says.
    #[schema(value_type = super::invoice_document::InvoiceDocument)]
    pub document: Value,
}

/// A version of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportedPlan {
    /// The tier.
    pub tier: String,
    /// The version.
    pub version: u32,
    /// The plan.
    #[schema(value_type = super::plan::PlanBody)]
    pub body: Value,
}

/// Where journals stood: those that had moved since the mark before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Counts up from 1.
    pub serial: i64,
    /// When.
    pub marked_at: Timestamp,
    /// The hash of the mark before; `null` for the first.
    #[schema(value_type = Option<String>)]
    pub before: Option<Digest>,
    /// The journals.
    pub journals: Vec<JournalPosition>,
    /// The hash of all that.
    #[schema(value_type = String)]
    pub hash: Digest,
}

/// How far a journal was counted. How many frames that are is not said: it is how many calls all tenants together made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JournalPosition {
    /// The process that wrote it.
    #[schema(value_type = String)]
    pub journal: uuid::Uuid,
    /// The hash of the last frame that was counted, 32 hexadecimal digits.
    pub hash: String,
}

/// The hash that holds an invoice in its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The seal of the entity's invoice before it; `null` when that has none, or there is none.
    #[schema(value_type = Option<String>)]
    pub previous: Option<Digest>,
    /// Of that, the invoice and the evidence.
    #[schema(value_type = String)]
    pub seal: Digest,
}

/// A signature of the whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The key, as the key set has it (RFC 7517).
    #[schema(value_type = Object)]
    pub jwk: Value,
    /// Its thumbprint (RFC 7638), which is its `kid`.
    pub thumbprint: String,
    /// A compact JWS whose payload is `{"digest": …}`, the hash of everything else in the file.
    pub jws: String,
}

/// Why an export is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
    /// It can be read, and has not what is needed to check it.
    #[error("not checked: {0}")]
    Unchecked(String),
    /// Something does not agree.
    #[error("{of}: the file says {said}, but it comes to {found}")]
    Differs {
        /// What.
        of: String,
        /// In the file.
        said: String,
        /// Worked out.
        found: String,
    },
    /// A proof fails.
    #[error("{0}")]
    Wrong(String),
}

impl From<NotCanonical> for Refusal {
    fn from(error: NotCanonical) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl ExportedInvoice {
    /// Of an issued invoice.
    pub fn new(invoice: &Invoice, issue: &Issue, document: Value) -> Self {
        Self {
            invoice_id: invoice.id,
            tenant_id: invoice.tenant_id,
            entity: issue.entity.clone(),
            serial: issue.serial,
            number: issue.number.clone(),
            issued_at: issue.at,
            due_at: issue.due_at,
            document,
        }
    }

    /// The seal of it in its place: the hash of `{"evidence": …, "invoice": …, "previous": …}`.
    pub fn seal(&self, previous: Option<Digest>, evidence: &Value) -> Result<Digest, NotCanonical> {
        Digest::of(SEAL, &json!({"previous": previous, "invoice": self, "evidence": evidence}))
    }
}

/// The hash of a plan, as it is kept.
pub fn plan_digest(body: &Value) -> Result<Digest, NotCanonical> {
    Digest::of(PLAN, body)
}

impl Mark {
    /// A mark with its hash, which is of everything else in it.
    pub fn new(
        serial: i64,
        marked_at: Timestamp,
        before: Option<Digest>,
        journals: Vec<JournalPosition>,
    ) -> Result<Self, NotCanonical> {
        let content = json!({"serial": serial, "marked_at": marked_at, "before": before, "journals": journals});
        let hash = Digest::of(MARK, &content)?;
        Ok(Self { serial, marked_at, before, journals, hash })
    }
}

impl Export {
    /// Says who is going to sign it: that is signed, too.
    pub fn signed_by(&mut self, jwk: Value, thumbprint: String) {
        self.signature = Signature { jwk, thumbprint, jws: String::new() };
    }

    /// What is signed: the hash of everything in the file but the JWS.
    pub fn digest(&self) -> Result<Digest, NotCanonical> {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(signature) = value.get_mut("signature").and_then(Value::as_object_mut) {
            signature.remove("jws");
        }
        Digest::of(FILE, &value)
    }
}
