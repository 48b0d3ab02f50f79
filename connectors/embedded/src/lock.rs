//! One process per data directory: a lock file that names its holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::error::OpenError;

/// Holds the directory until it is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    file: File,
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing would not do: a child that is just being started holds a copy of the file until it runs its program.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the data directory stays locked until this process ends");
        }
    }
}

impl DirectoryLock {
    /// Makes the directory if need be, and takes its lock.
    pub(crate) fn take(dir: &Path) -> Result<Self, OpenError> {
        let failed = |cause| OpenError::Directory { dir: dir.to_owned(), cause };
        std::fs::create_dir_all(dir).map_err(failed)?;
        // Not truncated on opening: the text is the holder's until we hold the lock.
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("hansard.lock"))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The holder may be about to write its number; then it stays unknown, which is no failure.
                if file.read_to_string(&mut pid).is_err() || pid.trim().is_empty() {
                    pid = "unknown".to_owned();
                }
                return Err(OpenError::InUse { dir: dir.to_owned(), pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(cause)) => return Err(failed(cause)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { file })
    }
}
