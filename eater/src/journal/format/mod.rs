//! The bytes of journal files: `docs/storage.md` has them in prose. Nothing here does I/O.
//!
//! A journal file `{id:020}.trj` is a [`FileHeader`] and then commit groups, each a [`GroupHeader`] and its
//! batches exactly as they were received. All integers are little-endian.

mod group;
mod header;

pub use group::{GROUP_HEADER_BYTES, GROUP_MAGIC, GroupHeader};
pub use header::{FILE_HEADER_BYTES, FileHeader};

use trough_protocol::wire::{Reader, WireError};

/// Bytes of the headers, and where their checksum stands.
const HEADER_BYTES: usize = 64;
const CRC_AT: usize = HEADER_BYTES - 4;
const VERSION: u8 = 1;

/// Puts magic and version in front, zeros behind, and the checksum at the end.
pub(crate) fn seal(magic: [u8; 4], fields: &[u8]) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&magic);
    bytes[4] = VERSION;
    bytes[8..8 + fields.len()].copy_from_slice(fields);
    let crc = crc32c::crc32c(&bytes[..CRC_AT]);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Checks magic, checksum and version, in this order: a later release's header has a good checksum too.
pub(crate) fn unseal<'a>(
    what: &'static str,
    magic: [u8; 4],
    bytes: &'a [u8],
) -> Result<Reader<'a>, WireError> {
    let mut reader = Reader::new(bytes);
    let fields = reader.bytes(what, HEADER_BYTES)?;
    let mut reader = Reader::new(fields);
    let found = reader.array(what)?;
    if found != magic {
        return Err(WireError::Magic { what, found });
    }
    let mut stored = Reader::new(&fields[CRC_AT..]);
    let (found, computed) = (stored.u32("checksum")?, crc32c::crc32c(&fields[..CRC_AT]));
    if found != computed {
        return Err(WireError::Checksum { what, found, computed });
    }
    let [version, codec, critical, _] = reader.array(what)?;
    for (what, value, known, text) in [
        ("journal format version", version, VERSION, "1"),
        ("journal codec", codec, 0, "0"),
        ("journal critical flags", critical, 0, "0"),
    ] {
        if value != known {
            return Err(WireError::Unsupported { what, value: value.into(), known: text });
        }
    }
    Ok(reader)
}
