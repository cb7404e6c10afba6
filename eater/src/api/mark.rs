//! Cursors of lists of what has ids: the last one of a page, and a checksum of both it and the query. Nothing in them is
//! secret and nothing is a right.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use trough_protocol::Micros;

use super::cursor::BadCursor;

/// Longest cursor that is looked at, in characters: that of a rule's name has 91.
const CHARS_MAX: usize = 128;

/// The cursor that goes on behind `last`.
pub fn write(query: &str, last: &[u8]) -> String {
    BASE64URL.encode([last, &checksum(query, last).to_le_bytes()].concat())
}

/// What stands in a cursor of this query.
///
/// # Errors
/// [`BadCursor`].
pub fn read(query: &str, text: &str) -> Result<Vec<u8>, BadCursor> {
    if text.len() > CHARS_MAX {
        return Err(BadCursor::Malformed);
    }
    let bytes = BASE64URL.decode(text).map_err(|_| BadCursor::Malformed)?;
    let (last, found) = bytes.split_last_chunk::<4>().ok_or(BadCursor::Malformed)?;
    match checksum(query, last) == u32::from_le_bytes(*found) {
        true => Ok(last.to_vec()),
        false => Err(BadCursor::OtherQuery),
    }
}

/// The same of an id.
///
/// # Errors
/// [`BadCursor`].
pub fn read_id(query: &str, text: &str) -> Result<[u8; 16], BadCursor> {
    read(query, text)?.try_into().map_err(|_| BadCursor::Malformed)
}

/// The cursor that goes on behind what has this time and id.
pub fn write_timed(query: &str, at: Micros, id: [u8; 16]) -> String {
    write(query, &[&at.to_le_bytes()[..], &id].concat())
}

/// Time and id in a cursor of this query.
///
/// # Errors
/// [`BadCursor`].
pub fn read_timed(query: &str, text: &str) -> Result<(Micros, [u8; 16]), BadCursor> {
    let bytes = read(query, text)?;
    let (at, id) = bytes.split_first_chunk::<8>().ok_or(BadCursor::Malformed)?;
    Ok((Micros::from_le_bytes(*at), id.try_into().map_err(|_| BadCursor::Malformed)?))
}

fn checksum(query: &str, last: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(query.as_bytes()), last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_of_its_query() {
        let cursor = write_timed("events|bus-1", 7, [9; 16]);
        assert_eq!(read_timed("events|bus-1", &cursor), Ok((7, [9; 16])));
        assert_eq!(read_timed("events|bus-2", &cursor), Err(BadCursor::OtherQuery));
        assert_eq!(read_id("events|bus-1", &cursor), Err(BadCursor::Malformed), "it has a time besides");
        let id = write("subscriptions|ios", &[3; 16]);
        assert_eq!(read_id("subscriptions|ios", &id), Ok([3; 16]));
        for bad in ["", "?", "AAAA", &"A".repeat(200)] {
            assert_eq!(read_id("subscriptions|ios", bad), Err(BadCursor::Malformed), "{bad}");
        }
    }
}
