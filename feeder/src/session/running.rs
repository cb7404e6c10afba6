//! The long part of a session: frames in, acks out.
//!
//! One hand-written poll instead of a `select!`: a wake-up costs no more than what it has to do, and the future
//! of an idle session is small.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use trough_protocol::close::CloseCode;
use trough_protocol::device::{ClientMessage, ServerMessage, binary, json};
use trough_protocol::frame::{FrameRef, check_frames};
use trough_protocol::wire::WireError;
use trough_protocol::{ContentType, Seq};

use super::opening::{Opened, wrong_kind};
use super::sequence::{Sequence, Verdict};
use super::socket::Socket;
use super::timers::{Due, Timers};
use super::{Ended, Tally, encode};
use crate::flow::Flow;
use crate::handshake::Mode;
use crate::presence::{Control, Ending};
use crate::shard::Shard;

/// Messages handled before other sessions of the shard get their turn.
const MESSAGES_PER_POLL: usize = 256;
/// How long an orderly end waits for the acks of what is in flight.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);

struct Running<'a, S> {
    shard: &'a Shard,
    mode: &'a Mode,
    control: &'a Control,
    socket: &'a mut Socket<S>,
    flow: Rc<Flow>,
    sequence: Sequence,
    timers: Timers,
    tally: &'a mut Tally,
    owed_ack: Option<Seq>,
    owed_rewind: Option<Seq>,
    /// An end that waits for acks, and until when.
    settling: Option<(Ending, Instant)>,
}

/// Runs until the session ends.
pub async fn run<S>(
    shard: &Shard,
    mode: &Mode,
    control: &Control,
    socket: &mut Socket<S>,
    opened: Opened,
    tally: &mut Tally,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let timers = Timers::start(&shard.context.config);
    let Opened { flow, sequence, .. } = opened;
    let (owed_ack, owed_rewind, settling) = (None, None, None);
    let mut running = Running {
        shard,
        mode,
        control,
        socket,
        flow,
        sequence,
        timers,
        tally,
        owed_ack,
        owed_rewind,
        settling,
    };
    poll_fn(|cx| running.poll(cx)).await
}

impl<S: AsyncRead + AsyncWrite + Unpin> Running<'_, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        match self.advance(cx) {
            Ok(()) => Poll::Pending,
            Err(ended) => Poll::Ready(ended),
        }
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        self.socket.set_waker(cx.waker());
        self.flow.set_waker(cx.waker());
        self.control.set_waker(cx.waker());
        if let Some(ending) = self.control.requested() {
            self.begin_end(ending)?;
        }
        self.take_news()?;
        self.tell()?;
        let reads = self.settling.is_none() && self.read(cx)?;
        self.control.set_deaf(!reads);
        self.settle()?;
        while let Poll::Ready(due) = self.timers.poll(cx, &self.shard.context.config, reads) {
            match due {
                Due::Ping => self.socket.send(Message::Ping(Bytes::new()))?,
                Due::End(ending) => return Err(ending.into()),
            }
        }
        self.timers.set_blocked(self.socket.is_blocked());
        Ok(())
    }

    fn begin_end(&mut self, ending: Ending) -> Result<(), Ended> {
        if !ending.settle || self.flow.is_settled() {
            return Err(ending.into());
        }
        self.settling = Some((ending, Instant::now() + SETTLE_TIMEOUT));
        self.timers.wake_at(Instant::now() + SETTLE_TIMEOUT);
        Ok(())
    }

    /// An orderly end comes when everything received is acknowledged, or has waited long enough.
    fn settle(&mut self) -> Result<(), Ended> {
        let over = self.settling.as_ref().is_some_and(|(_, until)| {
            self.flow.is_settled() && self.owed_ack.is_none() || Instant::now() >= *until
        });
        match self.settling.take_if(|_| over) {
            Some((ending, _)) => Err(ending.into()),
            None => Ok(()),
        }
    }

    /// Takes what the link has to say. A rewind counts from here on, also if the device cannot be told yet:
    /// frames that come before its echo follow frames that are lost.
    fn take_news(&mut self) -> Result<(), Ended> {
        let news = self.flow.take_outgoing();
        if let Some((code, text)) = news.refused {
            let text = format!("the eater refused its frames ({}): {text}", code.name());
            return Err(Ending::new(CloseCode::Refused, text).into());
        }
        self.owed_ack = news.ack.or(self.owed_ack);
        if let Some(next) = news.rewind {
            self.sequence.rewind(next);
            self.owed_rewind = Some(next);
            self.tally.rewinds += 1;
            self.shard.context.metrics.rewinds.inc();
        }
        Ok(())
    }

    /// Tells the device, unless it has not read what it was told before.
    fn tell(&mut self) -> Result<(), Ended> {
        if self.socket.is_blocked() {
            self.socket.flush()?;
        }
        let messages = [self.owed_ack.map(ServerMessage::Ack), self.owed_rewind.map(ServerMessage::Rewind)];
        if self.socket.is_blocked() {
            return Ok(());
        }
        (self.owed_ack, self.owed_rewind) = (None, None);
        for message in messages.into_iter().flatten() {
            if let Some(message) = encode(self.mode, &message) {
                self.socket.send(message)?;
            }
        }
        if self.control.has_commands() { self.command() } else { Ok(()) }
    }

    /// Sends the commands that there are: so few that those the device does not read have room.
    #[cold]
    fn command(&mut self) -> Result<(), Ended> {
        for command in self.control.take_commands() {
            if let Some(message) = encode(self.mode, &ServerMessage::Command(Box::new(command))) {
                self.socket.send(message)?;
            }
        }
        Ok(())
    }

    /// Reads until the socket has no more or the window is full; says whether the socket is still being read.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let window = self.shard.context.config.window_bytes;
        let mut result = Ok(true);
        let mut heard = false;
        for handled in 0.. {
            if self.flow.unacked_bytes() >= window {
                // The flow wakes this task when an ack makes room.
                result = Ok(false);
                break;
            }
            if handled == MESSAGES_PER_POLL {
                cx.waker().wake_by_ref();
                break;
            }
            match self.socket.read() {
                Ok(Some(message)) => {
                    heard = true;
                    if let Err(ended) = self.receive(message) {
                        result = Err(ended);
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    result = Err(error.into());
                    break;
                }
            }
        }
        if heard {
            self.timers.heard();
            self.control.heard();
        }
        if self.flow.has_waiting() {
            self.shard.uplink.schedule(&self.flow);
        }
        result
    }

    fn receive(&mut self, message: Message) -> Result<(), Ended> {
        match (self.mode, message) {
            (_, Message::Ping(_) | Message::Pong(_)) => Ok(()),
            (_, Message::Close(_)) => Err(Ended::Theirs),
            (Mode::Binary, Message::Binary(bytes)) => {
                let message = binary::decode_client(&bytes).map_err(malformed)?;
                self.handle(message)
            }
            (Mode::Json, Message::Text(text)) => {
                // One scratch for the shard: it is used and emptied within this call.
                let mut scratch = std::mem::take(&mut *self.shard.scratch.borrow_mut());
                let limit = self.shard.context.config.frame_bytes_max;
                let result = json::decode_client(&text, &mut scratch, limit)
                    .map_err(malformed)
                    .and_then(|m| self.handle(m));
                self.shard.give_back(scratch);
                result
            }
            (Mode::Raw(_), Message::Binary(bytes)) => self.raw(&bytes, ContentType::Bytes),
            (Mode::Raw(_), Message::Text(text)) => self.raw(text.as_bytes(), ContentType::Text),
            (mode, _) => Err(wrong_kind(mode).into()),
        }
    }

    fn handle(&mut self, message: ClientMessage<'_>) -> Result<(), Ended> {
        match message {
            ClientMessage::Frames { first, data } => {
                let summary =
                    check_frames(data, self.shard.context.config.frame_bytes_max).map_err(malformed)?;
                if self.sequence.frames(first, summary.count)? == Verdict::Take {
                    self.flow.push_frames(first, summary, data);
                    self.tally.frames += summary.count;
                    self.tally.bytes += data.len() as u64;
                }
                Ok(())
            }
            ClientMessage::Skip(skip) => {
                if self.sequence.skip(&skip)? == Verdict::Take {
                    self.flow.push_skip(skip.first, skip.last.0 - skip.first.0 + 1, skip.reason.0);
                }
                Ok(())
            }
            ClientMessage::Rewind(next) => Ok(self.sequence.echo(next)?),
            ClientMessage::CommandResult(result) => {
                if let Some(desk) = &self.shard.context.commands {
                    desk.answered(&self.flow.device, &result);
                }
                Ok(())
            }
            ClientMessage::Hello(_) => {
                Err(Ending::new(CloseCode::OutOfOrder, "a second hello; one opens a session").into())
            }
        }
    }

    fn raw(&mut self, payload: &[u8], content_type: ContentType<'_>) -> Result<(), Ended> {
        let Mode::Raw(channel) = self.mode else { return Ok(()) };
        let limit = self.shard.context.config.frame_bytes_max;
        if payload.len() > limit {
            let text = format!("a frame of {} bytes, the limit is {limit}", payload.len());
            return Err(Ending::new(CloseCode::TooLarge, text).into());
        }
        let ts = self.shard.context.clock.now();
        let frame = FrameRef { ts, channel: channel.as_str(), content_type, payload };
        let mut scratch = std::mem::take(&mut *self.shard.scratch.borrow_mut());
        scratch.clear();
        frame.encode(&mut scratch).map_err(malformed)?;
        let summary = trough_protocol::frame::FramesSummary { count: 1, min_ts: ts, max_ts: ts };
        let first = self.sequence.next();
        self.sequence.frames(first, 1)?;
        self.flow.push_frames(first, summary, &scratch);
        self.tally.frames += 1;
        self.tally.bytes += scratch.len() as u64;
        self.shard.give_back(scratch);
        Ok(())
    }
}

fn malformed(error: WireError) -> Ended {
    let code = match error {
        WireError::TooLarge { what: "frame payload" | "command result", .. } => CloseCode::TooLarge,
        _ => CloseCode::Malformed,
    };
    Ending::new(code, error.to_string()).into()
}
