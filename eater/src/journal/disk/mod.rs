//! What the journal asks of a disk, and nothing more: one directory of files.
//!
//! Two implementations: [`FileDisk`] is a directory; `SimDisk`, in the tests, is a disk in memory that fails,
//! tears and forgets as its seed says. Both pass the suite in `disk/conformance.rs`.

#[cfg(test)]
mod conformance;
mod counted;
mod real;
#[cfg(test)]
pub(in crate::journal) mod sim;

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) use counted::CountedFile;
pub(super) use real::FileDisk;

/// A directory of files. Names are plain file names.
pub(super) trait Disk: Send + Sync {
    /// Makes a file, to be read and written; one of this name must not exist. Neither the file nor its name
    /// is durable before both are synced.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file, to be read and written.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Removes a name; whoever has the file open keeps it.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Gives a file another name, in place of the file that had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// The names, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes all changes of names durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// For messages.
    fn path(&self) -> &Path;

    /// For messages.
    fn path_of(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

/// An open file.
pub(super) trait DiskFile: Send + Sync {
    /// Its size in bytes.
    fn len(&self) -> io::Result<u64>;
    /// `len` bytes from `offset`; fewer only where the file ends.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// Writes all of `parts`, one after another, at `offset`. After an error anything may stand there.
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// fdatasync: data and size. After an error the file must not be synced again, as the system may have
    /// forgotten what it could not write (fsync(2), and "Can applications recover from fsync failures?",
    /// USENIX ATC 2020).
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
}
