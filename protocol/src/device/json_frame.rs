//! One frame as a JSON object: how a device writes it in `trough.v1.json`, and how readers get it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::Int;
use super::json_payload::{PayloadMembers, Text, payload_members, present};
use crate::frame::FrameRef;
use crate::wire::WireError;
use crate::words::Seq;

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
        let (text, b64, content_type) =
            (Text::of(&self.text), Text::of(&self.b64), Text::of(&self.content_type));
        let members = PayloadMembers { json: self.json, text, b64, content_type };
        let (content_type, payload) = members.take(format_args!("seq {seq}"))?;
        if payload.len() > payload_max {
            let (value, max) = (payload.len() as u64, payload_max as u64);
            return Err(WireError::TooLarge { what: "frame payload", value, max });
        }
        FrameRef { ts: self.ts.0, channel: &self.channel, content_type, payload: &payload }.encode(out)
    }
}

/// One frame as the JSON object that stands in a message (and in the reader API), without its braces:
/// `"seq":1,"ts":2,"channel":"c","json":{}`. For the payload see [`payload_members`].
pub fn frame_members(seq: Seq, frame: &FrameRef<'_>) -> String {
    let channel = serde_json::to_string(frame.channel).expect("a string is always JSON");
    let payload = payload_members(frame.content_type, frame.payload);
    format!("\"seq\":{seq},\"ts\":{},\"channel\":{channel},{payload}", frame.ts)
}
