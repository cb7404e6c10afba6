//! The header of a commit group.

use trough_protocol::Micros;
use trough_protocol::wire::WireError;

use super::{HEADER_BYTES, seal, unseal};

/// The first bytes of a group.
pub const GROUP_MAGIC: [u8; 4] = *b"TRJG";
/// Bytes of a group's header; its batches follow.
pub const GROUP_HEADER_BYTES: u64 = HEADER_BYTES as u64;

/// What stands before the batches that became durable together. Without batches it is a marker, which only
/// vouches for what is before it.
///
/// ```text
///  0  4 magic "TRJG"   u8 version, 1   u8 codec, 0   u8 critical flags, 0   u8 other flags, ignored
///  8  u64 file id      u64 the file's nonce
/// 24  u64 own offset in the file       u64 durable to
/// 40  u64 received at, µs since 1970   u32 number of batches   u32 bytes of the batches
/// 56  4 zeros
/// 60  u32 CRC32C of the 60 bytes before
/// ```
/// The batches have checksums of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHeader {
    /// The file's number.
    pub file_id: u64,
    /// The file's nonce.
    pub nonce: u64,
    /// Where this header begins in the file, in bytes.
    pub offset: u64,
    /// All bytes of the file before this offset were durable when the group was written.
    pub durable_to: u64,
    /// When the eater took the batches up; rises from group to group.
    pub received_at: Micros,
    /// How many batches.
    pub batches: u32,
    /// Their length in bytes.
    pub len: u32,
}

impl GroupHeader {
    /// Where the group ends in the file, in bytes.
    pub fn end(&self) -> u64 {
        self.offset + GROUP_HEADER_BYTES + u64::from(self.len)
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut fields = [0; 48];
        let values = [
            self.file_id,
            self.nonce,
            self.offset,
            self.durable_to,
            self.received_at,
            u64::from(self.batches) | u64::from(self.len) << 32,
        ];
        for (field, value) in fields.chunks_exact_mut(8).zip(values) {
            field.copy_from_slice(&value.to_le_bytes());
        }
        seal(GROUP_MAGIC, &fields)
    }

    /// Reads one from the front of `bytes`. Whether it belongs where it stands is [`GroupHeader::belongs`].
    ///
    /// # Errors
    /// The first fault; [`WireError::Unsupported`] if a later release wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = unseal("journal group header", GROUP_MAGIC, bytes)?;
        Ok(Self {
            file_id: reader.u64("file id")?,
            nonce: reader.u64("nonce")?,
            offset: reader.u64("own offset")?,
            durable_to: reader.u64("durable to")?,
            received_at: reader.u64("received at")?,
            batches: reader.u32("number of batches")?,
            len: reader.u32("bytes of batches")?,
        })
    }

    /// Whether it was written at `offset` of this file, and not carried there by a payload or a stray block.
    pub fn belongs(&self, file_id: u64, nonce: u64, offset: u64) -> bool {
        (self.file_id, self.nonce, self.offset) == (file_id, nonce, offset)
            && self.durable_to <= offset
            && (self.batches == 0) == (self.len == 0)
    }
}
