//! Heads of devices whose frames are compacted: of an epoch all numbers up to the last one are durable.

use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_store::object_catalog::{DeviceHead, HEADS_MAX};
use trough_store::{Catalog, DeviceSummary, SealedFile};

use super::*;
use crate::segments::OpenSegment;

/// No file of a journal has this number.
const NO_FILE: u64 = 0;
/// Devices entered at once.
const DEVICES_MAX: usize = 1000;

/// What segments know of a device.
#[derive(Debug, Default)]
struct Standing {
    heads: BTreeMap<Epoch, (Seq, Micros)>,
    frames: u64,
    last_received: Micros,
    /// By the frame with the highest number.
    last: (Epoch, Seq, Micros),
}

impl Rebuild<'_> {
    pub(super) fn note_heads(&mut self, segments: &[Segment]) -> Result<(), RebuildError> {
        let standings = self.standings(segments)?;
        self.rebuilt.devices = standings.len() as u64;
        match self.parts.journals.clone() {
            JournalParts::Local { catalog, .. } => self.note_local(&*catalog, standings),
            JournalParts::Objects(catalog) => {
                let heads = standings.into_iter().flat_map(|(device, standing)| {
                    standing.heads.into_iter().map(move |(epoch, (head, received_at))| DeviceHead {
                        device: device.clone(),
                        epoch,
                        head,
                        received_at,
                    })
                });
                let heads: Vec<DeviceHead> = heads.collect();
                for heads in heads.chunks(HEADS_MAX) {
                    self.wait(catalog.note_heads(heads))?;
                }
                Ok(())
            }
        }
    }

    fn standings(&self, segments: &[Segment]) -> Result<BTreeMap<DeviceId, Standing>, RebuildError> {
        let mut standings: BTreeMap<DeviceId, Standing> = BTreeMap::new();
        for segment in segments {
            self.keep_claim()?;
            let opened = match self.wait(OpenSegment::open(&self.cache, segment)) {
                Ok(opened) => opened,
                // It was noted when it was read.
                Err(crate::journal::ReadError::Segment { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            for device in opened.index().devices() {
                let standing = standings.entry(device.id()).or_default();
                for stretch in device.stretches() {
                    standing.reach(stretch.epoch, stretch.last(), stretch.received.1);
                    standing.frames += u64::from(stretch.count);
                    standing.last = standing.last.max((stretch.epoch, stretch.last(), stretch.ts.1));
                }
                for loss in device.losses() {
                    standing.reach(loss.epoch, loss.last, loss.received_at);
                }
            }
        }
        Ok(standings)
    }

    /// Enters them as a file would be that is gone.
    fn note_local(
        &self,
        catalog: &dyn Catalog,
        standings: BTreeMap<DeviceId, Standing>,
    ) -> Result<(), RebuildError> {
        let mut known = BTreeSet::new();
        let mut after: Option<DeviceId> = None;
        loop {
            let page = self.wait(catalog.device_states(after, DEVICES_MAX))?;
            after = page.last().map(|state| state.device.clone());
            if after.is_none() {
                break;
            }
            known.extend(page.into_iter().map(|state| state.device));
        }
        let summary = |(device, standing): (DeviceId, Standing)| DeviceSummary {
            heads: standing.heads.into_iter().map(|(epoch, (head, _))| (epoch, head)).collect(),
            // Of a device that is known they were counted when they came.
            frames: if known.contains(&device) { 0 } else { standing.frames },
            last_received: standing.last_received,
            last_ts: standing.last.2,
            channels: Vec::new(),
            device,
        };
        let file = SealedFile {
            file_id: NO_FILE,
            bytes: 0,
            frames: 0,
            runs: 0,
            min_received: 0,
            max_received: 0,
            min_ts: 0,
            max_ts: 0,
        };
        let summaries: Vec<DeviceSummary> = standings.into_iter().map(summary).collect();
        for devices in summaries.chunks(DEVICES_MAX) {
            self.wait(catalog.remove_files(&[NO_FILE]))?;
            self.wait(catalog.record_sealed(file, devices.to_vec()))?;
        }
        self.wait(catalog.remove_files(&[NO_FILE]))?;
        Ok(())
    }
}

impl Standing {
    fn reach(&mut self, epoch: Epoch, seq: Seq, received_at: Micros) {
        let head = self.heads.entry(epoch).or_default();
        *head = (seq, received_at).max(*head);
        self.last_received = received_at.max(self.last_received);
    }
}
