//! Issued invoices as files that `tollgate verify-invoice` takes: what billing exports, signed by identity.

use serde_json::json;

use super::error::Error;
use crate::{
    billing::{Billing, Export},
    identity::{INVOICE_TYP, Identity},
    kernel::InvoiceId,
    store::Scope,
};

/// An issued invoice with what it was worked out from, sealed and signed.
pub(super) async fn export(
    billing: &Billing,
    identity: &Identity,
    scope: Scope,
    id: InvoiceId,
) -> Result<Export, Error> {
    let mut export = billing.export(scope, id).await?;
    let key = identity.document_key()?;
    export.signed_by(key.jwk.clone(), key.thumbprint.clone());
    let digest = export.digest().map_err(|error| Error::Unsigned(error.to_string()))?;
    export.signature.jws = identity.sign_document(&key, INVOICE_TYP, &json!({"digest": digest}).to_string())?;
    Ok(export)
}
