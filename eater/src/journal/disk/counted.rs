//! A file of which it is counted how many bytes are read.

use std::io::{self, IoSlice};
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;

use super::DiskFile;

/// A file, and where it is counted.
pub(in crate::journal) struct CountedFile {
    file: Arc<dyn DiskFile>,
    read_bytes: Counter,
}

impl CountedFile {
    /// The same file, whose reads are counted.
    pub(in crate::journal) fn around(file: Arc<dyn DiskFile>, read_bytes: Counter) -> Arc<dyn DiskFile> {
        Arc::new(Self { file, read_bytes })
    }
}

impl DiskFile for CountedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let bytes = self.file.read_at(offset, len)?;
        self.read_bytes.inc_by(bytes.len() as u64);
        Ok(bytes)
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_at(parts, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}
