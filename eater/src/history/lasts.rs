//! The last frame of each channel.

use std::collections::BTreeMap;

use trough_protocol::{Channel, DeviceId, Epoch, Seq};

use super::segments::Segments;
use crate::frames::AnyJournal;
use crate::journal::{LastFrame, Rank, ReadError};
use crate::segments::OpenSegment;
use crate::segments::format::LastAt;

/// Most channels that are given.
const CHANNELS_MAX: usize = 1000;

/// The newest frame of a channel: where its copies are.
struct Newest<'a> {
    place: (Epoch, Seq),
    copies: Vec<(&'a OpenSegment, LastAt)>,
}

/// The last frame of each channel, by channel; of the thousand channels heard last. Blocks.
pub(super) fn per_channel(
    journal: &AnyJournal,
    segments: &Segments,
    device: &DeviceId,
) -> Result<Vec<LastFrame>, ReadError> {
    let in_journal = journal.last_per_channel(device)?;
    let mut lasts: BTreeMap<Channel, LastFrame> =
        in_journal.into_iter().map(|last| (last.channel.clone(), last)).collect();
    let opened = segments.of(device, None)?;
    let mut best: BTreeMap<Channel, Newest<'_>> = BTreeMap::new();
    for segment in &opened {
        let Some(found) = segment.device(device.as_str()) else { continue };
        for last in found.lasts() {
            let place = (last.epoch, last.seq);
            if lasts.get(&last.channel).is_some_and(|known| (known.epoch, known.seq) >= place) {
                continue;
            }
            let held = best.entry(last.channel.clone()).or_insert(Newest { place, copies: Vec::new() });
            if held.place < place {
                *held = Newest { place, copies: Vec::new() };
            }
            if held.place == place {
                held.copies.push((segment, last));
            }
        }
    }
    for (channel, Newest { copies, .. }) in best {
        let mut found: Option<(LastFrame, Rank)> = None;
        for (segment, last) in copies {
            let Some(copy) = segments.wait(segment.last_frame(device.as_str(), &last))? else { continue };
            if found.as_ref().is_none_or(|found| copy.1 < found.1) {
                found = Some(copy);
            }
        }
        lasts.extend(found.map(|(last, _)| (channel, last)));
    }
    let mut lasts: Vec<LastFrame> = lasts.into_values().collect();
    if lasts.len() > CHANNELS_MAX {
        lasts.sort_unstable_by_key(|last| std::cmp::Reverse((last.epoch, last.seq)));
        lasts.truncate(CHANNELS_MAX);
        lasts.sort_unstable_by(|a, b| a.channel.cmp(&b.channel));
    }
    Ok(lasts)
}
