//! The numbers of a device that have no frames, and why.

use trough_protocol::{DeviceId, Epoch, Seq};

use super::merge::Place;
use super::segments::Segments;
use crate::frames::AnyJournal;
use crate::journal::{Gap, ReadError, ScanRange};
use crate::segments::OpenSegment;

/// A page of gaps, rising, those that begin after `after`. A frame beats a declared loss, wherever either lies. Blocks.
pub(super) fn page(
    journal: &AnyJournal,
    segments: &Segments,
    device: &DeviceId,
    after: Option<Place>,
    limit: usize,
) -> Result<Vec<Gap>, ReadError> {
    let in_journal = journal.gaps(device, after, limit)?;
    // Behind the last of a full page the journal may have more, which would come first.
    let end = in_journal.last().filter(|_| in_journal.len() >= limit).map(|gap| (gap.epoch, gap.first));
    let opened = segments.of(device, None)?;
    let mut declared: Vec<(Gap, bool)> = in_journal.into_iter().map(|gap| (gap, true)).collect();
    declared.extend(in_segments(&opened, device).map(|gap| (gap, false)));
    declared.retain(|(gap, _)| {
        after.is_none_or(|after| (gap.epoch, gap.last) > after)
            && end.is_none_or(|end| (gap.epoch, gap.first) <= end)
    });
    declared.sort_by_key(|(gap, _)| (gap.epoch, gap.first, gap.received_at));
    let mut gaps: Vec<Gap> = Vec::new();
    // Numbers up to here have been decided.
    let mut decided = (Epoch(0), Seq::ZERO);
    for (gap, of_journal) in declared {
        let first = if decided.0 == gap.epoch { gap.first.max(decided.1.next()) } else { gap.first };
        if first > gap.last {
            continue;
        }
        decided = (gap.epoch, gap.last);
        let mut stored = frames_in(&opened, device, gap.epoch, (first, gap.last));
        if !of_journal {
            stored.extend(frames_of(journal, device, gap.epoch, (first, gap.last))?);
        }
        for (first, last) in without((first, gap.last), stored) {
            if after.is_none_or(|after| (gap.epoch, first) > after) {
                gaps.push(Gap { first, last, ..gap });
            }
            if gaps.len() >= limit {
                return Ok(gaps);
            }
        }
    }
    Ok(gaps)
}

fn in_segments<'a>(opened: &'a [OpenSegment], device: &'a DeviceId) -> impl Iterator<Item = Gap> + 'a {
    let losses = opened.iter().filter_map(|segment| segment.device(device.as_str()));
    losses.flat_map(|device| device.losses().collect::<Vec<_>>()).map(|loss| Gap {
        epoch: loss.epoch,
        first: loss.first,
        last: loss.last,
        kind: loss.kind,
        received_at: loss.received_at,
    })
}

/// Numbers that segments have frames of.
fn frames_in(
    opened: &[OpenSegment],
    device: &DeviceId,
    epoch: Epoch,
    (first, last): (Seq, Seq),
) -> Vec<(Seq, Seq)> {
    let devices = opened.iter().filter_map(|segment| segment.device(device.as_str()));
    let stretches = devices.flat_map(|device| device.stretches().collect::<Vec<_>>());
    let inside = stretches.filter(|s| s.epoch == epoch && s.first <= last && s.last() >= first);
    inside.map(|stretch| (stretch.first, stretch.last())).collect()
}

/// Numbers that the journal has frames of.
fn frames_of(
    journal: &AnyJournal,
    device: &DeviceId,
    epoch: Epoch,
    (first, last): (Seq, Seq),
) -> Result<Vec<(Seq, Seq)>, ReadError> {
    let range = ScanRange { after: Some((epoch, Seq(first.0 - 1))), ..ScanRange::default() };
    let mut stored = Vec::new();
    for chunk in journal.scan(device, range) {
        match chunk {
            Ok(chunk) if chunk.epoch == epoch && chunk.first <= last => {
                stored.push((chunk.first, chunk.last()))
            }
            Ok(_) => break,
            Err(error) if error.lost().is_some_and(|(of, first, _)| of == epoch && first <= last) => {}
            Err(error) if error.lost().is_some() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(stored)
}

/// The parts of `first` to `last` that `stored` does not have.
fn without((first, last): (Seq, Seq), mut stored: Vec<(Seq, Seq)>) -> Vec<(Seq, Seq)> {
    stored.sort_unstable();
    let (mut parts, mut at) = (Vec::new(), first);
    for (from, to) in stored {
        if from > at {
            parts.push((at, Seq(from.0 - 1).min(last)));
        }
        at = at.max(to.next());
        if at > last {
            return parts;
        }
    }
    parts.push((at, last));
    parts
}
