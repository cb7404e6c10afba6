//! What lies beside a file that is not complete: how far it is.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

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

    /// The state of `out`, if an export to it was begun with this request.
    pub(super) fn load(out: &Path, request: &str) -> Result<Option<Self>, ExportError> {
        let path = path_of(out);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ExportError::io("read", path)(error)),
        };
        let state: Self = match serde_json::from_slice(&bytes) {
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
    pub(super) fn store(&self, out: &Path) -> Result<(), ExportError> {
        let (path, new) = (path_of(out), beside(out, ".part.state.new"));
        let failed = |error| ExportError::io("write", &*new)(error);
        let bytes = serde_json::to_vec(self).expect("numbers and texts are JSON");
        let mut file = File::create(&new).map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(failed)?;
        fs::rename(&new, &path).map_err(ExportError::io("write", path))
    }
}
