//! One session: one WebSocket of one device, from its handshake to its last line in the log.

mod blocks;
mod closing;
mod opening;
mod running;
mod sequence;
mod socket;
mod timers;

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{self, Message, error::CapacityError};
use trough_protocol::close::CloseCode;
use trough_protocol::device::{Features, ServerMessage, binary, json};
use trough_protocol::{DeviceId, LinkId};
use trough_runtime::random::random_bytes;
use trough_store::DeviceGrant;

use crate::context::Context;
use crate::handshake::Mode;
use crate::presence::{Control, Ending};
use crate::shard::Shard;
use socket::Socket;

/// How a session ended.
#[derive(Debug)]
pub enum Ended {
    /// The feeder ends it with a close frame.
    Ours(Ending),
    /// The device sent a close frame.
    Theirs,
    /// The connection broke.
    Lost(String),
}

impl Ended {
    fn name(&self) -> &'static str {
        match self {
            Self::Ours(ending) => ending.code.name(),
            Self::Theirs => "closed_by_device",
            Self::Lost(_) => "connection_lost",
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(ending) => f.write_str(&ending.text),
            Self::Theirs => Ok(()),
            Self::Lost(error) => f.write_str(error),
        }
    }
}

impl From<Ending> for Ended {
    fn from(ending: Ending) -> Self {
        Self::Ours(ending)
    }
}

impl From<tungstenite::Error> for Ended {
    fn from(error: tungstenite::Error) -> Self {
        use tungstenite::Error;
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => Self::Theirs,
            Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => Self::Ours(Ending::new(
                CloseCode::TooLarge,
                format!("a message of {size} bytes, the limit is {max_size}"),
            )),
            Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                Self::Lost(error.to_string())
            }
            Error::Protocol(_) | Error::Utf8(_) | Error::Capacity(_) => {
                Self::Ours(Ending::new(CloseCode::Malformed, error.to_string()))
            }
            // Only acks, pings and a few commands are ever queued, so a full buffer means that nobody reads them.
            Error::WriteBufferFull(_) => {
                Self::Ours(Ending::new(CloseCode::SlowReader, "acks and pings were left unread"))
            }
            other => Self::Lost(other.to_string()),
        }
    }
}

/// Who is at the other end.
pub struct Peer {
    /// What the device's token or ticket allows.
    pub grant: DeviceGrant,
    /// How it speaks.
    pub mode: Mode,
    /// From where, for the log.
    pub address: SocketAddr,
}

/// Counts for the canonical line.
#[derive(Debug, Default)]
pub struct Tally {
    frames: u64,
    bytes: u64,
    rewinds: u64,
}

/// A session's place among those of the feeder; given up when dropped, also by a panic.
struct Entry {
    context: Arc<Context>,
    device: DeviceId,
    control: Arc<Control>,
}

impl Entry {
    fn new(context: Arc<Context>, device: DeviceId, control: Arc<Control>) -> Self {
        context.metrics.sessions.inc();
        Self { context, device, control }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.context.reports.ended(&self.device, &self.control);
        self.context.presence.leave(&self.device, &self.control);
        self.context.metrics.sessions.dec();
    }
}

/// Serves a session to its end. Not cancel-safe: dropping it drops the connection without a close frame.
pub async fn serve<S>(shard: Rc<Shard>, peer: Peer, stream: S, read: Bytes)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let context = &shard.context;
    let began = Instant::now();
    let id = LinkId(random_bytes());
    let device = peer.grant.device.clone();
    let control = Control::new(peer.grant.token_id, id);
    // Nothing is read of it until it is open.
    control.set_deaf(true);
    let older = context.presence.enter(&device, &control, context.config.takeover_delay);
    let entry = Entry::new(context.clone(), device.clone(), control.clone());
    let mut socket = Socket::new(stream, read, context.config.message_bytes_max);
    let mut tally = Tally::default();

    // What happens once is boxed, so that the many sessions that only run are small.
    let opened = Box::pin(opening::open(&shard, &peer, id, older, &mut socket)).await;
    let (ended, flow, enrolled) = match opened {
        Ok(opened) => {
            let flow = opened.flow.clone();
            let enrolled = shard.uplink.enrol(&flow);
            begin_commands(context, &device, &control, opened.features);
            let ended = running::run(&shard, &peer.mode, &control, &mut socket, opened, &mut tally).await;
            (ended, Some(flow), Some(enrolled))
        }
        Err(ended) => (ended, None, None),
    };
    // Its device is not heard any more, though what it left may keep the session for a while.
    context.reports.ended(&device, &control);
    Box::pin(closing::close(&shard, &ended, flow.as_deref(), &mut socket)).await;

    drop((enrolled, entry));
    context.metrics.session_ended(ended.name());
    tracing::info!(
        session = %id,
        device = %device,
        epoch = flow.as_ref().map_or(0, |flow| flow.epoch.0),
        mode = peer.mode.name(),
        peer = %peer.address,
        duration_ms = began.elapsed().as_millis() as u64,
        frames = tally.frames,
        bytes = tally.bytes,
        rewinds = tally.rewinds,
        acked = flow.as_ref().map_or(0, |flow| flow.acked().0),
        end = ended.name(),
        detail = %ended,
        "session ended"
    );
}

/// Says that commands may be sent, if the device takes some.
fn begin_commands(context: &Context, device: &DeviceId, control: &Control, features: Features) {
    if let Some(desk) = context.commands.as_ref().filter(|_| features.has(Features::COMMANDS)) {
        control.set_takes_commands();
        desk.opened(device.clone());
    }
}

/// A message in the session's subprotocol; `None` in raw mode, which has none.
fn encode(mode: &Mode, message: &ServerMessage) -> Option<Message> {
    match mode {
        Mode::Binary => {
            let mut bytes = Vec::with_capacity(9);
            binary::encode_server(message, &mut bytes);
            Some(Message::Binary(bytes.into()))
        }
        Mode::Json => Some(Message::Text(json::encode_server(message).into())),
        Mode::Raw(_) => None,
    }
}
