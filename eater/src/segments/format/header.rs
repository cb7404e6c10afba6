//! The front of an index object.

use trough_protocol::wire::{Reader, WireError};
use trough_store::segment_catalog::SegmentId;

use super::{INDEX_BYTES_MAX, PARQUET_BYTES_MAX};
use crate::journal::format::{seal, unseal};

const MAGIC: [u8; 4] = *b"TRSX";
/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Which segment.
    pub id: SegmentId,
    /// The day on which its frames were received (UTC), in days since 1970-01-01.
    pub date: u32,
    /// How often its frames were compacted, from 1.
    pub level: u8,
    /// Size of the Parquet object, in bytes.
    pub bytes: u64,
    /// Its frames.
    pub frames: u64,
}

/// What stands at the beginning of an index object.
///
/// ```text
///  0  4 magic "TRSX"   u8 version, 1   u8 codec, 0   u8 critical flags, 0   u8 other flags, ignored
///  8  16 segment id
/// 24  u32 date, days since 1970-01-01  u8 level, from 1   3 zeros
/// 32  u64 bytes of the Parquet object  u64 frames
/// 48  u32 number of devices            u32 bytes of all that follows the header
/// 56  u32 CRC32C of all that follows the header
/// 60  u32 CRC32C of the 60 bytes before
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub facts: Facts,
    pub devices: u32,
    pub body_bytes: u32,
    pub body_crc: u32,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let Facts { id, date, level, bytes, frames } = self.facts;
        let mut fields = Vec::with_capacity(52);
        fields.extend_from_slice(&id.0);
        fields.extend_from_slice(&date.to_le_bytes());
        fields.extend_from_slice(&[level, 0, 0, 0]);
        for field in [bytes, frames] {
            fields.extend_from_slice(&field.to_le_bytes());
        }
        for field in [self.devices, self.body_bytes, self.body_crc] {
            fields.extend_from_slice(&field.to_le_bytes());
        }
        seal(MAGIC, &fields)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader: Reader<'_> = unseal("segment index header", MAGIC, bytes)?;
        let id = SegmentId(reader.array("segment id")?);
        let date = reader.u32("date")?;
        let [level, ..] = reader.array::<4>("level")?;
        if level == 0 {
            return Err(WireError::Invalid { what: "level", value: 0, rule: "levels begin at 1" });
        }
        let bytes = reader.int("bytes of the Parquet object", 0)?;
        if bytes > PARQUET_BYTES_MAX {
            let what = "bytes of the Parquet object";
            return Err(WireError::TooLarge { what, value: bytes, max: PARQUET_BYTES_MAX });
        }
        let frames = reader.int("number of frames", 0)?;
        let header = Self {
            facts: Facts { id, date, level, bytes, frames },
            devices: reader.u32("number of devices")?,
            body_bytes: reader.u32("bytes of the index")?,
            body_crc: reader.u32("checksum of the index")?,
        };
        if u64::from(header.body_bytes) > INDEX_BYTES_MAX {
            let (what, value) = ("bytes of the index", header.body_bytes.into());
            return Err(WireError::TooLarge { what, value, max: INDEX_BYTES_MAX });
        }
        Ok(header)
    }
}
