//! What reads bytes of the journal, for the fuzz targets (feature `fuzzing`): as it is, over files in memory.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::aside::Aside;
use super::disk::DiskFile;
use super::format::FileHeader;
use super::run::Key;
use super::table::Table;
use super::walk::{Walk, WalkError, find_voucher, for_each_run};

/// Most records of a device that are read at once.
const PAGE_RUNS: usize = 100;

/// A file that can only be read.
struct Image(Vec<u8>);

impl DiskFile for Image {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let to = from.saturating_add(len).min(self.0.len());
        Ok(self.0[from..to].to_vec())
    }

    fn write_at(&self, _: &mut [IoSlice<'_>], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// Walks a journal file to its end or its first fault, as recovery does, and looks for what vouches for the bytes
/// behind a fault.
///
/// # Panics
/// If the walk does not hold to what it promises; the fuzzer reports it.
pub fn walk_file(bytes: Vec<u8>) {
    let Ok(header) = FileHeader::decode(&bytes) else { return };
    let id = (header.file_id, header.nonce);
    let end = bytes.len() as u64;
    let file: Arc<dyn DiskFile> = Arc::new(Image(bytes));
    let nothing = Aside::NONE;
    let mut walk = Walk::new(file.clone(), id, end, &nothing);
    loop {
        let at = walk.at();
        match walk.next() {
            Ok(Some(group)) => {
                assert!(group.header.offset == at && walk.at() > at && walk.at() <= end);
                for_each_run(&group, &nothing, |_, run, data| {
                    assert_eq!(run.len as usize, data.len());
                    assert!(u64::from(run.offset) > at && run.last() >= run.first);
                });
            }
            Ok(None) => break,
            Err(WalkError::Fault(fault)) => {
                assert!((at..=end).contains(&fault.offset));
                let voucher = find_voucher(&*file, id, fault.offset).expect("memory can be read");
                assert!(voucher.is_none_or(|header| header.durable_to > fault.offset));
                break;
            }
            Err(WalkError::Io(error)) => panic!("memory can be read: {error}"),
        }
    }
}

/// Opens an index and reads all of it.
pub fn read_index(bytes: Vec<u8>) {
    let Ok(table) = Table::open(Arc::new(Image(bytes))) else { return };
    let mut entries = Vec::new();
    // Whether or not it is damaged further on.
    let _ = table.each(|entry| entries.push(entry));
    for entry in entries.iter().take(20) {
        let _ = table.find(entry.device.as_str());
        let _ = table.rising(entry, Key::MIN, PAGE_RUNS);
        let _ = table.rising(entry, entry.high_key(), PAGE_RUNS);
        let _ = table.falling(entry, Key::MAX, PAGE_RUNS);
        let _ = table.falling(entry, entry.low_key(), PAGE_RUNS);
        let _ = table.gaps(entry, Key::MIN, PAGE_RUNS);
    }
}

/// Reads what a repair set aside, and writes it again.
///
/// # Panics
/// If it is not the same again; the fuzzer reports it.
pub fn read_aside(bytes: &[u8]) {
    let Ok(aside) = Aside::decode(bytes, 1, 1) else { return };
    for (_, run) in aside.runs() {
        assert!(run.count >= 1);
    }
    for piece in &aside.pieces {
        let _ = aside.covers(piece.from);
    }
    let again = Aside::decode(&aside.encode(1, 1), 1, 1);
    assert_eq!(again.as_ref(), Ok(&aside));
}
