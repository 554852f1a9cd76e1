//! `tollgate verify-invoice`: whether an exported invoice is right, from its file alone. Exits with 0 when it is, with 1 and
//! the first difference when it is not, with 2 when it cannot be read, or has not what is needed to check all of it.

use std::{
    fs::File,
    io::{Read as _, Write as _, stdout},
    path::{Path, PathBuf},
};

use clap::Args;

use super::Failure;
use crate::{
    billing::export::Refusal,
    kernel::names::is_unseen,
    verification::{Against, MAX_FILE, verify_invoice},
};

/// What is checked, and against what.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The file, as /admin/v1/invoices/{id}/export or /v1/invoices/{id}/export gave it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A key set that the signer must be in, as /.well-known/jwks.json gave it
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The file of the invoice before, which this one must follow
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
}

pub(super) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let file = read(&args.file)?;
    let keys = args.keys.as_deref().map(read).transpose()?;
    let before = args.before.as_deref().map(read).transpose()?;
    let checked = verify_invoice(&file, Against { keys: keys.as_deref(), before: before.as_deref() });
    let agrees = checked.refusal.is_none().then_some("all agrees");
    let mut output = stdout().lock();
    for line in checked.lines.iter().map(String::as_str).chain(agrees) {
        // Whoever does not read to the end still gets the exit status.
        let _ = writeln!(output, "{}", plain(line));
    }
    let failure = |refusal: &Refusal| Failure { message: plain(&refusal.to_string()), status: checked.status() };
    checked.refusal.as_ref().map_or(Ok(()), |refusal| Err(failure(refusal)))
}

/// One byte more than is looked at tells that there is more.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let done = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    done.map_err(|error| Failure { message: format!("{} cannot be read: {error}", path.display()), status: 2 })?;
    Ok(bytes)
}

/// A line as it is shown: what a file says moves no cursor, hides nothing and begins no line of its own.
fn plain(line: &str) -> String {
    line.chars().map(|own| if own.is_control() || is_unseen(own) { '\u{fffd}' } else { own }).collect()
}
