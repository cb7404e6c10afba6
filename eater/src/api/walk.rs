//! The frames of all devices of a query, device by device.

use trough_protocol::DeviceId;

use super::fault::ReadFault;
use super::frames_query::FramesQuery;
use super::roster::Roster;
use crate::frames::{AnyJournal, Chunks};
use crate::journal::Chunk;

/// One step of a walk.
#[derive(Debug)]
pub(super) enum Step {
    /// What follows is this device's.
    Device(DeviceId),
    /// Some of its frames.
    Chunk(Chunk),
    /// It has no more.
    End,
}

/// Reads one device after another. It blocks.
pub(super) struct Walk<'q> {
    journal: AnyJournal,
    roster: Roster,
    query: &'q FramesQuery,
    chunks: Option<Chunks>,
    ended: bool,
}

impl<'q> Walk<'q> {
    pub(super) fn new(journal: AnyJournal, roster: Roster, query: &'q FramesQuery) -> Self {
        // No frame can match: nobody needs to be asked.
        let ended = query.ts.is_none();
        Self { journal, roster, query, chunks: None, ended }
    }

    fn begin(&mut self) -> Option<Result<Step, ReadFault>> {
        match self.roster.next() {
            Ok(Some(device)) => {
                let range = self.query.scan_range(&device)?;
                self.chunks = Some(self.journal.scan(&device, range));
                Some(Ok(Step::Device(device)))
            }
            Ok(None) => None,
            Err(refusal) => Some(Err(ReadFault::Refused(refusal))),
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Step, ReadFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let Some(chunks) = &mut self.chunks else {
            let begun = self.begin();
            self.ended = !matches!(begun, Some(Ok(_)));
            return begun;
        };
        match chunks.next() {
            Some(chunk) => Some(chunk.map(Step::Chunk).map_err(ReadFault::from)),
            None => {
                self.chunks = None;
                Some(Ok(Step::End))
            }
        }
    }
}
