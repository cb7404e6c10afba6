//! The device protocol: what a device and a feeder say to each other over one WebSocket.
//!
//! [`binary`] is the subprotocol `trough.v1`, [`json`] is `trough.v1.json`: the same messages, readable. Raw
//! mode has no messages of its own. The prose is in `docs/protocol.md`.

pub mod binary;
mod command;
pub mod json;
mod json_command;
mod json_frame;
mod json_payload;
mod json_value;

pub use command::{BadCommandId, Command, CommandId, CommandResult, CommandStatus, Features};

use crate::wire::WireError;
use crate::words::{Epoch, Micros, Seq};

/// The WebSocket subprotocol of [`binary`].
pub const SUBPROTOCOL_BINARY: &str = "trough.v1";
/// The WebSocket subprotocol of [`json`].
pub const SUBPROTOCOL_JSON: &str = "trough.v1.json";
/// The path of framed sessions.
pub const PATH_STREAM: &str = "/v1/stream";
/// The path of raw sessions.
pub const PATH_RAW: &str = "/v1/raw";

/// Why a device lost frames; written into the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SkipReason(pub u8);

impl SkipReason {
    const NAMES: [(u8, &'static str); 4] =
        [(0, "unspecified"), (1, "overflow"), (2, "storage_lost"), (3, "discarded")];

    /// The device's buffer was full.
    pub const OVERFLOW: Self = Self(1);
    /// The device's storage failed.
    pub const STORAGE_LOST: Self = Self(2);
    /// The device chose not to send them.
    pub const DISCARDED: Self = Self(3);

    /// The name in JSON; numbers that this release does not know read as `unspecified`.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(code, _)| *code == self.0).map_or("unspecified", |(_, name)| name)
    }

    /// From its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(code, _)| Self(*code))
    }
}

/// A device's first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The numbering of the frames it holds; [`Epoch::NONE`] asks for a new one.
    pub epoch: Epoch,
    /// The lowest seq that it can still send; equal to `next` when it holds nothing.
    pub oldest: Seq,
    /// The seq that the next frame it makes will get.
    pub next: Seq,
    /// The last ack it saw in this epoch; [`Seq::ZERO`] if none.
    pub acked: Seq,
    /// What it can do besides.
    pub features: Features,
}

impl Hello {
    /// Asks for a new epoch.
    pub const NEW: Self = Self {
        epoch: Epoch::NONE,
        oldest: Seq::FIRST,
        next: Seq::FIRST,
        acked: Seq::ZERO,
        features: Features::NONE,
    };

    /// Checks what must hold between the fields.
    ///
    /// # Errors
    /// [`WireError::Invalid`], naming the field and the rule.
    pub fn check(self) -> Result<Self, WireError> {
        let invalid = |what, value: Seq, rule| Err(WireError::Invalid { what, value: value.0, rule });
        if self.oldest > self.next {
            return invalid("hello.oldest", self.oldest, "it must not be above next");
        }
        if self.acked >= self.next {
            return invalid("hello.ack", self.acked, "it must be below next");
        }
        Ok(self)
    }
}

/// The feeder's answer to a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// The numbering to use. If it is not the hello's, the device renumbers what it holds from 1.
    pub epoch: Epoch,
    /// The seq that the feeder expects next: what is below it is durable. If the device no longer holds it, the
    /// device sends a skip up to its oldest first.
    pub resume: Seq,
    /// The server's time: where a device without a clock starts.
    pub time: Micros,
    /// Bytes of unacknowledged frames beyond which the feeder stops reading.
    pub window_bytes: u32,
    /// Largest payload of one frame, in bytes.
    pub frame_bytes_max: u32,
    /// Largest message, in bytes.
    pub message_bytes_max: u32,
    /// Names the session in the logs of both sides.
    pub session: [u8; 16],
}

/// Numbers that the device declares lost; counts as sent, and is acknowledged like frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skip {
    /// The first one.
    pub first: Seq,
    /// The last one.
    pub last: Seq,
    /// Why.
    pub reason: SkipReason,
}

/// A message of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// The first message, once.
    Hello(Hello),
    /// Frames with consecutive numbers.
    Frames {
        /// The number of the first.
        first: Seq,
        /// The frames as [`crate::frame`] has them. Not checked yet: see [`crate::frame::check_frames`].
        data: &'a [u8],
    },
    /// A declared loss.
    Skip(Skip),
    /// The echo of a rewind: what follows begins at this number.
    Rewind(Seq),
    /// The answer to a command.
    CommandResult(CommandResult<'a>),
}

/// A message of a feeder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    /// The answer to a hello.
    Welcome(Welcome),
    /// Everything up to and with this number is durable.
    Ack(Seq),
    /// Echo this, then send again from this number on; what was sent before the echo is discarded.
    Rewind(Seq),
    /// Do this. Only to a device that has said [`Features::COMMANDS`]; in a box, as it is rare and large.
    Command(Box<Command>),
}
