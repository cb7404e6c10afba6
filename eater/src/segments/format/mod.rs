//! The bytes of a segment's index object, `.idx`: `docs/storage.md` has them in prose. Nothing here does I/O.
//!
//! An index is a [`HEADER_BYTES`] long header, the checksums of the Parquet object's blocks, where each device
//! begins, and the devices. All integers are little-endian. Everything but the checksums can be made again from the
//! Parquet object, and they from its bytes, if those are known to be good; declared losses are only here.

mod device;
mod entry;
mod header;
mod index;

pub use device::{Device, DeviceParts};
pub use entry::{LastAt, Loss, Stretch};
pub use header::{Facts, HEADER_BYTES};
pub use index::Index;

/// Bytes of the Parquet object that have one checksum; the last block may be shorter.
pub const BLOCK_BYTES: u64 = 64 * 1024;
/// Largest Parquet object, in bytes. Segments are meant to have a sixteenth of it.
pub const PARQUET_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Largest index object, in bytes.
pub const INDEX_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most frames of one stretch.
pub const STRETCH_FRAMES_MAX: u32 = 4096;
/// Most channels of one device whose last frames are noted; of more, those that were heard last.
pub const LASTS_MAX: usize = 1000;

/// How many blocks an object of this size has.
pub fn blocks_of(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES)
}
