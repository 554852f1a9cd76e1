//! What is noted of processes, so that those of a server that was killed can be found: a file for each with its id and the instant
//! of its start, which tells it from another process that has its id by now, and a mark in the environment of it and of all that it
//! starts, for the moment between its start and the file.

use std::{
    fmt::Write as _,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::kernel::{Rng, TenantId, rng::random_bytes};

/// The mark's variable.
pub(super) const MARK: &str = "TOLLGATE_PROCESS_OF";

/// The notes of one data folder.
pub(super) struct Remains {
    folder: PathBuf,
    /// Random, made once for the folder.
    mark: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    pid: i32,
    /// In clock ticks since the machine's start.
    started: u64,
    /// The machine's start.
    boot: String,
}

impl Remains {
    pub(super) fn open(folder: PathBuf, rng: &dyn Rng) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let file = folder.join("mark");
        let mark = match fs::read_to_string(&file) {
            Ok(mark) if mark.len() == 32 => mark,
            _ => {
                let mut mark = String::new();
                for byte in random_bytes::<16>(rng) {
                    // Writing to a text does not fail.
                    write!(mark, "{byte:02x}").ok();
                }
                write_file(&file, mark.as_bytes())?;
                mark
            }
        };
        Ok(Self { folder, mark })
    }

    /// The notes of a folder that somebody else keeps.
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder, mark: String::new() }
    }

    /// Of whose processes there are notes.
    pub(super) fn noted(&self) -> io::Result<Vec<TenantId>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let tenant: Option<TenantId> = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok());
            found.extend(tenant);
        }
        Ok(found)
    }

    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    fn file(&self, tenant: TenantId) -> PathBuf {
        self.folder.join(format!("{tenant}.json"))
    }

    /// Notes a process that was started.
    pub(super) fn note(&self, tenant: TenantId, pid: i32) -> io::Result<()> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the process is gone");
        let note = Note { pid, started: started(pid).ok_or_else(gone)?, boot: boot() };
        write_file(&self.file(tenant), serde_json::to_string(&note)?.as_bytes())
    }

    /// Forgets a process that ended.
    pub(super) fn forget(&self, tenant: TenantId) -> io::Result<()> {
        match fs::remove_file(self.file(tenant)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Kills what is noted of a tenant.
    pub(super) fn end(&self, tenant: TenantId) -> io::Result<()> {
        kill_noted(&self.file(tenant));
        self.forget(tenant)
    }

    /// Kills whatever is noted, or has the mark; how many processes that were. To be called before anything is started.
    pub(super) fn end_all(&self) -> io::Result<usize> {
        let mut ended = 0;
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                ended += usize::from(kill_noted(&path));
                fs::remove_file(&path)?;
            }
        }
        Ok(ended + self.kill_marked())
    }

    fn kill_marked(&self) -> usize {
        let mark = format!("{MARK}={}", self.mark);
        let Ok(all) = fs::read_dir("/proc") else { return 0 };
        let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let has_mark = |pid: &i32| {
            // Another user's is not to be read, and not ours.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        };
        let kill = |pid: i32| Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok());
        pids.filter(has_mark).filter(|pid| kill(*pid)).count()
    }
}

/// Kills the group of a process that a file names, if it is still that process.
fn kill_noted(file: &Path) -> bool {
    let Ok(text) = fs::read_to_string(file) else { return false };
    let Ok(note) = serde_json::from_str::<Note>(&text) else { return false };
    let same = note.boot == boot() && started(note.pid) == Some(note.started);
    same && Pid::from_raw(note.pid).is_some_and(|pid| kill_process_group(pid, Signal::KILL).is_ok())
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// When a process was started; field 22 of proc(5), counted from behind the program's name, which may have anything in it.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// As a whole or not at all, for its owner alone.
fn write_file(file: &Path, content: &[u8]) -> io::Result<()> {
    let part = file.with_extension("part");
    let mut options = fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    io::Write::write_all(&mut out, content)?;
    fs::rename(part, file)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::kernel::{SeededRng, Timestamp};

    fn pause(mark: Option<&str>) -> std::process::Child {
        let mut command = Command::new("cat");
        if let Some(mark) = mark {
            command.env(MARK, mark);
        }
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn what_is_noted_or_marked_is_killed_and_another_process_with_the_id_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let rng = SeededRng::new(5);
        let remains = Remains::open(folder.path().to_owned(), &rng).unwrap();
        let tenant = || TenantId::generate(Timestamp::from_secs(1).unwrap(), &rng);
        let (mut noted, mut marked, mut other) = (pause(None), pause(Some(remains.mark())), pause(None));
        let pid = |child: &std::process::Child| i32::try_from(child.id()).unwrap();
        remains.note(tenant(), pid(&noted)).unwrap();
        let stale = Note { pid: pid(&other), started: 1, boot: boot() };
        write_file(&remains.file(tenant()), serde_json::to_string(&stale).unwrap().as_bytes()).unwrap();
        let again = Remains::open(folder.path().to_owned(), &SeededRng::new(6)).unwrap();
        assert_eq!(again.mark(), remains.mark());
        assert_eq!(again.end_all().unwrap(), 2);
        assert!(!noted.wait().unwrap().success() && !marked.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "it was killed for its number");
        drop(other.stdin.take());
        assert!(other.wait().unwrap().success());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the mark stays");
    }
}
