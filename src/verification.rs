//! Checks an exported invoice from its file alone: by the rules that the server bills by, and with no store, network or clock.

use serde_json::Value;

use crate::{
    billing::{
        InvoiceState,
        export::{Export, FORMAT, Refusal},
        recompute,
    },
    identity::{INVOICE_TYP, thumbprint, verify_document},
    kernel::canonical::{canonical, parse_unique},
};

/// The longest file that is looked at, in bytes: years of an invoice with thousands of lines.
pub const MAX_FILE: u64 = 8 * 1024 * 1024;

/// What a file is checked against besides itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Against<'a> {
    /// A key set (RFC 7517) that the signer must be in.
    pub keys: Option<&'a [u8]>,
    /// The file of the tenant's invoice before, which has to be checked by itself.
    pub before: Option<&'a [u8]>,
}

/// What was checked, a line for each; or the first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What agrees, in words.
    pub lines: Vec<String>,
    /// Why it is not accepted, if it is not.
    pub refusal: Option<Refusal>,
}

impl Checked {
    /// 0: all agrees; 1: something does not; 2: it could not be looked at, or not all of it.
    pub const fn status(&self) -> u8 {
        match self.refusal {
            None => 0,
            Some(Refusal::Differs { .. } | Refusal::Wrong(_)) => 1,
            Some(Refusal::Unreadable(_) | Refusal::Unchecked(_)) => 2,
        }
    }
}

/// Checks a file. What can be put into words best comes first: lines and amounts before hashes, hashes before the signature.
pub fn verify_invoice(file: &[u8], against: Against<'_>) -> Checked {
    let mut lines = Vec::new();
    let refusal = check(file, against, &mut lines).err();
    Checked { lines, refusal }
}

fn check(file: &[u8], against: Against<'_>, lines: &mut Vec<String>) -> Result<(), Refusal> {
    let export = read(file)?;
    let invoice = &export.invoice;
    lines.push(format!("invoice {} of {}, {} when exported", invoice.number, invoice.entity, export.status));
    let unchecked = match recompute::evidence(&export) {
        Ok(evidence) => {
            let plans = recompute::plans(&export, &evidence)?;
            lines.extend(recompute::compare(&export, &evidence, &plans)?);
            lines.push(format!("seal {} fits", recompute::check_seal(&export)?));
            let marks = recompute::check_chain(&export, &evidence)?;
            lines.push(format!("{marks} marks of the journals follow each other"));
            if let Some(before) = against.before {
                let before = read(before)?;
                lines.push(recompute::check_before(&export, &evidence, &before)?);
                lines.push(format!("invoice {}: {}", before.invoice.number, signature(&before, against.keys)?));
            }
            None
        }
        Err(error @ Refusal::Unchecked(_)) => Some(error),
        Err(error) => return Err(error),
    };
    lines.push(signature(&export, against.keys)?);
    unchecked.map_or(Ok(()), Err)
}

/// Reads a file strictly: nothing in it twice, nothing unknown, nothing written otherwise than it is.
fn read(file: &[u8]) -> Result<Export, Refusal> {
    if file.len() as u64 > MAX_FILE {
        return Err(Refusal::Unreadable(format!("it has more than {MAX_FILE} bytes")));
    }
    let unreadable = |error: serde_json::Error| Refusal::Unreadable(error.to_string());
    let value = parse_unique(file).map_err(unreadable)?;
    if let Some(format) = value.get("format").and_then(Value::as_str)
        && format != FORMAT
    {
        return Err(Refusal::Unreadable(format!("its format is {format}, and not {FORMAT}")));
    }
    let export: Export = serde_json::from_value(value.clone()).map_err(unreadable)?;
    if !InvoiceState::NAMES.contains(&export.status.as_str()) {
        return Err(Refusal::Unreadable("its status is none that an invoice has".into()));
    }
    let again = serde_json::to_value(&export).map_err(unreadable)?;
    if canonical(&again)? != canonical(&value)? {
        return Err(Refusal::Unreadable("something is not written as this program writes it".into()));
    }
    Ok(export)
}

fn signature(export: &Export, keys: Option<&[u8]>) -> Result<String, Refusal> {
    let signature = &export.signature;
    let wrong = |why: &str| Refusal::Wrong(format!("signature: {why}"));
    let payload = verify_document(&signature.jws, &signature.jwk, INVOICE_TYP).map_err(wrong)?;
    if thumbprint(&signature.jwk).as_ref() != Some(&signature.thumbprint) {
        return Err(wrong("the thumbprint is not its key's"));
    }
    let digest = export.digest()?;
    let signed: Option<Value> = serde_json::from_slice(&payload).ok();
    if signed != Some(serde_json::json!({"digest": digest})) {
        return Err(wrong("it is of another content than the file's"));
    }
    let Some(keys) = keys else {
        return Ok(format!(
            "signed by the key {} that is in the file; whose it is was not checked (--keys)",
            signature.thumbprint
        ));
    };
    let keys = parse_unique(keys).map_err(|error| Refusal::Unreadable(format!("key set: {error}")))?;
    let keys = keys.get("keys").and_then(Value::as_array);
    let keys = keys.ok_or_else(|| Refusal::Unreadable("key set: it has no keys".into()))?;
    if !keys.iter().any(|key| thumbprint(key).as_ref() == Some(&signature.thumbprint)) {
        return Err(wrong("its key is not in the key set"));
    }
    Ok(format!("signed by the key {}, which is in the key set", signature.thumbprint))
}
