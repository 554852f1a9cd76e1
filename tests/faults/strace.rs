//! `strace`, which makes the n-th call of a kind the last one of a process, or makes it fail.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

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
}

impl Threads {
    fn name(self) -> &'static str {
        match self {
            Self::Worker => "tokio-rt-worker",
            Self::Flusher => "journal-flush",
            // The kernel keeps 15 bytes of a name.
            Self::Store => "sqlx-sqlite-wor",
        }
    }

    fn of(self, server: &Server) -> Vec<String> {
        let mut found = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
            let path = task.unwrap().path();
            // A thread may end meanwhile.
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            if name.trim() == self.name() {
                found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
        found
    }
}

/// A strace that is attached to threads of a server; it ends with them.
pub struct Attached(Child);

impl Attached {
    /// Attaches, and returns when every thread is held. `fault` is what follows the call's name in `inject=`.
    pub fn to(server: &Server, threads: Threads, call: &str, fault: &str) -> Self {
        let ids = threads.of(server);
        assert!(!ids.is_empty(), "no thread {}", threads.name());
        let mut command = Command::new("strace");
        command.args(["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &format!("inject={call}:{fault}")]);
        for id in &ids {
            command.args(["-p", id]);
        }
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut held = 0;
        while held < ids.len() {
            let line = lines.next().unwrap_or_else(|| panic!("strace ended")).unwrap();
            held += usize::from(line.contains("attached"));
        }
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts a server for which the n-th `call` of any thread, from its first instruction on, ends as `fault` says; `None` when
/// it ended before it listened.
pub fn started_with(place: &Path, call: &str, fault: &str) -> Option<Server> {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{fault}"));
    Server::try_run(&mut serve(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject], place))
}
