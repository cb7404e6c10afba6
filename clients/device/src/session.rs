//! One session: from the hello to whatever ends it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use trough_protocol::device::{Features, Hello, ServerMessage, Welcome};

use crate::connection::{Connection, Incoming, IoDone, ReadError};
use crate::error::Fault;
use crate::message;
use crate::shared::{Shared, State};
use crate::status::{Event, Status};

/// Bytes that are put together before the socket is tried.
const QUEUE_BYTES: usize = 64 * 1024;
/// How long the feeder has to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the answer to the feeder's close may take to write.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// RFC 6455, section 7.4.1.
const CLOSE_NORMAL: u16 = 1000;
const CLOSE_PROTOCOL_ERROR: u16 = 1002;

/// Why a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The feeder closed it.
    Closed { code: u16, reason: String },
    /// The connection ended, or nothing came for too long.
    Lost(String),
    /// The feeder broke the protocol.
    Fault(Fault),
    /// The caller asked for it, and everything is acknowledged.
    Done,
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Lost(reason) => Self::Lost(reason),
            ReadError::Fault(fault) => Self::Fault(fault),
        }
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Runs a session over an open WebSocket.
pub(crate) async fn run(
    shared: &Shared,
    connection: &mut Connection,
    silence: Duration,
    features: Features,
) -> End {
    let hello = {
        let mut state = shared.lock();
        state.commands.set_in_session(false);
        state.outbox.hello()
    };
    message::queue_hello(connection, Hello { features, ..hello });
    let end = exchange(shared, connection, silence).await;
    match &end {
        // What the feeder is told here is for its log only.
        End::Fault(fault) => {
            tracing::warn!(%fault, "leaving a feeder that breaks the protocol");
            connection.close(CLOSE_PROTOCOL_ERROR, &short(&fault.to_string()));
        }
        End::Closed { .. } => {}
        End::Lost(_) | End::Done => return end,
    }
    // The answer to the close, or the close. If it does not leave in time, nothing is lost.
    let _ = timeout(FAREWELL_TIMEOUT, poll_fn(|cx| connection.poll_drain(cx))).await;
    end
}

fn short(text: &str) -> String {
    trough_protocol::wire::cut_text(text, trough_protocol::limits::CLOSE_REASON_BYTES_MAX).to_owned()
}

enum Woken {
    Io(std::io::Result<IoDone>),
    Work,
    Timer,
}

async fn exchange(shared: &Shared, connection: &mut Connection, silence: Duration) -> End {
    let mut heard = Instant::now();
    let mut closing = false;
    let mut timer = pin!(sleep_until(heard + silence));
    let mut work = pin!(shared.work.notified());
    loop {
        match turn(shared, connection) {
            Ok(Turn::Closing) if !closing => {
                closing = true;
                connection.close(CLOSE_NORMAL, "normal");
                timer.as_mut().reset(Instant::now() + CLOSE_TIMEOUT);
            }
            Ok(_) => {}
            // The connection may end in any way once both sides have nothing more to say.
            Err(End::Closed { .. } | End::Lost(_)) if closing => return End::Done,
            Err(end) => return end,
        }
        let woken = poll_fn(|cx| {
            if let Poll::Ready(done) = connection.poll_io(cx) {
                return Poll::Ready(Woken::Io(done));
            }
            if work.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woken::Work);
            }
            timer.as_mut().poll(cx).map(|()| Woken::Timer)
        });
        match woken.await {
            Woken::Io(Ok(IoDone::Read)) => heard = Instant::now(),
            Woken::Io(Ok(IoDone::Wrote)) => {}
            Woken::Io(Err(_)) if closing => return End::Done,
            Woken::Io(Err(error)) => return End::Lost(error.to_string()),
            Woken::Work => work.set(shared.work.notified()),
            Woken::Timer if closing => return End::Done,
            Woken::Timer if heard.elapsed() >= silence => {
                return End::Lost(format!("nothing came from the feeder for {silence:?}"));
            }
            Woken::Timer => {
                timer.as_mut().reset(heard + silence);
                connection.shrink();
                shared.lock().shrink();
            }
        }
    }
}

enum Turn {
    Open,
    Closing,
}

/// Takes in what has come and queues what may go: one lock for a whole batch.
fn turn(shared: &Shared, connection: &mut Connection) -> Result<Turn, End> {
    let mut guard = shared.lock();
    let state = &mut *guard;
    let mut news = false;
    let result = take_in(shared, connection, state, &mut news);
    if news {
        shared.publish(state);
    }
    result?;
    while let Some(result) = state.commands.next_result() {
        message::queue_result(connection, result);
    }
    if state.closing && state.outbox.is_empty() {
        return Ok(Turn::Closing);
    }
    while connection.queued() < QUEUE_BYTES
        && let Some(outgoing) = state.outbox.next_message()
    {
        message::queue(connection, outgoing, &state.outbox)?;
    }
    state.idle = state.outbox.all_sent();
    Ok(Turn::Open)
}

fn take_in(
    shared: &Shared,
    connection: &mut Connection,
    state: &mut State,
    news: &mut bool,
) -> Result<(), End> {
    while let Some(incoming) = connection.next()? {
        match incoming {
            Incoming::Message(ServerMessage::Ack(seq)) => *news |= state.outbox.ack(seq)?,
            Incoming::Message(ServerMessage::Rewind(seq)) => {
                state.outbox.rewind(seq)?;
                tracing::debug!(seq = seq.0, "the feeder asked for a rewind");
                shared.emit(|| Event::Rewound(seq));
            }
            Incoming::Message(ServerMessage::Welcome(welcome)) => {
                *news = true;
                welcomed(shared, state, &welcome)?;
            }
            Incoming::Message(ServerMessage::Command(command)) => *news |= state.commands.receive(*command),
            Incoming::Closed { code, reason } => return Err(End::Closed { code, reason }),
        }
    }
    Ok(())
}

fn welcomed(shared: &Shared, state: &mut State, welcome: &Welcome) -> Result<(), Fault> {
    let renumbered = state.outbox.welcome(welcome)?;
    state.commands.set_in_session(true);
    if let Some(renumbered) = renumbered.filter(|renumbered| !renumbered.old.is_none()) {
        tracing::warn!(old = renumbered.old.0, new = renumbered.new.0, "the feeder granted a new epoch");
        let (old, new, first) = (renumbered.old, renumbered.new, renumbered.first);
        shared.emit(|| Event::EpochChanged { old, new, first });
    }
    tracing::debug!(epoch = welcome.epoch.0, resume = welcome.resume.0, "in session");
    shared.emit(|| Event::Connected {
        session: welcome.session,
        epoch: welcome.epoch,
        resume: welcome.resume,
        server_time: welcome.time,
    });
    shared.set_status(Status::Connected);
    Ok(())
}
