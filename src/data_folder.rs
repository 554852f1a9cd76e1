//! The data folder: made for its owner alone, and held by one process at a time.

use std::{
    fs::{DirBuilder, File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use crate::app::BuildError;

/// Makes the data folder and takes it; the lock goes with the process, however it ends.
pub fn lock_data(path: &Path) -> Result<File, BuildError> {
    let failed = |source| BuildError::Data { path: path.to_owned(), source };
    // What is in it, password hashes among it, is its owner's alone. A folder that is there keeps its mode; files are made
    // for the owner alone all the same.
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let file = path.join("lock");
    let mut options = File::options();
    let mut file =
        options.create(true).truncate(false).read(true).write(true).mode(0o600).open(file).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            drop(file.read_to_string(&mut holder));
            let holder = if holder.is_empty() { "unknown".to_owned() } else { holder };
            return Err(BuildError::DataInUse { path: path.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    write!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}
