//! How everything stands on the bus: a head of eight bytes, then the content. docs/bus.md has it byte by byte.
//!
//! Somebody else's item under our name, a newer version's, or one that was damaged is told from ours, and counts as
//! none. This is against accidents; against malice stands [`crate::seal`].

use bytes::Bytes;

const MAGIC: [u8; 2] = *b"Tb";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 8;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message of a topic.
    Message = 1,
    /// A value.
    Value = 2,
    /// A lease: the content is its holder's random name.
    Lease = 3,
}

/// Puts content into an envelope.
pub fn wrap(kind: Kind, content: &[u8]) -> Vec<u8> {
    let mut item = Vec::with_capacity(HEAD_BYTES + content.len());
    item.extend_from_slice(&MAGIC);
    item.extend_from_slice(&[VERSION, kind as u8]);
    item.extend_from_slice(&checksum(kind, content).to_le_bytes());
    item.extend_from_slice(content);
    item
}

/// Takes content out of its envelope; `None` for anything that is not a sound one of this kind and version.
pub fn open(kind: Kind, item: &Bytes) -> Option<Bytes> {
    let (head, content) = item.split_at_checked(HEAD_BYTES)?;
    let sound = head[..2] == MAGIC
        && head[2..4] == [VERSION, kind as u8]
        && head[4..] == checksum(kind, content).to_le_bytes();
    sound.then(|| item.slice(HEAD_BYTES..))
}

fn checksum(kind: Kind, content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[VERSION, kind as u8]), content)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fixed for ever: what version 1 writes.
    const GOLDEN: [u8; 13] = [b'T', b'b', 1, 1, 0xc5, 0xe0, 0x0e, 0xe3, b'h', b'e', b'l', b'l', b'o'];

    #[test]
    fn the_bytes_of_version_1() {
        assert_eq!(wrap(Kind::Message, b"hello"), GOLDEN);
        assert_eq!(open(Kind::Message, &Bytes::from_static(&GOLDEN)).unwrap(), "hello");
    }

    #[test]
    fn anything_else_is_none() {
        for kind in [Kind::Value, Kind::Lease] {
            assert_eq!(open(kind, &Bytes::from_static(&GOLDEN)), None);
        }
        for end in 0..GOLDEN.len() {
            assert_eq!(open(Kind::Message, &Bytes::copy_from_slice(&GOLDEN[..end])), None, "cut at {end}");
        }
        for at in 0..GOLDEN.len() {
            let mut damaged = GOLDEN;
            damaged[at] ^= 1;
            assert_eq!(open(Kind::Message, &Bytes::copy_from_slice(&damaged)), None, "damaged at {at}");
        }
    }
}
