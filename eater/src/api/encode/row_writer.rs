//! Rows of a downsampled answer in whatever form was asked for.

use trough_protocol::{DeviceId, Micros};

use super::row_table::RowTable;
use super::row_text::RowText;
use super::{Format, FrameFormat};

/// One bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    /// Whose frames.
    pub device: &'a DeviceId,
    /// When it begins, in µs since 1970.
    pub ts: Micros,
    /// Frames whose value counted.
    pub count: u64,
    /// Frames that had none that counts.
    pub skipped: u64,
    /// What they come to; `None` if none counted.
    pub value: Option<RowValue<'a>>,
}

/// What a bucket comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RowValue<'a> {
    /// A number, finite.
    Float(f64),
    /// How many.
    Count(u64),
    /// A JSON text, as sent.
    Json(&'a str),
}

/// What all values of an answer are; of a table it is the column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// [`RowValue::Float`].
    Float,
    /// [`RowValue::Count`].
    Count,
    /// [`RowValue::Json`].
    Json,
}

/// Writes rows one after another; like [`super::FrameWriter`].
#[derive(Debug)]
pub struct RowWriter(Kind);

#[derive(Debug)]
enum Kind {
    Text(Box<RowText>),
    Table(Box<RowTable>),
}

impl RowWriter {
    /// A writer of rows with such values. Text shows the device if `with_device`; tables always do.
    pub fn new(format: Format, kind: ValueKind, with_device: bool) -> Self {
        Self(match format {
            Format::Text(format) => Kind::Text(Box::new(RowText::new(format, with_device))),
            Format::Table(format) => Kind::Table(Box::new(RowTable::new(format, kind))),
        })
    }

    /// Appends one row.
    pub fn push(&mut self, row: &Row<'_>) {
        match &mut self.0 {
            Kind::Text(text) => text.push(row),
            Kind::Table(table) => table.push(row),
        }
    }

    /// Appends bytes as they are, if it writes JSON.
    pub fn push_raw(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Kind::Text(text) if text.format() == FrameFormat::Json => text.push_raw(bytes),
            Kind::Text(_) | Kind::Table(_) => debug_assert!(false, "only JSON has anything around its rows"),
        }
    }

    /// Bytes of all that was written and not taken, about.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kind::Text(text) => text.len(),
            Kind::Table(table) => table.len(),
        }
    }

    /// Bytes that can be taken.
    pub fn ready(&self) -> usize {
        match &self.0 {
            Kind::Text(text) => text.len(),
            Kind::Table(table) => table.ready(),
        }
    }

    /// Writes what belongs behind the last row.
    pub fn finish(&mut self) {
        match &mut self.0 {
            Kind::Text(_) => {}
            Kind::Table(table) => table.finish(),
        }
    }

    /// The bytes that are ready.
    pub fn take(&mut self) -> Vec<u8> {
        match &mut self.0 {
            Kind::Text(text) => text.take(),
            Kind::Table(table) => table.take(),
        }
    }
}
