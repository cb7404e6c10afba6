//! Segments: what journals are compacted into. A segment is a Parquet object that anybody can read, sorted by (device,
//! epoch, seq) with one copy of each frame, and an index object beside it, by which we read it: where each device is,
//! and what the bytes must be. The bytes of both are in `docs/storage.md`.
//!
//! - [`write`]: rows in, two objects out ([`columns`], [`schema`], [`directory`]).
//! - [`mod@format`]: the index object.
//! - [`find`]: what segments have of a device, which takes their indexes only.
//! - [`read`]: from [`opened`] by [`walk`], [`steps`] and [`loaded`] to [`scan`] and [`rows`].
//! - [`cache`] and [`blocks`]: nothing is decoded whose checksum was not verified. [`ahead`]: in large pieces, for who reads all.

mod ahead;
mod blocks;
mod cache;
mod columns;
mod describe;
mod directory;
mod error;
mod find;
pub mod format;
mod frame_columns;
mod loaded;
mod metrics;
mod names;
mod opened;
mod read;
mod row;
mod rows;
mod scan;
mod schema;
mod steps;
#[cfg(test)]
pub(crate) mod tests;
mod walk;
mod weighted;
mod write;

pub use crate::journal::Rank;
pub use cache::{SegmentCache, SegmentCacheLimits};
pub(crate) use describe::describe;
pub use error::WriteError;
pub(crate) use frame_columns::{FrameColumns, int, ints, times};
pub use loaded::Rows;
pub use metrics::SegmentMetrics;
pub(crate) use names::date_of_key;
pub use names::{index_key, parquet_key, segment_of_key};
pub use read::OpenSegment;
pub use row::Row;
pub use rows::{RowsCursor, SegmentRows};
pub use scan::SegmentScan;
pub(crate) use schema::{FRAME_COLUMNS, SCHEMA, export_properties};
pub use write::{NewSegment, SegmentWriter, Written};
