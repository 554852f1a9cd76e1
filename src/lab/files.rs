//! The lab's files: a folder in the data folder, its owner's alone, whose files are replaced whole.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::Error;

/// The folder, made when it is not there.
pub(super) fn folder(data: &Path) -> Result<PathBuf, Error> {
    let path = data.join("lab");
    match DirBuilder::new().recursive(true).mode(0o700).create(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(Error::File { path, why: "cannot be made", source: Some(error) }),
    }
}

/// Puts a new file in the place of an old one: whoever reads it finds one or the other, whole.
pub(super) fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    write(&mut file)?;
    file.sync_all()?;
    fs::rename(new, path)
}
