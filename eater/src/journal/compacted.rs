//! What compaction needs of a journal: its sealed files, device by device, and an end to them.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use trough_protocol::{DeviceId, Seq};
use trough_store::SealedFile;

use super::error::{JournalError, ReadError};
use super::index::Way;
use super::recovery::remove_files;
use super::run::{Key, Located, Run};
use super::scan::{Fetch, Segment};
use super::shared::Shared;
use super::view::Rank;
use super::{Journal, names};

/// Runs looked up at a time.
const PAGE_RUNS: usize = 4096;

impl Journal {
    /// Sealed files that may be compacted, rising: the catalog has taken note of what they say of devices, and so has
    /// it of all before.
    pub(crate) fn sealed_files(&self) -> Vec<SealedFile> {
        // In this order, as files move from the one to the other.
        let unrecorded =
            self.shared.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).first().copied();
        let sealed = self.shared.read().sealed.clone();
        sealed.into_iter().take_while(|file| unrecorded.is_none_or(|first| file.file_id < first)).collect()
    }

    /// The devices in a sealed file, by id. Blocks.
    pub(crate) fn devices_in(&self, file: u64) -> Result<Vec<DeviceId>, ReadError> {
        let mut devices = Vec::new();
        let read =
            self.shared.handles.table(file).and_then(|table| table.each(|entry| devices.push(entry.device)));
        read.map_err(|error| self.shared.index_error(file, error))?;
        Ok(devices)
    }

    /// A device's runs in a sealed file: of frames, and of numbers without. Blocks.
    pub(crate) fn runs_in(&self, file: u64, device: &str) -> Result<(Vec<Run>, Vec<Run>), ReadError> {
        let frames = self.pages(file, device, Way::Rising)?;
        let gaps = self.pages(file, device, Way::Gaps)?;
        Ok((frames, gaps))
    }

    /// The same, one after the other, none of which is held.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(super) fn each_run_in(
        &self,
        file: u64,
        device: &str,
        mut take: impl FnMut(Run),
    ) -> Result<(), ReadError> {
        self.each(file, device, Way::Rising, &mut take)?;
        self.each(file, device, Way::Gaps, &mut take)
    }

    fn pages(&self, file: u64, device: &str, way: fn(Key) -> Way) -> Result<Vec<Run>, ReadError> {
        let mut runs = Vec::new();
        self.each(file, device, way, |run| runs.push(run))?;
        Ok(runs)
    }

    fn each(
        &self,
        file: u64,
        device: &str,
        way: fn(Key) -> Way,
        mut take: impl FnMut(Run),
    ) -> Result<(), ReadError> {
        let mut from = Key::MIN;
        loop {
            let page = self.shared.page(file, device, way(from), PAGE_RUNS)?;
            let Some(last) = page.last() else { return Ok(()) };
            from = last.key().behind();
            page.into_iter().for_each(&mut take);
        }
    }

    /// Reads runs' data.
    pub(crate) fn file_reader(&self) -> FileReader {
        FileReader { shared: self.shared.clone(), fetch: Fetch::new(self.shared.clone()) }
    }

    /// Removes sealed files up to `through`, whose frames are elsewhere. Blocks. Those who read them just now may fail.
    ///
    /// # Errors
    /// The disk or the catalog refused; what is left is removed by the next call, or at the next start.
    pub(crate) fn remove_through(&self, through: u64) -> Result<usize, JournalError> {
        let sealed = self.sealed_files();
        let ids: Vec<u64> = sealed.iter().map(|file| file.file_id).take_while(|id| *id <= through).collect();
        self.shared.write().forget(&ids);
        ids.iter().for_each(|id| self.shared.handles.forget(*id));
        remove_files(&self.shared, &ids)?;
        self.shared.metrics.files.set(self.shared.read().files().len() as i64);
        Ok(ids.len())
    }
}

/// Reads the data of sealed files' runs.
pub(crate) struct FileReader {
    shared: Arc<Shared>,
    fetch: Fetch,
}

impl FileReader {
    /// The data of a run of a file of the local journal, verified; `None` if it is damaged. `soon` is wanted next. Blocks.
    pub(crate) fn data(
        &mut self,
        of: &Located<Rank>,
        soon: &VecDeque<Segment<Rank>>,
    ) -> Result<Option<Bytes>, ReadError> {
        let file = of.file.id.n;
        let soon = soon.iter().map(|next| (next.of.file.id.n, &next.of.run));
        self.fetch.run(file, &of.run, soon).map_err(|source| self.shared.read_error(file, source))
    }

    /// Frames of a run are damaged, and there is no copy.
    pub(crate) fn damaged(&self, of: &Located<Rank>, first: Seq, last: Seq) -> ReadError {
        ReadError::Damaged {
            file: self.shared.disk.path_of(&names::journal(of.file.id.n)),
            offset: of.run.offset.into(),
            epoch: of.run.epoch,
            first,
            last,
        }
    }
}
