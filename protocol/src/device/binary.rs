//! `trough.v1`: one message of the protocol in one binary WebSocket message.
//!
//! The first byte is the type, integers are little-endian. Fields may be appended to hello and welcome by later
//! releases, so what follows the known fields of these two is ignored.
//!
//! ```text
//! device                                         feeder
//! 1 hello   u64 epoch, oldest, next, ack;        129 welcome  u64 epoch, resume, time;
//!           maybe u32 features                                u32 window, frame max, message max; 16 session
//! 2 frames  u64 first seq, then frames
//! 3 skip    u64 first, last; u8 reason           130 ack      u64 seq
//! 4 rewind  u64 seq                              131 rewind   u64 seq
//! 5 command_result                               132 command
//!           16 id; u8 status; typed payload                   16 id; u64 expires; typed payload
//! ```
//! A typed payload is u8 content type (as in a frame), u16 length of the payload, the media type if the content type
//! says that there is one, and the payload.

use super::{
    ClientMessage, Command, CommandId, CommandResult, CommandStatus, Features, Hello, ServerMessage, Skip,
    SkipReason, Welcome,
};
use crate::frame::{content_type_code, take_content_type};
use crate::limits::{COMMAND_BYTES_MAX, COMMAND_RESULT_BYTES_MAX};
use crate::wire::{Reader, WireError};
use crate::words::{ContentType, Epoch, Seq};

const HELLO: u8 = 1;
const FRAMES: u8 = 2;
const SKIP: u8 = 3;
const REWIND: u8 = 4;
const COMMAND_RESULT: u8 = 5;
const WELCOME: u8 = 129;
const ACK: u8 = 130;
const SERVER_REWIND: u8 = 131;
const COMMAND: u8 = 132;

/// Bytes of a frames message before its first frame.
pub const FRAMES_HEADER_BYTES: usize = 9;

/// Reads a message of a device. Borrows the frames; allocates nothing.
///
/// # Errors
/// Malformed.
pub fn decode_client(bytes: &[u8]) -> Result<ClientMessage<'_>, WireError> {
    let mut reader = Reader::new(bytes);
    match reader.u8("message type")? {
        HELLO => {
            let hello = Hello {
                epoch: Epoch(reader.int("hello.epoch", 0)?),
                oldest: Seq(reader.int("hello.oldest", 1)?),
                next: Seq(reader.int("hello.next", 1)?),
                acked: Seq(reader.int("hello.ack", 0)?),
                features: match reader.rest() {
                    [] => Features::NONE,
                    _ => Features(reader.u32("hello.features")?),
                },
            };
            hello.check().map(ClientMessage::Hello)
        }
        FRAMES => {
            let first = Seq(reader.int("first seq", 1)?);
            Ok(ClientMessage::Frames { first, data: reader.rest() })
        }
        SKIP => {
            let first = Seq(reader.int("skip.first", 1)?);
            let last = Seq(reader.int("skip.last", first.0)?);
            let reason = SkipReason(reader.u8("skip.reason")?);
            reader.end("skip")?;
            Ok(ClientMessage::Skip(Skip { first, last, reason }))
        }
        REWIND => {
            let seq = Seq(reader.int("rewind.seq", 1)?);
            reader.end("rewind")?;
            Ok(ClientMessage::Rewind(seq))
        }
        COMMAND_RESULT => {
            let id = CommandId(reader.array("command_result.id")?);
            let status = CommandStatus::of_number(reader.u8("command_result.status")?)?;
            let (content_type, payload) =
                take_payload(&mut reader, "command result", COMMAND_RESULT_BYTES_MAX)?;
            Ok(ClientMessage::CommandResult(CommandResult { id, status, content_type, payload }))
        }
        other => Err(WireError::Unsupported {
            what: "message type",
            value: other.into(),
            known: "1 (hello), 2 (frames), 3 (skip), 4 (rewind) and 5 (command_result)",
        }),
    }
}

/// Appends a device's message to `out`.
pub fn encode_client(message: &ClientMessage<'_>, out: &mut Vec<u8>) {
    match message {
        ClientMessage::Hello(hello) => {
            out.push(HELLO);
            for field in [hello.epoch.0, hello.oldest.0, hello.next.0, hello.acked.0] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            // A device that has none is written as before there were any.
            if hello.features != Features::NONE {
                out.extend_from_slice(&hello.features.0.to_le_bytes());
            }
        }
        ClientMessage::Frames { first, data } => {
            out.push(FRAMES);
            out.extend_from_slice(&first.0.to_le_bytes());
            out.extend_from_slice(data);
        }
        ClientMessage::Skip(skip) => {
            out.push(SKIP);
            out.extend_from_slice(&skip.first.0.to_le_bytes());
            out.extend_from_slice(&skip.last.0.to_le_bytes());
            out.push(skip.reason.0);
        }
        ClientMessage::Rewind(seq) => {
            out.push(REWIND);
            out.extend_from_slice(&seq.0.to_le_bytes());
        }
        ClientMessage::CommandResult(result) => {
            out.push(COMMAND_RESULT);
            out.extend_from_slice(&result.id.0);
            out.push(result.status.number());
            put_payload(out, result.content_type, result.payload);
        }
    }
}

/// Reads a message of a feeder.
///
/// # Errors
/// Malformed.
pub fn decode_server(bytes: &[u8]) -> Result<ServerMessage, WireError> {
    let mut reader = Reader::new(bytes);
    match reader.u8("message type")? {
        WELCOME => Ok(ServerMessage::Welcome(Welcome {
            epoch: Epoch(reader.int("welcome.epoch", 1)?),
            resume: Seq(reader.int("welcome.resume", 1)?),
            time: reader.int("welcome.time", 1)?,
            window_bytes: reader.u32("welcome.window_bytes")?,
            frame_bytes_max: reader.u32("welcome.frame_bytes_max")?,
            message_bytes_max: reader.u32("welcome.message_bytes_max")?,
            session: reader.array("welcome.session")?,
        })),
        ACK => {
            let seq = Seq(reader.int("ack.seq", 0)?);
            reader.end("ack")?;
            Ok(ServerMessage::Ack(seq))
        }
        SERVER_REWIND => {
            let seq = Seq(reader.int("rewind.seq", 1)?);
            reader.end("rewind")?;
            Ok(ServerMessage::Rewind(seq))
        }
        COMMAND => {
            let id = CommandId(reader.array("command.id")?);
            let expires = reader.int("command.expires", 0)?;
            let (content_type, payload) = take_payload(&mut reader, "command", COMMAND_BYTES_MAX)?;
            let (content_type, payload) = (content_type.as_str().to_owned(), payload.to_vec());
            Ok(ServerMessage::Command(Box::new(Command { id, expires, content_type, payload })))
        }
        other => Err(WireError::Unsupported {
            what: "message type",
            value: other.into(),
            known: "129 (welcome), 130 (ack), 131 (rewind) and 132 (command)",
        }),
    }
}

/// Appends a feeder's message to `out`.
pub fn encode_server(message: &ServerMessage, out: &mut Vec<u8>) {
    match message {
        ServerMessage::Welcome(welcome) => {
            out.push(WELCOME);
            for field in [welcome.epoch.0, welcome.resume.0, welcome.time] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            for field in [welcome.window_bytes, welcome.frame_bytes_max, welcome.message_bytes_max] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            out.extend_from_slice(&welcome.session);
        }
        ServerMessage::Ack(seq) => {
            out.push(ACK);
            out.extend_from_slice(&seq.0.to_le_bytes());
        }
        ServerMessage::Rewind(seq) => {
            out.push(SERVER_REWIND);
            out.extend_from_slice(&seq.0.to_le_bytes());
        }
        ServerMessage::Command(command) => {
            out.push(COMMAND);
            out.extend_from_slice(&command.id.0);
            out.extend_from_slice(&command.expires.to_le_bytes());
            put_payload(out, ContentType::Other(&command.content_type), &command.payload);
        }
    }
}

/// Takes a payload with its type, which ends the message.
fn take_payload<'a>(
    reader: &mut Reader<'a>,
    what: &'static str,
    max: usize,
) -> Result<(ContentType<'a>, &'a [u8]), WireError> {
    let code = reader.u8("content type")?;
    let len = usize::from(reader.u16("payload length")?);
    let content_type = take_content_type(code, reader)?;
    if len > max {
        return Err(WireError::TooLarge { what, value: len as u64, max: max as u64 });
    }
    let payload = reader.bytes("payload", len)?;
    reader.end(what)?;
    Ok((content_type, payload))
}

/// Appends a payload with its type; its owner keeps it within the limit.
fn put_payload(out: &mut Vec<u8>, content_type: ContentType<'_>, payload: &[u8]) {
    let (code, name) = content_type_code(content_type);
    out.push(code);
    out.extend_from_slice(&u16::try_from(payload.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(payload);
}
