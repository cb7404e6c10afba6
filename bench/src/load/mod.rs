//! The traffic: sessions of the device client library on threads of this process.

mod alarm;
mod closed;
mod crew;
mod ledger;
mod open;

use std::time::Duration;

use serde::Serialize;

pub use crew::{CHANNEL, Crew, Outcome};
pub(crate) use ledger::histogram;

/// Who connects, and where.
#[derive(Debug, Clone)]
pub struct Target {
    /// The feeder's URL.
    pub url: String,
    /// One session each.
    pub devices: Vec<Credentials>,
}

/// One device.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Its id.
    pub device: String,
    /// Its token.
    pub token: String,
}

/// How frames are paced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as acks come.
    Closed {
        /// Frames of one session that are on their way at most.
        window: u64,
        /// Frames of one session in all; `None` goes on until the time is over.
        frames: Option<u64>,
    },
    /// By the clock, over all sessions, whatever the acks do.
    Open {
        /// Frames a second.
        rate: f64,
        /// When they come.
        arrivals: Arrivals,
    },
}

/// When frames of an open loop come, and on which session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// At exponentially distributed distances, each on a random session: what independent devices do.
    Poisson,
    /// At equal distances, on one session after another.
    Even,
}

/// The traffic of one run.
#[derive(Debug, Clone)]
pub struct Load {
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// Their kind.
    pub payload: crate::payload::PayloadKind,
    /// Frames in one message: exactly so many in a closed loop, always one in an open one.
    pub frames_per_message: u32,
    /// How fast.
    pub pace: Pace,
    /// Before anything counts.
    pub warmup: Duration,
    /// How long everything counts.
    pub duration: Duration,
    /// Threads that carry the sessions.
    pub threads: usize,
}
