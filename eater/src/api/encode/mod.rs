//! Frames as the bytes of an answer.
//!
//! This is the hot path of reading: it runs once for every frame, so it allocates nothing for a frame, formats
//! by hand into one buffer, and keeps what a run of frames has in common ready as text. What it writes is the
//! JSON of the device protocol (`trough_protocol::device::json`) with three members more.

mod csv;
mod escape;
mod frame;
mod json_check;
mod payload;
mod time;

pub use escape::push_json_string;
pub use frame::FrameEncoder;
pub use time::time_text;

/// How frames are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameFormat {
    /// Objects with commas between them, for the inside of a JSON array.
    Json,
    /// One object a line.
    NdJson,
    /// One record a line, RFC 4180, a header first.
    Csv,
}
