//! The id of a live event: where the stream stands behind it, so that any eater can go on from there.
//!
//! ```text
//! u8  version, 1
//! u32 CRC32C of the query it belongs to
//! u8  flags: 1 a place follows, 2 the stream was still reading history, 4 older epochs follow
//! u64 epoch, u64 seq (only with flag 1)
//! u8  older epochs, and for each, rising, u64 epoch, u64 seq (only with flag 4)
//!     the vector: see `live/vector.rs`
//! u32 CRC32C of all before
//! ```
//! Little-endian, in base64url without padding. As with other cursors, nothing in it is secret and nothing is a right.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use trough_protocol::wire::Reader;
use trough_protocol::{Epoch, Seq};

use super::given::Given;
use crate::live::Vector;

const VERSION: u8 = 1;
/// Longest accepted, in characters: a request's head is no longer than 16 KiB.
const CHARS_MAX: usize = 12 * 1024;
const HAS_PLACE: u8 = 1;
const IN_HISTORY: u8 = 2;
const HAS_OLDER: u8 = 4;
/// So many epochs before the newest are written: an id comes with each event.
const OLDER_MAX: usize = 8;

/// Where a stream stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveCursor {
    /// What was asked for.
    pub query: u32,
    /// Of a device's stream: up to which number epochs were given, of the newest ones; the last is its place.
    pub given: Given,
    /// What is behind the place must be read from history before the vector counts.
    pub in_history: bool,
    /// How far it has come in the journals.
    pub vector: Vector,
}

/// Why an event id is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEventId {
    /// Not one of ours, or damaged.
    #[error("Last-Event-ID is not the id of an event of this server: pass it on unchanged, or leave it out")]
    Malformed,
    /// Of another format version.
    #[error(
        "Last-Event-ID has version {0}, this release reads version {VERSION}: begin again without it, a device's \
         stream with after"
    )]
    Version(u8),
    /// Of another stream.
    #[error(
        "Last-Event-ID belongs to another stream: repeat device, group, from and channel as they were, or begin again \
         without it"
    )]
    OtherStream,
}

/// A cursor as text. Each event has one, so that nothing is copied for it.
pub(super) fn encode(query: u32, given: &Given, in_history: bool, vector: &Vector) -> String {
    let mut bytes = Vec::with_capacity(64 + 16 * OLDER_MAX + 36 * vector.places.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&query.to_le_bytes());
    let older: Vec<(Epoch, Seq)> = given.newest().skip(1).take(OLDER_MAX).collect();
    let flag = |flag, is_set| if is_set { flag } else { 0 };
    let place = given.place();
    bytes.push(
        flag(HAS_PLACE, place.is_some()) | flag(IN_HISTORY, in_history) | flag(HAS_OLDER, !older.is_empty()),
    );
    place.into_iter().for_each(|place| put_given(&mut bytes, place));
    if let Ok(count @ 1..) = u8::try_from(older.len()) {
        bytes.push(count);
        older.into_iter().rev().for_each(|given| put_given(&mut bytes, given));
    }
    vector.put(&mut bytes);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    BASE64URL.encode(bytes)
}

impl LiveCursor {
    /// As text.
    #[cfg(test)]
    pub fn encode(&self) -> String {
        encode(self.query, &self.given, self.in_history, &self.vector)
    }

    /// From text, for the query with this fingerprint.
    ///
    /// # Errors
    /// [`BadEventId`].
    pub fn decode(text: &[u8], query: u32) -> Result<Self, BadEventId> {
        if text.len() > CHARS_MAX {
            return Err(BadEventId::Malformed);
        }
        let bytes = BASE64URL.decode(text).map_err(|_| BadEventId::Malformed)?;
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(BadEventId::Malformed)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(BadEventId::Malformed);
        }
        match body.first() {
            Some(&VERSION) => {}
            Some(version) => return Err(BadEventId::Version(*version)),
            None => return Err(BadEventId::Malformed),
        }
        let cursor = Self::read(&body[1..]).ok_or(BadEventId::Malformed)?;
        if cursor.query == query { Ok(cursor) } else { Err(BadEventId::OtherStream) }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let query = reader.u32("query").ok()?;
        let flags = reader.u8("flags").ok().filter(|flags| *flags <= HAS_PLACE | IN_HISTORY | HAS_OLDER)?;
        let mut given = Vec::new();
        if flags & HAS_PLACE != 0 {
            given.push(read_given(&mut reader)?);
        }
        if flags & HAS_OLDER != 0 {
            for _ in 0..reader.u8("number of older epochs").ok()? {
                given.push(read_given(&mut reader)?);
            }
        }
        let given = Given::from_place(given);
        let vector = Vector::read(&mut reader).ok()?;
        reader.end("cursor").ok()?;
        Some(Self { query, given, in_history: flags & IN_HISTORY != 0, vector })
    }
}

fn put_given(bytes: &mut Vec<u8>, (epoch, seq): (Epoch, Seq)) {
    bytes.extend_from_slice(&epoch.0.to_le_bytes());
    bytes.extend_from_slice(&seq.0.to_le_bytes());
}

fn read_given(reader: &mut Reader<'_>) -> Option<(Epoch, Seq)> {
    Some((Epoch(reader.int("epoch", 0).ok()?), Seq(reader.int("seq", 0).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Place;
    use trough_store::object_catalog::Incarnation;

    fn cursor() -> LiveCursor {
        let mut vector = Vector { time: 9, ..Vector::default() };
        vector.advance(Incarnation([0xa5; 16]), Place::behind(4711));
        vector.advance(Incarnation::LOCAL, Place { n: 3, offset: 64, seq: 2 });
        LiveCursor { query: 7, given: given(&[(3, 12)]), in_history: false, vector }
    }

    fn given(of: &[(u64, u64)]) -> Given {
        Given::from_place(of.iter().map(|(epoch, seq)| (Epoch(*epoch), Seq(*seq))))
    }

    #[test]
    fn comes_back_and_knows_its_stream() {
        let text = cursor().encode();
        assert_eq!(LiveCursor::decode(text.as_bytes(), 7), Ok(cursor()));
        assert_eq!(LiveCursor::decode(text.as_bytes(), 8), Err(BadEventId::OtherStream));
        for of in [&[][..], &[(2, 7), (3, 1)], &[(1, 5), (2, 7), (9, 4)]] {
            let other = LiveCursor { given: given(of), in_history: true, ..cursor() };
            assert_eq!(LiveCursor::decode(other.encode().as_bytes(), 7), Ok(other));
        }
        // No longer with each epoch.
        let many: Vec<(u64, u64)> = (1..=60).map(|epoch| (epoch, epoch + 5)).collect();
        let text = LiveCursor { given: given(&many), ..cursor() }.encode();
        assert!(text.len() < 400, "{}", text.len());
        let few = LiveCursor { given: given(&many[60 - 1 - OLDER_MAX..]), ..cursor() };
        assert_eq!(LiveCursor::decode(text.as_bytes(), 7), Ok(few));
    }

    /// Golden: event ids are kept by clients across upgrades.
    #[test]
    fn version_1_is_written_like_this() {
        let golden = concat!(
            "AQcAAAABAwAAAAAAAAAMAAAAAAAAAAkAAAAAAAAAAgAAAAAAAAAAAAAAAAAAAAAAAwAAAAAAAAABQAAAAAIAAAAAAAAApaWlpaWlpaWl",
            "paWlpaWlpWcSAAAAAAAAAH-iUlE"
        );
        assert_eq!(cursor().encode(), golden);
    }

    #[test]
    fn every_damage_is_noticed() {
        let text = cursor().encode().into_bytes();
        for end in 0..text.len() {
            assert_eq!(LiveCursor::decode(&text[..end], 7), Err(BadEventId::Malformed), "{end}");
        }
        for at in 0..text.len() {
            let mut damaged = text.clone();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(LiveCursor::decode(&damaged, 7), Err(BadEventId::Malformed), "{at}");
        }
        for junk in ["", "!", "AAAA", "ü", &"A".repeat(20_000)] {
            assert_eq!(LiveCursor::decode(junk.as_bytes(), 7), Err(BadEventId::Malformed));
        }
    }
}
