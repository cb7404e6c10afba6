//! Retention: frames that have expired are removed from segments, whole days of a device at a time.
//!
//! Every policy is counted: what has expired under it and is still stored. Under those that are enforced it is removed:
//! a segment that has such frames is replaced by one without them, which says which numbers are gone. Journals are left
//! alone: what is in them is younger than a day, or compaction is behind.

mod due;
mod expire;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;
use trough_protocol::{DeviceId, Micros};
use trough_store::outbox::STEP_MAX;
use trough_store::registry::LIST_DEVICES_MAX;
use trough_store::segment_catalog::{CommitError, Manifest, Segment};
use trough_store::{
    DeviceFilter, Event, EventId, EventKind, Group, RetentionCount, RetentionNote, RetentionRecord,
};

use super::output::day;
use super::{CompactError, Compactor};
use crate::journal::ReadError;
use crate::segments::OpenSegment;
use due::{Due, Usage};

/// How often it is looked what has expired, unless policies change.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// When a compactor looked last, and at which policies.
#[derive(Debug)]
pub(super) struct Looked {
    at: Instant,
    policies: Vec<(Group, Micros, bool)>,
}

/// What a look finds of one policy.
#[derive(Default)]
struct Found {
    devices: HashSet<DeviceId>,
    stored: Size,
    removed: Size,
}

/// Expired frames, and about how many bytes they take.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    frames: u64,
    bytes: u64,
}

impl Size {
    fn add(&mut self, more: Self) {
        self.frames += more.frames;
        self.bytes += more.bytes;
    }
}

impl Compactor {
    /// Looks what has expired, if it is time to, says what it found, and removes what is to be removed. Whether it
    /// removed anything.
    pub(super) fn retain(&mut self, token: u64) -> Result<bool, CompactError> {
        let records = self.wait(self.parts.registry.list_retention())?;
        let policies = names(&records);
        let known = |looked: &Looked| looked.policies == policies && looked.at.elapsed() < LOOK_EVERY;
        if records.is_empty() || self.looked.as_ref().is_some_and(known) {
            return Ok(false);
        }
        let at = Instant::now();
        let mut found: Vec<Found> = records.iter().map(|_| Found::default()).collect();
        let done = self.look(&records, &mut found, token);
        // What was removed before something failed is removed.
        let mut removed = false;
        for (record, found) in records.iter().zip(found) {
            removed |= found.removed.frames > 0;
            // A look that was broken off has not counted everything.
            let counted = match &done {
                Ok(true) => Some(RetentionCount {
                    at: self.parts.clock.now(),
                    devices: found.devices.len() as u64,
                    frames: found.stored.frames,
                    bytes: found.stored.bytes,
                }),
                Ok(false) | Err(_) if found.removed.frames > 0 => record.counted,
                Ok(false) | Err(_) => None,
            };
            let Some(counted) = counted else { continue };
            let note = RetentionNote {
                counted,
                removed_frames: found.removed.frames,
                removed_bytes: found.removed.bytes,
            };
            self.wait(self.parts.registry.note_retention(&record.policy.group, record.set_at, note))?;
        }
        if done? {
            self.looked = Some(Looked { at, policies });
        }
        Ok(removed)
    }

    /// Whether it came to the end: it breaks off when policies change.
    fn look(
        &mut self,
        records: &[RetentionRecord],
        found: &mut [Found],
        token: u64,
    ) -> Result<bool, CompactError> {
        let today = day(self.parts.clock.now());
        let manifest = self.manifest()?;
        let due = self.due(records, &manifest, today, token)?;
        let Some(last) = due.last_day() else { return Ok(true) };
        let old = manifest.segments.iter().filter(|segment| segment.date <= last && segment.frames > 0);
        for segment in old {
            self.keep(token)?;
            let Some(opened) = self.open(segment)? else { continue };
            let mut remove: BTreeMap<usize, Size> = BTreeMap::new();
            let mut gone = HashSet::new();
            for device in opened.index().devices() {
                let frames: u64 = device.stretches().map(|stretch| u64::from(stretch.count)).sum();
                let id = device.id();
                let size = Size { frames, bytes: share(segment, frames) };
                if frames == 0 {
                    continue;
                }
                // Removed once, though several policies may want it, and then there is nothing to be counted.
                let enforced = |policy: &usize| records[*policy].enforced;
                let removes = due.expired(id.as_str(), segment.date).find(enforced);
                if let Some(policy) = removes {
                    remove.entry(policy).or_default().add(size);
                    gone.insert(id);
                    continue;
                }
                for policy in due.expired(id.as_str(), segment.date) {
                    found[policy].stored.add(size);
                    found[policy].devices.insert(id.clone());
                }
            }
            if gone.is_empty() {
                continue;
            }
            // Somebody may have said meanwhile that all of it is to be kept.
            if names(&self.wait(self.parts.registry.list_retention())?) != names(records) {
                return Ok(false);
            }
            if !self.renew(token)? {
                return Err(CommitError::Fenced { token }.into());
            }
            // Before, so that it is told of whatever happens; told twice, it is one event.
            self.tell(records, segment, &remove)?;
            match self.remove_expired(token, &opened, &gone) {
                Ok(()) => {}
                Err(CompactError::Read(error)) if is_damage(&error) => {
                    self.passed_over(segment, &error);
                    continue;
                }
                Err(error) => return Err(error),
            }
            for (policy, size) in remove {
                found[policy].removed.add(size);
                self.parts.metrics.expired_frames.inc_by(size.frames);
                self.parts.metrics.expired_bytes.inc_by(size.bytes);
                tracing::info!(
                    group = %records[policy].policy.group,
                    date = segment.date,
                    frames = size.frames,
                    bytes = size.bytes,
                    "expired frames are removed"
                );
            }
        }
        Ok(true)
    }

    /// What each policy says, with what is stored.
    fn due(
        &self,
        records: &[RetentionRecord],
        manifest: &Manifest,
        today: u32,
        token: u64,
    ) -> Result<Due, CompactError> {
        let policies: Vec<_> = records.iter().map(|record| record.policy.clone()).collect();
        let mut members = Vec::with_capacity(policies.len());
        for policy in &policies {
            members.push(self.members(&policy.group)?);
        }
        let mut due = Due::new(records, members, today);
        if policies.iter().all(|policy| policy.bytes.is_none()) {
            return Ok(due);
        }
        let mut usage: Vec<Usage> = policies.iter().map(|_| Usage::new()).collect();
        let all = manifest.segments.iter().filter(|segment| segment.frames > 0);
        for segment in all {
            self.keep(token)?;
            let Some(opened) = self.open(segment)? else { continue };
            for device in opened.index().devices() {
                let frames: u64 = device.stretches().map(|stretch| u64::from(stretch.count)).sum();
                for policy in due.policies_of(device.id().as_str()) {
                    *usage[policy].entry(segment.date).or_default() += share(segment, frames);
                }
            }
        }
        for (at, policy) in policies.iter().enumerate() {
            if let Some(bytes) = policy.bytes {
                due.limit(at, bytes, &usage[at], today);
            }
        }
        Ok(due)
    }

    /// The devices of a group, revoked ones too: their frames stay.
    fn members(&self, group: &Group) -> Result<Vec<DeviceId>, CompactError> {
        let mut members: Vec<DeviceId> = Vec::new();
        loop {
            let filter = DeviceFilter {
                groups: Some([group.clone()].into()),
                after: members.last().cloned(),
                limit: LIST_DEVICES_MAX,
            };
            let page = self.wait(self.parts.registry.list_devices(filter))?;
            if page.is_empty() {
                return Ok(members);
            }
            members.extend(page.into_iter().map(|record| record.id));
        }
    }

    /// Says what of a segment is about to be removed.
    fn tell(
        &self,
        records: &[RetentionRecord],
        segment: &Segment,
        remove: &BTreeMap<usize, Size>,
    ) -> Result<(), CompactError> {
        let Some(outbox) = &self.parts.outbox else { return Ok(()) };
        let at = self.parts.clock.now();
        let event = |(policy, size): (&usize, &Size)| run_event(&records[*policy], segment, *size, at);
        let events: Vec<Event> = remove.iter().map(event).collect();
        for some in events.chunks(STEP_MAX) {
            self.wait(outbox.enter(some.to_vec()))?;
        }
        Ok(())
    }

    fn remove_expired(
        &mut self,
        token: u64,
        opened: &OpenSegment,
        gone: &HashSet<DeviceId>,
    ) -> Result<(), CompactError> {
        let segment = opened.segment();
        let expired = |device: &str| DeviceId::new(device).is_ok_and(|device| gone.contains(&device));
        let (add, ()) = self.write(token, segment.level, |output, go_on| {
            expire::write(opened, output, &self.handle, go_on, &expired)
        })?;
        let manifest = self.manifest()?;
        self.expire(&manifest, token, add, segment.id)
    }

    /// `None` for one that is damaged: what is in it stays, and nothing else waits for it.
    fn open(&self, segment: &Segment) -> Result<Option<OpenSegment>, CompactError> {
        match self.wait(OpenSegment::open(&self.parts.cache, segment)) {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if is_damage(&error) => {
                self.passed_over(segment, &error);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn passed_over(&self, segment: &Segment, error: &ReadError) {
        tracing::error!(segment = %segment.id, date = segment.date, %error, "retention passes over a damaged segment");
    }
}

/// That frames of a segment are removed under a policy.
fn run_event(record: &RetentionRecord, segment: &Segment, size: Size, at: Micros) -> Event {
    #[derive(Serialize)]
    struct Data {
        date: u32,
        frames: u64,
        bytes: u64,
    }
    let (kind, group) = (EventKind::RetentionRun, &record.policy.group);
    let id = EventId::of(&[
        kind.as_str().as_bytes(),
        group.as_str().as_bytes(),
        &record.set_at.to_be_bytes(),
        segment.id.to_string().as_bytes(),
    ]);
    let data = to_raw_value(&Data { date: segment.date, frames: size.frames, bytes: size.bytes });
    // Numbers can always be written.
    let data = data.unwrap_or_else(|_| RawValue::NULL.to_owned());
    Event {
        id,
        kind,
        at,
        rule: None,
        device: None,
        group: Some(group.clone()),
        frame: None,
        trace: None,
        data,
    }
}

/// What tells one set of policies from another.
fn names(records: &[RetentionRecord]) -> Vec<(Group, Micros, bool)> {
    let name = |record: &RetentionRecord| (record.policy.group.clone(), record.set_at, record.enforced);
    records.iter().map(name).collect()
}

fn is_damage(error: &ReadError) -> bool {
    error.damaged_segment().is_some()
}

/// About how many bytes of a segment are those of some of its frames.
fn share(segment: &Segment, frames: u64) -> u64 {
    let bytes = u128::from(segment.bytes + segment.index_bytes);
    u64::try_from(bytes * u128::from(frames) / u128::from(segment.frames.max(1))).unwrap_or(u64::MAX)
}
