//! One WebSocket: protocol messages in and out of a byte stream.
//!
//! tungstenite works on memory here, not on the socket. It reads, answers pings and closes; data messages, of
//! which there may be a million a second, are written behind its own into the same output, masked in place, and
//! go to the socket in large pieces.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::io::ReadBuf;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, WebSocket};
use trough_protocol::device::{ClientMessage, ServerMessage, binary, json};

use crate::config::Mode;
use crate::dial::Stream;
use crate::error::Fault;

const READ_BYTES: usize = 4096;
/// tungstenite zeroes as much before every read.
const PARSE_BYTES: usize = 1024;
/// The feeder's messages are small; the largest is a command whose text is all escapes, in JSON. A larger one is not
/// from a feeder.
const INCOMING_BYTES_MAX: usize = 128 * 1024;
/// Buffers that are larger than this are given back when a session is quiet.
const QUIET_BYTES: usize = 1024;
const OPCODE_TEXT: u8 = 0x1;
const OPCODE_BINARY: u8 = 0x2;

/// Memory that tungstenite takes for a socket.
#[derive(Debug, Default)]
struct Pipe {
    input: Vec<u8>,
    taken: usize,
    ended: bool,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = &self.input[self.taken..];
        if left.is_empty() && !self.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = left.len().min(out.len());
        out[..count].copy_from_slice(&left[..count]);
        self.taken += count;
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the feeder said.
#[derive(Debug)]
pub(crate) enum Incoming {
    Message(ServerMessage),
    /// A close frame. Its answer is queued.
    Closed {
        code: u16,
        reason: String,
    },
}

/// Why nothing more can be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The connection ended or is no WebSocket.
    Lost(String),
    Fault(Fault),
}

/// See the module.
pub(crate) struct Connection {
    io: Box<dyn Stream>,
    websocket: WebSocket<Pipe>,
    /// Bytes at the front of the output that the socket has taken.
    written: usize,
    unflushed: bool,
    mode: Mode,
    masks: StdRng,
    /// For encoding, so that it need not be allocated for every message.
    scratch: Vec<u8>,
}

impl Connection {
    /// Over a stream on which the upgrade has succeeded; `rest` came after its answer.
    pub fn new(io: Box<dyn Stream>, rest: Vec<u8>, mode: Mode, masks: StdRng) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(PARSE_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(INCOMING_BYTES_MAX))
            .max_frame_size(Some(INCOMING_BYTES_MAX));
        let pipe = Pipe { input: rest, ..Pipe::default() };
        let websocket = WebSocket::from_raw_socket(pipe, Role::Client, Some(config));
        Self { io, websocket, written: 0, unflushed: false, mode, masks, scratch: Vec::new() }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Bytes that wait for the socket.
    pub fn queued(&self) -> usize {
        self.websocket.get_ref().output.len() - self.written
    }

    /// Queues a binary message, which ends with these bytes.
    pub fn queue_message(&mut self, message: &ClientMessage<'_>, front: &[u8], back: &[u8]) {
        self.scratch.clear();
        binary::encode_client(message, &mut self.scratch);
        let key = self.masks.random::<u32>().to_ne_bytes();
        let output = &mut self.websocket.get_mut().output;
        put_frame(output, OPCODE_BINARY, key, &[&self.scratch, front, back]);
    }

    /// Queues a text message.
    pub fn queue_text(&mut self, text: &str) {
        let key = self.masks.random::<u32>().to_ne_bytes();
        put_frame(&mut self.websocket.get_mut().output, OPCODE_TEXT, key, &[text.as_bytes()]);
    }

    /// Queues a close frame; nothing may be queued after it.
    pub fn close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        // Writing to memory cannot fail; a second close frame is not written, which is right.
        let _ = self.websocket.close(Some(frame));
    }

    /// The next message of those that have been read; `None` when more bytes are needed.
    pub fn next(&mut self) -> Result<Option<Incoming>, ReadError> {
        loop {
            let message = match self.websocket.read() {
                Ok(Message::Binary(bytes)) if self.mode == Mode::Binary => binary::decode_server(&bytes),
                Ok(Message::Text(text)) if self.mode == Mode::Json => json::decode_server(&text),
                Ok(Message::Binary(_)) => return Err(ReadError::Fault(Fault::WrongKind("binary"))),
                Ok(Message::Text(_)) => return Err(ReadError::Fault(Fault::WrongKind("text"))),
                Ok(Message::Close(frame)) => {
                    // The answer is queued by the next call that may write.
                    let _ = self.websocket.flush();
                    let (code, reason) =
                        frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                    return Ok(Some(Incoming::Closed { code, reason }));
                }
                Ok(_) => continue,
                Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(ReadError::Lost(error.to_string())),
            };
            return match message {
                Ok(message) => Ok(Some(Incoming::Message(message))),
                Err(error) => Err(ReadError::Fault(error.into())),
            };
        }
    }

    /// Writes what is queued and reads what has come. Ready when [`Connection::next`] may have news or the queue
    /// has emptied.
    pub fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<IoDone>> {
        let wrote = self.poll_write(cx)?;
        let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(&mut *self.io).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => {
                let pipe = self.websocket.get_mut();
                pipe.input.extend_from_slice(buffer.filled());
                pipe.ended = buffer.filled().is_empty();
                Poll::Ready(Ok(IoDone::Read))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if wrote => Poll::Ready(Ok(IoDone::Wrote)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Whether the queue has just become empty.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let output = &mut self.websocket.get_mut().output;
        let mut wrote = false;
        while self.written < output.len() {
            match Pin::new(&mut *self.io).poll_write(cx, &output[self.written..])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    self.written += count;
                    self.unflushed = true;
                }
                Poll::Pending => return Ok(false),
            }
            wrote = self.written == output.len();
        }
        if wrote {
            output.clear();
            self.written = 0;
        }
        if self.unflushed && Pin::new(&mut *self.io).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(wrote)
    }

    /// Writes all that is queued, whatever comes.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write(cx)?;
        if self.queued() > 0 {
            return Poll::Pending;
        }
        ready!(Pin::new(&mut *self.io).poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    /// Gives back memory that a quiet session does not need.
    pub fn shrink(&mut self) {
        if self.queued() == 0 {
            self.websocket.get_mut().output.shrink_to(QUIET_BYTES);
        }
    }
}

/// What [`Connection::poll_io`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IoDone {
    Read,
    Wrote,
}

/// Appends one masked, final frame (RFC 6455, section 5.2).
fn put_frame(out: &mut Vec<u8>, opcode: u8, key: [u8; 4], parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.reserve(len + 14);
    out.push(0x80 | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..126), _) => out.push(0x80 | len),
        (_, Ok(len)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&key);
    let start = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    mask(&mut out[start..], key);
}

/// Applies a mask (RFC 6455, section 5.3), sixteen bytes at a time.
fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let mut wide = [0; 16];
    wide.chunks_exact_mut(4).for_each(|chunk| chunk.copy_from_slice(&key));
    let wide = u128::from_ne_bytes(wide);
    let (chunks, rest) = bytes.as_chunks_mut::<16>();
    for chunk in chunks {
        *chunk = (u128::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server that is not ours reads.
    fn read_back(frames: &[u8]) -> Vec<Message> {
        let pipe = Pipe { input: frames.to_vec(), ended: true, ..Pipe::default() };
        let mut server = WebSocket::from_raw_socket(pipe, Role::Server, None);
        std::iter::from_fn(|| server.read().ok()).collect()
    }

    #[test]
    fn frames_of_every_length_form_are_read_by_another_implementation() {
        for len in [0, 1, 4, 15, 16, 17, 125, 126, 127, 65_535, 65_536, 70_001] {
            let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let (a, b) = payload.split_at(len / 3);
            let mut out = Vec::new();
            put_frame(&mut out, OPCODE_BINARY, [1, 2, 3, 0xfe], &[a, b]);
            put_frame(&mut out, OPCODE_TEXT, [9, 8, 7, 6], &[b"text"]);
            assert_eq!(
                read_back(&out),
                [Message::Binary(payload.into()), Message::Text("text".into())],
                "{len}"
            );
        }
    }
}
