//! What is durable, and where: the part of the journal that readers and the committer share.

use std::sync::Arc;

use trough_protocol::{DeviceId, Epoch, Seq};
use trough_store::SealedFile;

use super::devices::Devices;
use super::memory::OpenFile;
use super::run::{Key, Run};

/// The index. Behind a lock that is held for a look-up or for entering a group, never for I/O.
#[derive(Debug)]
pub(super) struct Index {
    pub devices: Devices,
    /// Rising; each has an index file.
    pub sealed: Vec<SealedFile>,
    /// Rising; complete, and being sealed.
    pub rolled: Vec<Arc<OpenFile>>,
    /// The file that groups go to; `None` after a failure, until the next file is made.
    pub active: Option<OpenFile>,
    /// Where the durable part of the journal ends: file and offset.
    pub end: (u64, u64),
    /// Files up to this one were removed, or may have been before the journal was opened.
    pub removed: u64,
}

/// The frames of one device in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub file: u64,
    /// No frame run stands before this.
    pub low: Key,
    /// No frame run stands behind this.
    pub high: Key,
    /// Most frames in a run.
    pub span: u64,
    /// Lowest and highest ts.
    pub ts: (u64, u64),
}

/// Which way a page of runs goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Frames from a key on, rising.
    Rising(Key),
    /// Frames before a key, falling.
    Falling(Key),
    /// Numbers without frames from a key on, rising.
    Gaps(Key),
    /// Frames in the order of arrival, from an offset on; only of a file in memory.
    Since(u32),
}

impl Index {
    pub(super) fn new(removed: u64) -> Self {
        Self {
            devices: Devices::default(),
            sealed: Vec::new(),
            rolled: Vec::new(),
            active: None,
            end: (0, 0),
            removed,
        }
    }

    /// Enters a durable run of the active file. The device's number, and how many of the run's are new; `None`
    /// if the epoch's head must be brought back first, with [`Index::restore_head`].
    pub(super) fn enter(&mut self, device: &str, run: Run) -> Option<(u32, u64)> {
        let file = self.active.as_mut().expect("a group was written to it");
        let number = self.devices.number_or_new(device);
        let device = self.devices.by_number(number);
        device.head(run.epoch)?;
        let fresh = device.cover(file.id, &run).fresh;
        file.push(number, run, fresh);
        Some((number, fresh))
    }

    /// Puts the head of an epoch that was forgotten.
    pub(super) fn restore_head(&mut self, device: &str, epoch: Epoch, head: Seq) {
        let number = self.devices.number_or_new(device);
        self.devices.by_number(number).restore_head(epoch, head);
    }

    /// The active file is complete.
    pub(super) fn roll(&mut self) {
        if let Some(file) = self.active.take() {
            self.rolled.push(Arc::new(file));
        }
    }

    /// The index file of the oldest rolled file is durable.
    pub(super) fn seal(&mut self, facts: SealedFile) {
        let Some(at) = self.rolled.iter().position(|file| file.id == facts.file_id) else { return };
        let file = self.rolled.remove(at);
        for number in file.devices.keys() {
            self.devices.by_number(*number).trim(facts.file_id);
        }
        let at = self.sealed.partition_point(|sealed| sealed.file_id < facts.file_id);
        self.sealed.insert(at, facts);
    }

    /// Forgets sealed files, not what they said of devices.
    pub(super) fn forget(&mut self, ids: &[u64]) {
        self.sealed.retain(|file| !ids.contains(&file.file_id));
        self.removed = ids.iter().copied().max().unwrap_or(0).max(self.removed);
    }

    /// A file that is in memory, and whether groups still go to it.
    pub(super) fn open_file(&self, id: u64) -> Option<(&OpenFile, bool)> {
        let file = self.open_files().find(|file| file.id == id)?;
        Some((file, self.active.as_ref().is_some_and(|active| active.id == id)))
    }

    fn open_files(&self) -> impl Iterator<Item = &OpenFile> {
        self.rolled.iter().map(|file| &**file).chain(&self.active)
    }

    /// The device's frames in the files that are in memory.
    pub(super) fn extents(&self, device: &str) -> Vec<Extent> {
        let Some(number) = self.devices.number(device) else { return Vec::new() };
        let extent = |file: &OpenFile| {
            let runs = file.devices.get(&number)?;
            let (low, high) = runs.bounds()?;
            Some(Extent { file: file.id, low, high, span: runs.span, ts: runs.ts? })
        };
        self.open_files().filter_map(extent).collect()
    }

    /// The files in memory that have numbers of the device without frames.
    pub(super) fn files_with_gaps(&self, device: &str) -> Vec<u64> {
        let Some(number) = self.devices.number(device) else { return Vec::new() };
        let has = |file: &&OpenFile| file.devices.get(&number).is_some_and(|runs| !runs.gaps.is_empty());
        self.open_files().filter(has).map(|file| file.id).collect()
    }

    /// A page of a device's runs in a file; `None` if the file is not in memory.
    pub(super) fn page(&self, file: u64, device: &str, way: Way, limit: usize) -> Option<Vec<Run>> {
        let file = self.open_files().find(|open| open.id == file)?;
        let runs = self.devices.number(device).and_then(|number| file.devices.get(&number));
        let Some(runs) = runs else { return Some(Vec::new()) };
        Some(match way {
            Way::Rising(from) => runs.rising(from, limit),
            Way::Falling(below) => runs.falling(below, limit),
            Way::Since(offset) => runs.since(offset, limit),
            Way::Gaps(from) => {
                let mut gaps: Vec<Run> = runs.gaps.iter().filter(|run| run.key() >= from).copied().collect();
                gaps.sort_unstable_by_key(Run::key);
                gaps.truncate(limit);
                gaps
            }
        })
    }

    /// The files that are in memory, with their devices by id, for sealing.
    #[expect(clippy::type_complexity, reason = "a file and its devices; a name would not say more")]
    pub(super) fn rolled_file(&self, id: u64) -> Option<(Arc<OpenFile>, Vec<(DeviceId, u32)>)> {
        let file = self.rolled.iter().find(|file| file.id == id)?.clone();
        let mut devices: Vec<(DeviceId, u32)> =
            file.devices.keys().map(|number| (self.devices.id(*number).clone(), *number)).collect();
        devices.sort_unstable();
        Some((file, devices))
    }

    /// The files that are in memory, rising.
    pub(super) fn files_in_memory(&self) -> Vec<u64> {
        self.open_files().map(|file| file.id).collect()
    }

    /// All files, rising.
    pub(super) fn files(&self) -> Vec<u64> {
        let sealed = self.sealed.iter().map(|file| file.file_id);
        sealed.chain(self.open_files().map(|file| file.id)).collect()
    }

    /// The head, if it is in memory: `Err` if sealed files must be asked.
    pub(super) fn head(&self, device: &str, epoch: Epoch) -> Result<Seq, ()> {
        self.devices.get(device).map_or(Ok(Seq::ZERO), |device| device.head(epoch).ok_or(()))
    }

    /// Bytes of index in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.open_files().map(OpenFile::bytes).sum()
    }
}
