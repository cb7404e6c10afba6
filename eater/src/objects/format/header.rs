//! The front of a journal object.

use trough_protocol::Micros;
use trough_protocol::wire::WireError;
use trough_store::object_catalog::ObjectId;

use super::{put_id, read_id};
use crate::journal::format::{seal, unseal};

const MAGIC: [u8; 4] = *b"TRJO";
/// Bytes of the header; the first batch begins here.
pub const HEADER_BYTES: usize = 64;

/// What stands at the beginning of a journal object.
///
/// ```text
///  0  4 magic "TRJO"   u8 version, 1   u8 codec, 0   u8 critical flags, 0   u8 other flags, ignored
///  8  16 incarnation   u64 number      u64 received at, µs since 1970
/// 40  20 zeros
/// 60  u32 CRC32C of the 60 bytes before
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which object it is.
    pub id: ObjectId,
    /// When its eater sealed it, by the eater's clock; rises from object to object of an incarnation.
    pub received_at: Micros,
}

impl Header {
    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut fields = Vec::with_capacity(32);
        put_id(self.id, &mut fields);
        fields.extend_from_slice(&self.received_at.to_le_bytes());
        seal(MAGIC, &fields)
    }

    /// Reads one from the front of `bytes`.
    ///
    /// # Errors
    /// The first fault; [`WireError::Unsupported`] if a later release wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = unseal("journal object header", MAGIC, bytes)?;
        Ok(Self { id: read_id(&mut reader)?, received_at: reader.int("received at", 0)? })
    }
}
