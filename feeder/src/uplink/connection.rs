//! The beginning of a link: connect, shake hands. And how it may end.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use trough_protocol::LinkId;
use trough_protocol::link::{self, LinkCode, LinkMessage, Versions};
use trough_protocol::wire::WireError;

use super::dialer::{LinkSecurity, Proving, Socket, tls_end};
use crate::discovery::EaterAddress;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(4);
const READ_BYTES: usize = 16 * 1024;

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
    #[error("the link has reached its age")]
    Aged,
    #[error("the eater's name does not lead to this address any more")]
    AddressGone,
    #[error("another link leads to the same eater")]
    Duplicate,
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
            Self::Aged => "aged",
            Self::AddressGone => "address_gone",
            Self::Duplicate => "duplicate",
        }
    }

    /// How long the eater asked to be left alone.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Goaway { retry_after, .. } => *retry_after,
            _ => Duration::ZERO,
        }
    }
}

/// What a link is carried over, after its handshake.
pub struct Connection {
    pub reader: ReadHalf<Box<dyn Socket>>,
    pub writer: WriteHalf<Box<dyn Socket>>,
    /// What was read and not taken yet.
    pub buffer: BytesMut,
    pub eater: LinkId,
    pub version: u16,
    pub credit: u64,
}

/// Connects and shakes hands. Cancel-safe: dropping it closes the connection.
pub async fn open(
    feeder: LinkId,
    address: &EaterAddress,
    security: &LinkSecurity,
) -> Result<Connection, LinkEnd> {
    match address {
        EaterAddress::Tcp { name, at } => {
            let stream = within(CONNECT_TIMEOUT, TcpStream::connect(at)).await??;
            stream.set_nodelay(true)?;
            let secured = async {
                let socket = security.secure(name, stream).await?;
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
) -> Result<Connection, LinkEnd> {
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
                return Ok(Connection { reader, writer, buffer, eater, version, credit });
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

/// The end that a GOAWAY announces.
pub fn goaway(code: LinkCode, retry_after_ms: u32, text: String) -> LinkEnd {
    let retry_after = Duration::from_millis(retry_after_ms.min(60_000).into());
    LinkEnd::Goaway { code, retry_after, text }
}

/// Reads until a whole message stands at the front of `buffer`; gives its length.
pub async fn read_message(
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
