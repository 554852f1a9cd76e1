//! The commands, one file each.

mod check;
mod demo;
mod doctor;
mod serve;
mod strays;
mod verify_invoice;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::settings::Flags;

/// A SaaS control plane in one binary.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole journey on a fresh temporary folder, then a server to try
    Demo(demo::DemoArgs),
    /// The server
    Serve(ServeArgs),
    /// Reconciles journal, ledger, events and bills, and finds what belongs to nobody, also beside a running server
    Doctor(DoctorArgs),
    /// Validates settings and reports every fault at once
    Check(CheckArgs),
    /// Recomputes an exported invoice offline, and checks its hashes and signature
    VerifyInvoice(verify_invoice::VerifyArgs),
}

/// Flags of the server.
#[derive(Debug, Default, Args)]
struct ServeArgs {
    /// Settings file
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Data folder: embedded store, journal, key file [default: ./tollgate-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Address to listen on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// PostgreSQL in place of the embedded store: <postgres://user@host/db>
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Go on when journal records are damaged in the middle, which loses them
    #[arg(long)]
    accept_loss: bool,
    /// Lab mode, for tests: a clock to turn, tokens to mint, vendors' issuers; on a loopback address alone
    #[arg(long)]
    lab: bool,
}

#[derive(Debug, Args)]
struct DoctorArgs {
    #[command(flatten)]
    server: ServeArgs,
    /// Mends what belongs to nobody; not beside a running server
    #[arg(long)]
    repair: bool,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Settings file
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
}

impl From<ServeArgs> for Flags {
    fn from(args: ServeArgs) -> Self {
        let ServeArgs { config, data, listen, database_url, accept_loss, lab } = args;
        Self { config, data, listen, database_url, accept_loss, lab }
    }
}

/// What went wrong, in the words of the user, and the exit status.
pub struct Failure {
    message: String,
    status: u8,
}

impl Failure {
    /// The program could not begin: settings, data folder, address.
    fn setup(error: &(dyn std::error::Error + 'static)) -> Self {
        Self { message: crate::kernel::fault::chain(error), status: 2 }
    }
}

/// Runs the program.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => serve::run(args.into()),
        Command::Doctor(DoctorArgs { server, repair: false }) => doctor::run(server.into(), doctor::Mode::Look),
        Command::Doctor(DoctorArgs { server, repair: true }) => doctor::run(server.into(), doctor::Mode::Mend),
        Command::VerifyInvoice(args) => verify_invoice::run(&args),
        Command::Check(args) => check::run(Flags { config: args.config, ..Flags::default() }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, status }) => {
            eprintln!("tollgate: {message}");
            ExitCode::from(status)
        }
    }
}

/// How far the threads of the runtime stand back behind those that serve connections.
const NICE: i32 = 5;

/// Lets calls go first: totals, passwords and administration get a third of what a thread of a worker gets, where both want
/// the same core. Threads that these start are like them.
fn give_way() {
    // It costs calls time where it is not allowed, and nothing else.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}

/// Does the server's work on a runtime of its own. A thread that computes on after the end is not waited for: its request
/// was cut at the drain's deadline.
fn run_to_the_end(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.enable_all().on_thread_start(give_way).build();
    let runtime =
        runtime.map_err(|error| Failure { message: format!("the runtime cannot start: {error}"), status: 1 })?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}
