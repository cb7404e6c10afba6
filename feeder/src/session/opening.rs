//! From the handshake to the welcome: which epoch, and from which number on.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;
use trough_protocol::close::CloseCode;
use trough_protocol::device::{ClientMessage, Features, Hello, ServerMessage, Welcome, binary, json};
use trough_protocol::{DeviceId, Epoch, LinkId, Seq};
use trough_runtime::random::random_below;
use trough_store::RegistryError;

use super::sequence::Sequence;
use super::socket::Socket;
use super::{Ended, Peer, encode};
use crate::flow::Flow;
use crate::handshake::Mode;
use crate::presence::{Control, Ending};
use crate::shard::Shard;

/// How long a hello waits for an eater to tell the device's head.
const LOCATE_PATIENCE: Duration = Duration::from_secs(8);
/// How long the registry may take.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(5);

/// How long a session waits for the one that it takes over.
const OLDER_PATIENCE: Duration = Duration::from_secs(8);
/// How often a new epoch is asked for when the journal knows the one that was granted.
const GRANTS_MAX: usize = 1000;

/// A session that may send frames.
pub struct Opened {
    /// Where its frames go.
    pub flow: Rc<Flow>,
    /// Which number is due.
    pub sequence: Sequence,
    /// What its device can do besides.
    pub features: Features,
}

/// Opens a session: waits for its hello and for the session that it takes over, settles its epoch, welcomes it. A
/// raw session says no hello and gets a fresh epoch.
pub async fn open<S>(
    shard: &Shard,
    peer: &Peer,
    session: LinkId,
    older: Option<Arc<Control>>,
    socket: &mut Socket<S>,
) -> Result<Opened, Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let device = &peer.grant.device;
    // The token may have been revoked between its check, or its ticket's issue, and the session's entry, from
    // which on a revocation finds it.
    let tokens = [peer.grant.token_id];
    if !registry(shard.context.registry.tokens_revoked(&tokens)).await?.is_empty() {
        let text = "the token was revoked or has expired; get a new one from the operator";
        return Err(Ending::new(CloseCode::TokenRevoked, text).into());
    }
    if let Mode::Raw(_) = peer.mode {
        wait_for(older).await?;
        let epoch = grant_epoch(shard, device).await?;
        let flow = Rc::new(Flow::new(device.clone(), epoch, true, Seq::ZERO));
        let (sequence, features) = (Sequence::new(Seq::FIRST), Features::NONE);
        return Ok(Opened { flow, sequence, features });
    }
    let config = &shard.context.config;
    let hello = tokio::time::timeout(config.hello_timeout, read_hello(shard, &peer.mode, socket)).await;
    let hello = hello.map_err(|_| {
        let text = format!("no hello within {} s", config.hello_timeout.as_secs());
        Ended::Ours(Ending::new(CloseCode::HelloTimeout, text))
    })??;
    wait_for(older).await?;
    let (epoch, resume) = settle_epoch(shard, peer, socket, &hello).await?;
    let welcome = Welcome {
        epoch,
        resume,
        time: shard.context.clock.now(),
        window_bytes: config.window_bytes as u32,
        frame_bytes_max: config.frame_bytes_max as u32,
        message_bytes_max: config.message_bytes_max as u32,
        session: session.0,
    };
    if let Some(message) = encode(&peer.mode, &ServerMessage::Welcome(welcome)) {
        socket.send(message)?;
    }
    let flow = Rc::new(Flow::new(device.clone(), epoch, false, Seq(resume.0 - 1)));
    Ok(Opened { flow, sequence: Sequence::new(resume), features: hello.features })
}

/// Waits until the session that was taken over is over and its frames have landed: before that the head says too
/// little.
async fn wait_for(older: Option<Arc<Control>>) -> Result<(), Ended> {
    let Some(older) = older else { return Ok(()) };
    let gone = tokio::time::timeout(OLDER_PATIENCE, older.gone()).await;
    gone.map_err(|_| unavailable("frames of the device's last session are still on their way"))
}

async fn read_hello<S>(shard: &Shard, mode: &Mode, socket: &mut Socket<S>) -> Result<Hello, Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = poll_fn(|cx| {
            socket.set_waker(cx.waker());
            match socket.read() {
                Ok(Some(message)) => Poll::Ready(Ok(message)),
                Ok(None) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await?;
        let mut scratch = shard.scratch.borrow_mut();
        let decoded = match (mode, &message) {
            (_, Message::Ping(_) | Message::Pong(_)) => continue,
            (_, Message::Close(_)) => return Err(Ended::Theirs),
            (Mode::Binary, Message::Binary(bytes)) => binary::decode_client(bytes),
            (Mode::Json, Message::Text(text)) => {
                json::decode_client(text, &mut scratch, shard.context.config.frame_bytes_max)
            }
            _ => return Err(wrong_kind(mode).into()),
        };
        return match decoded {
            Ok(ClientMessage::Hello(hello)) => Ok(hello),
            Ok(_) => Err(Ending::new(CloseCode::OutOfOrder, "the first message must be a hello").into()),
            Err(error) => Err(Ending::new(CloseCode::Malformed, error.to_string()).into()),
        };
    }
}

/// That the device has not gone while its hello was looked into.
async fn still_waits<S>(socket: &mut Socket<S>) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = poll_fn(|cx| {
            socket.set_waker(cx.waker());
            Poll::Ready(socket.read())
        });
        match message.await? {
            None => return Ok(()),
            Some(Message::Ping(_) | Message::Pong(_)) => {}
            Some(Message::Close(_)) => return Err(Ended::Theirs),
            Some(_) => {
                let text = "nothing but pings may come between hello and welcome";
                return Err(Ending::new(CloseCode::OutOfOrder, text).into());
            }
        }
    }
}

/// The close of a session that sent text where binary is due, or the other way round.
pub fn wrong_kind(mode: &Mode) -> Ending {
    let text = match mode {
        Mode::Json => "trough.v1.json speaks in text messages",
        _ => "trough.v1 speaks in binary messages",
    };
    Ending::new(CloseCode::WrongMessageKind, text)
}

/// The epoch to use and the number that is due in it.
async fn settle_epoch<S>(
    shard: &Shard,
    peer: &Peer,
    socket: &mut Socket<S>,
    hello: &Hello,
) -> Result<(Epoch, Seq), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let device = &peer.grant.device;
    if hello.epoch.is_none() {
        return Ok((grant_epoch(shard, device).await?, Seq::FIRST));
    }
    let current = registry(shard.context.registry.current_epoch(device)).await?;
    if hello.epoch != current {
        let text =
            format!("epoch {} is not the device's newest, {current}; say hello with epoch 0", hello.epoch);
        return Err(Ending::new(CloseCode::StaleEpoch, text).into());
    }
    let head = locate(shard, device, current).await?;
    if head >= hello.next {
        // It numbers frames that are durable already: it lost its memory. In this epoch its new frames would be
        // taken for old ones and vanish. Or this is an old hello, and the device, which gave up waiting, has sent them
        // by another connection since: a new epoch would take its newest one away from it.
        still_waits(socket).await?;
        return Ok((grant_epoch(shard, device).await?, Seq::FIRST));
    }
    if hello.acked > head {
        // The journal was restored from an older copy, or the device is mistaken. What it no longer holds it has
        // to skip, so that readers see the gap.
        tracing::warn!(%device, epoch = %current, %head, acked = %hello.acked, "a device knows of an ack above its head");
    }
    Ok((current, head.next()))
}

/// A new epoch that has no frames yet. The registry's next one has some if the registry is younger than the journal:
/// made anew, or restored from a backup. New frames would then be taken for those.
async fn grant_epoch(shard: &Shard, device: &DeviceId) -> Result<Epoch, Ended> {
    for _ in 0..GRANTS_MAX {
        let epoch = registry(shard.context.registry.grant_epoch(device)).await?;
        shard.context.metrics.epochs_granted.inc();
        if locate(shard, device, epoch).await? == Seq::ZERO {
            return Ok(epoch);
        }
        tracing::warn!(%device, %epoch, "the journal has frames of an epoch that was just granted: is the registry an old one?");
    }
    Err(unavailable("the registry is far behind the journal; it catches up with every attempt"))
}

async fn locate(shard: &Shard, device: &DeviceId, epoch: Epoch) -> Result<Seq, Ended> {
    let located = shard.uplink.locate(device, epoch, LOCATE_PATIENCE).await;
    located.map_err(|error| unavailable(&error.to_string()))
}

async fn registry<T>(work: impl Future<Output = Result<T, RegistryError>>) -> Result<T, Ended> {
    match tokio::time::timeout(REGISTRY_PATIENCE, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error @ (RegistryError::Revoked(_) | RegistryError::NotFound { .. }))) => {
            Err(Ending::new(CloseCode::TokenRevoked, error.to_string()).into())
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a session cannot be opened");
            Err(unavailable("the registry does not answer now"))
        }
        Err(_) => Err(unavailable("the registry did not answer in time")),
    }
}

fn unavailable(text: &str) -> Ended {
    let delay = Duration::from_millis(1000 + random_below(4000));
    Ended::Ours(Ending::new(CloseCode::Unavailable, text).after(delay))
}
