//! What lies beside a file that is not complete: how far it is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::ExportError;

const FORMAT: &str = "trough-export-1";

/// How far an export has come: all before this is in the file, and nothing behind it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Devices before this one, by their ids, are complete; empty in the beginning.
    pub device: String,
    /// Of that device, what stands up to this (epoch, seq) is complete; (0, 0) if nothing is.
    pub after: (u64, u64),
    /// Frames in the file.
    pub frames: u64,
    /// Their payloads, in bytes.
    pub payload_bytes: u64,
    /// Frames that are damaged and were left out.
    #[serde(default)]
    pub lost: u64,
}

/// The state of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    format: String,
    /// What was asked for: only the same may go on.
    pub request: String,
    #[serde(flatten)]
    pub progress: Progress,
    /// Bytes of the file, or finished parts of it, that are complete.
    pub complete: u64,
}

pub(super) fn path_of(out: &Path) -> PathBuf {
    beside(out, ".part.state")
}

/// The path with an ending behind its name.
pub(super) fn beside(out: &Path, ending: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl State {
    pub(super) fn new(request: &str) -> Self {
        let (format, request) = (FORMAT.to_owned(), request.to_owned());
        Self { format, request, progress: Progress::default(), complete: 0 }
    }
}

/// The file that a state stands in, locked: whoever has it is the only one who makes the file that it is of.
pub(super) struct StateFile {
    path: PathBuf,
    locked: File,
}

impl StateFile {
    /// Takes the state of `out`; it is empty if there was none.
    ///
    /// # Errors
    /// [`ExportError::InUse`], [`ExportError::Exists`] if `out` was completed meanwhile, [`ExportError::Io`].
    pub(super) fn take(out: &Path) -> Result<Self, ExportError> {
        let path = path_of(out);
        let state = loop {
            let mut options = OpenOptions::new();
            let locked = options.read(true).write(true).create(true).truncate(false).open(&path);
            let locked = locked.map_err(ExportError::io("open", &*path))?;
            lock(&locked, &path)?;
            // One that was replaced, or removed, before it was locked is nobody's any more.
            let (opened, there) = (locked.metadata(), fs::metadata(&path));
            let opened = opened.map_err(ExportError::io("read", &*path))?;
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (opened.dev(), opened.ino())) {
                break Self { path, locked };
            }
        };
        if out.exists() {
            let is_new = state.locked.metadata().is_ok_and(|metadata| metadata.len() == 0);
            if is_new {
                state.remove()?;
            }
            return Err(ExportError::Exists(out.to_owned()));
        }
        Ok(state)
    }

    /// What it says, if an export was begun with this request.
    pub(super) fn load(&mut self, request: &str) -> Result<Option<State>, ExportError> {
        let (path, mut bytes) = (self.path.clone(), Vec::new());
        self.locked.read_to_end(&mut bytes).map_err(ExportError::io("read", &*path))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let state: State = match serde_json::from_slice(&bytes) {
            Ok(state) => state,
            Err(error) => return Err(ExportError::State { path, found: error.to_string() }),
        };
        if state.format != FORMAT {
            return Err(ExportError::State { path, found: format!("format {:?}", state.format) });
        }
        if state.request != request {
            return Err(ExportError::Other { path, found: state.request, wanted: request.to_owned() });
        }
        Ok(Some(state))
    }

    /// Writes it, whole or not at all.
    pub(super) fn store(&mut self, state: &State) -> Result<(), ExportError> {
        let new = beside(&self.path, ".new");
        let failed = |error| ExportError::io("write", &*new)(error);
        let bytes = serde_json::to_vec(state).expect("numbers and texts are JSON");
        let mut file = File::create(&new).map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(failed)?;
        // Before it has the name, so that there is no moment at which nobody has it.
        lock(&file, &self.path)?;
        fs::rename(&new, &self.path).map_err(ExportError::io("write", &*self.path))?;
        self.locked = file;
        Ok(())
    }

    /// Removes it. The lock is held until this is dropped.
    pub(super) fn remove(&self) -> Result<(), ExportError> {
        fs::remove_file(&self.path).map_err(ExportError::io("remove", &*self.path))
    }
}

fn lock(file: &File, path: &Path) -> Result<(), ExportError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ExportError::InUse(path.to_owned())),
        Err(errno) => Err(ExportError::io("lock", path)(io::Error::from(errno))),
    }
}
