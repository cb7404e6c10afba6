//! From the handshake to the welcome: which epoch, and from which number on.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;
use trough_protocol::close::CloseCode;
use trough_protocol::device::{ClientMessage, Hello, ServerMessage, Welcome, binary, json};
use trough_protocol::{DeviceId, Epoch, LinkId, Seq};
use trough_runtime::random::random_below;
use trough_store::RegistryError;

use super::sequence::Sequence;
use super::socket::Socket;
use super::{Ended, Peer, encode};
use crate::flow::Flow;
use crate::handshake::Mode;
use crate::presence::Ending;
use crate::shard::Shard;

/// How long a hello waits for an eater to tell the device's head.
const LOCATE_PATIENCE: Duration = Duration::from_secs(8);
/// How long the registry may take.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(5);

/// A session that may send frames.
pub struct Opened {
    /// Where its frames go.
    pub flow: Rc<Flow>,
    /// Which number is due.
    pub sequence: Sequence,
}

/// Opens a session: waits for its hello, settles its epoch, welcomes it. A raw session gets a fresh epoch at once.
pub async fn open<S>(
    shard: &Shard,
    peer: &Peer,
    session: LinkId,
    socket: &mut Socket<S>,
) -> Result<Opened, Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let device = &peer.grant.device;
    if let Mode::Raw(_) = peer.mode {
        let epoch = grant_epoch(shard, device).await?;
        let flow = Rc::new(Flow::new(device.clone(), epoch, true, Seq::ZERO));
        return Ok(Opened { flow, sequence: Sequence::new(Seq::FIRST) });
    }
    let config = &shard.context.config;
    let hello = tokio::time::timeout(config.hello_timeout, read_hello(shard, &peer.mode, socket)).await;
    let hello = hello.map_err(|_| {
        let text = format!("no hello within {} s", config.hello_timeout.as_secs());
        Ended::Ours(Ending::new(CloseCode::HelloTimeout, text))
    })??;
    let (epoch, resume) = settle_epoch(shard, device, &hello).await?;
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
    Ok(Opened { flow, sequence: Sequence::new(resume) })
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

/// The close of a session that sent text where binary is due, or the other way round.
pub fn wrong_kind(mode: &Mode) -> Ending {
    let text = match mode {
        Mode::Json => "trough.v1.json speaks in text messages",
        _ => "trough.v1 speaks in binary messages",
    };
    Ending::new(CloseCode::WrongMessageKind, text)
}

/// The epoch to use and the number that is due in it.
async fn settle_epoch(shard: &Shard, device: &DeviceId, hello: &Hello) -> Result<(Epoch, Seq), Ended> {
    if hello.epoch.is_none() {
        return Ok((grant_epoch(shard, device).await?, Seq::FIRST));
    }
    let current = registry(shard.context.registry.current_epoch(device)).await?;
    if hello.epoch != current {
        let text =
            format!("epoch {} is not the device's newest, {current}; say hello with epoch 0", hello.epoch);
        return Err(Ending::new(CloseCode::StaleEpoch, text).into());
    }
    let located = shard.uplink.locate(device, current, LOCATE_PATIENCE).await;
    let head = located.map_err(|unavailable| self::unavailable(&unavailable.to_string()))?;
    if head >= hello.next {
        // It numbers frames that are durable already: it lost its memory. In this epoch its new frames would be
        // taken for old ones and vanish.
        return Ok((grant_epoch(shard, device).await?, Seq::FIRST));
    }
    Ok((current, head.max(hello.acked).next()))
}

async fn grant_epoch(shard: &Shard, device: &DeviceId) -> Result<Epoch, Ended> {
    let epoch = registry(shard.context.registry.grant_epoch(device)).await?;
    shard.context.metrics.epochs_granted.inc();
    Ok(epoch)
}

async fn registry<T>(work: impl Future<Output = Result<T, RegistryError>>) -> Result<T, Ended> {
    match tokio::time::timeout(REGISTRY_PATIENCE, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error @ (RegistryError::Revoked(_) | RegistryError::NotFound { .. }))) => {
            Err(Ending::new(CloseCode::TokenRevoked, error.to_string()).into())
        }
        Ok(Err(error)) => Err(unavailable(&error.to_string())),
        Err(_) => Err(unavailable("the registry did not answer in time")),
    }
}

fn unavailable(text: &str) -> Ended {
    let delay = Duration::from_millis(1000 + random_below(4000));
    Ended::Ours(Ending::new(CloseCode::Unavailable, text).after(delay))
}
