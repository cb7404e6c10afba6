//! `trough.v1.json`: the same messages, one JSON object in one text WebSocket message.
//!
//! ```json
//! {"type":"hello","epoch":0,"oldest":1,"next":1,"ack":0}
//! {"type":"frame","seq":1,"ts":1490072402000000,"channel":"position","json":{"lat":30.41}}
//! {"type":"frames","frames":[{"seq":2,"ts":1490072403000000,"channel":"log","text":"door open"}]}
//! {"type":"skip","first":3,"last":9,"reason":"overflow"}
//! {"type":"rewind","seq":3}
//! {"type":"command_result","id":"018bcfe5-6800-7000-bfff-ffffffffffff","status":"done","json":{"took":3}}
//! ```
//! A frame has exactly one of `json` (kept byte for byte as sent; `null` is a value as any other), `text` and `b64`
//! (RFC 4648, section 4, with padding), and for `b64` optionally `content_type`. Unknown members are ignored, so
//! that later releases can add some; a known one that occurs twice is refused.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::json_command::{CommandJson, ResultJson, command_text, result_text};
use super::json_frame::FrameJson;
pub use super::json_frame::frame_members;
use super::json_payload::present;
pub use super::json_payload::{PayloadMembers, payload_members};
use super::{ClientMessage, Features, Hello, ServerMessage, Skip, SkipReason, Welcome};
use crate::limits::TEXT_BYTES_MAX;
use crate::wire::{WireError, cut_text};
use crate::words::{Epoch, Seq};

/// A `T` that is written as an object. What serde derives would also take an array of the members' values.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// An integer without sign, fraction and exponent; its range is checked where its meaning is known.
#[derive(Clone, Copy)]
pub(super) struct Int(pub(super) u64);

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntVisitor;

        impl Visitor<'_> for IntVisitor {
            type Value = Int;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer from 0 to 9007199254740991 without fraction or exponent")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Int, E> {
                Ok(Int(value))
            }
        }

        deserializer.deserialize_u64(IntVisitor)
    }
}

impl Int {
    /// Checks the range `min` to 2^53 − 1.
    pub(super) fn check(self, what: &'static str, min: u64) -> Result<u64, WireError> {
        crate::wire::Reader::new(&self.0.to_le_bytes()).int(what, min)
    }

    /// Checks the range 0 to 2^32 − 1.
    fn check_u32(self, what: &'static str) -> Result<u32, WireError> {
        let max = u32::MAX.into();
        u32::try_from(self.0).map_err(|_| WireError::TooLarge { what, value: self.0, max })
    }
}

#[derive(serde::Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

#[derive(serde::Deserialize)]
struct HelloJson<'a> {
    epoch: Int,
    oldest: Int,
    next: Int,
    ack: Int,
    #[serde(borrow, default, deserialize_with = "present")]
    features: Option<Vec<Cow<'a, str>>>,
}

#[derive(serde::Deserialize)]
struct FramesJson<'a> {
    #[serde(borrow)]
    frames: Vec<Object<FrameJson<'a>>>,
}

#[derive(serde::Deserialize)]
struct SkipJson<'a> {
    first: Int,
    last: Int,
    #[serde(borrow, default = "unspecified")]
    reason: Cow<'a, str>,
}

fn unspecified() -> Cow<'static, str> {
    SkipReason(0).name().into()
}

#[derive(serde::Deserialize)]
struct SeqJson {
    seq: Int,
}

#[derive(serde::Deserialize)]
struct WelcomeJson<'a> {
    epoch: Int,
    resume: Int,
    time: Int,
    window_bytes: Int,
    frame_bytes_max: Int,
    message_bytes_max: Int,
    #[serde(borrow)]
    session: Cow<'a, str>,
}

/// Parses one object. The parser's complaint may quote the input, so it is cut.
fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, WireError> {
    match serde_json::from_str::<Object<T>>(text) {
        Ok(object) => Ok(object.0),
        Err(error) => Err(WireError::Json(cut_text(&error.to_string(), TEXT_BYTES_MAX).to_owned())),
    }
}

/// Reads a message of a device. Frames are written to `scratch` in their binary form (it is cleared first).
///
/// # Errors
/// Malformed, or a payload over `payload_max` bytes.
pub fn decode_client<'s>(
    text: &str,
    scratch: &'s mut Vec<u8>,
    payload_max: usize,
) -> Result<ClientMessage<'s>, WireError> {
    let kind: Kind<'_> = parse(text)?;
    match &*kind.kind {
        "hello" => {
            let hello: HelloJson<'_> = parse(text)?;
            let features = hello.features.iter().flatten().map(|name| &**name);
            let hello = Hello {
                epoch: Epoch(hello.epoch.check("hello.epoch", 0)?),
                oldest: Seq(hello.oldest.check("hello.oldest", 1)?),
                next: Seq(hello.next.check("hello.next", 1)?),
                acked: Seq(hello.ack.check("hello.ack", 0)?),
                features: Features::of_names(features),
            };
            hello.check().map(ClientMessage::Hello)
        }
        "frame" => encode_frames(&[Object(parse(text)?)], scratch, payload_max),
        "frames" => encode_frames(&parse::<FramesJson<'_>>(text)?.frames, scratch, payload_max),
        "skip" => {
            let skip: SkipJson<'_> = parse(text)?;
            let first = skip.first.check("skip.first", 1)?;
            let reason = SkipReason::parse(&skip.reason).ok_or_else(|| {
                let known = "unspecified, overflow, storage_lost or discarded";
                WireError::Json(format!("skip.reason is {:?}: use {known}", cut_text(&skip.reason, 40)))
            })?;
            let last = Seq(skip.last.check("skip.last", first)?);
            Ok(ClientMessage::Skip(Skip { first: Seq(first), last, reason }))
        }
        "rewind" => Ok(ClientMessage::Rewind(Seq(parse::<SeqJson>(text)?.seq.check("rewind.seq", 1)?))),
        "command_result" => parse::<ResultJson<'_>>(text)?.read(scratch).map(ClientMessage::CommandResult),
        other => Err(unknown_kind(other, "hello, frame, frames, skip, rewind or command_result")),
    }
}

fn encode_frames<'s>(
    frames: &[Object<FrameJson<'_>>],
    scratch: &'s mut Vec<u8>,
    payload_max: usize,
) -> Result<ClientMessage<'s>, WireError> {
    scratch.clear();
    let Some(Object(first)) = frames.first() else {
        return Err(WireError::Json("frames is empty: send at least one".into()));
    };
    let first = Seq(first.seq.check("seq", 1)?);
    for (due, Object(frame)) in (first.0..).zip(frames) {
        let found = frame.seq.check("seq", 1)?;
        if found != due {
            return Err(WireError::Json(format!(
                "frames of one message must be consecutive: {due} is due, seq is {found}"
            )));
        }
        frame.encode(scratch, payload_max)?;
    }
    Ok(ClientMessage::Frames { first, data: scratch })
}

fn unknown_kind(kind: &str, known: &str) -> WireError {
    WireError::Json(format!("type is {:?}: use {known}", cut_text(kind, 40)))
}

/// A device's message as text.
///
/// # Errors
/// If the data of [`ClientMessage::Frames`] is not frames.
pub fn encode_client(message: &ClientMessage<'_>) -> Result<String, WireError> {
    Ok(match message {
        ClientMessage::Hello(hello) => {
            let names: Vec<String> = hello.features.names().map(|name| format!("\"{name}\"")).collect();
            let features = match names.is_empty() {
                true => String::new(),
                false => format!(",\"features\":[{}]", names.join(",")),
            };
            format!(
                "{{\"type\":\"hello\",\"epoch\":{},\"oldest\":{},\"next\":{},\"ack\":{}{features}}}",
                hello.epoch, hello.oldest, hello.next, hello.acked
            )
        }
        ClientMessage::Frames { first, data } => {
            let mut objects = Vec::new();
            for (seq, frame) in (first.0..).zip(crate::frame::frames(data)) {
                objects.push(format!("{{{}}}", frame_members(Seq(seq), &frame?)));
            }
            format!("{{\"type\":\"frames\",\"frames\":[{}]}}", objects.join(","))
        }
        ClientMessage::Skip(skip) => format!(
            "{{\"type\":\"skip\",\"first\":{},\"last\":{},\"reason\":\"{}\"}}",
            skip.first,
            skip.last,
            skip.reason.name()
        ),
        ClientMessage::Rewind(seq) => format!("{{\"type\":\"rewind\",\"seq\":{seq}}}"),
        ClientMessage::CommandResult(result) => result_text(result),
    })
}

/// A feeder's message as text.
pub fn encode_server(message: &ServerMessage) -> String {
    match message {
        ServerMessage::Welcome(welcome) => {
            let session: String = welcome.session.iter().map(|b| format!("{b:02x}")).collect();
            format!(
                "{{\"type\":\"welcome\",\"epoch\":{},\"resume\":{},\"time\":{},\"window_bytes\":{},\
                 \"frame_bytes_max\":{},\"message_bytes_max\":{},\"session\":\"{session}\"}}",
                welcome.epoch,
                welcome.resume,
                welcome.time,
                welcome.window_bytes,
                welcome.frame_bytes_max,
                welcome.message_bytes_max
            )
        }
        ServerMessage::Ack(seq) => format!("{{\"type\":\"ack\",\"seq\":{seq}}}"),
        ServerMessage::Rewind(seq) => format!("{{\"type\":\"rewind\",\"seq\":{seq}}}"),
        ServerMessage::Command(command) => command_text(command),
    }
}

/// Reads a message of a feeder.
///
/// # Errors
/// Malformed.
pub fn decode_server(text: &str) -> Result<ServerMessage, WireError> {
    let kind: Kind<'_> = parse(text)?;
    match &*kind.kind {
        "welcome" => {
            let welcome: WelcomeJson<'_> = parse(text)?;
            Ok(ServerMessage::Welcome(Welcome {
                epoch: Epoch(welcome.epoch.check("welcome.epoch", 1)?),
                resume: Seq(welcome.resume.check("welcome.resume", 1)?),
                time: welcome.time.check("welcome.time", 1)?,
                window_bytes: welcome.window_bytes.check_u32("welcome.window_bytes")?,
                frame_bytes_max: welcome.frame_bytes_max.check_u32("welcome.frame_bytes_max")?,
                message_bytes_max: welcome.message_bytes_max.check_u32("welcome.message_bytes_max")?,
                session: session_id(&welcome.session)?,
            }))
        }
        "ack" => Ok(ServerMessage::Ack(Seq(parse::<SeqJson>(text)?.seq.check("ack.seq", 0)?))),
        "rewind" => Ok(ServerMessage::Rewind(Seq(parse::<SeqJson>(text)?.seq.check("rewind.seq", 1)?))),
        "command" => Ok(ServerMessage::Command(Box::new(parse::<CommandJson<'_>>(text)?.read()?))),
        other => Err(unknown_kind(other, "welcome, ack, rewind or command")),
    }
}

fn session_id(hex: &str) -> Result<[u8; 16], WireError> {
    let mut id = [0; 16];
    let valid = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    if !valid {
        return Err(WireError::Json("welcome.session is not 32 hexadecimal digits".into()));
    }
    for (byte, pair) in id.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).expect("hexadecimal digits are ASCII");
        *byte = u8::from_str_radix(pair, 16).expect("two hexadecimal digits");
    }
    Ok(id)
}
