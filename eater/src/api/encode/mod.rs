//! Frames as the bytes of an answer.
//!
//! This is the hot path of reading: it runs once for every frame, so it allocates nothing for a frame, formats
//! by hand into one buffer, and keeps what a run of frames has in common ready as text. What it writes is the
//! JSON of the device protocol (`trough_protocol::device::json`) with three members more, or four.
//!
//! [`FrameWriter`] and [`RowWriter`] write whatever was asked for: text by [`FrameEncoder`], or record batches of
//! [`table`].

mod csv;
mod frame;
mod frame_table;
mod frame_writer;
mod payload;
mod row_table;
mod row_text;
mod row_writer;
mod table;
mod time;

pub use crate::json::{POINTER_BYTES_MAX, Pointer, push_json_string};
pub use frame::FrameEncoder;
pub use frame_writer::FrameWriter;
pub(super) use payload::Payload;
pub use row_writer::{Row, RowValue, RowWriter, ValueKind};
pub use table::TableFormat;
pub use time::time_text;

/// How frames are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameFormat {
    /// Objects with commas between them, for the inside of a JSON array.
    Json,
    /// One object a line.
    NdJson,
    /// One record a line, RFC 4180, a header first.
    Csv,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// As text, frame by frame.
    Text(FrameFormat),
    /// In columns, batch by batch.
    Table(TableFormat),
}

/// What is written of a frame besides epoch, seq, times and channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Its device. Tables always have it.
    pub device: bool,
    /// These fields of its payload in place of the payload; empty for the payload.
    pub fields: Vec<Pointer>,
}
