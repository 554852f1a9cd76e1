//! `tollgate demo`.
use super::Failure;
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// End after the journey; the exit status says whether every step succeeded
    #[arg(long)]
    exit: bool,
}
pub(super) fn run(args: DemoArgs) -> Result<(), Failure> {
    let _ = args.exit;
    Ok(())
}
