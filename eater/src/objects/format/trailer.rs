//! The end of a journal object: where everything else is.

use trough_protocol::wire::WireError;
use trough_store::object_catalog::ObjectId;

use super::{HEADER_BYTES, OBJECT_BYTES_MAX, put_id, read_id};
use crate::journal::format::{seal, unseal};

const MAGIC: [u8; 4] = *b"TRJT";
/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 64;

/// What stands at the end of a journal object, so that whoever knows its size finds its index with one read.
///
/// ```text
///  0  4 magic "TRJT"   u8 version, 1   u8 codec, 0   u8 critical flags, 0   u8 other flags, ignored
///  8  16 incarnation   u64 number
/// 32  u32 number of batches            u32 number of devices in the index
/// 40  u32 bytes of the index, which ends where the trailer begins
/// 44  u32 CRC32C of the index
/// 48  12 zeros
/// 60  u32 CRC32C of the 60 bytes before
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Which object it is.
    pub id: ObjectId,
    /// Its batches.
    pub batches: u32,
    /// Devices in the index.
    pub devices: u32,
    /// Bytes of the index.
    pub index_len: u32,
    /// CRC32C of the index.
    pub index_crc: u32,
}

impl Trailer {
    /// Its bytes.
    pub fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut fields = Vec::with_capacity(40);
        put_id(self.id, &mut fields);
        for field in [self.batches, self.devices, self.index_len, self.index_crc] {
            fields.extend_from_slice(&field.to_le_bytes());
        }
        seal(MAGIC, &fields)
    }

    /// Reads one from the front of `bytes`, which are the last of an object.
    ///
    /// # Errors
    /// The first fault; [`WireError::Unsupported`] if a later release wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = unseal("journal object trailer", MAGIC, bytes)?;
        Ok(Self {
            id: read_id(&mut reader)?,
            batches: reader.u32("number of batches")?,
            devices: reader.u32("number of devices")?,
            index_len: reader.u32("bytes of the index")?,
            index_crc: reader.u32("checksum of the index")?,
        })
    }

    /// Where the index of an object of this size begins, in bytes.
    ///
    /// # Errors
    /// The object is too small for it, or larger than any that is written.
    pub fn index_start(&self, object_bytes: u64) -> Result<u64, WireError> {
        if object_bytes > OBJECT_BYTES_MAX {
            return Err(WireError::TooLarge {
                what: "journal object bytes",
                value: object_bytes,
                max: OBJECT_BYTES_MAX,
            });
        }
        let around = (HEADER_BYTES + TRAILER_BYTES) as u64 + u64::from(self.index_len);
        if object_bytes < around {
            let (needed, had) = (around as usize, object_bytes as usize);
            return Err(WireError::Truncated { what: "journal object", needed, had });
        }
        Ok(object_bytes - TRAILER_BYTES as u64 - u64::from(self.index_len))
    }
}
