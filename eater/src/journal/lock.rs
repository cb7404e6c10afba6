//! One eater per directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::error::JournalError;
use super::names::LOCK;

/// The directory's lock, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `dir`, which must exist.
    ///
    /// # Errors
    /// [`JournalError::InUse`] names the directory and the process that has it.
    pub(super) fn take(dir: &Path) -> Result<Self, JournalError> {
        let path = dir.join(LOCK);
        let failed = |doing, source| JournalError::Io { doing, path: path.clone(), source };
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| failed("open the lock", error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // What the file says is only for the message; the lock is the kernel's.
                let read = file.take(32).read_to_string(&mut text).is_ok();
                let pid =
                    if read && !text.trim().is_empty() { text.trim().to_owned() } else { "unknown".into() };
                return Err(JournalError::InUse { dir: dir.to_owned(), pid });
            }
            Err(errno) => return Err(failed("lock", errno.into())),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}", std::process::id()));
        // A full disk must not keep the eater from starting: it can still serve what it has.
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "the process id could not be written into the lock");
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let error = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
        drop(first);
        Lock::take(dir.path()).unwrap();
    }
}
