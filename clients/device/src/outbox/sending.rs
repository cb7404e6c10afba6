//! The half of the outbox that runs while a device is in a session.

use std::ops::Range;

use trough_protocol::device::binary::FRAMES_HEADER_BYTES;
use trough_protocol::device::{Hello, Skip, SkipReason, Welcome};
use trough_protocol::frame::FrameRef;
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_protocol::{Epoch, Seq};

use super::{Limits, Outbox};
use crate::error::Fault;
use crate::held::{Cursor, Item};

/// Echoes that may wait to be written; a feeder sends one rewind and waits for its echo.
const ECHOES_MAX: usize = 16;

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

impl Outbox {
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
                ..Hello::NEW
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
        let floor = self.floor();
        if seq < floor {
            // Somebody must look: what was acknowledged should be durable.
            tracing::error!(from = seq.0, floor = floor.0, "the feeder asks for frames that it acknowledged");
        }
        self.gone_from = (seq < floor).then_some(seq);
        let seq = seq.max(floor);
        // A resumed program may not have given again yet what the feeder has already.
        let ahead = seq > self.held.next();
        self.cursor = if ahead { Cursor::front(seq) } else { self.held.seek(seq) };
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
            let frame_end = self.cursor.offset + self.held.frame_len(self.cursor);
            let alone = index == 0 && (self.cursor.offset == 0 || frame_end <= limits.window_bytes);
            if frame_end > end && !alone {
                break;
            }
            let (seq, frames) = (self.cursor.seq.next(), self.cursor.frames + 1);
            self.cursor = Cursor { seq, frames, offset: frame_end };
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
}
