//! The file that groups are appended to, and the rule for what happens when that fails.
//!
//! After any failed write or fdatasync the file is never synced again: the system may have dropped what it
//! could not write and would report the next sync as a success. The file is cut to its durable part, a new one
//! is begun, and its header says how long the old one is, so that recovery cuts whatever the old one may still
//! show beyond.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prometheus_client::metrics::histogram::Histogram;
use trough_protocol::Micros;

use super::disk::{Disk, DiskFile};
use super::format::{FILE_HEADER_BYTES, FileHeader, GroupHeader};
use super::names;

/// Zeros that a small group writes behind itself, for the next ones to overwrite. While a file keeps its size and
/// its blocks, fdatasync has only data to write; if it grows, the file system commits its own journal each time.
static ZEROS: [u8; AHEAD_BYTES] = [0; AHEAD_BYTES];
/// The files of the tests are small, too: they are to outgrow their zeros now and then.
const AHEAD_BYTES: usize = if cfg!(test) { 2 * 1024 } else { 256 * 1024 };
/// Groups up to this size, in bytes, are worth it: behind larger ones the zeros would be written for nothing.
const SMALL_GROUP_BYTES: usize = 64 * 1024;

/// Something failed; nothing of the group is durable as far as anyone may believe.
#[derive(Debug)]
pub(super) struct WriteError {
    pub doing: &'static str,
    pub source: io::Error,
}

/// Where appended groups go.
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    roll_bytes: u64,
    nonces: Nonces,
    sync_seconds: Histogram,
    /// Whether zeros are written ahead: not in the file that follows a failure, which may have been for want of space.
    ahead: bool,
    state: State,
}

/// Where the random numbers of new files come from.
pub(super) type Nonces = Box<dyn FnMut() -> u64 + Send>;

enum State {
    Open(Active),
    /// The next group needs a new file.
    Closed(Previous),
}

/// The file a new one follows.
#[derive(Debug, Clone, Copy)]
struct Previous {
    id: u64,
    len: u64,
    /// Ids up to this one have been used, perhaps for files that were given up.
    used: u64,
}

/// An open file.
pub(super) struct Active {
    pub file: Arc<dyn DiskFile>,
    pub id: u64,
    pub nonce: u64,
    /// Where its groups end; all before is durable.
    pub durable: u64,
    /// Its size: zeros stand behind its groups.
    pub size: u64,
    /// What its header says came before.
    pub previous: (u64, u64),
}

/// What a [`Writer::ready`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    /// The open file takes the group.
    Same,
    /// A file was begun. The one before it, if there is one, is complete, with this id and length.
    New { id: u64, nonce: u64, complete: Option<(u64, u64)> },
}

impl Writer {
    /// Goes on with the open file, or begins one behind the file that has this id and length; (0, 0) if there is
    /// none.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        roll_bytes: u64,
        nonces: Nonces,
        sync_seconds: Histogram,
        open: Result<Active, (u64, u64)>,
    ) -> Self {
        let state = match open {
            Ok(active) => State::Open(active),
            Err((id, len)) => State::Closed(Previous { id, len, used: id }),
        };
        Self { disk, roll_bytes, nonces, sync_seconds, ahead: true, state }
    }

    /// Whether the next group goes to a new file.
    pub(super) fn needs_new_file(&self) -> bool {
        match &self.state {
            State::Open(active) => active.durable >= self.roll_bytes,
            State::Closed(_) => true,
        }
    }

    /// Whether there is a file that a marker can go to.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Ends the open file if it has a group, so that the next one goes to a new file: its id and length.
    pub(super) fn complete(&mut self) -> Option<(u64, u64)> {
        let State::Open(active) = &self.state else { return None };
        let (id, len) = (active.id, active.durable);
        if len <= FILE_HEADER_BYTES {
            return None;
        }
        self.trim();
        self.ahead = true;
        self.state = State::Closed(Previous { id, len, used: id });
        Some((id, len))
    }

    /// Sees to it that there is a file for the next group.
    ///
    /// # Errors
    /// A new file could not be made; the next call tries again.
    pub(super) fn ready(&mut self, now: Micros) -> Result<Ready, WriteError> {
        if let State::Open(active) = &self.state {
            if active.durable < self.roll_bytes {
                return Ok(Ready::Same);
            }
            self.complete();
        }
        let State::Closed(previous) = &mut self.state else { unreachable!("it was closed above") };
        let id = previous.used + 1;
        let name = names::journal(id);
        let nonce = (self.nonces)();
        let header = FileHeader {
            file_id: id,
            nonce,
            created_at: now,
            previous_id: previous.id,
            previous_len: previous.len,
        };
        match create(&*self.disk, &name, &header) {
            Ok(file) => {
                let before = (previous.id, previous.len);
                let complete = (previous.id > 0).then_some(before);
                let len = FILE_HEADER_BYTES;
                self.state =
                    State::Open(Active { file, id, nonce, durable: len, size: len, previous: before });
                Ok(Ready::New { id, nonce, complete })
            }
            Err(error) => {
                // A name that cannot be taken back is not used again: its file may have been synced badly. One
                // that was taken before is somebody else's, and stays.
                let taken = error.source.kind() == io::ErrorKind::AlreadyExists;
                if taken || !gone(&*self.disk, &name) {
                    previous.used = id;
                }
                Err(error)
            }
        }
    }

    /// Appends a group and makes it durable. Where it begins in its file.
    ///
    /// # Errors
    /// The file was given up; call [`Writer::ready`] and append again.
    pub(super) fn append<'a>(
        &mut self,
        received_at: Micros,
        batches: impl ExactSizeIterator<Item = &'a Bytes> + Clone,
    ) -> Result<(u64, u64), WriteError> {
        let State::Open(active) = &mut self.state else {
            let source = io::Error::other("no file is open");
            return Err(WriteError { doing: "write to", source });
        };
        let len: usize = batches.clone().map(Bytes::len).sum();
        let header = GroupHeader {
            file_id: active.id,
            nonce: active.nonce,
            offset: active.durable,
            durable_to: active.durable,
            received_at,
            batches: u32::try_from(batches.len()).expect("a group has at most 256 MiB"),
            len: u32::try_from(len).expect("a group has at most 256 MiB"),
        };
        let encoded = header.encode();
        let mut parts = Vec::with_capacity(batches.len() + 1);
        parts.push(IoSlice::new(&encoded));
        parts.extend(batches.map(|batch| IoSlice::new(batch)));
        let mut size = active.size.max(header.end());
        // A marker comes when there is nothing else to do, so nothing else will follow soon.
        if self.ahead && header.end() > active.size && (1..=SMALL_GROUP_BYTES).contains(&len) {
            parts.push(IoSlice::new(&ZEROS));
            size = header.end() + ZEROS.len() as u64;
        }
        match write_and_sync(&*active.file, &mut parts, active.durable, &self.sync_seconds) {
            Ok(()) => {
                active.durable = header.end();
                active.size = size;
                Ok((active.id, header.offset))
            }
            Err(error) => {
                self.give_up();
                Err(error)
            }
        }
    }

    /// Where the open file ends, and its id, for messages.
    pub(super) fn position(&self) -> (u64, u64) {
        match &self.state {
            State::Open(active) => (active.id, active.durable),
            State::Closed(previous) => (previous.id, previous.len),
        }
    }

    /// Cuts the zeros behind the groups of the open file.
    pub(super) fn trim(&mut self) {
        if let State::Open(active) = &mut self.state
            && active.size > active.durable
        {
            match active.file.truncate(active.durable) {
                Ok(()) => active.size = active.durable,
                // The next start, or the next file's header, says where this one ends.
                Err(error) => {
                    tracing::warn!(file = active.id, %error, "zeros stay behind a journal file's groups")
                }
            }
        }
    }

    /// The open file is not to be used any more.
    fn give_up(&mut self) {
        self.ahead = false;
        let State::Open(active) = &self.state else { return };
        if let Err(error) = active.file.truncate(active.durable) {
            // The next file's header says where this one ends.
            tracing::warn!(file = active.id, %error, "a journal file that failed could not be cut");
        }
        let (id, len) = (active.id, active.durable);
        let mut closed = Previous { id, len, used: id };
        if len == FILE_HEADER_BYTES {
            // It has no group, so nothing is lost with it, and a full disk does not fill with headers.
            let (id, len) = active.previous;
            closed = Previous { id, len, used: id.max(active.id - 1) };
            if !gone(&*self.disk, &names::journal(active.id)) {
                closed.used = active.id;
            }
        }
        self.state = State::Closed(closed);
    }
}

fn write_and_sync(
    file: &dyn DiskFile,
    parts: &mut [IoSlice<'_>],
    offset: u64,
    sync_seconds: &Histogram,
) -> Result<(), WriteError> {
    file.write_at(parts, offset).map_err(|source| WriteError { doing: "write to", source })?;
    let begin = Instant::now();
    file.sync().map_err(|source| WriteError { doing: "fdatasync", source })?;
    sync_seconds.observe(begin.elapsed().as_secs_f64());
    Ok(())
}

fn create(disk: &dyn Disk, name: &str, header: &FileHeader) -> Result<Arc<dyn DiskFile>, WriteError> {
    let failed = |doing| move |source| WriteError { doing, source };
    let file = disk.create(name).map_err(failed("make a file in"))?;
    file.write_at(&mut [IoSlice::new(&header.encode())], 0).map_err(failed("write to"))?;
    file.sync().map_err(failed("fdatasync"))?;
    disk.sync_dir().map_err(failed("fsync"))?;
    Ok(file)
}

/// Removes a name. Whether it is free now.
fn gone(disk: &dyn Disk, name: &str) -> bool {
    match disk.remove(name) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
