//! What segments know of devices of which a journal does not know all.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_store::DeviceState;
use trough_store::segment_catalog::{Manifest, Segment};

use super::segments::{FETCHING_MAX, Segments, may_have};
use crate::journal::ReadError;
use crate::segments::format::Device;

/// A device that is looked for.
struct Search<'a> {
    device: &'a DeviceId,
    /// What the journal knows of it: its heads.
    known: Option<&'a DeviceState>,
    heads: BTreeMap<Epoch, Seq>,
    frames: u64,
    last_received: Micros,
    /// The newest frame, and its time stamp.
    newest: (Epoch, Seq, Micros),
    /// From which number on, up to its head, an epoch is known to have no frames.
    lost_from: BTreeMap<Epoch, Seq>,
}

impl Segments {
    /// What segments know of some devices, with what the journal knows of each; `None` for one of which they have nothing.
    /// Of a device that the journal knows, only the time stamp of its newest frame is looked for: first where it was heard
    /// last, then in what is newest. A segment is looked at twice at most, however many devices there are. Blocks.
    pub(super) fn states(
        &self,
        devices: &[(&DeviceId, Option<&DeviceState>)],
    ) -> Result<Vec<Option<DeviceState>>, ReadError> {
        let mut searches: Vec<Search<'_>> =
            devices.iter().map(|(device, known)| Search::new(device, *known)).collect();
        if !searches.is_empty() {
            self.wait(async {
                let manifest = self.manifest().await?;
                self.look(&manifest, &mut searches, true).await?;
                self.look(&manifest, &mut searches, false).await
            })?;
        }
        Ok(searches.into_iter().map(Search::state).collect())
    }

    /// Looks for devices in segments, the newest first: in those where they were heard last, or in all others.
    async fn look(
        &self,
        manifest: &Manifest,
        searches: &mut [Search<'_>],
        heard: bool,
    ) -> Result<(), ReadError> {
        let mut rest = manifest.segments.iter().rev();
        loop {
            // Which devices are still looked for, by place.
            let open: Vec<usize> = (0..searches.len()).filter(|at| !searches[*at].is_over()).collect();
            let mut asked: Vec<(&Segment, Vec<usize>)> = Vec::new();
            while asked.len() < FETCHING_MAX
                && !open.is_empty()
                && let Some(segment) = rest.next()
            {
                let wanted = |at: &usize| {
                    let search = &searches[*at];
                    may_have(segment, search.device) && search.was_heard_in(segment) == heard
                };
                let wanted: Vec<usize> = open.iter().copied().filter(wanted).collect();
                if !wanted.is_empty() {
                    asked.push((segment, wanted));
                }
            }
            if asked.is_empty() {
                return Ok(());
            }
            let finds = asked.iter().map(|(segment, wanted)| {
                let devices: Vec<DeviceId> = wanted.iter().map(|at| searches[*at].device.clone()).collect();
                async move { self.cache.find(segment, &devices).await }
            });
            let found = try_join_all(finds).await?;
            for ((_, wanted), entries) in asked.iter().zip(found) {
                for (at, entry) in wanted.iter().zip(entries) {
                    entry.iter().for_each(|entry| searches[*at].note(entry));
                }
            }
        }
    }
}

impl<'a> Search<'a> {
    fn new(device: &'a DeviceId, known: Option<&'a DeviceState>) -> Self {
        let (newest, heads) = ((Epoch(0), Seq::ZERO, 0), BTreeMap::new());
        Self { device, known, heads, frames: 0, last_received: 0, newest, lost_from: BTreeMap::new() }
    }

    /// Whether the segment has what was received when the device was heard last, as far as the journal knows.
    fn was_heard_in(&self, segment: &Segment) -> bool {
        let (first, last) = segment.received;
        self.known.is_some_and(|known| first <= known.last_received && known.last_received <= last)
    }

    /// Whether no frame can be newer than the one that was found.
    fn is_over(&self) -> bool {
        let Some(known) = self.known else { return false };
        for (epoch, head) in known.heads.iter().rev() {
            let lost_from = self.lost_from.get(epoch).copied().unwrap_or(head.next());
            if self.newest.0 == *epoch && self.newest.1.next() >= lost_from {
                return true;
            }
            if lost_from > Seq::FIRST {
                return false;
            }
        }
        true
    }

    fn note(&mut self, entry: &Device) {
        for stretch in entry.stretches() {
            self.frames += u64::from(stretch.count);
            self.last_received = stretch.received.1.max(self.last_received);
            self.newest = self.newest.max((stretch.epoch, stretch.last(), stretch.ts.1));
            self.rise(stretch.epoch, stretch.last());
        }
        let mut lost: Option<(Epoch, Seq, Seq)> = None;
        for loss in entry.losses() {
            self.last_received = loss.received_at.max(self.last_received);
            self.rise(loss.epoch, loss.last);
            match &mut lost {
                Some((epoch, _, last)) if *epoch == loss.epoch && loss.first <= last.next() => {
                    *last = loss.last.max(*last);
                }
                _ => self.lose(lost.replace((loss.epoch, loss.first, loss.last))),
            }
        }
        self.lose(lost);
    }

    fn rise(&mut self, epoch: Epoch, last: Seq) {
        let head = self.heads.entry(epoch).or_default();
        *head = last.max(*head);
    }

    /// Takes note of numbers that have no frames, if they reach up to those that are known to have none.
    fn lose(&mut self, lost: Option<(Epoch, Seq, Seq)>) {
        let Some((epoch, first, last)) = lost else { return };
        let heads = self.known.map_or(&[][..], |known| &known.heads);
        let Some((_, head)) = heads.iter().find(|(of, _)| *of == epoch) else { return };
        let from = self.lost_from.entry(epoch).or_insert(head.next());
        if last.next() >= *from {
            *from = first.min(*from);
        }
    }

    fn state(self) -> Option<DeviceState> {
        let Self { device, heads, frames, last_received, newest, .. } = self;
        let heads: Vec<_> = heads.into_iter().collect();
        let last_ts = newest.2;
        (!heads.is_empty()).then(|| DeviceState {
            device: device.clone(),
            heads,
            frames,
            last_received,
            last_ts,
        })
    }
}
