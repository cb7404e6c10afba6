//! One frame in its binary form: the same bytes in a device's message, in a batch and in the journal.
//!
//! ```text
//! u32 length of all that follows
//! u64 ts, µs since 1970
//! u8  channel length, 1 to 64
//! u8  content type: 0 bytes, 1 JSON, 2 text, 128 + n = n bytes of a media type follow the channel
//!     channel, content type (if 128 + n), payload
//! ```
//! A frame carries no sequence number: frames stand in runs of consecutive numbers, and the run has the first.

use crate::limits::{CHANNEL_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, FRAME_BYTES_MAX, INT_MAX};
use crate::wire::{Reader, WireError};
use crate::words::{Channel, ContentType, Micros, WordError};

/// Bytes of a frame before its channel: length, ts, two lengths.
pub const FRAME_HEADER_BYTES: usize = 14;
/// Bytes of the smallest frame: a channel of one byte and no payload.
pub const FRAME_BYTES_MIN: usize = FRAME_HEADER_BYTES + 1;
/// Most bytes of a frame besides its payload.
pub const OVERHEAD_BYTES_MAX: usize = FRAME_HEADER_BYTES + CHANNEL_BYTES_MAX + CONTENT_TYPE_BYTES_MAX;
const CODE_BYTES: u8 = 0;
const CODE_JSON: u8 = 1;
const CODE_TEXT: u8 = 2;
const CODE_OTHER: u8 = 128;

/// A frame that borrows its channel and payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRef<'a> {
    /// When the device made it.
    pub ts: Micros,
    /// The stream within the device; follows the rules of [`Channel`].
    pub channel: &'a str,
    /// What the payload is.
    pub content_type: ContentType<'a>,
    /// Opaque to Trough.
    pub payload: &'a [u8],
}

impl<'a> FrameRef<'a> {
    /// Bytes of the encoded frame.
    pub fn encoded_len(&self) -> usize {
        let (_, other) = content_type_code(self.content_type);
        FRAME_HEADER_BYTES + self.channel.len() + other.len() + self.payload.len()
    }

    /// Appends the encoded frame to `out`.
    ///
    /// # Errors
    /// A word that breaks its rules, a ts of 0 or above 2^53 − 1, or a payload over [`FRAME_BYTES_MAX`]; `out`
    /// is unchanged then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        Channel::check(self.channel.as_bytes())?;
        check_ts(self.ts)?;
        check_payload_len(self.payload.len(), FRAME_BYTES_MAX)?;
        if let ContentType::Other(name) = self.content_type {
            ContentType::parse(name)?;
        }
        let (code, other) = content_type_code(self.content_type);
        let len = u32::try_from(self.encoded_len() - 4).expect("a payload is at most 1 MiB");
        out.reserve(self.encoded_len());
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&self.ts.to_le_bytes());
        out.push(u8::try_from(self.channel.len()).expect("check passed: at most 64"));
        out.push(code);
        out.extend_from_slice(self.channel.as_bytes());
        out.extend_from_slice(other.as_bytes());
        out.extend_from_slice(self.payload);
        Ok(())
    }

    /// Takes one frame from the front of `bytes`. A coded content type that is written as a media type is taken
    /// for the coded one.
    ///
    /// # Errors
    /// Malformed, or a payload over `payload_max` bytes; `bytes` is unchanged then.
    pub fn decode(bytes: &mut &'a [u8], payload_max: usize) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let len = reader.u32("frame length")? as usize;
        // A length that no payload within the limit can have is refused before the bytes are looked for, so
        // that it reads as too large and not as truncated.
        check_payload_len(len.saturating_sub(OVERHEAD_BYTES_MAX - 4), payload_max)?;
        let mut body = Reader::new(reader.bytes("frame", len)?);
        let ts = body.u64("frame ts")?;
        check_ts(ts)?;
        let channel_len = body.u8("channel length")?;
        let code = body.u8("content type")?;
        let channel = Channel::check(body.bytes("channel", usize::from(channel_len))?)?;
        let content_type = take_content_type(code, &mut body)?;
        let payload = body.rest();
        check_payload_len(payload.len(), payload_max)?;
        *bytes = reader.rest();
        Ok(Self { ts, channel, content_type, payload })
    }
}

/// Takes the content type that a code stands for: the media type of `reader`, if the code says that there is one.
pub(crate) fn take_content_type<'a>(code: u8, reader: &mut Reader<'a>) -> Result<ContentType<'a>, WireError> {
    match code {
        CODE_BYTES => Ok(ContentType::Bytes),
        CODE_JSON => Ok(ContentType::Json),
        CODE_TEXT => Ok(ContentType::Text),
        code if code > CODE_OTHER => {
            let name = reader.bytes("content type", usize::from(code - CODE_OTHER))?;
            let text = std::str::from_utf8(name)
                .map_err(|_| WordError::ContentType(String::from_utf8_lossy(name).into_owned()))?;
            Ok(ContentType::parse(text)?)
        }
        code => Err(WireError::Unsupported {
            what: "content type",
            value: code.into(),
            known: "0 (bytes), 1 (JSON), 2 (text) and 129 to 255 (a media type of 1 to 127 bytes)",
        }),
    }
}

/// The code and what stands after the channel. A media type that has a code is written as the code, so that there
/// is one encoding of each frame. Names over 127 bytes do not come here: [`FrameRef::encode`] refuses them.
pub(crate) fn content_type_code(content_type: ContentType<'_>) -> (u8, &str) {
    let canonical = match content_type {
        ContentType::Other(name) => ContentType::parse(name).unwrap_or(content_type),
        coded => coded,
    };
    match canonical {
        ContentType::Bytes => (CODE_BYTES, ""),
        ContentType::Json => (CODE_JSON, ""),
        ContentType::Text => (CODE_TEXT, ""),
        ContentType::Other(name) => {
            (CODE_OTHER.saturating_add(u8::try_from(name.len()).unwrap_or(u8::MAX)), name)
        }
    }
}

fn check_ts(ts: Micros) -> Result<(), WireError> {
    if (1..=INT_MAX).contains(&ts) {
        Ok(())
    } else {
        Err(WordError::Integer { what: "ts (µs since 1970)", value: ts, min: 1 }.into())
    }
}

fn check_payload_len(len: usize, max: usize) -> Result<(), WireError> {
    if len <= max {
        Ok(())
    } else {
        Err(WireError::TooLarge { what: "frame payload", value: len as u64, max: max as u64 })
    }
}

/// What a run of encoded frames holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramesSummary {
    /// How many frames.
    pub count: u64,
    /// The lowest ts.
    pub min_ts: Micros,
    /// The highest ts.
    pub max_ts: Micros,
}

/// Checks that `bytes` are one or more whole frames, each payload at most `payload_max` bytes.
///
/// # Errors
/// The first fault; [`WireError::Truncated`] if there is no frame at all.
pub fn check_frames(bytes: &[u8], payload_max: usize) -> Result<FramesSummary, WireError> {
    let mut rest = bytes;
    let first = FrameRef::decode(&mut rest, payload_max)?;
    let mut summary = FramesSummary { count: 1, min_ts: first.ts, max_ts: first.ts };
    while !rest.is_empty() {
        let frame = FrameRef::decode(&mut rest, payload_max)?;
        summary.count += 1;
        summary.min_ts = summary.min_ts.min(frame.ts);
        summary.max_ts = summary.max_ts.max(frame.ts);
    }
    Ok(summary)
}

/// Ts, channel and encoded length of the frame at the front of `bytes`, for who goes through many frames that
/// were checked before and wants little of each. `None` if the bytes end early; nothing else is looked at.
pub fn skim(bytes: &[u8]) -> Option<(Micros, &[u8], usize)> {
    let (header, rest) = bytes.split_at_checked(FRAME_HEADER_BYTES)?;
    let (len, fields) = header.split_at(4);
    let len = 4 + u32::from_le_bytes(len.try_into().ok()?) as usize;
    let ts = u64::from_le_bytes(fields[..8].try_into().ok()?);
    let channel = rest.get(..usize::from(fields[8]))?;
    (FRAME_HEADER_BYTES + channel.len() <= len && len <= bytes.len()).then_some((ts, channel, len))
}

/// The frames of `bytes` in order; stops after the first fault.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = Result<FrameRef<'_>, WireError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let frame = FrameRef::decode(&mut rest, FRAME_BYTES_MAX);
        if frame.is_err() {
            rest = &[];
        }
        Some(frame)
    })
}
