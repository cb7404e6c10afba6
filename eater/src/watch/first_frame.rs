//! A device's very first frame.

use serde::Serialize;
use trough_store::EventKind;

use super::frame::Seen;
use super::happening::Happening;

/// What subscribers are told.
#[derive(Serialize)]
struct Data<'a> {
    channel: &'a str,
}

/// Once one frame was looked at, no later one is the first.
pub(super) fn take(done: &mut bool, seen: &Seen<'_>) -> Option<Happening> {
    let first = !std::mem::replace(done, true) && seen.is_first;
    let data = Data { channel: seen.frame.channel };
    first.then(|| Happening::new(EventKind::DeviceFirstFrame, seen.frame.ts, seen.number, &data))
}
