//! A program and all that it starts: a process group, which ends as a whole.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio_util::sync::CancellationToken;

/// The stack of a thread that does nothing but wait, in bytes.
const STACK: usize = 64 * 1024;

/// A running program. Dropped, it is killed with all that it started.
pub(super) struct Group {
    child: Child,
    /// Of the program, and of its group.
    pid: Pid,
    /// Fires when the program has ended.
    ended: CancellationToken,
    reaped: bool,
}

impl Group {
    /// Starts a program in a group of its own, and a thread that waits for its end.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.process_group(0).spawn()?;
        let pid = Pid::from_child(&child);
        let ended = CancellationToken::new();
        let fire = ended.clone().drop_guard();
        let wait = move || {
            // Without reaping it: as long as nobody does, its number and its group's are nobody else's.
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).ok();
            drop(fire);
        };
        if let Err(error) = thread::Builder::new().name("child".to_owned()).stack_size(STACK).spawn(wait) {
            kill(pid, Signal::KILL);
            drop(child.wait());
            return Err(error);
        }
        Ok(Self { child, pid, ended, reaped: false })
    }

    pub(super) const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(super) const fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits for the program's end. What it started and left behind is killed.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        if !self.reaped {
            self.ended.cancelled().await;
            kill(self.pid, Signal::KILL);
            self.reaped = true;
        }
        self.child.wait()
    }

    /// Tells the group to end, and kills what has not after a while.
    pub(super) async fn end(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        if self.reaped {
            return self.child.wait();
        }
        kill(self.pid, Signal::TERM);
        if tokio::time::timeout(grace, self.ended.cancelled()).await.is_err() {
            kill(self.pid, Signal::KILL);
        }
        self.ended().await
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            kill(self.pid, Signal::KILL);
            drop(self.child.wait());
        }
    }
}

/// Nobody there is no error.
fn kill(group: Pid, signal: Signal) {
    kill_process_group(group, signal).ok();
}
