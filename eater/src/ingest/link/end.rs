//! Why links end.

use std::io;

use trough_protocol::link::LinkCode;
use trough_protocol::wire::WireError;

use super::QUIET_MAX;
use super::handshake::HELLO_TIMEOUT;
use crate::ingest::sink::Rejection;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    #[error("the feeder closed it")]
    Closed,
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("no hello within {} s", HELLO_TIMEOUT.as_secs())]
    NoHello,
    #[error("nothing was heard for {} s", 2 * QUIET_MAX.as_secs())]
    Silence,
    #[error("the feeder refuses this eater: {0}")]
    Refused(String),
    #[error("the feeder does not read its acknowledgements")]
    Unread,
    #[error("{text}")]
    Goodbye { code: LinkCode, retry_after_ms: u32, text: String },
    #[error("batch {} was refused: {}", .0.number, .0.text)]
    Rejected(Rejection),
}

impl From<WireError> for LinkEnd {
    fn from(error: WireError) -> Self {
        let code = match error {
            WireError::Checksum { .. } => LinkCode::DAMAGED,
            _ => LinkCode::PROTOCOL,
        };
        Self::Goodbye { code, retry_after_ms: 0, text: error.to_string() }
    }
}

pub(super) fn protocol(text: String) -> LinkEnd {
    LinkEnd::Goodbye { code: LinkCode::PROTOCOL, retry_after_ms: 0, text }
}
