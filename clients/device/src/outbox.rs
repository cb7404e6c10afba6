//! Numbering, resuming, acknowledging and renumbering: everything a device must get right, without I/O.
//!
//! A session goes: [`Outbox::hello`] → [`Outbox::welcome`] → any of [`Outbox::next_message`], [`Outbox::ack`]
//! and [`Outbox::rewind`] → [`Outbox::disconnected`]. Frames may be added at any time.

mod sending;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use trough_protocol::device::binary::FRAMES_HEADER_BYTES;
use trough_protocol::device::{Hello, SkipReason};
use trough_protocol::limits::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX, INT_MAX};
use trough_protocol::{Epoch, Seq};

use crate::config::Mode;
use crate::error::SendError;
use crate::frames::FrameBuf;
use crate::held::{Cursor, Held, SKIP_COST_BYTES};
use crate::message::lone_message_bytes;
use crate::shared::admit;

pub(crate) use sending::Outgoing;

/// Skips reach half of the range of numbers at most: the other half is more frames than a device can make.
const SKIP_TO_MAX: u64 = INT_MAX / 2;

/// Where a device stands. Stored by the caller, it lets a later run of the program go on in the same epoch.
///
/// The next run numbers its first frame `acked + 1`. It gives the same frames again from there on, or declares
/// the `sent - acked` frames that it no longer has lost, with [`Device::skip`](crate::Device::skip).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ResumeState {
    /// The numbering; [`Epoch::NONE`] (with zeros below) if no feeder has granted one yet.
    pub epoch: Epoch,
    /// Everything up to and with this number is durable.
    pub acked: Seq,
    /// The highest number that may ever have left the device. A number above the true one does no harm; if it is
    /// below (the state is older than the last frames that were sent), the feeder notices and grants a new epoch.
    pub sent: Seq,
}

/// How messages are cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// Bytes that are held at most.
    pub buffer_bytes: usize,
    pub frames_per_message: u64,
    /// A message takes no further frame beyond this.
    pub message_bytes: usize,
}

/// What the feeder allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub window_bytes: usize,
    pub frame_bytes: usize,
    pub message_bytes: usize,
}

/// Whether something can be added now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Yes,
    /// Not before something is acknowledged, or before the first welcome says how large a frame may be.
    Later,
    /// Never: it is over this limit.
    Never {
        what: &'static str,
        value: usize,
        max: usize,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    held: Held,
    cut: Cut,
    limits: Option<Limits>,
    epoch: Epoch,
    acked: Seq,
    /// The highest number of this epoch that may have left the device.
    sent: Seq,
    /// What was said in the hello of this session, until it is welcomed.
    greeted: Option<Hello>,
    open: bool,
    /// Before the next item to send in this session.
    cursor: Cursor,
    echoes: VecDeque<Seq>,
    /// The feeder asks for numbers from here on that were acknowledged and are gone.
    gone_from: Option<Seq>,
    ask_new_epoch: bool,
    /// Number + `origin` never changes for an item, though its number may.
    origin: u64,
    frames_acked: u64,
}

impl Outbox {
    pub fn new(cut: Cut, resume: ResumeState) -> Self {
        let fresh = resume.epoch.is_none();
        let resume = if fresh { ResumeState::default() } else { resume };
        let held = Held::new(resume.acked.next());
        Self {
            cursor: held.end(),
            held,
            cut,
            limits: None,
            epoch: resume.epoch,
            acked: resume.acked,
            sent: resume.sent.max(resume.acked),
            greeted: None,
            open: false,
            echoes: VecDeque::new(),
            gone_from: None,
            ask_new_epoch: fresh,
            origin: 0,
            frames_acked: 0,
        }
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn acked(&self) -> Seq {
        self.acked
    }

    /// Frames that were acknowledged since this outbox was made; renumbering does not touch it.
    pub fn frames_acked(&self) -> u64 {
        self.frames_acked
    }

    pub fn limits(&self) -> Option<Limits> {
        self.limits
    }

    pub fn resume_state(&self) -> ResumeState {
        match self.epoch.is_none() {
            true => ResumeState::default(),
            false => ResumeState { epoch: self.epoch, acked: self.acked, sent: self.sent },
        }
    }

    /// The number that the next item gets.
    pub fn next(&self) -> Seq {
        self.held.next()
    }

    /// Bytes of the buffer in use.
    pub fn cost(&self) -> usize {
        self.held.cost()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether nothing more can be written in this session until frames are added.
    pub fn all_sent(&self) -> bool {
        self.echoes.is_empty() && self.gone_from.is_none() && self.cursor.seq >= self.held.next()
    }

    /// Identifies the end of what is held now; see [`Outbox::is_durable`].
    pub fn ticket(&self) -> u64 {
        self.origin + self.held.next().0
    }

    /// Whether everything that was held when the ticket was taken is acknowledged.
    pub fn is_durable(&self, ticket: u64) -> bool {
        self.origin + self.held.first().0 >= ticket
    }

    /// Whether a frame fits that has `payload` bytes, is `encoded` bytes long and would make a message of
    /// `message` bytes alone.
    pub fn room(&self, payload: usize, encoded: usize, message: usize) -> Room {
        let frame_bytes = self.limits.map_or(FRAME_BYTES_MAX, |limits| limits.frame_bytes);
        if payload > frame_bytes {
            return Room::Never { what: "frame payload", value: payload, max: frame_bytes };
        }
        match self.limits {
            Some(limits) if message > limits.message_bytes => {
                return Room::Never {
                    what: "message of this one frame",
                    value: message,
                    max: limits.message_bytes,
                };
            }
            None if payload > FRAME_BYTES_DEFAULT => return Room::Later,
            _ => {}
        }
        self.room_for(encoded)
    }

    /// Whether a skip fits.
    pub fn room_for_skip(&self) -> Room {
        self.room_for(SKIP_COST_BYTES)
    }

    fn room_for(&self, cost: usize) -> Room {
        // A frame larger than the whole buffer passes alone: refusing it would be for ever.
        let fits = self.held.cost() + cost <= self.cut.buffer_bytes || self.held.is_empty();
        if fits { Room::Yes } else { Room::Later }
    }

    /// Takes as many frames from the front of `frames` as fit.
    ///
    /// # Errors
    /// [`SendError::Full`] if none fits, [`SendError::TooLarge`] if one never will.
    pub fn push_buf(&mut self, frames: &mut FrameBuf, mode: Mode) -> Result<(), SendError> {
        if frames.is_empty() {
            return Ok(());
        }
        let payload = frames.payload_max();
        match mode {
            // The largest payload and the longest frame stand for all of them.
            Mode::Binary => admit(self.room(payload, 0, FRAMES_HEADER_BYTES + frames.encoded_max()))?,
            Mode::Json => {
                let max = self.limits.map_or(usize::MAX, |limits| limits.message_bytes);
                for frame in trough_protocol::frame::frames(frames.encoded()) {
                    let frame = frame?;
                    admit(self.room(frame.payload.len(), 0, lone_message_bytes(mode, &frame, max)))?;
                }
            }
        }
        let free = self.cut.buffer_bytes.saturating_sub(self.held.cost());
        let (count, bytes) = frames.prefix(free, self.held.is_empty());
        if count == 0 {
            return Err(SendError::Full);
        }
        self.held.push_frames(&frames.lengths()[..count], &frames.encoded()[..bytes]);
        self.settle();
        frames.take(count, bytes);
        Ok(())
    }

    /// Takes one encoded frame and returns its number.
    pub fn push_frame(&mut self, encoded: &[u8]) -> Seq {
        let seq = self.held.next();
        let length = u32::try_from(encoded.len()).expect("a frame's length field has four bytes");
        self.held.push_frames(&[length], encoded);
        self.settle();
        seq
    }

    /// Declares `count` numbers lost and returns the first; `None` if that would leave the range of
    /// numbers, or is none at all.
    pub fn push_skip(&mut self, count: u64, reason: SkipReason) -> Option<Seq> {
        let first = self.held.next();
        if count == 0 || first.0.saturating_add(count) > SKIP_TO_MAX {
            return None;
        }
        self.held.push_skip(count, reason);
        self.settle();
        Some(first)
    }

    /// Lets go of what is acknowledged. That may be what was just added, when a resumed program gives frames
    /// again that had arrived in its earlier life.
    fn settle(&mut self) {
        if self.held.first() > self.acked {
            return;
        }
        let popped = self.held.pop_to(self.acked);
        self.frames_acked += popped.frames as u64;
        self.cursor.frames = self.cursor.frames.saturating_sub(popped.frames);
        self.cursor.offset = self.cursor.offset.saturating_sub(popped.bytes);
        if self.cursor.seq < self.held.first() {
            self.cursor = Cursor::front(self.held.first());
        }
    }

    /// The next hello asks for a new epoch.
    pub fn ask_new_epoch(&mut self) {
        self.ask_new_epoch = true;
    }

    /// Gives memory back when nothing is held.
    pub fn shrink(&mut self) {
        self.held.shrink();
    }
}
