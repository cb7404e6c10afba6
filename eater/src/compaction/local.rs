//! Files of the local journal, to be compacted.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use trough_protocol::{DeviceId, Seq};

use super::CompactError;
use super::copies::Copies;
use super::input::{Input, TakeChunk, loss};
use super::runs::{RunData, RunFrames};
use crate::journal::run::{Located, Run};
use crate::journal::scan::Segment;
use crate::journal::{FileReader, Journal, Rank, ReadError, local};
use crate::segments::format::Loss;

/// Sealed files of the journal.
pub(super) struct LocalInput {
    journal: Journal,
    files: Vec<u64>,
    data: FileData,
}

struct FileData(FileReader);

impl LocalInput {
    pub(super) fn new(journal: Journal, files: Vec<u64>) -> Self {
        Self { data: FileData(journal.file_reader()), journal, files }
    }
}

impl Input for LocalInput {
    fn devices(&mut self) -> Result<Vec<DeviceId>, ReadError> {
        let mut devices = BTreeSet::new();
        for file in &self.files {
            devices.extend(self.journal.devices_in(*file)?);
        }
        Ok(devices.into_iter().collect())
    }

    fn device(&mut self, device: &DeviceId, take: &mut TakeChunk<'_>) -> Result<Vec<Loss>, CompactError> {
        let (mut runs, mut losses) = (Vec::new(), Vec::new());
        for file in &self.files {
            let source = local(*file);
            let (frames, gaps) = self.journal.runs_in(*file, device.as_str())?;
            let located = |run: Run| Located { file: Rank::new(run.received_at, source), run };
            runs.extend(frames.into_iter().map(located));
            losses.extend(gaps.into_iter().map(|run| loss(&run, source)));
        }
        for chunk in RunFrames::new(&mut self.data, runs) {
            take(&chunk?)?;
        }
        Ok(losses)
    }

    fn copies(&self) -> Copies {
        // The journal has compared them when they came.
        Copies::default()
    }
}

impl RunData for FileData {
    fn data(
        &mut self,
        of: &Located<Rank>,
        soon: &VecDeque<Segment<Rank>>,
    ) -> Result<Option<Bytes>, ReadError> {
        self.0.data(of, soon)
    }

    fn lost(&self, of: &Located<Rank>, first: Seq, last: Seq) -> ReadError {
        self.0.damaged(of, first, last)
    }
}
