//! An invoice as a file that can be checked without the server: what it says, what it was worked out from, and its hashes.

use serde_json::Value;

use super::{
    error::Error,
    evidence::Evidence,
    export::{Export, ExportedInvoice, ExportedPlan, FORMAT, Mark, Seal, Signature},
    invoice::Invoice,
    sealing::unwritten,
    service::Billing,
};
use crate::{
    kernel::InvoiceId,
    store::{Scope, StoreError, Tx},
};

impl Billing {
    /// An issued invoice as a file, not signed yet.
    pub async fn export(&self, scope: Scope, id: InvoiceId) -> Result<Export, Error> {
        let invoice = self.invoice(scope, id).await?;
        let status = invoice.state.name();
        let issue = invoice.issue.as_ref().ok_or(Error::InvoiceState { id, status, verb: "be exported" })?;
        let document: Value = serde_json::from_str(&invoice.document).map_err(unwritten)?;
        let mut tx = self.store.read(scope).await?;
        let text = tx.invoice_evidence(id).await?;
        let evidence: Option<Value> = text.map(|text| serde_json::from_str(&text)).transpose().map_err(unwritten)?;
        let read: Option<Evidence> = evidence.clone().map(serde_json::from_value).transpose().map_err(unwritten)?;
        let (plans, chain) = match &read {
            Some(evidence) => (plans(&mut tx, evidence).await?, chain(&mut tx, &invoice, evidence).await?),
            None => (Vec::new(), Vec::new()),
        };
        let previous = tx.invoice_seal(&issue.entity, issue.serial - 1).await?;
        Ok(Export {
            format: FORMAT.to_owned(),
            exported_at: self.clock.now(),
            status: status.to_owned(),
            invoice: ExportedInvoice::new(&invoice, issue, document),
            evidence,
            plans,
            chain,
            seal: issue.seal.map(|seal| Seal { previous, seal }),
            signature: Signature { jwk: Value::Null, thumbprint: String::new(), jws: String::new() },
        })
    }
}

async fn plans(tx: &mut Tx, evidence: &Evidence) -> Result<Vec<ExportedPlan>, Error> {
    let mut found = Vec::new();
    for row in tx.plans().await? {
        if evidence.plans.iter().any(|plan| plan.tier == row.tier && plan.version == row.version) {
            let body = serde_json::from_str(&row.body).map_err(unwritten)?;
            found.push(ExportedPlan { tier: row.tier, version: row.version, body });
        }
    }
    Ok(found)
}

/// The marks after that of the tenant's invoice before, and in any case the invoice's own.
async fn chain(tx: &mut Tx, invoice: &Invoice, evidence: &Evidence) -> Result<Vec<Mark>, Error> {
    let Some(own) = evidence.journals else { return Ok(Vec::new()) };
    let before = match before(tx, invoice, evidence).await? {
        Some(before) => before.journals.map_or(0, |mark| mark.serial),
        None => own.serial - 1,
    };
    Ok(tx.journal_marks(before.min(own.serial - 1), own.serial, own.serial).await?)
}

/// The evidence of the tenant's invoice before.
async fn before(tx: &mut Tx, invoice: &Invoice, evidence: &Evidence) -> Result<Option<Evidence>, StoreError> {
    let Some(seal) = evidence.before else { return Ok(None) };
    let earlier = tx.invoices_before(invoice.tenant_id, invoice.period.from()).await?;
    let sealed = |invoice: &&Invoice| invoice.issue.as_ref().is_some_and(|issue| issue.seal == Some(seal));
    let Some(id) = earlier.iter().rfind(sealed).map(|invoice| invoice.id) else { return Ok(None) };
    let text = tx.invoice_evidence(id).await?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}
