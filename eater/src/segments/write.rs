//! Rows in, a segment out.

use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use trough_protocol::limits::{FRAME_BYTES_MAX, INT_MAX};
use trough_protocol::wire::WireError;
use trough_protocol::words::WordError;
use trough_protocol::{Channel, ContentType, DeviceId, Micros};
use trough_store::segment_catalog::{Segment, SegmentId};

use super::columns::Columns;
use super::directory::Directory;
use super::format::{BLOCK_BYTES, DeviceParts, Facts, INDEX_BYTES_MAX, Index, Loss, PARQUET_BYTES_MAX};
use super::schema::{SCHEMA, properties};
use super::{Row, WriteError};

/// Which segment is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewSegment {
    /// Which one: new, a UUID of version 7.
    pub id: SegmentId,
    /// The day on which its frames were received (UTC), in days since 1970-01-01.
    pub date: u32,
    /// How often its frames were compacted, from 1.
    pub level: u8,
}

/// A segment's two objects and its row, not stored yet.
#[derive(Debug, Clone)]
pub struct Written {
    /// The Parquet object.
    pub parquet: Bytes,
    /// The index object.
    pub index: Bytes,
    /// What belongs into the catalog when both are stored.
    pub segment: Segment,
}

/// A segment that is being written, in memory: it holds what it has encoded so far, and one row group besides.
pub struct SegmentWriter {
    new: NewSegment,
    parquet: ArrowWriter<Vec<u8>>,
    columns: Columns,
    directory: Directory,
    ts: Option<(Micros, Micros)>,
    received: Option<(Micros, Micros)>,
}

impl SegmentWriter {
    /// Begins one.
    ///
    /// # Errors
    /// [`WriteError::Parquet`].
    pub fn new(new: NewSegment) -> Result<Self, WriteError> {
        // Without Arrow's own schema in it: the file is plain Parquet, the same to every reader.
        let options = ArrowWriterOptions::new()
            .with_properties(properties(Some(new.id)))
            .with_skip_arrow_metadata(true);
        Ok(Self {
            new,
            parquet: ArrowWriter::try_new_with_options(Vec::new(), SCHEMA.clone(), options)?,
            columns: Columns::default(),
            directory: Directory::default(),
            ts: None,
            received: None,
        })
    }

    /// Takes a row. They come by (device, epoch, seq), each once.
    ///
    /// # Errors
    /// [`WriteError`]; the row was not taken if it is [`WriteError::Disorder`] or [`WriteError::Invalid`], and after any
    /// other there is no segment to be had.
    pub fn push(&mut self, row: &Row<'_>) -> Result<(), WriteError> {
        row.check()?;
        Channel::check(row.frame.channel.as_bytes()).map_err(|error| WriteError::Invalid(error.into()))?;
        let (len, max) = (row.frame.payload.len(), FRAME_BYTES_MAX);
        if len > max {
            let (value, max) = (len as u64, max as u64);
            return Err(WriteError::Invalid(WireError::TooLarge { what: "frame payload", value, max }));
        }
        if let ContentType::Other(name) = row.frame.content_type {
            ContentType::parse(name).map_err(|error| WriteError::Invalid(error.into()))?;
        }
        if let Some((before, behind)) = self.directory.last()
            && (row.device, (row.epoch, row.seq)) <= (before.as_str(), behind)
        {
            let device = DeviceId::new(row.device).map_err(|error| WriteError::Invalid(error.into()))?;
            let (key, before) = ((row.epoch, row.seq), before.clone());
            return Err(WriteError::Disorder { device, key, before, behind });
        }
        if self.directory.rows() == u32::MAX {
            return Err(self.too_large());
        }
        self.directory.push(row)?;
        self.columns.push(row);
        widen(&mut self.ts, row.frame.ts);
        widen(&mut self.received, row.received_at);
        if self.columns.is_full() { self.encode() } else { Ok(()) }
    }

    /// Takes numbers that have no frames. They may come in any order.
    ///
    /// # Errors
    /// [`WriteError::Invalid`].
    pub fn lose(&mut self, device: &DeviceId, loss: Loss) -> Result<(), WriteError> {
        for (what, value, min) in [
            ("epoch", loss.epoch.0, 1),
            ("first seq", loss.first.0, 1),
            ("last seq", loss.last.0, loss.first.0),
            ("received at (µs since 1970)", loss.received_at, 0),
            ("journal number", loss.source.n, 0),
        ] {
            if !(min..=INT_MAX).contains(&value) {
                return Err(WriteError::Invalid(WordError::Integer { what, value, min }.into()));
            }
        }
        self.directory.lose(device, loss);
        widen(&mut self.received, loss.received_at);
        Ok(())
    }

    /// Whether it would be nothing.
    pub fn is_empty(&self) -> bool {
        self.received.is_none()
    }

    /// Rows that it has taken.
    pub fn frames(&self) -> u64 {
        self.directory.rows().into()
    }

    /// How large the larger of the two objects is by now, in bytes, about: when to finish it.
    pub fn bytes(&self) -> u64 {
        let parquet = self.parquet.bytes_written() + self.parquet.in_progress_size() + self.columns.bytes();
        parquet.max(self.directory.bytes()) as u64
    }

    /// Encodes what is left.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn finish(mut self) -> Result<Written, WriteError> {
        let Some(received) = self.received else { return Err(WriteError::Empty) };
        self.encode()?;
        let frames = self.frames();
        let parquet = self.parquet.into_inner()?;
        let bytes = parquet.len() as u64;
        if bytes > PARQUET_BYTES_MAX {
            return Err(WriteError::TooLarge { what: "Parquet", bytes, max: PARQUET_BYTES_MAX });
        }
        let blocks: Vec<u32> = parquet.chunks(BLOCK_BYTES as usize).map(crc32c::crc32c).collect();
        let devices = self.directory.finish();
        let Some(([first, ..], [.., last])) = Some((&devices[..], &devices[..])) else {
            return Err(WriteError::Empty);
        };
        let range = (first.device.clone(), last.device.clone());
        let NewSegment { id, date, level } = self.new;
        let index = encode_index(Facts { id, date, level, bytes, frames }, &blocks, &devices)?;
        let segment = Segment {
            id,
            level,
            date,
            bytes,
            index_bytes: index.len() as u64,
            index_crc: crc32c::crc32c(&index),
            frames,
            devices: range,
            ts: self.ts.unwrap_or((0, 0)),
            received,
        };
        Ok(Written { parquet: parquet.into(), index, segment })
    }

    fn encode(&mut self) -> Result<(), WriteError> {
        if !self.columns.is_empty() {
            self.parquet.write(&self.columns.take()?)?;
        }
        Ok(())
    }

    fn too_large(&self) -> WriteError {
        WriteError::TooLarge { what: "Parquet", bytes: self.bytes(), max: PARQUET_BYTES_MAX }
    }
}

fn encode_index(facts: Facts, blocks: &[u32], devices: &[DeviceParts]) -> Result<Bytes, WriteError> {
    let max = INDEX_BYTES_MAX;
    let encoded = Index::encode(facts, blocks, devices);
    encoded.map(Bytes::from).ok_or(WriteError::TooLarge { what: "index", bytes: max + 1, max })
}

fn widen(range: &mut Option<(Micros, Micros)>, value: Micros) {
    let (low, high) = range.unwrap_or((value, value));
    *range = Some((low.min(value), high.max(value)));
}
