//! Comparing frames that came again with those that were there.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use trough_protocol::Seq;

use super::error::ReadError;
use super::run::Located;
use super::scan::{Fetch, Segment, cut, resolve};
use super::shared::Shared;
use super::work::Check;

/// What a run repeated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Numbers that came again as they were.
    pub duplicates: u64,
    /// Numbers that came again with something else, and the first of them.
    pub conflicts: u64,
    pub first_conflict: Option<Seq>,
    /// Numbers whose earlier or later copy cannot be read.
    pub unchecked: u64,
}

impl Verdict {
    fn conflict(&mut self, first: Seq, count: u64) {
        self.conflicts += count;
        self.first_conflict = Some(self.first_conflict.map_or(first, |known| known.min(first)));
    }
}

/// Compares a run with what is shown of its numbers.
pub(super) fn verify(shared: &Arc<Shared>, fetch: &mut Fetch, check: &Check) -> Result<Verdict, ReadError> {
    let Located { file, run } = check.run;
    let device = check.device.as_str();
    let (extents, _) = shared.extents(device)?;
    let numbers = (run.first, run.last());
    let before = (file, u64::from(run.offset));
    let earlier = shared.overlapping(device, &extents, run.epoch, numbers, before, &HashSet::new())?;
    let shown = resolve(&earlier, run.first, run.last());
    let mut verdict = Verdict::default();
    if !run.is_frames() {
        // A loss declared again is the same loss; one declared of frames that are there is not.
        for segment in &shown {
            verdict.conflict(segment.first, len(segment));
        }
        verdict.duplicates = check.repeated.saturating_sub(verdict.conflicts);
        return Ok(verdict);
    }
    let read = |fetch: &mut Fetch, segment: &Segment| -> Result<Option<Bytes>, ReadError> {
        let of = segment.of;
        let data = fetch.run(of.file, &of.run, std::iter::empty());
        let data = data.map_err(|source| shared.read_error(of.file, source))?;
        Ok(data.and_then(|data| cut(segment, &data)))
    };
    for segment in &shown {
        let again = Segment { of: check.run, ..*segment };
        match (read(fetch, segment)?, read(fetch, &again)?) {
            (Some(old), Some(new)) if old == new => verdict.duplicates += len(segment),
            (Some(old), Some(new)) => compare_each(&mut verdict, segment, &old, &new),
            _ => verdict.unchecked += len(segment),
        }
    }
    // The others were declared lost, or were set aside by a repair, and now there are frames.
    let compared: u64 = shown.iter().map(len).sum();
    let others = check.repeated.saturating_sub(compared);
    if others > 0 {
        verdict.conflict(run.first, others);
    }
    Ok(verdict)
}

fn len(segment: &Segment) -> u64 {
    segment.last.0 - segment.first.0 + 1
}

fn compare_each(verdict: &mut Verdict, segment: &Segment, old: &Bytes, new: &Bytes) {
    let (mut old, mut new) = (&old[..], &new[..]);
    for seq in segment.first.0..=segment.last.0 {
        let (a, b) = (take_frame(&mut old), take_frame(&mut new));
        if a.is_some() && a == b {
            verdict.duplicates += 1;
        } else {
            verdict.conflict(Seq(seq), 1);
        }
    }
}

fn take_frame<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    let (frame, behind) = rest.split_at_checked(len.checked_add(4)?)?;
    *rest = behind;
    Some(frame)
}
