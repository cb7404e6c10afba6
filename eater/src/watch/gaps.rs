//! Frames that a device declared lost.

use serde::Serialize;
use trough_protocol::device::SkipReason;
use trough_store::EventKind;
use trough_store::event::FrameNumber;

use super::frame::{Loss, Seen};
use super::happening::Happening;

/// A gap behind which no frame has come yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenGap {
    pub first: FrameNumber,
    pub last: FrameNumber,
    pub reason: u8,
}

/// What subscribers are told.
#[derive(Serialize)]
struct Data {
    first: FrameNumber,
    last: FrameNumber,
    reason: &'static str,
}

impl OpenGap {
    fn happening(&self, kind: EventKind, at: u64, frame: FrameNumber) -> Happening {
        let data = Data { first: self.first, last: self.last, reason: SkipReason(self.reason).name() };
        Happening::new(kind, at, frame, &data)
    }
}

/// Further losses behind one that is open belong to it.
pub(super) fn lose(open: &mut Option<OpenGap>, loss: &Loss) -> Option<Happening> {
    let last = FrameNumber { epoch: loss.first.epoch, seq: loss.last };
    if let Some(open) = open {
        open.last = last;
        return None;
    }
    let gap = open.insert(OpenGap { first: loss.first, last, reason: loss.reason });
    Some(gap.happening(EventKind::GapOpened, loss.received_at, loss.first))
}

/// The next frame closes it.
pub(super) fn take(open: &mut Option<OpenGap>, seen: &Seen<'_>) -> Option<Happening> {
    let gap = open.take()?;
    Some(gap.happening(EventKind::GapClosed, seen.frame.ts, seen.number))
}
