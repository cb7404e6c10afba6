//! One link from its first byte to its last: connect, shake hands, carry batches and acks.

use std::fmt;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use trough_protocol::LinkId;
use trough_protocol::batch::BatchBuilder;
use trough_protocol::link::{self, LinkCode, LinkMessage, Versions};
use trough_protocol::wire::WireError;
use trough_runtime::local::Connector;

use super::Uplink;
use super::dialer::{LinkSecurity, Proving, Socket, tls_end};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(4);
const PING_EVERY: Duration = Duration::from_secs(1);
const SILENCE_MAX: Duration = Duration::from_secs(4);
const READ_BYTES: usize = 16 * 1024;
/// A builder keeps this much between batches.
const BUILDER_KEEPS_BYTES: usize = 1024 * 1024;

/// Where the eater is.
#[derive(Debug, Clone)]
pub enum EaterAddress {
    /// `host:port`; a name is resolved at every attempt.
    Tcp(String),
    /// In this process.
    Local(Connector),
}

impl fmt::Display for EaterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Local(_) => f.write_str("this process"),
        }
    }
}

/// Why a link ended, or could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("TLS with the eater failed: {0}")]
    Tls(String),
    #[error("{0}")]
    Unauthorized(String),
    #[error("the eater closed the connection")]
    Closed,
    #[error("no answer within {} s", .0.as_secs())]
    Silence(Duration),
    #[error("the eater broke the protocol: {0}")]
    Protocol(#[from] WireError),
    #[error("the eater broke the protocol: {0}")]
    Unexpected(String),
    #[error("the eater said goodbye ({}): {text}", code.name())]
    Goaway { code: LinkCode, retry_after: Duration, text: String },
}

impl LinkEnd {
    /// The label in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Io(_) => "io",
            Self::Tls(_) => "tls",
            Self::Unauthorized(_) => "unauthorized",
            Self::Closed => "closed",
            Self::Silence(_) => "silence",
            Self::Protocol(_) | Self::Unexpected(_) => "protocol",
            Self::Goaway { .. } => "goaway",
        }
    }

    /// When the eater asked to be tried again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Goaway { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }
}

/// A link after its handshake.
pub struct Link {
    reader: ReadHalf<Box<dyn Socket>>,
    writer: WriteHalf<Box<dyn Socket>>,
    buffer: BytesMut,
    pub eater: LinkId,
    pub version: u16,
    pub credit: u64,
}

/// Connects and shakes hands. Cancel-safe: dropping it closes the connection.
pub async fn open(feeder: LinkId, address: &EaterAddress, security: &LinkSecurity) -> Result<Link, LinkEnd> {
    match address {
        EaterAddress::Tcp(address) => {
            let stream = within(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
            stream.set_nodelay(true)?;
            let secured = async {
                let socket = security.secure(address, stream).await?;
                let link = shake_hands(feeder, socket, security).await;
                // With TLS 1.3 the eater's opinion of our certificate comes with its first answer.
                link.map_err(|end| match end {
                    LinkEnd::Io(error) if security.tls.is_some() => tls_end(&error),
                    other => other,
                })
            };
            within(HANDSHAKE_TIMEOUT, secured).await?
        }
        // Nobody else can be at the other end.
        EaterAddress::Local(connector) => {
            let socket = Box::new(connector.connect()?);
            within(HANDSHAKE_TIMEOUT, shake_hands(feeder, socket, &LinkSecurity::default())).await?
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, LinkEnd> {
    tokio::time::timeout(limit, work).await.map_err(|_| LinkEnd::Silence(limit))
}

async fn shake_hands(
    feeder: LinkId,
    socket: Box<dyn Socket>,
    security: &LinkSecurity,
) -> Result<Link, LinkEnd> {
    let (mut reader, mut writer) = tokio::io::split(socket);
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let proving = security.proving();
    let software = concat!("trough ", env!("CARGO_PKG_VERSION")).to_owned();
    let challenge = proving.as_ref().map(Proving::challenge);
    let hello = LinkMessage::Hello { versions: Versions::OURS, feeder, software, challenge };
    say(&mut writer, &hello).await?;
    let mut proven = None;
    loop {
        let len = read_message(&mut reader, &mut buffer).await?;
        let bytes = buffer.split_to(len);
        match (link::decode(&bytes)?, &proving) {
            (LinkMessage::Challenge { eater, challenge, proof }, Some(proving)) if proven.is_none() => {
                let Some(proof) = proving.answer(feeder, eater, challenge, &proof) else {
                    let text = "the eater has another key: give both sides the same --link-key-file";
                    return Err(refuse(&mut writer, text).await);
                };
                proven = Some(eater);
                say(&mut writer, &LinkMessage::Proof { proof }).await?;
            }
            (LinkMessage::Welcome { eater, .. }, Some(_)) if proven != Some(eater) => {
                let text = "the eater has not shown that it knows the key: give it the same --link-key-file";
                return Err(refuse(&mut writer, text).await);
            }
            (LinkMessage::Welcome { version, eater, credit, .. }, _) => {
                Versions::OURS
                    .negotiate(Versions { min: version, max: version })
                    .map_err(LinkEnd::Unexpected)?;
                return Ok(Link { reader, writer, buffer, eater, version, credit });
            }
            (LinkMessage::Goaway { code, retry_after_ms, text }, _) => {
                return Err(goaway(code, retry_after_ms, text));
            }
            (other, _) => return Err(LinkEnd::Unexpected(format!("WELCOME was due, it sent {other:?}"))),
        }
    }
}

async fn say(writer: &mut WriteHalf<Box<dyn Socket>>, message: &LinkMessage<'_>) -> io::Result<()> {
    let mut bytes = Vec::new();
    link::encode(message, &mut bytes);
    writer.write_all(&bytes).await?;
    writer.flush().await
}

/// Tells the eater why there will be no link, for its log.
async fn refuse(writer: &mut WriteHalf<Box<dyn Socket>>, text: &str) -> LinkEnd {
    let (code, text) = (LinkCode::UNAUTHORIZED, text.to_owned());
    let goodbye = LinkMessage::Goaway { code, retry_after_ms: 0, text: text.clone() };
    // The link is lost either way.
    let _ = say(writer, &goodbye).await;
    let _ = writer.shutdown().await;
    LinkEnd::Unauthorized(text)
}

fn goaway(code: LinkCode, retry_after_ms: u32, text: String) -> LinkEnd {
    let retry_after = Duration::from_millis(retry_after_ms.min(60_000).into());
    LinkEnd::Goaway { code, retry_after, text }
}

/// Reads until a whole message stands at the front of `buffer`; gives its length.
async fn read_message(
    reader: &mut ReadHalf<Box<dyn Socket>>,
    buffer: &mut BytesMut,
) -> Result<usize, LinkEnd> {
    loop {
        if let Some(len) = link::message_len(buffer)?
            && buffer.len() >= len
        {
            return Ok(len);
        }
        buffer.reserve(READ_BYTES);
        if reader.read_buf(buffer).await? == 0 {
            return Err(LinkEnd::Closed);
        }
    }
}

/// Carries batches and acks until the link ends. Dropping it ends the link.
pub async fn drive(uplink: &Uplink, link: Link) -> LinkEnd {
    let Link { mut reader, mut writer, mut buffer, .. } = link;
    let reading = async {
        loop {
            let len = read_message(&mut reader, &mut buffer).await?;
            let bytes = buffer.split_to(len);
            uplink.receive(link::decode(&bytes)?)?;
        }
    };
    let result: Result<std::convert::Infallible, LinkEnd> = tokio::select! {
        result = reading => result,
        result = write_batches(uplink, &mut writer) => result,
        result = watch(uplink) => result,
    };
    match result {
        Err(end) => {
            // A goodbye that came before the end says more than the end does.
            let end = uplink.goaway_end().unwrap_or(end);
            if let LinkEnd::Protocol(_) | LinkEnd::Unexpected(_) = end {
                say_goodbye(&mut writer, &end).await;
            }
            end
        }
    }
}

async fn say_goodbye(writer: &mut WriteHalf<Box<dyn Socket>>, end: &LinkEnd) {
    let goodbye = LinkMessage::Goaway { code: LinkCode::PROTOCOL, retry_after_ms: 0, text: end.to_string() };
    // The link is lost either way; the eater's log is better off with the reason.
    let _ = tokio::time::timeout(Duration::from_millis(100), say(writer, &goodbye)).await;
}

/// Pings while anything is unacknowledged, and finds the link dead after a silence.
async fn watch(uplink: &Uplink) -> Result<std::convert::Infallible, LinkEnd> {
    let mut nonce = 0;
    loop {
        tokio::time::sleep(PING_EVERY).await;
        let mut live = uplink.live.borrow_mut();
        let Some(live) = live.as_mut() else { continue };
        let waits = !live.in_flight.is_empty() || !uplink.locates.borrow().is_empty();
        if !waits {
            live.last_heard = Instant::now();
        } else if live.last_heard.elapsed() > SILENCE_MAX {
            return Err(LinkEnd::Silence(SILENCE_MAX));
        } else {
            nonce += 1;
            link::encode(&LinkMessage::Ping { nonce }, &mut live.control);
            uplink.work.notify_one();
        }
    }
}

/// Sends control messages and batches as credit allows.
async fn write_batches(
    uplink: &Uplink,
    writer: &mut WriteHalf<Box<dyn Socket>>,
) -> Result<std::convert::Infallible, LinkEnd> {
    let mut builder = BatchBuilder::new();
    loop {
        let control = uplink.take_control();
        if !control.is_empty() {
            writer.write_all(&control).await?;
            writer.flush().await?;
        }
        match uplink.next_batch(&mut builder) {
            Some(number) => {
                let len = builder.len();
                let (head, data) = builder.finish();
                write_all_vectored(writer, [&link::feed_header(number, len), head, data]).await?;
                // TLS keeps what the socket does not take at once.
                writer.flush().await?;
                builder.clear(BUILDER_KEEPS_BYTES);
            }
            None => uplink.work.notified().await,
        }
    }
}

async fn write_all_vectored(writer: &mut WriteHalf<Box<dyn Socket>>, parts: [&[u8]; 3]) -> io::Result<()> {
    let mut slices = parts.map(IoSlice::new);
    let mut slices = &mut slices[..];
    while slices.iter().any(|slice| !slice.is_empty()) {
        let written = writer.write_vectored(slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut slices, written);
    }
    Ok(())
}

impl Uplink {
    fn take_control(&self) -> Vec<u8> {
        self.live.borrow_mut().as_mut().map(|live| std::mem::take(&mut live.control)).unwrap_or_default()
    }

    /// Fills a batch and enters it as in flight; `None` if nothing waits, or the credit is used up.
    fn next_batch(&self, builder: &mut BatchBuilder) -> Option<u64> {
        let mut live = self.live.borrow_mut();
        let live = live.as_mut().filter(|live| live.farewell.is_none())?;
        let used = live.in_flight.bytes();
        let has_credit = used == 0 || used + self.batch_bytes_max <= live.credit as usize;
        let mut scheduler = self.scheduler.borrow_mut();
        if scheduler.is_empty() || !has_credit {
            return None;
        }
        let mut shares = live.in_flight.new_shares();
        scheduler.fill(builder, self.batch_bytes, &mut shares);
        if builder.is_empty() {
            return None;
        }
        let len = builder.len();
        self.context.metrics.in_flight_bytes.inc_by(len as i64);
        Some(live.in_flight.enter(len, shares))
    }

    fn receive(&self, message: LinkMessage<'_>) -> Result<(), LinkEnd> {
        let mut live = self.live.borrow_mut();
        let Some(live) = live.as_mut() else { return Ok(()) };
        live.last_heard = Instant::now();
        match message {
            LinkMessage::Ate { number } => {
                let settled = live.in_flight.ate(number).map_err(|unknown| {
                    LinkEnd::Unexpected(format!("it acknowledged batch {}, which was not sent", unknown.0))
                })?;
                self.context.metrics.settled(&settled);
                self.work.notify_one();
            }
            LinkMessage::Reject { number, code, text } => {
                let Some(sent) = live.in_flight.reject(number) else { return Ok(()) };
                self.context.metrics.in_flight_bytes.dec_by(sent.bytes as i64);
                self.context.metrics.batches_rejected.inc();
                let devices: Vec<&str> = sent.shares.iter().map(|s| s.flow.device.as_str()).take(8).collect();
                tracing::error!(code = code.name(), %text, ?devices, "the eater refused a batch");
                for share in &sent.shares {
                    share.flow.refuse(code, &text);
                }
            }
            LinkMessage::Ping { nonce } => {
                link::encode(&LinkMessage::Pong { nonce }, &mut live.control);
                self.work.notify_one();
            }
            LinkMessage::Pong { .. } => {}
            LinkMessage::Head { query, seq } => {
                if let Some(waiting) = self.locates.borrow_mut().remove(&query) {
                    // Whoever asked may have gone.
                    let _ = waiting.send(seq);
                }
            }
            LinkMessage::Goaway { code, retry_after_ms, text } => {
                live.farewell = Some(goaway(code, retry_after_ms, text));
            }
            other => return Err(LinkEnd::Unexpected(format!("it sent {other:?}, which only feeders send"))),
        }
        // After a goodbye the link has served when the last batch is answered.
        match live.farewell.take_if(|_| live.in_flight.is_empty()) {
            Some(end) => Err(end),
            None => Ok(()),
        }
    }

    fn goaway_end(&self) -> Option<LinkEnd> {
        self.live.borrow_mut().as_mut()?.farewell.take()
    }
}
