//! The numbers of a device that have no frames, and why.

use std::collections::HashSet;
use std::sync::Arc;

use trough_protocol::{DeviceId, Epoch, Seq};

use super::error::ReadError;
use super::run::{Kind, Located};
use super::scan::{Merge, Of, resolve};
use super::shared::Shared;
use super::view::{Gap, GapKind, Order};

/// A page of gaps, rising, those that begin after `after`.
///
/// A frame beats a declared loss: if a number was both skipped and stored, in whichever order, the frame is
/// shown and there is no gap. That happens when batches of a link that died arrive after its device gave the
/// frames up.
pub(super) fn page(
    shared: &Arc<Shared>,
    device: &str,
    after: Option<(Epoch, Seq)>,
    limit: usize,
) -> Result<Vec<Gap>, ReadError> {
    let Ok(device) = DeviceId::new(device) else { return Ok(Vec::new()) };
    let (extents, end) = shared.gap_extents(device.as_str())?;
    if extents.is_empty() || limit == 0 {
        return Ok(Vec::new());
    }
    // From the epoch's beginning: a skip before the cursor may reach far behind it.
    let from = after.map(|(epoch, _)| (Epoch(epoch.0.saturating_sub(1)), Seq(u64::MAX - 2)));
    let mut merge = Merge::new(shared.clone(), device.clone(), (Of::Gaps, Order::Asc), from, (extents, end));
    let frames = shared.extents(device.as_str())?.0;
    let mut gaps = Vec::new();
    // Numbers up to here have been decided.
    let mut decided = (Epoch(0), Seq(0));
    while let Some(located) = merge.peek()? {
        merge.advance()?;
        let run = located.run;
        let first = if decided.0 == run.epoch { run.first.max(decided.1.next()) } else { run.first };
        if first > run.last() {
            continue;
        }
        decided = (run.epoch, run.last());
        if after.is_some_and(|after| (run.epoch, run.last()) <= after) {
            continue;
        }
        let numbers = (first, run.last());
        let stored =
            shared.overlapping(device.as_str(), &frames, run.epoch, numbers, end, &HashSet::new())?;
        for (first, last) in without(numbers, &stored) {
            let gap = gap(&located, first, last);
            if after.is_none_or(|after| (gap.epoch, gap.first) > after) {
                gaps.push(gap);
            }
            if gaps.len() >= limit {
                return Ok(gaps);
            }
        }
    }
    Ok(gaps)
}

fn gap(of: &Located, first: Seq, last: Seq) -> Gap {
    let kind = match of.run.kind {
        Kind::Skip(reason) => GapKind::Skipped { reason },
        Kind::Damaged | Kind::Frames => GapKind::Damaged,
    };
    Gap { epoch: of.run.epoch, first, last, kind, received_at: of.run.received_at }
}

/// The parts of `first` to `last` that `stored` does not have.
fn without((first, last): (Seq, Seq), stored: &[Located]) -> Vec<(Seq, Seq)> {
    let mut parts = Vec::new();
    let mut at = first;
    for segment in resolve(stored, first, last) {
        if segment.first > at {
            parts.push((at, Seq(segment.first.0 - 1)));
        }
        at = segment.last.next();
    }
    if at <= last {
        parts.push((at, last));
    }
    parts
}
