//! File systems of a test's own: a small one in memory, and one in a file. They need root.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::skip;

/// A mounted file system; unmounted on drop.
pub struct Mounted {
    path: tempfile::TempDir,
}

impl Mounted {
    /// A file system in memory of so many MiB; says so where it cannot be mounted.
    pub fn in_memory(mib: u32) -> Option<Self> {
        Self::mount(&["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
    }

    /// What is in an image file.
    pub fn image(image: &Path) -> Option<Self> {
        Self::mount(&["-t", "ext4", "-o", "loop", image.to_str().unwrap()])
    }

    fn mount(arguments: &[&str]) -> Option<Self> {
        let path = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(arguments).arg(path.path()).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            skip("faults", "right to mount a file system");
            return None;
        }
        Some(Self { path })
    }

    pub fn path(&self) -> &Path {
        self.path.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: after a failed test a server may still run in it.
        drop(Command::new("umount").arg("-l").arg(self.path.path()).status());
    }
}

/// An image of an empty ext4 file system of so many MiB.
pub fn ext4_image(folder: &Path, mib: u32) -> Option<PathBuf> {
    let image = folder.join("disk.img");
    let size = format!("{mib}M");
    let made = Command::new("truncate").args(["-s", &size]).arg(&image).status().is_ok_and(|status| status.success())
        && Command::new("mkfs.ext4").arg("-q").arg(&image).status().is_ok_and(|status| status.success());
    if !made {
        skip("faults", "mkfs.ext4");
    }
    made.then_some(image)
}
