//! A clock that can be turned: it runs beside the machine's with an offset, or stands still. How it is set is a file in
//! the data folder, so a restart goes on where it was.
//!
//! What moves by itself in this program sleeps on the machine's monotonic clock; this one only says what time it is. So a
//! jump wakes nobody early and keeps nobody asleep.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::{Error, files};
use crate::kernel::{Clock, Timestamp};

/// Seconds of 2200-01-01: beyond 2262, nanoseconds since 1970 do not fit in 64 bits.
const LATEST_S: i64 = 7_258_118_400;

/// How the clock is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// It runs, this many microseconds before the machine's (after it, when negative).
    Running {
        /// The offset.
        offset_us: i64,
    },
    /// It stands still.
    Frozen {
        /// The time it shows.
        at: Timestamp,
    },
}

/// A change of the clock; its parts happen in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// To this time.
    pub set: Option<Timestamp>,
    /// Forward by this many seconds.
    pub advance_s: Option<i64>,
    /// To a halt, or on from where it stands.
    pub freeze: Option<bool>,
}

/// The time would be outside of what the lab shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time must stay between the years 1970 and 2200")]
pub struct OutOfRange;

/// The lab's clock.
pub struct LabClock {
    machine: Arc<dyn Clock>,
    setting: ArcSwap<Setting>,
    file: PathBuf,
    /// Held while the setting is changed and written down.
    turning: Mutex<()>,
}

impl LabClock {
    /// Over the machine's clock, as it was last set in this data folder.
    pub fn open(data: &Path, machine: Arc<dyn Clock>) -> Result<Self, Error> {
        let file = files::folder(data)?.join("clock.json");
        let setting = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| Error::File {
                path: file.clone(),
                why: "is not what the lab wrote",
                source: None,
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Setting::Running { offset_us: 0 },
            Err(error) => return Err(Error::File { path: file, why: "cannot be read", source: Some(error) }),
        };
        Ok(Self { machine, setting: ArcSwap::from_pointee(setting), file, turning: Mutex::new(()) })
    }

    /// How it is set.
    pub fn setting(&self) -> Setting {
        **self.setting.load()
    }

    /// Turns it. What was written down holds; an error of the file system changes nothing.
    pub fn turn(&self, turn: Turn) -> Result<Result<Setting, OutOfRange>, io::Error> {
        let _one = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let machine = self.machine.now();
        match turned(self.setting(), turn, machine) {
            Ok(setting) => self.keep(setting).map(|()| Ok(setting)),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// Lets it show the machine's time again.
    pub fn reset(&self) -> Result<Setting, io::Error> {
        let _one = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let setting = Setting::Running { offset_us: 0 };
        self.keep(setting).map(|()| setting)
    }

    fn keep(&self, setting: Setting) -> io::Result<()> {
        let text = serde_json::to_vec(&setting)?;
        files::replace(&self.file, |file| file.write_all(&text))?;
        self.setting.store(Arc::new(setting));
        Ok(())
    }
}

impl Clock for LabClock {
    fn now(&self) -> Timestamp {
        shown(self.setting(), self.machine.now())
    }
}

fn shown(setting: Setting, machine: Timestamp) -> Timestamp {
    match setting {
        Setting::Running { offset_us } => machine.plus_micros(offset_us),
        Setting::Frozen { at } => at,
    }
}

fn turned(setting: Setting, turn: Turn, machine: Timestamp) -> Result<Setting, OutOfRange> {
    let frozen = turn.freeze.unwrap_or(matches!(setting, Setting::Frozen { .. }));
    let at = turn.set.unwrap_or_else(|| shown(setting, machine)).plus_secs(turn.advance_s.unwrap_or(0));
    if !(0..LATEST_S).contains(&at.as_secs()) {
        return Err(OutOfRange);
    }
    Ok(if frozen { Setting::Frozen { at } } else { Setting::Running { offset_us: at.micros_since(machine) } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ManualClock;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_clock_is_set_advanced_frozen_and_let_go_and_a_restart_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Arc::new(ManualClock::new(at("2026-11-10T12:00:00Z")));
        let open = || LabClock::open(folder.path(), Arc::clone(&machine) as Arc<dyn Clock>).unwrap();
        let clock = open();
        let turn = |turn: Turn| clock.turn(turn).unwrap();
        assert_eq!(clock.now(), machine.now());
        turn(Turn { advance_s: Some(3_600), ..Turn::default() }).unwrap();
        machine.advance_secs(1);
        assert_eq!(clock.now(), at("2026-11-10T13:00:01Z"));
        turn(Turn { set: Some(at("2030-01-01T00:00:00Z")), freeze: Some(true), ..Turn::default() }).unwrap();
        machine.advance_secs(60);
        assert_eq!(clock.now(), at("2030-01-01T00:00:00Z"));
        assert_eq!(open().now(), clock.now(), "as a restart finds it");
        turn(Turn { advance_s: Some(5), ..Turn::default() }).unwrap();
        assert_eq!(clock.now(), at("2030-01-01T00:00:05Z"), "advancing does not set it going");
        turn(Turn { freeze: Some(false), ..Turn::default() }).unwrap();
        machine.advance_secs(2);
        assert_eq!((clock.now(), open().now()), (at("2030-01-01T00:00:07Z"), at("2030-01-01T00:00:07Z")));
        clock.reset().unwrap();
        assert_eq!(open().now(), machine.now());
    }

    #[test]
    fn the_clock_stays_within_what_the_program_can_count() {
        let folder = tempfile::tempdir().unwrap();
        let clock = LabClock::open(folder.path(), Arc::new(ManualClock::new(at("2026-11-10T12:00:00Z")))).unwrap();
        for turn in [
            Turn { set: Some(at("1969-12-31T23:59:59Z")), ..Turn::default() },
            Turn { set: Some(at("2200-01-01T00:00:00Z")), ..Turn::default() },
            Turn { advance_s: Some(i64::MAX), ..Turn::default() },
            Turn { advance_s: Some(i64::MIN), ..Turn::default() },
        ] {
            assert_eq!(clock.turn(turn).unwrap(), Err(OutOfRange), "{turn:?}");
        }
        assert_eq!(clock.setting(), Setting::Running { offset_us: 0 });
    }

    #[test]
    fn a_file_that_the_lab_did_not_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = || LabClock::open(folder.path(), Arc::new(ManualClock::new(Timestamp::MIN)));
        open().unwrap();
        fs::write(folder.path().join("lab/clock.json"), "{\"running\":{}}").unwrap();
        assert!(matches!(open(), Err(Error::File { .. })));
    }
}
