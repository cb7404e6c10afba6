//! Reading a file in big pieces, and giving them out in small ones without copying.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::DiskFile;

/// How much is read at once, in bytes, unless more is asked for.
pub(super) const WINDOW_BYTES: usize = 1024 * 1024;

/// A piece of a file.
pub(super) struct Window {
    file: Arc<dyn DiskFile>,
    start: u64,
    bytes: Bytes,
}

impl Window {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, start: 0, bytes: Bytes::new() }
    }

    /// `len` bytes from `offset`; fewer only where the file ends. What is not at hand is read together with
    /// what follows it, up to [`WINDOW_BYTES`].
    pub(super) fn get(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        if let Some(bytes) = self.at_hand(offset, len) {
            return Ok(bytes);
        }
        self.load(offset, len.max(WINDOW_BYTES))?;
        let end = len.min(self.bytes.len());
        Ok(self.bytes.slice(..end))
    }

    /// Reads exactly this piece.
    pub(super) fn load(&mut self, offset: u64, len: usize) -> io::Result<()> {
        self.bytes = Bytes::from(self.file.read_at(offset, len)?);
        self.start = offset;
        Ok(())
    }

    /// `len` bytes from `offset`, if they have been read.
    pub(super) fn at_hand(&self, offset: u64, len: usize) -> Option<Bytes> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let to = from.checked_add(len)?;
        (to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
    }
}
