//! The outbox's messages in the form that the session speaks.

use trough_protocol::device::binary::FRAMES_HEADER_BYTES;
use trough_protocol::device::{ClientMessage, CommandResult, Hello, json};
use trough_protocol::frame::FrameRef;
use trough_protocol::limits::INT_MAX;
use trough_protocol::{ContentType, Seq};

use crate::config::Mode;
use crate::connection::Connection;
use crate::error::Fault;
use crate::outbox::{Outbox, Outgoing};

/// Bytes around one frame in a JSON message; generous.
const JSON_ENVELOPE_BYTES: usize = 64;
/// Bytes of the numbers and names of one JSON frame; generous.
const JSON_FRAME_BYTES: usize = 160;
/// `"\u0000"`: what one byte of text becomes at most.
const JSON_ESCAPE_BYTES: usize = 6;

/// Bytes of a message that has only this frame: exact where it comes near `max`, else an upper bound.
pub(crate) fn lone_message_bytes(mode: Mode, frame: &FrameRef<'_>, max: usize) -> usize {
    if mode == Mode::Binary {
        return FRAMES_HEADER_BYTES + frame.encoded_len();
    }
    let len = frame.payload.len();
    let base64 = len.div_ceil(3) * 4;
    let (payload, content_type) = match frame.content_type {
        ContentType::Text => (len * JSON_ESCAPE_BYTES, 0),
        ContentType::Other(name) => (base64, name.len() * JSON_ESCAPE_BYTES),
        ContentType::Json | ContentType::Bytes => (base64, 0),
    };
    let bound = JSON_ENVELOPE_BYTES + JSON_FRAME_BYTES + frame.channel.len() + content_type + payload;
    if bound <= max {
        return bound;
    }
    JSON_ENVELOPE_BYTES + json::frame_members(Seq(INT_MAX), frame).len()
}

/// Queues the first message of a session.
pub(crate) fn queue_hello(connection: &mut Connection, hello: Hello) {
    queue_control(connection, &ClientMessage::Hello(hello));
}

/// Queues a message of the outbox.
///
/// # Errors
/// [`Fault::HeldTooLarge`] if a single frame exceeds the feeder's limit in JSON.
pub(crate) fn queue(connection: &mut Connection, message: Outgoing, outbox: &Outbox) -> Result<(), Fault> {
    match message {
        Outgoing::Rewind(seq) => queue_control(connection, &ClientMessage::Rewind(seq)),
        Outgoing::Skip(skip) => queue_control(connection, &ClientMessage::Skip(skip)),
        Outgoing::Frames { first, range } => {
            let (front, back) = outbox.frames(range);
            if connection.mode() == Mode::Json {
                let max = outbox.limits().map_or(usize::MAX, |limits| limits.message_bytes);
                return queue_json(connection, first, &[front, back].concat(), max);
            }
            connection.queue_message(&ClientMessage::Frames { first, data: &[] }, front, back);
        }
    }
    Ok(())
}

/// Queues the answer to a command.
pub(crate) fn queue_result(connection: &mut Connection, result: CommandResult<'_>) {
    queue_control(connection, &ClientMessage::CommandResult(result));
}

fn queue_control(connection: &mut Connection, message: &ClientMessage<'_>) {
    match connection.mode() {
        Mode::Binary => connection.queue_message(message, &[], &[]),
        Mode::Json => {
            let text = json::encode_client(message).expect("only frames can fail to encode");
            connection.queue_text(&text);
        }
    }
}

/// JSON is larger than what the outbox measures, so a message may have to be cut in two.
fn queue_json(connection: &mut Connection, first: Seq, data: &[u8], max: usize) -> Result<(), Fault> {
    let text = json::encode_client(&ClientMessage::Frames { first, data })?;
    if text.len() <= max {
        connection.queue_text(&text);
        return Ok(());
    }
    let lengths: Vec<usize> = trough_protocol::frame::frames(data)
        .map(|frame| frame.map(|frame| frame.encoded_len()))
        .collect::<Result<_, _>>()?;
    if lengths.len() == 1 {
        return Err(Fault::HeldTooLarge { seq: first, what: "message of one frame", bytes: text.len(), max });
    }
    let half = lengths.len() / 2;
    let (front, back) = data.split_at(lengths[..half].iter().sum());
    queue_json(connection, first, front, max)?;
    queue_json(connection, Seq(first.0 + half as u64), back, max)
}
