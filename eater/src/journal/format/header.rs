//! The header of a journal file.

use trough_protocol::Micros;
use trough_protocol::wire::WireError;

use super::{HEADER_BYTES, seal, unseal};

const MAGIC: [u8; 4] = *b"TRJF";
/// Bytes of a file's header; the first group begins here.
pub const FILE_HEADER_BYTES: u64 = HEADER_BYTES as u64;

/// What stands at the beginning of a journal file.
///
/// ```text
///  0  4 magic "TRJF"   u8 version, 1   u8 codec, 0   u8 critical flags, 0   u8 other flags, ignored
///  8  u64 file id      u64 nonce       u64 created at, µs since 1970
/// 32  u64 previous file's id, 0 if there is none     u64 previous file's sealed length
/// 48  12 zeros
/// 60  u32 CRC32C of the 60 bytes before
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// The number in the file's name; from 1, rising.
    pub file_id: u64,
    /// Random. Each of the file's groups repeats it, so that no payload can be made to look like a group.
    pub nonce: u64,
    /// When the file was made, by the eater's clock.
    pub created_at: Micros,
    /// The file that came before; 0 for the first one.
    pub previous_id: u64,
    /// Where that file ends. What it has beyond was never acknowledged.
    pub previous_len: u64,
}

impl FileHeader {
    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut fields = [0; 40];
        let values = [self.file_id, self.nonce, self.created_at, self.previous_id, self.previous_len];
        for (field, value) in fields.chunks_exact_mut(8).zip(values) {
            field.copy_from_slice(&value.to_le_bytes());
        }
        seal(MAGIC, &fields)
    }

    /// Reads one from the front of `bytes`.
    ///
    /// # Errors
    /// The first fault; [`WireError::Unsupported`] if a later release wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = unseal("journal file header", MAGIC, bytes)?;
        Ok(Self {
            file_id: reader.u64("file id")?,
            nonce: reader.u64("nonce")?,
            created_at: reader.u64("created at")?,
            previous_id: reader.u64("previous file id")?,
            previous_len: reader.u64("previous file length")?,
        })
    }
}
