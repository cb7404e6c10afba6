//! Cursors: where a page ended, in a form that stays valid while frames are added, files are rolled and servers
//! are restarted. Never an offset.
//!
//! ```text
//! u8  version, 1
//! u32 CRC32C of the query it belongs to
//! u64 epoch
//! u64 seq
//! u8  device id length, device id
//! u32 CRC32C of all before
//! ```
//! Little-endian, in base64url without padding. Nothing in it is secret and nothing is a right: whoever makes
//! one up sees what the reader may see anyway. The checksum is for those that were cut in copying.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use trough_protocol::wire::Reader;
use trough_protocol::{DeviceId, Epoch, Seq};

const VERSION: u8 = 1;
/// Longest accepted, in characters: the largest cursor has 90 bytes.
const CURSOR_CHARS_MAX: usize = 128;

/// A place in the frames of a device, in a list of devices (then epoch and seq are 0), or among the buckets of a device
/// (then epoch is 0, and seq when one begins).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// What the query was that it belongs to: see [`super::query`].
    pub query: u32,
    /// In which numbering.
    pub epoch: Epoch,
    /// The last number that was given.
    pub seq: Seq,
    /// Whose frames, or the last device listed.
    pub device: DeviceId,
}

/// Why a cursor is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCursor {
    /// Not one of ours, or damaged.
    #[error("the cursor is not one that this server gave: pass on next_cursor or resume_cursor unchanged")]
    Malformed,
    /// Of another format version.
    #[error(
        "the cursor has version {0}, this release reads version {VERSION}: start again without a cursor, or with \
         after"
    )]
    Version(u8),
    /// Of another query.
    #[error(
        "the cursor belongs to another query: repeat device, from, to, channel, order, group, every, agg and value as they \
         were, or start again without a cursor (limit, fields and Accept may change)"
    )]
    OtherQuery,
}

impl Cursor {
    /// As text.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(96);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.query.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.0.to_le_bytes());
        bytes.extend_from_slice(&self.seq.0.to_le_bytes());
        trough_protocol::wire::put_text(&mut bytes, self.device.as_str());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        BASE64URL.encode(bytes)
    }

    /// From text, for the query with this fingerprint.
    ///
    /// # Errors
    /// [`BadCursor`].
    pub fn decode(text: &str, query: u32) -> Result<Self, BadCursor> {
        if text.len() > CURSOR_CHARS_MAX {
            return Err(BadCursor::Malformed);
        }
        let bytes = BASE64URL.decode(text).map_err(|_| BadCursor::Malformed)?;
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(BadCursor::Malformed)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(BadCursor::Malformed);
        }
        match body.first() {
            Some(&VERSION) => {}
            Some(version) => return Err(BadCursor::Version(*version)),
            None => return Err(BadCursor::Malformed),
        }
        let cursor = Self::read(&body[1..]).ok_or(BadCursor::Malformed)?;
        if cursor.query == query { Ok(cursor) } else { Err(BadCursor::OtherQuery) }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let query = reader.u32("query").ok()?;
        let epoch = Epoch(reader.int("epoch", 0).ok()?);
        let seq = Seq(reader.int("seq", 0).ok()?);
        let device = DeviceId::new(&reader.text("device").ok()?).ok()?;
        reader.end("cursor").ok()?;
        Some(Self { query, epoch, seq, device })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        Cursor { query: 7, epoch: Epoch(3), seq: Seq(4711), device: DeviceId::new("bus-1").unwrap() }
    }

    #[test]
    fn comes_back_and_knows_its_query() {
        let text = cursor().encode();
        assert_eq!(Cursor::decode(&text, 7), Ok(cursor()));
        assert_eq!(Cursor::decode(&text, 8), Err(BadCursor::OtherQuery));
        let longest = Cursor { device: DeviceId::new(&"d".repeat(64)).unwrap(), ..cursor() };
        assert_eq!(Cursor::decode(&longest.encode(), 7), Ok(longest));
    }

    /// Golden: cursors are kept by clients across upgrades.
    #[test]
    fn version_1_is_written_like_this() {
        assert_eq!(cursor().encode(), "AQcAAAADAAAAAAAAAGcSAAAAAAAABWJ1cy0xwdu0TQ");
    }

    #[test]
    fn every_damage_is_noticed() {
        let text = cursor().encode();
        for end in 0..text.len() {
            assert_eq!(Cursor::decode(&text[..end], 7), Err(BadCursor::Malformed));
        }
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(Cursor::decode(std::str::from_utf8(&damaged).unwrap(), 7), Err(BadCursor::Malformed));
        }
        for junk in ["", "!", "AAAA", "ü", &"A".repeat(10_000)] {
            assert_eq!(Cursor::decode(junk, 7), Err(BadCursor::Malformed));
        }
        let mut later = BASE64URL.decode(&text).unwrap();
        later.truncate(later.len() - 4);
        later[0] = 2;
        let crc = crc32c::crc32c(&later);
        later.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(Cursor::decode(&BASE64URL.encode(later), 7), Err(BadCursor::Version(2)));
    }
}
