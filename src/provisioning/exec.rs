//! The `exec` driver: a program of the operator's makes places. It is told what to do by JSON on standard input and in its
//! environment, and answers by JSON on standard output; `docs/exec-driver.md` is the guide for whoever writes one.
//!
//! The program runs in a process group of its own, which is ended when the time is over, when it says too much, and when nobody
//! waits for it any more.

use std::{
    io,
    os::fd::OwnedFd,
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::pipe,
};

use super::{
    Error,
    answer::{Answer, Unfit},
    driver::{Driver, Work},
    group::Group,
    model::{Finding, Made, Place},
};

/// The form of what is said and answered.
const VERSION: u32 = 1;
/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A program that is told to end has so long for it.
const GRACE: Duration = Duration::from_secs(5);
/// So much of the end of what it says on standard error is kept, in bytes.
const LAST_WORDS: usize = 2_048;

/// `[provisioning.exec]`
#[derive(Debug, Clone)]
pub struct ExecConfig {
    /// The program, by its whole path, and its arguments.
    pub command: Vec<String>,
    /// Its environment, besides what it is told; it has nothing of ours.
    pub env: Vec<(String, String)>,
    /// How long it may take.
    pub timeout: Duration,
    /// How much it may answer, in bytes.
    pub most: usize,
}

/// Has a program make places.
#[derive(Clone)]
pub struct ExecDriver {
    config: Arc<ExecConfig>,
}

/// A run that came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0} cannot be started")]
    Start(String, #[source] io::Error),
    #[error("what the program says cannot be read")]
    Pipe(#[from] io::Error),
    #[error("the program did not end within {} seconds, and was ended{}", .0.as_secs(), said(.1))]
    Late(Duration, String),
    #[error("the program answered more than {0} bytes, and was ended")]
    TooMuch(usize),
    #[error("the program ended with {status}{}", said(.last_words))]
    Status { status: ExitStatus, last_words: String },
    #[error("the program's answer is no answer")]
    Answer(#[from] Unfit),
}

fn said(last_words: &str) -> String {
    if last_words.is_empty() { String::new() } else { format!("; it said: {last_words}") }
}

impl ExecDriver {
    /// The name in settings and in the store.
    pub const NAME: &'static str = "exec";

    /// With a program.
    pub fn new(config: ExecConfig) -> Self {
        Self { config: Arc::new(config) }
    }

    async fn ask(&self, verb: &str, place: &Place) -> Result<Vec<u8>, Failed> {
        let ExecConfig { command, env, timeout, most } = &*self.config;
        let (program, arguments) = command.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", PATH).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in [
            ("TOLLGATE_VERB", verb),
            ("TOLLGATE_TENANT_ID", &place.tenant_id.to_string()),
            ("TOLLGATE_ISOLATION", place.isolation.name()),
            ("TOLLGATE_POOL", &place.pool),
            ("TOLLGATE_LOCATION", &place.location),
        ] {
            command.env(name, value);
        }
        command.envs(env.iter().map(|(name, value)| (name, value)));
        let request = json!({
            "version": VERSION,
            "verb": verb,
            "tenant_id": place.tenant_id.to_string(),
            "isolation": place.isolation.name(),
            "pool": place.pool,
            "location": place.location,
            "upstream": place.upstream,
        });
        let mut group = Group::start(&mut command).map_err(|error| Failed::Start(program.to_owned(), error))?;
        let mut pipes = Pipes::of(&mut group, *most)?;
        let ran = tokio::time::timeout(*timeout, pipes.run(&mut group, request.to_string())).await;
        let last_words = pipes.last_words();
        match ran {
            Err(_) => {
                group.end(GRACE).await?;
                Err(Failed::Late(*timeout, last_words))
            }
            // Dropped, the group is killed.
            Ok(Err(error)) => Err(error),
            Ok(Ok(status)) if !status.success() => Err(Failed::Status { status, last_words }),
            Ok(Ok(_)) => Ok(pipes.answer),
        }
    }
}

/// What goes in and comes out of a program.
struct Pipes {
    stdin: Option<pipe::Sender>,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
    most: usize,
    answer: Vec<u8>,
    errors: Vec<u8>,
}

impl Pipes {
    fn of(group: &mut Group, most: usize) -> io::Result<Self> {
        let none = || io::Error::from(io::ErrorKind::BrokenPipe);
        let child = group.child();
        let stdin: OwnedFd = child.stdin.take().ok_or_else(none)?.into();
        let stdout: OwnedFd = child.stdout.take().ok_or_else(none)?.into();
        let stderr: OwnedFd = child.stderr.take().ok_or_else(none)?.into();
        Ok(Self {
            stdin: Some(pipe::Sender::from_owned_fd(stdin)?),
            stdout: pipe::Receiver::from_owned_fd(stdout)?,
            stderr: pipe::Receiver::from_owned_fd(stderr)?,
            most,
            answer: Vec::new(),
            errors: Vec::new(),
        })
    }

    /// Until the program has ended and all that it said is read.
    async fn run(&mut self, group: &mut Group, request: String) -> Result<ExitStatus, Failed> {
        let Self { stdin, stdout, stderr, most, answer, errors } = self;
        let ask = async {
            if let Some(mut stdin) = stdin.take() {
                // A program that does not read what it is told may be right.
                drop(stdin.write_all(request.as_bytes()).await);
            }
            Ok(())
        };
        let read = async {
            while stdout.read_buf(answer).await? > 0 {
                if answer.len() > *most {
                    return Err(Failed::TooMuch(*most));
                }
            }
            Ok(())
        };
        let listen = async {
            while stderr.read_buf(errors).await? > 0 {
                let begins = errors.len().saturating_sub(LAST_WORDS);
                errors.drain(..begins);
            }
            Ok(())
        };
        // What it left behind may hold its pipes open: that is killed when the program has ended.
        let end = async { Ok(group.ended().await?) };
        let ((), (), (), status) = tokio::try_join!(ask, read, listen, end)?;
        Ok(status)
    }

    /// The end of what it said on standard error, in one line.
    fn last_words(&self) -> String {
        String::from_utf8_lossy(&self.errors).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Driver for ExecDriver {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn plan<'a>(&'a self, place: &'a Place) -> Work<'a, Vec<String>> {
        Box::pin(async {
            let answer = self.ask("plan", place).await.and_then(|answer| Ok(Answer::parse(&answer)?));
            Ok(answer.map_err(|error| of("plan a place", error))?.steps())
        })
    }

    fn apply<'a>(&'a self, place: &'a Place) -> Work<'a, Made> {
        Box::pin(async {
            let answer = self.ask("apply", place).await;
            let made =
                answer.and_then(|answer| Ok(Answer::parse(&answer)?.made(|| format!("exec:{}", place.tenant_id))?));
            made.map_err(|error| of("make a place", error))
        })
    }

    fn verify<'a>(&'a self, place: &'a Place) -> Work<'a, Finding> {
        Box::pin(async {
            let answer = self.ask("verify", place).await;
            let finding = answer.and_then(|answer| Ok(Answer::parse(&answer)?.finding()?));
            finding.map_err(|error| of("look at a place", error))
        })
    }

    fn destroy<'a>(&'a self, place: &'a Place) -> Work<'a, ()> {
        // What it answers is of no concern: it was done.
        Box::pin(async { self.ask("destroy", place).await.map(drop).map_err(|error| of("take a place down", error)) })
    }

    fn serves(&self) -> bool {
        false
    }

    fn reachable(&self) -> Work<'_, ()> {
        Box::pin(async {
            let program = self.config.command.first().map_or("", String::as_str);
            let found = tokio::fs::metadata(program).await;
            found.map(drop).map_err(|error| of("find its program", Failed::Start(program.to_owned(), error)))
        })
    }
}

fn of(verb: &'static str, source: Failed) -> Error {
    Error::of(ExecDriver::NAME, verb, source)
}
