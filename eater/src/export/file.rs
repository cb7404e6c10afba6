//! The file that an export makes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use trough_protocol::{Epoch, Seq};

use super::lines::Lines;
use super::state::{self, Progress, State, StateFile, beside};
use super::table::{self, Part};
use super::{ExportError, ExportFormat, Exported};

/// After so many bytes of frames, what is there is made durable and noted as complete.
const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// What a frame takes besides its payload, about.
const FRAME_BYTES: u64 = 64;
/// Lines are written in pieces of this size.
const WRITE_BYTES: usize = 1024 * 1024;

/// A file that is being made: `OUT.part` and `OUT.part.state` beside it, and `OUT` when it is complete.
pub struct ExportFile {
    out: PathBuf,
    state: State,
    state_file: StateFile,
    body: Body,
    /// What came since the last checkpoint, and all.
    since: u64,
    frames: u64,
    payload_bytes: u64,
    lost: u64,
    checkpoint_bytes: u64,
}

/// Where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// How far it was; the beginning, if it is new.
    pub progress: Progress,
    /// Whether something was there.
    pub resumed: bool,
}

enum Body {
    Lines {
        file: File,
        lines: Box<Lines>,
        buffer: Vec<u8>,
        len: u64,
    },
    /// The part that is open, and how many are finished.
    Parquet {
        part: Option<Box<Part>>,
        finished: u64,
    },
}

impl ExportFile {
    /// Begins a file, or goes on with one that was begun with the same `request`.
    ///
    /// # Errors
    /// [`ExportError::Exists`], [`ExportError::InUse`], [`ExportError::Other`], [`ExportError::State`],
    /// [`ExportError::Short`], [`ExportError::Io`].
    pub fn open(out: &Path, format: ExportFormat, request: &str) -> Result<(Self, Resume), ExportError> {
        Self::open_with(out, format, request, CHECKPOINT_BYTES)
    }

    pub(super) fn open_with(
        out: &Path,
        format: ExportFormat,
        request: &str,
        checkpoint_bytes: u64,
    ) -> Result<(Self, Resume), ExportError> {
        if out.exists() {
            return Err(ExportError::Exists(out.to_owned()));
        }
        let mut state_file = StateFile::take(out)?;
        let found = state_file.load(request)?;
        let resumed = found.is_some();
        let mut state = found.unwrap_or_else(|| State::new(request));
        let body = match Lines::new(format) {
            Some(lines) => lines_body(out, lines, &mut state)?,
            None => parquet_body(out, &state)?,
        };
        if !resumed {
            state_file.store(&state)?;
        }
        let progress = state.progress.clone();
        let Progress { frames, payload_bytes, lost, .. } = progress;
        let out = out.to_owned();
        let file =
            Self { out, state, state_file, body, since: 0, frames, payload_bytes, lost, checkpoint_bytes };
        Ok((file, Resume { progress, resumed }))
    }

    /// Frames in it, those of earlier runs included.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Their payloads, in bytes.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Frames that are damaged and not in it, those of earlier runs included.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Leaves out so many frames, which stand before the next one.
    pub fn lose(&mut self, count: u64) {
        self.lost += count;
    }

    /// Takes a frame; they come by (device, epoch, seq). Makes durable what has come, now and then.
    ///
    /// # Errors
    /// [`ExportError::Io`], [`ExportError::Parquet`].
    pub fn push(&mut self, exported: &Exported<'_>) -> Result<(), ExportError> {
        match &mut self.body {
            Body::Lines { file, lines, buffer, len } => {
                lines.push(exported, buffer);
                if buffer.len() >= WRITE_BYTES {
                    flush(file, buffer, len).map_err(ExportError::io("write", beside(&self.out, ".part")))?;
                }
            }
            Body::Parquet { part, finished } => {
                let part = match part {
                    Some(part) => part,
                    none => none.insert(Box::new(Part::create(part_path(&self.out, *finished + 1))?)),
                };
                part.push(exported)?;
            }
        }
        let payload = exported.frame.payload.len() as u64;
        self.frames += 1;
        self.payload_bytes += payload;
        self.since += payload + FRAME_BYTES;
        if self.since >= self.checkpoint_bytes {
            self.checkpoint(exported.device, exported.epoch, exported.seq)?;
        }
        Ok(())
    }

    /// Notes that all up to this frame is complete.
    fn checkpoint(&mut self, device: &str, epoch: Epoch, seq: Seq) -> Result<(), ExportError> {
        self.settle()?;
        let (device, after) = (device.to_owned(), (epoch.0, seq.0));
        let Self { frames, payload_bytes, lost, .. } = *self;
        self.state.progress = Progress { device, after, frames, payload_bytes, lost };
        self.state_file.store(&self.state)
    }

    fn settle(&mut self) -> Result<(), ExportError> {
        self.since = 0;
        self.state.complete = match &mut self.body {
            Body::Lines { file, buffer, len, .. } => {
                let written = flush(file, buffer, len).and_then(|()| file.sync_data());
                written.map_err(ExportError::io("write", beside(&self.out, ".part")))?;
                *len
            }
            Body::Parquet { part, finished } => {
                if let Some(part) = part.take() {
                    part.finish()?;
                    *finished += 1;
                }
                *finished
            }
        };
        Ok(())
    }

    /// Completes the file: it has its name then. How large it is, in bytes.
    ///
    /// # Errors
    /// [`ExportError::Io`], [`ExportError::Parquet`].
    pub fn finish(mut self) -> Result<u64, ExportError> {
        self.settle()?;
        let whole = beside(&self.out, ".part");
        let mut parts = Vec::new();
        let mut from = whole.clone();
        if let Body::Parquet { finished, .. } = &mut self.body {
            if *finished == 0 {
                // Without a frame it is still a table.
                Part::create(part_path(&self.out, 1))?.finish()?;
                *finished = 1;
            }
            parts = (1..=*finished).map(|n| part_path(&self.out, n)).collect();
            match &parts[..] {
                [only] => from = only.clone(),
                several => table::join(several, &whole)?,
            }
        }
        let size = fs::metadata(&from).map_err(ExportError::io("read", &*from))?.len();
        // The state goes only when the name is durable, and the parts only when nothing asks for them any more: killed
        // in between, it goes on, or there is a file that is complete.
        fs::rename(&from, &self.out).map_err(ExportError::io("rename", &*from))?;
        self.sync_dir()?;
        self.state_file.remove()?;
        // The last one first: those that stay are found by the next that begins.
        for part in parts.iter().rev().filter(|part| **part != from) {
            fs::remove_file(part).map_err(ExportError::io("remove", &**part))?;
        }
        self.sync_dir()?;
        Ok(size)
    }

    fn sync_dir(&self) -> Result<(), ExportError> {
        let dir = self.out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(ExportError::io("sync", dir))
    }
}

fn flush(file: &mut File, buffer: &mut Vec<u8>, len: &mut u64) -> io::Result<()> {
    file.write_all(buffer)?;
    *len += buffer.len() as u64;
    buffer.clear();
    Ok(())
}

fn lines_body(out: &Path, lines: Lines, state: &mut State) -> Result<Body, ExportError> {
    let path = beside(out, ".part");
    check_complete(out, &path, state.complete)?;
    let failed = |error| ExportError::io("write", &*path)(error);
    let options = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
    let mut file = options.map_err(failed)?;
    let mut buffer = Vec::with_capacity(WRITE_BYTES + WRITE_BYTES / 4);
    // What stands behind the last checkpoint comes again.
    let cut = file.set_len(state.complete).and_then(|()| file.seek(SeekFrom::End(0)));
    let len = cut.map_err(failed)?;
    if len == 0 {
        buffer.extend_from_slice(&lines.header());
    }
    Ok(Body::Lines { file, lines: Box::new(lines), buffer, len })
}

/// Nothing is built on a file that is shorter than what was made durable of it.
fn check_complete(out: &Path, path: &Path, bytes: u64) -> Result<(), ExportError> {
    let found = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(ExportError::io("read", path)(error)),
    };
    if found >= bytes {
        return Ok(());
    }
    let (path, state) = (path.to_owned(), state::path_of(out));
    Err(ExportError::Short { path, found, wanted: bytes, state })
}

fn parquet_body(out: &Path, state: &State) -> Result<Body, ExportError> {
    for path in (1..=state.complete).map(|n| part_path(out, n)) {
        // No table is empty.
        check_complete(out, &path, 1)?;
    }
    for n in state.complete + 1.. {
        let path = part_path(out, n);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(ExportError::io("remove", path)(error)),
        }
    }
    Ok(Body::Parquet { part: None, finished: state.complete })
}

/// The n-th part of a Parquet file.
fn part_path(out: &Path, n: u64) -> PathBuf {
    beside(out, &format!(".part.{n}"))
}
