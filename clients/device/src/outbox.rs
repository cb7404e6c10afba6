//! Numbering, resuming, acknowledging and renumbering: everything a device must get right, without I/O.
//!
//! A session goes: [`Outbox::hello`] → [`Outbox::welcome`] → any of [`Outbox::next_message`], [`Outbox::ack`]
//! and [`Outbox::rewind`] → [`Outbox::disconnected`]. Frames may be added at any time.

use std::collections::VecDeque;
use std::ops::Range;

use trough_protocol::device::binary::FRAMES_HEADER_BYTES;
use trough_protocol::device::{Hello, Skip, SkipReason, Welcome};
use trough_protocol::frame::FrameRef;
use trough_protocol::limits::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX, INT_MAX};
use trough_protocol::{Epoch, Seq};

use crate::config::Mode;
use crate::error::{Fault, SendError};
use crate::frames::FrameBuf;
use crate::held::{Cursor, Held, Item, SKIP_COST_BYTES};
use crate::message::lone_message_bytes;
use crate::shared::admit;

/// Echoes that may wait to be written; a feeder sends one rewind and waits for its echo.
const ECHOES_MAX: usize = 16;
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

/// A message to write now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outgoing {
    Rewind(Seq),
    Skip(Skip),
    /// These bytes of [`Outbox::frames`].
    Frames {
        first: Seq,
        range: Range<usize>,
    },
}

/// What a welcome changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Renumbered {
    pub old: Epoch,
    pub new: Epoch,
    /// The number in the old epoch of what is number 1 now.
    pub first: Seq,
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
            // A bound over all of them: only where it fails is there a frame to be named.
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
        self.push_frames(count, &frames.encoded()[..bytes]);
        frames.take(count, bytes);
        Ok(())
    }

    /// Takes `count` encoded frames and returns the number of the first.
    pub fn push_frames(&mut self, count: u64, encoded: &[u8]) -> Seq {
        let first = self.held.next();
        self.held.push_frames(count, encoded);
        self.settle();
        first
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
        self.frames_acked += popped.frames;
        self.cursor.offset = self.cursor.offset.saturating_sub(popped.bytes);
        if self.cursor.seq < self.held.first() {
            self.cursor = Cursor { seq: self.held.first(), offset: 0 };
        }
    }

    /// Begins a session.
    pub fn hello(&mut self) -> Hello {
        self.disconnected();
        let hello = if self.ask_new_epoch {
            Hello::NEW
        } else {
            Hello {
                epoch: self.epoch,
                oldest: self.floor(),
                next: self.held.next().max(self.sent.next()),
                acked: self.acked,
            }
        };
        self.greeted = Some(hello);
        hello
    }

    /// The feeder's answer. From now on there are messages to send.
    ///
    /// # Errors
    /// A welcome that contradicts the hello; the session must end then.
    pub fn welcome(&mut self, welcome: &Welcome) -> Result<Option<Renumbered>, Fault> {
        let hello = self.greeted.take().ok_or(Fault::Unexpected("a second welcome"))?;
        let renumbered = if welcome.epoch == hello.epoch {
            if welcome.resume > hello.next {
                // It knows frames that this device never made: the state is older than what was sent.
                self.ask_new_epoch = true;
                return Err(Fault::ResumeAhead { resume: welcome.resume, next: hello.next });
            }
            None
        } else {
            if welcome.resume != Seq::FIRST {
                self.ask_new_epoch = true;
                return Err(Fault::NewEpochNotEmpty { epoch: welcome.epoch, resume: welcome.resume });
            }
            Some(self.begin_epoch(welcome.epoch))
        };
        self.set_limits(welcome)?;
        self.open = true;
        self.acked = self.acked.max(Seq(welcome.resume.0 - 1));
        self.sent = self.sent.max(self.acked);
        self.settle();
        self.send_from(welcome.resume);
        Ok(renumbered)
    }

    fn begin_epoch(&mut self, epoch: Epoch) -> Renumbered {
        let renumbered = Renumbered { old: self.epoch, new: epoch, first: self.held.first() };
        self.origin += self.held.first().0 - 1;
        self.held.renumber();
        self.epoch = epoch;
        self.acked = Seq::ZERO;
        self.sent = Seq::ZERO;
        self.ask_new_epoch = false;
        renumbered
    }

    fn set_limits(&mut self, welcome: &Welcome) -> Result<(), Fault> {
        let limits = Limits {
            window_bytes: welcome.window_bytes as usize,
            frame_bytes: welcome.frame_bytes_max as usize,
            message_bytes: welcome.message_bytes_max as usize,
        };
        let before = self.limits.replace(limits);
        let lowered = match before {
            Some(before) => {
                limits.frame_bytes < before.frame_bytes || limits.message_bytes < before.message_bytes
            }
            None => true,
        };
        if lowered { self.check_held(limits) } else { Ok(()) }
    }

    /// What was accepted under other limits may be too large for the feeder that this session is with.
    fn check_held(&self, limits: Limits) -> Result<(), Fault> {
        let mut result = Ok(());
        self.held.each_frame(|seq, encoded| {
            let payload =
                FrameRef::decode(&mut &encoded[..], FRAME_BYTES_MAX).map_or(0, |frame| frame.payload.len());
            let message = encoded.len() + FRAMES_HEADER_BYTES;
            let over = [
                ("frame payload", payload, limits.frame_bytes),
                ("message of one frame", message, limits.message_bytes),
            ];
            if let Some((what, bytes, max)) = over.into_iter().find(|(_, bytes, max)| bytes > max)
                && result.is_ok()
            {
                result = Err(Fault::HeldTooLarge { seq, what, bytes, max });
            }
        });
        result
    }

    /// The lowest number that can be sent: what is below is acknowledged and gone.
    fn floor(&self) -> Seq {
        self.held.first().max(self.acked.next())
    }

    /// Sets the cursor before `seq`, or before what is left from there on.
    fn send_from(&mut self, seq: Seq) {
        self.gone_from = (seq < self.floor()).then_some(seq);
        let seq = seq.max(self.floor());
        // A resumed program may not have given again yet what the feeder has already.
        let ahead = seq > self.held.next();
        self.cursor = if ahead { Cursor { seq, offset: 0 } } else { self.held.seek(seq) };
    }

    /// Everything up to and with `seq` is durable. Returns whether that was news.
    ///
    /// # Errors
    /// An ack of what was never sent.
    pub fn ack(&mut self, seq: Seq) -> Result<bool, Fault> {
        self.check_open("an ack")?;
        if seq > self.sent {
            return Err(Fault::AckAhead { seq, sent: self.sent });
        }
        if seq <= self.acked {
            return Ok(false);
        }
        self.acked = seq;
        self.settle();
        Ok(true)
    }

    /// The feeder wants everything again from `seq` on.
    ///
    /// # Errors
    /// A number that was never sent, or more rewinds at once than a feeder sends.
    pub fn rewind(&mut self, seq: Seq) -> Result<(), Fault> {
        self.check_open("a rewind")?;
        let known = self.sent.next().min(self.held.next().max(self.acked.next()));
        if !(Seq::FIRST..=known).contains(&seq) {
            return Err(Fault::RewindAhead { seq, known });
        }
        if self.echoes.len() == ECHOES_MAX {
            return Err(Fault::Unexpected("a rewind while 16 others wait for their echo"));
        }
        self.echoes.push_back(seq);
        self.send_from(seq);
        Ok(())
    }

    fn check_open(&self, what: &'static str) -> Result<(), Fault> {
        if self.open { Ok(()) } else { Err(Fault::Unexpected(what)) }
    }

    /// The next message to write, which counts as sent then.
    pub fn next_message(&mut self) -> Option<Outgoing> {
        let limits = self.limits.filter(|_| self.open)?;
        if let Some(seq) = self.echoes.pop_front() {
            return Some(Outgoing::Rewind(seq));
        }
        if let Some(first) = self.gone_from.take() {
            let last = Seq(self.floor().0 - 1);
            return Some(Outgoing::Skip(Skip { first, last, reason: SkipReason::DISCARDED }));
        }
        let first = self.cursor.seq;
        let message = match self.held.item(self.cursor)? {
            Item::Skip { last, reason } => {
                self.cursor.seq = last.next();
                Outgoing::Skip(Skip { first, last, reason })
            }
            Item::Frames { count } => {
                let start = self.cursor.offset;
                self.take_frames(count.min(self.cut.frames_per_message), limits);
                if self.cursor.seq == first {
                    return None;
                }
                Outgoing::Frames { first, range: start..self.cursor.offset }
            }
        };
        self.sent = self.sent.max(Seq(self.cursor.seq.0 - 1));
        Some(message)
    }

    /// Moves the cursor over as many frames as one message and the window take.
    fn take_frames(&mut self, count: u64, limits: Limits) {
        let message_bytes = self.cut.message_bytes.min(limits.message_bytes);
        let message_end = self.cursor.offset + message_bytes.saturating_sub(FRAMES_HEADER_BYTES);
        // What lies before the cursor is on the wire and not acknowledged. With nothing on the wire one frame
        // passes whatever the window.
        let end = message_end.min(limits.window_bytes);
        for index in 0..count {
            let frame_end = self.cursor.offset + self.held.frame_len(self.cursor.offset);
            let alone = index == 0 && (self.cursor.offset == 0 || frame_end <= limits.window_bytes);
            if frame_end > end && !alone {
                break;
            }
            self.cursor = Cursor { seq: self.cursor.seq.next(), offset: frame_end };
        }
    }

    /// The bytes of [`Outgoing::Frames`], in at most two pieces; valid until the next call that changes anything.
    pub fn frames(&self, range: Range<usize>) -> (&[u8], &[u8]) {
        self.held.frames(range)
    }

    /// The session ended; what is not acknowledged will be sent again in the next one.
    pub fn disconnected(&mut self) {
        self.greeted = None;
        self.open = false;
        self.echoes.clear();
        self.gone_from = None;
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
