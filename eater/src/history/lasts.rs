//! The last frame of each channel.

use std::collections::BTreeMap;
use std::sync::Arc;

use trough_protocol::{Channel, DeviceId, Epoch, Seq};

use super::segments::Segments;
use crate::frames::AnyJournal;
use crate::journal::{LastFrame, Rank, ReadError};
use crate::segments::format::LastAt;

/// Most channels that are given.
const CHANNELS_MAX: usize = 1000;

/// The newest frame of a channel.
struct Newest {
    place: (Epoch, Seq),
    /// Where its copies are: in which segments.
    copies: Vec<(usize, LastAt)>,
}

/// The last frame of each channel, by channel; of the thousand channels heard last. Blocks.
pub(super) fn per_channel(
    journal: &AnyJournal,
    segments: &Arc<Segments>,
    device: &DeviceId,
) -> Result<Vec<LastFrame>, ReadError> {
    let in_journal = journal.last_per_channel(device)?;
    let mut lasts: BTreeMap<Channel, LastFrame> =
        in_journal.into_iter().map(|last| (last.channel.clone(), last)).collect();
    let live = segments.of(device, None)?;
    let mut best: BTreeMap<Channel, Newest> = BTreeMap::new();
    live.each(|at, found| {
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
                held.copies.push((at, last));
            }
        }
        // In bulk; what is left out here is not among the newest in the end.
        if best.len() >= 4 * CHANNELS_MAX {
            trim(&mut best);
        }
    })?;
    trim(&mut best);
    for (channel, Newest { copies, .. }) in best {
        let mut found: Option<(LastFrame, Rank)> = None;
        for (at, last) in copies {
            let segment = live.open(at)?;
            let Some(copy) = live.wait(segment.last_frame(device.as_str(), &last))? else { continue };
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

/// Forgets the channels that were heard longest ago.
fn trim(best: &mut BTreeMap<Channel, Newest>) {
    let mut places: Vec<_> = best.values().map(|newest| newest.place).collect();
    if let Some(surplus) = places.len().checked_sub(CHANNELS_MAX + 1) {
        let gone = *places.select_nth_unstable(surplus).1;
        best.retain(|_, newest| newest.place > gone);
    }
}
