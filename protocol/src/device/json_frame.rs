//! One frame as a JSON object: how a device writes it in `trough.v1.json`, and how readers get it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::json::Int;
use super::json_value;
use crate::frame::FrameRef;
use crate::wire::WireError;
use crate::words::{ContentType, Seq};

/// A string that is borrowed unless it has escapes. Serde borrows a `Cow` only where it is not inside an `Option`.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// For members that may be absent, but not `null`: `"json":null` is a payload, the four bytes `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The members of a frame, as they stand in the message.
#[derive(Deserialize)]
pub(super) struct FrameJson<'a> {
    pub(super) seq: Int,
    ts: Int,
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    json: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    text: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    b64: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    content_type: Option<Text<'a>>,
}

impl FrameJson<'_> {
    /// Appends the frame in its binary form.
    ///
    /// # Errors
    /// Malformed, or a payload over `payload_max` bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>, payload_max: usize) -> Result<(), WireError> {
        let seq = self.seq.0;
        let decoded;
        let (content_type, payload) = match (self.json, &self.text, &self.b64) {
            (Some(json), None, None) => {
                json_value::check(json.get())?;
                (ContentType::Json, json.get().as_bytes())
            }
            (None, Some(text), None) => (ContentType::Text, text.0.as_bytes()),
            (None, None, Some(b64)) => {
                decoded = BASE64.decode(&*b64.0).map_err(|error| {
                    WireError::Json(format!("b64 of seq {seq}: {error}; use RFC 4648 base64 with padding"))
                })?;
                let content_type = match &self.content_type {
                    Some(name) => ContentType::parse(&name.0)?,
                    None => ContentType::Bytes,
                };
                (content_type, &decoded[..])
            }
            _ => {
                return Err(WireError::Json(format!(
                    "seq {seq} must have exactly one of json, text and b64"
                )));
            }
        };
        if self.content_type.is_some() && self.b64.is_none() {
            return Err(WireError::Json(format!("seq {seq} has a content_type: it goes only with b64")));
        }
        if payload.len() > payload_max {
            let (value, max) = (payload.len() as u64, payload_max as u64);
            return Err(WireError::TooLarge { what: "frame payload", value, max });
        }
        FrameRef { ts: self.ts.0, channel: &self.channel, content_type, payload }.encode(out)
    }
}

/// One frame as the JSON object that stands in a message (and in the reader API), without its braces:
/// `"seq":1,"ts":2,"channel":"c","json":{}`.
///
/// The payload's bytes can always be had back from it. A payload that is marked JSON and cannot stand in another
/// document as it is (it is no JSON, has white space around it, is nested too deeply, or has half a surrogate pair)
/// is therefore written as `b64`, and so is a text that is not UTF-8. A `json` may contain line breaks, where its
/// device wrote some.
pub fn frame_members(seq: Seq, frame: &FrameRef<'_>) -> String {
    let quoted = |text: &str| serde_json::to_string(text).expect("a string is always JSON");
    let text = std::str::from_utf8(frame.payload).ok();
    let payload = match frame.content_type {
        ContentType::Json => text.filter(|text| is_embeddable(text)).map(|text| format!("\"json\":{text}")),
        ContentType::Text => text.map(|text| format!("\"text\":{}", quoted(text))),
        _ => None,
    };
    let payload = payload.unwrap_or_else(|| {
        let content_type = quoted(frame.content_type.as_str());
        format!("\"content_type\":{content_type},\"b64\":\"{}\"", BASE64.encode(frame.payload))
    });
    format!("\"seq\":{seq},\"ts\":{},\"channel\":{},{payload}", frame.ts, quoted(frame.channel))
}

fn is_embeddable(text: &str) -> bool {
    let whole = serde_json::from_str::<&RawValue>(text).is_ok_and(|raw| raw.get().len() == text.len());
    whole && json_value::check(text).is_ok()
}
