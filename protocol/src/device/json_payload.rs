//! A payload as members of a JSON object: exactly one of `json`, `text`, and `b64` that may have a `content_type`.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::json_value;
use crate::wire::WireError;
use crate::words::ContentType;

/// A string that is borrowed unless it has escapes. Serde borrows a `Cow` only where it is not inside an `Option`.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// For members that may be absent, but not `null`: `"json":null` is a payload, the four bytes `null`.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The members that there are.
#[derive(Debug, Clone, Copy)]
pub struct PayloadMembers<'m> {
    /// JSON, as it stands.
    pub json: Option<&'m RawValue>,
    /// Text.
    pub text: Option<&'m str>,
    /// Bytes, in base64.
    pub b64: Option<&'m str>,
    /// What they are.
    pub content_type: Option<&'m str>,
}

impl Text<'_> {
    /// The string of a member, if it is there.
    pub fn of<'m>(member: &'m Option<Text<'_>>) -> Option<&'m str> {
        member.as_ref().map(|text| &*text.0)
    }
}

impl<'m> PayloadMembers<'m> {
    /// Whether there is none of them.
    pub fn is_empty(&self) -> bool {
        self.json.is_none() && self.text.is_none() && self.b64.is_none() && self.content_type.is_none()
    }

    /// The payload and its type; `what` is whose it is.
    ///
    /// # Errors
    /// Malformed.
    pub fn take(self, what: fmt::Arguments<'_>) -> Result<(ContentType<'m>, Cow<'m, [u8]>), WireError> {
        if self.content_type.is_some() && self.b64.is_none() {
            return Err(WireError::Json(format!("{what} has a content_type: it goes only with b64")));
        }
        match (self.json, self.text, self.b64) {
            (Some(json), None, None) => {
                json_value::check(json.get())?;
                Ok((ContentType::Json, json.get().as_bytes().into()))
            }
            (None, Some(text), None) => Ok((ContentType::Text, text.as_bytes().into())),
            (None, None, Some(b64)) => {
                let decoded = BASE64.decode(b64).map_err(|error| {
                    WireError::Json(format!("b64 of {what}: {error}; use RFC 4648 base64 with padding"))
                })?;
                let content_type = match self.content_type {
                    Some(name) => ContentType::parse(name)?,
                    None => ContentType::Bytes,
                };
                Ok((content_type, decoded.into()))
            }
            _ => Err(WireError::Json(format!("{what} must have exactly one of json, text and b64"))),
        }
    }
}

/// A payload as members, without braces: `"json":{}`.
///
/// Its bytes can always be had back from it. A payload that is marked JSON and cannot stand in another document as it
/// is (it is no JSON, has white space around it, is nested too deeply, or has half a surrogate pair) is therefore
/// written as `b64`, and so is a text that is not UTF-8. A `json` may contain line breaks, where its device wrote some.
pub fn payload_members(content_type: ContentType<'_>, payload: &[u8]) -> String {
    let quoted = |text: &str| serde_json::to_string(text).expect("a string is always JSON");
    let text = std::str::from_utf8(payload).ok();
    let members = match content_type {
        ContentType::Json => text.filter(|text| is_embeddable(text)).map(|text| format!("\"json\":{text}")),
        ContentType::Text => text.map(|text| format!("\"text\":{}", quoted(text))),
        _ => None,
    };
    members.unwrap_or_else(|| {
        let content_type = quoted(content_type.as_str());
        format!("\"content_type\":{content_type},\"b64\":\"{}\"", BASE64.encode(payload))
    })
}

fn is_embeddable(text: &str) -> bool {
    let whole = serde_json::from_str::<&RawValue>(text).is_ok_and(|raw| raw.get().len() == text.len());
    whole && json_value::check(text).is_ok()
}
