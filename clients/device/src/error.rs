//! What can go wrong, by what the caller can do about it.

use std::sync::Arc;

use trough_protocol::wire::WireError;
use trough_protocol::{Epoch, Seq};

/// The configuration cannot work. Mend it and start again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not an address that a device can connect to.
    #[error(
        "url {url:?} cannot be used: {problem}; write it like wss://trough.example.org or ws://127.0.0.1:8080"
    )]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Not a token.
    #[error("the token cannot be used: {0}; give the one that `trough devices add` printed")]
    Token(&'static str),
    /// The certificates cannot be read.
    #[error("the root certificates cannot be used: {0}; give PEM with at least one CERTIFICATE block")]
    Roots(String),
    /// A number that makes no sense.
    #[error("{field} is {value}: use {accepted}")]
    Value {
        /// Which field of [`Config`](crate::Config).
        field: &'static str,
        /// As given.
        value: String,
        /// What may be given.
        accepted: &'static str,
    },
}

/// The feeder told the device to stop, or there is no sense in trying again before somebody mends something.
///
/// What is not acknowledged stays in the buffer: [`Device::restart`](crate::Device::restart) goes on with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stopped by {}: {reason}; {remedy}", code.map_or_else(|| "the device itself".into(), |code| format!("code {code}")))]
pub struct Stopped {
    /// The close code (4300 to 4499) or the HTTP status (400 to 499); `None` if the device itself found the reason.
    pub code: Option<u16>,
    /// What the feeder said.
    pub reason: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// A frame or skip was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It breaks a rule of the protocol. It got no number; mend it, or leave it out.
    #[error("the frame cannot be sent: {0}")]
    Invalid(#[from] WireError),
    /// It is larger than the feeder accepts. It got no number.
    #[error("{what} is {bytes} bytes and the feeder accepts {max}: split it, or raise the feeder's limit")]
    TooLarge {
        /// The payload, or the message that it needs.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The buffer is full, or no feeder has said yet whether it takes so large a frame. Only the `try_` calls
    /// return it.
    #[error("the buffer is full until frames are acknowledged: try again later")]
    Full,
    /// More numbers than there are.
    #[error("a skip of {0} is out of range: use 1 or more, and stay below 2^52 in all")]
    SkipRange(u64),
    /// See [`Stopped`].
    #[error(transparent)]
    Stopped(#[from] Arc<Stopped>),
    /// [`Device::close`](crate::Device::close) was called.
    #[error("the device is closed: start a new one")]
    Closed,
}

/// Waiting is in vain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// See [`Stopped`].
    #[error(transparent)]
    Stopped(#[from] Arc<Stopped>),
    /// The device has been closed, or its runtime has been shut down before everything was acknowledged.
    #[error("the device has ended: it was closed, or its runtime was shut down")]
    Ended,
}

/// A device could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// See [`ConfigError`].
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// See [`WaitError`].
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// The feeder broke the protocol, or asks for what this device cannot do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{0} may not come now")]
    Unexpected(&'static str),
    #[error("welcome.resume is {resume}, above the next number {next} of this device")]
    ResumeAhead { resume: Seq, next: Seq },
    #[error("welcome grants epoch {epoch} and resumes at {resume} instead of 1")]
    NewEpochNotEmpty { epoch: Epoch, resume: Seq },
    #[error("ack {seq} is above {sent}, the last number sent")]
    AckAhead { seq: Seq, sent: Seq },
    #[error("rewind to {seq}: from 1 to {known} was due")]
    RewindAhead { seq: Seq, known: Seq },
    #[error("{what} of frame {seq} is {bytes} bytes and this feeder accepts {max}")]
    HeldTooLarge { seq: Seq, what: &'static str, bytes: usize, max: usize },
    #[error("malformed message: {0}")]
    Malformed(#[from] WireError),
    #[error("a {0} message came on a session of the other subprotocol")]
    WrongKind(&'static str),
}

/// What to do about a close code that says stop.
pub(crate) fn remedy_for_close(code: u16) -> &'static str {
    match code {
        4300..=4399 => "give the device a valid token (`trough devices rotate` makes one) and restart it",
        4401 => "send smaller frames, or raise the feeder's frame limit, and restart the device",
        4406 => "the eater refused these frames: its log names the reason",
        _ => {
            "client and feeder disagree about the protocol: update the older one, and report it if both are current"
        }
    }
}

/// What to do about an HTTP status that says stop.
pub(crate) fn remedy_for_status(status: u16) -> &'static str {
    match status {
        401 => "give the device a valid token (`trough devices rotate` makes one) and restart it",
        403 => "let the device write here, or give it the token of another, and restart it",
        _ => "mend the url or update the client: the same request would be refused again",
    }
}
