//! Frames in whatever form was asked for.

use trough_protocol::frame::FrameRef;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};

#[cfg(test)]
use super::FrameFormat;
use super::frame_table::FrameTable;
use super::{Format, FrameEncoder, Shape};

/// Writes frames one after another: as text, or in columns.
///
/// [`FrameWriter::begin_device`] and [`FrameWriter::begin_run`] are called where device, epoch or time of receipt change,
/// [`FrameWriter::push`] for each frame, [`FrameWriter::finish`] at the end; bytes are taken as they become ready.
#[derive(Debug)]
pub struct FrameWriter(Kind);

#[derive(Debug)]
enum Kind {
    Text(Box<FrameEncoder>),
    Table(Box<FrameTable>),
}

impl FrameWriter {
    /// A writer whose buffer, if it writes text, starts with `capacity` bytes.
    pub fn new(format: Format, capacity: usize, shape: Shape) -> Self {
        Self(match format {
            Format::Text(format) => Kind::Text(Box::new(FrameEncoder::shaped(format, capacity, shape))),
            Format::Table(format) => Kind::Table(Box::new(FrameTable::new(format, shape.fields))),
        })
    }

    /// Text without further ado.
    #[cfg(test)]
    pub fn text(format: FrameFormat, capacity: usize) -> Self {
        Self::new(Format::Text(format), capacity, Shape::default())
    }

    /// The frames that follow are of this device.
    pub fn begin_device(&mut self, device: &DeviceId) {
        match &mut self.0 {
            Kind::Text(text) => text.begin_device(device),
            Kind::Table(table) => table.begin_device(device),
        }
    }

    /// The frames that follow are of this epoch, and came at this time.
    pub fn begin_run(&mut self, epoch: Epoch, received_at: Micros) {
        match &mut self.0 {
            Kind::Text(text) => text.begin_run(epoch, received_at),
            Kind::Table(table) => table.begin_run(epoch, received_at),
        }
    }

    /// Appends one frame of the run.
    pub fn push(&mut self, seq: Seq, frame: &FrameRef<'_>) {
        match &mut self.0 {
            Kind::Text(text) => text.push(seq, frame),
            Kind::Table(table) => table.push(seq, frame),
        }
    }

    /// Appends bytes as they are; only text has anything around the frames.
    pub fn push_raw(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Kind::Text(text) => text.push_raw(bytes),
            Kind::Table(_) => debug_assert!(false, "a table has nothing around its rows"),
        }
    }

    /// Bytes of all that was written and not taken, about: what waits to be encoded included.
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

    /// Frames written so far, those already taken included.
    pub fn frames(&self) -> u64 {
        match &self.0 {
            Kind::Text(text) => text.frames(),
            Kind::Table(table) => table.frames(),
        }
    }

    /// Writes what belongs behind the last frame. Without it a table is broken, and shows that it is.
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
