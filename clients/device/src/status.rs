//! What a device tells about itself while it runs.

use std::sync::Arc;
use std::time::Duration;

use trough_protocol::close::Advice;
use trough_protocol::{Epoch, Micros, Seq};

use crate::error::Stopped;

/// How far the acknowledgements have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acked {
    /// The numbering that `seq` belongs to.
    pub epoch: Epoch,
    /// Everything up to and with this number is durable.
    pub seq: Seq,
    /// Frames of this device that became durable since it was started. A change of epoch renumbers frames and
    /// leaves this alone: it is the one to count by.
    pub frames: u64,
}

/// What a device is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It is connecting, or waits for its welcome.
    Connecting,
    /// It is in a session.
    Connected,
    /// The last connection failed or ended; it will connect again.
    Waiting,
    /// It will not connect again until [`Device::restart`](crate::Device::restart).
    Stopped(Arc<Stopped>),
    /// It has ended.
    Closed,
}

/// What happened, for logs and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A session began.
    Connected {
        /// Names the session in the feeder's log.
        session: [u8; 16],
        /// The numbering in use.
        epoch: Epoch,
        /// What is sent next.
        resume: Seq,
        /// The feeder's clock: where a device without one starts.
        server_time: Micros,
    },
    /// A session ended, or a connection could not be made.
    Disconnected {
        /// The close code, or the HTTP status of a refused upgrade; `None` if there was neither.
        code: Option<u16>,
        /// What the feeder said, or what happened.
        reason: String,
        /// What the code asks for.
        advice: Advice,
        /// When the device connects again; `None` if it does not.
        retry_in: Option<Duration>,
    },
    /// The feeder granted another epoch: what is held was renumbered.
    EpochChanged {
        /// The numbering until now.
        old: Epoch,
        /// The numbering from now on.
        new: Epoch,
        /// The number in the old epoch of what is number 1 in the new one.
        first: Seq,
    },
    /// The feeder asked for everything again from here on.
    Rewound(Seq),
}
