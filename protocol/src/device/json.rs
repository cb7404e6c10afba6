//! `trough.v1.json`: the same messages, one JSON object in one text WebSocket message.
//!
//! ```json
//! {"type":"hello","epoch":0,"oldest":1,"next":1,"ack":0}
//! {"type":"frame","seq":1,"ts":1490072402000000,"channel":"position","json":{"lat":30.41}}
//! {"type":"frames","frames":[{"seq":2,"ts":1490072403000000,"channel":"log","text":"door open"}]}
//! {"type":"skip","first":3,"last":9,"reason":"overflow"}
//! {"type":"rewind","seq":3}
//! ```
//! A frame has exactly one of `json` (kept byte for byte as sent), `text` and `b64` (RFC 4648, section 4, with
//! padding), and for `b64` optionally `content_type`. Unknown members are ignored, so that later releases can
//! add some.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{ClientMessage, Hello, ServerMessage, Skip, SkipReason, Welcome};
use crate::frame::FrameRef;
use crate::wire::WireError;
use crate::words::{ContentType, Epoch, Micros, Seq};

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize, Serialize)]
struct HelloJson {
    epoch: u64,
    oldest: u64,
    next: u64,
    ack: u64,
}

#[derive(Deserialize)]
struct FrameJson<'a> {
    seq: u64,
    ts: u64,
    #[serde(borrow)]
    channel: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    json: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    b64: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    content_type: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Deserialize)]
struct FramesJson<'a> {
    #[serde(borrow)]
    frames: Vec<FrameJson<'a>>,
}

#[derive(Deserialize)]
struct SkipJson {
    first: u64,
    last: u64,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct SeqJson {
    seq: u64,
}

#[derive(Deserialize, Serialize)]
struct WelcomeJson {
    epoch: u64,
    resume: u64,
    time: u64,
    window_bytes: u32,
    frame_bytes_max: u32,
    message_bytes_max: u32,
    session: String,
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, WireError> {
    serde_json::from_str(text).map_err(|error| WireError::Json(error.to_string()))
}

fn int(what: &'static str, value: u64, min: u64) -> Result<u64, WireError> {
    crate::wire::Reader::new(&value.to_le_bytes()).int(what, min)
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
            let hello: HelloJson = parse(text)?;
            let hello = Hello {
                epoch: Epoch(int("hello.epoch", hello.epoch, 0)?),
                oldest: Seq(int("hello.oldest", hello.oldest, 1)?),
                next: Seq(int("hello.next", hello.next, 1)?),
                acked: Seq(int("hello.ack", hello.ack, 0)?),
            };
            hello.check().map(ClientMessage::Hello)
        }
        "frame" => encode_frames(&[parse(text)?], scratch, payload_max),
        "frames" => encode_frames(&parse::<FramesJson<'_>>(text)?.frames, scratch, payload_max),
        "skip" => {
            let skip: SkipJson = parse(text)?;
            let first = int("skip.first", skip.first, 1)?;
            let name = skip.reason.as_deref().unwrap_or("unspecified");
            let reason = SkipReason::parse(name).ok_or_else(|| {
                let known = "unspecified, overflow, storage_lost or discarded";
                WireError::Json(format!("skip.reason is {name:?}: use {known}"))
            })?;
            let last = Seq(int("skip.last", skip.last, first)?);
            Ok(ClientMessage::Skip(Skip { first: Seq(first), last, reason }))
        }
        "rewind" => Ok(ClientMessage::Rewind(Seq(int("rewind.seq", parse::<SeqJson>(text)?.seq, 1)?))),
        other => Err(WireError::Json(format!(
            "type is {:?}: use hello, frame, frames, skip or rewind",
            other.chars().take(40).collect::<String>()
        ))),
    }
}

fn encode_frames<'s>(
    frames: &[FrameJson<'_>],
    scratch: &'s mut Vec<u8>,
    payload_max: usize,
) -> Result<ClientMessage<'s>, WireError> {
    scratch.clear();
    let Some(first) = frames.first() else {
        return Err(WireError::Json("frames is empty: send at least one".into()));
    };
    let first = Seq(int("seq", first.seq, 1)?);
    for (index, frame) in (0_u64..).zip(frames) {
        if frame.seq != first.0 + index {
            let expected = first.0 + index;
            let found = frame.seq;
            return Err(WireError::Json(format!(
                "frames of one message must be consecutive: {expected} is due, seq is {found}"
            )));
        }
        encode_frame(frame, scratch, payload_max)?;
    }
    Ok(ClientMessage::Frames { first, data: scratch })
}

fn encode_frame(frame: &FrameJson<'_>, out: &mut Vec<u8>, payload_max: usize) -> Result<(), WireError> {
    let decoded;
    let (content_type, payload) = match (frame.json, &frame.text, &frame.b64) {
        (Some(json), None, None) => (ContentType::Json, json.get().as_bytes()),
        (None, Some(text), None) => (ContentType::Text, text.as_bytes()),
        (None, None, Some(b64)) => {
            decoded = BASE64.decode(&**b64).map_err(|error| {
                WireError::Json(format!(
                    "b64 of seq {}: {error}; use RFC 4648 base64 with padding",
                    frame.seq
                ))
            })?;
            let content_type = match &frame.content_type {
                Some(name) => ContentType::parse(name)?,
                None => ContentType::Bytes,
            };
            (content_type, &decoded[..])
        }
        _ => {
            let seq = frame.seq;
            return Err(WireError::Json(format!("seq {seq} must have exactly one of json, text and b64")));
        }
    };
    if payload.len() > payload_max {
        let (value, max) = (payload.len() as u64, payload_max as u64);
        return Err(WireError::TooLarge { what: "frame payload", value, max });
    }
    FrameRef { ts: frame.ts, channel: &frame.channel, content_type, payload }.encode(out)
}

/// One frame as the JSON object that stands in a message (and in the reader API), without its braces:
/// `"seq":1,"ts":2,"channel":"c","json":{}`. A payload marked JSON that is none is written as `b64`.
pub fn frame_members(seq: Seq, frame: &FrameRef<'_>) -> String {
    let channel = serde_json::to_string(frame.channel).expect("a string is always JSON");
    let payload = match frame.content_type {
        ContentType::Json => std::str::from_utf8(frame.payload)
            .ok()
            .and_then(|text| parse::<&RawValue>(text).ok())
            .map(|raw| format!("\"json\":{}", raw.get())),
        ContentType::Text => std::str::from_utf8(frame.payload).ok().map(|text| {
            format!("\"text\":{}", serde_json::to_string(text).expect("a string is always JSON"))
        }),
        _ => None,
    };
    let payload = payload.unwrap_or_else(|| {
        let content_type =
            serde_json::to_string(frame.content_type.as_str()).expect("a string is always JSON");
        format!("\"content_type\":{content_type},\"b64\":\"{}\"", BASE64.encode(frame.payload))
    });
    format!("\"seq\":{seq},\"ts\":{},\"channel\":{channel},{payload}", frame.ts)
}

/// A device's message as text.
///
/// # Errors
/// If the data of [`ClientMessage::Frames`] is not frames.
pub fn encode_client(message: &ClientMessage<'_>) -> Result<String, WireError> {
    Ok(match message {
        ClientMessage::Hello(hello) => format!(
            "{{\"type\":\"hello\",\"epoch\":{},\"oldest\":{},\"next\":{},\"ack\":{}}}",
            hello.epoch, hello.oldest, hello.next, hello.acked
        ),
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
            let welcome: WelcomeJson = parse(text)?;
            Ok(ServerMessage::Welcome(Welcome {
                epoch: Epoch(int("welcome.epoch", welcome.epoch, 1)?),
                resume: Seq(int("welcome.resume", welcome.resume, 1)?),
                time: int("welcome.time", welcome.time, 1)? as Micros,
                window_bytes: welcome.window_bytes,
                frame_bytes_max: welcome.frame_bytes_max,
                message_bytes_max: welcome.message_bytes_max,
                session: session_id(&welcome.session)?,
            }))
        }
        "ack" => Ok(ServerMessage::Ack(Seq(int("ack.seq", parse::<SeqJson>(text)?.seq, 0)?))),
        "rewind" => Ok(ServerMessage::Rewind(Seq(int("rewind.seq", parse::<SeqJson>(text)?.seq, 1)?))),
        other => Err(WireError::Json(format!("type is {other:?}: use welcome, ack or rewind"))),
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
