//! What a payload is written as. The rule of the device protocol: `json`, `text`, or `content_type` and `b64`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use trough_protocol::ContentType;
use trough_protocol::frame::FrameRef;

use crate::json::check_json;

/// A payload in the form that an answer can carry. What is not what its content type says is binary, so that no
/// byte is ever changed to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Payload<'a> {
    /// One valid JSON text.
    Json {
        /// As the device sent it.
        text: &'a [u8],
        /// Whether it must be mended to stand on one line.
        has_line_breaks: bool,
    },
    /// Text in UTF-8.
    Text(&'a str),
    /// Anything.
    Binary(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// The payload's JSON text, if it is one.
    pub(in crate::api) fn json(frame: &FrameRef<'a>) -> Option<&'a [u8]> {
        match Self::of(frame) {
            Self::Json { text, .. } => Some(text),
            Self::Text(_) | Self::Binary(_) => None,
        }
    }

    pub(in crate::api) fn of(frame: &FrameRef<'a>) -> Self {
        let known = match frame.content_type {
            ContentType::Json => check_json(frame.payload)
                .map(|checked| Self::Json { text: frame.payload, has_line_breaks: checked.has_line_breaks }),
            ContentType::Text => std::str::from_utf8(frame.payload).ok().map(Self::Text),
            ContentType::Bytes | ContentType::Other(_) => None,
        };
        known.unwrap_or(Self::Binary(frame.payload))
    }
}

/// Appends base64 (RFC 4648, section 4, with padding).
pub(super) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written =
        BASE64.encode_slice(bytes, &mut out[start..]).expect("four characters for each three bytes");
    out.truncate(start + written);
}
