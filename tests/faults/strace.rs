//! `strace`, which makes the n-th call of a kind the last one of a process, or makes it fail.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::NamedTempFile;

use crate::{scene::serve, server::Server, support::skip};

/// Whether strace is here and may attach to a process that is not its child; says so when not.
pub fn usable() -> bool {
    let usable = attaches().unwrap_or(false);
    if !usable {
        skip("faults", "strace that may attach");
    }
    usable
}

fn attaches() -> Option<bool> {
    let mut other = Command::new("sleep").arg("60").spawn().ok()?;
    let pid = other.id().to_string();
    let strace = Command::new("strace").args(["-o", "/dev/null", "-p", &pid]).stderr(Stdio::piped()).spawn();
    let said = strace.ok().and_then(|mut strace| {
        let line = BufReader::new(strace.stderr.take()?).lines().next()?.ok();
        drop(strace.kill());
        drop(strace.wait());
        line
    });
    drop(other.kill());
    drop(other.wait());
    Some(said?.contains(" attached"))
}

/// Which threads of a server a fault is for, by the names the kernel has of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The one that answers requests and writes their records.
    Worker,
    /// The journal's flusher.
    Flusher,
    /// The embedded store's.
    Store,
    /// All, also those that are still to come: the roller syncs, reads and removes on threads that come and go.
    Any,
}

impl Threads {
    fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker-1",
            Self::Flusher => "journal-flush",
            // The kernel keeps 15 bytes of a name.
            Self::Store => "sqlx-sqlite-wor",
            Self::Any => "",
        }
    }

    fn of(self, server: &Server) -> Vec<String> {
        let mut found = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
            let path = task.unwrap().path();
            // A thread may end meanwhile.
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            if self == Self::Any || name.trim() == self.name() {
                found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
        found
    }
}

/// A strace that is attached to threads of a server; it ends with them.
pub struct Attached {
    strace: Child,
    log: NamedTempFile,
}

impl Attached {
    /// Attaches, and returns when every thread is held. `fault` is what follows the call's name in `inject=`; its `when`
    /// counts the calls of each thread.
    pub fn to(server: &Server, threads: Threads, call: &str, fault: &str) -> Self {
        Self::with(server, threads, &["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{fault}")])
    }

    /// Attaches and only looks on.
    pub fn watching(server: &Server, threads: Threads, call: &str) -> Self {
        Self::with(server, threads, &["-e", &format!("trace={call}")])
    }

    fn with(server: &Server, threads: Threads, what: &[&str]) -> Self {
        // A server says that it listens before its threads run.
        let found = std::iter::repeat_with(|| threads.of(server)).take(100_000).find(|ids| !ids.is_empty());
        let ids = found.unwrap_or_default();
        assert!(!ids.is_empty(), "no thread {}", threads.name());
        let log = NamedTempFile::new().unwrap();
        let mut command = Command::new("strace");
        command.arg("-o").arg(log.path()).args(what);
        if threads == Threads::Any {
            command.args(["-f", "-p", &server.pid().to_string()]);
        } else {
            command.args(ids.iter().flat_map(|id| ["-p", id]));
        }
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        // With -f it says it once for all of them.
        let (mut held, wanted) = (0, if threads == Threads::Any { 1 } else { ids.len() });
        while held < wanted {
            let line = lines.next().unwrap_or_else(|| panic!("strace ended")).unwrap();
            held += usize::from(line.contains("attached"));
        }
        std::thread::spawn(move || lines.for_each(drop));
        Self { strace: child, log }
    }

    /// How many calls were made to fail, or to wait, or were the last.
    pub fn injected(&self) -> usize {
        let log = fs::read_to_string(self.log.path()).unwrap();
        log.lines().filter(|line| line.contains("(INJECTED)") || line.contains("(DELAYED)")).count()
    }

    /// The calls of the thread that made the most.
    pub fn made(self, call: &str) -> u64 {
        most_of_a_thread(self.log.path(), call)
    }
}

/// The calls, by the log of strace, of the thread that made the most.
fn most_of_a_thread(log: &Path, call: &str) -> u64 {
    let mut made: BTreeMap<String, u64> = BTreeMap::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        // Where there are several threads, each line begins with one's number.
        let (thread, rest) = line.split_once(' ').filter(|(id, _)| id.parse::<u32>().is_ok()).unwrap_or(("", line));
        if rest.trim_start().starts_with(&format!("{call}(")) {
            *made.entry(thread.to_owned()).or_default() += 1;
        }
    }
    made.into_values().max().unwrap_or(0)
}

impl Drop for Attached {
    fn drop(&mut self) {
        drop(self.strace.kill());
        drop(self.strace.wait());
    }
}

/// Starts a server for which the n-th `call` of any thread, from its first instruction on, ends as `fault` says; `None` when
/// it ended before it listened.
pub fn started_with(place: &Path, call: &str, fault: &str) -> Option<Server> {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{fault}"));
    Server::try_run(&mut serve(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject], place))
}

/// How often the busiest thread makes a call until a server listens.
pub fn made_while_starting(place: &Path, call: &str) -> u64 {
    let log = NamedTempFile::new().unwrap();
    let (path, trace) = (log.path().to_str().unwrap(), format!("trace={call}"));
    let server = Server::run(&mut serve(&["strace", "-f", "-qq", "-o", path, "-e", &trace], place));
    let made = most_of_a_thread(log.path(), call);
    server.stop_child();
    server.ended();
    made
}
