//! The beginning of a link: connect, shake hands. And how it may end.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use trough_protocol::LinkId;
use trough_protocol::link::{self, LinkCode, LinkMessage, Versions};
use trough_protocol::wire::WireError;

use crate::discovery::EaterAddress;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(4);
const READ_BYTES: usize = 16 * 1024;

pub trait Socket: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

/// Why a link ended, or could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
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
pub async fn open(feeder: LinkId, address: &EaterAddress) -> Result<Connection, LinkEnd> {
    let connect = async {
        Ok::<Box<dyn Socket>, io::Error>(match address {
            EaterAddress::Tcp { at, .. } => {
                let stream = TcpStream::connect(at).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            EaterAddress::Local(connector) => Box::new(connector.connect()?),
        })
    };
    let socket = within(CONNECT_TIMEOUT, connect).await??;
    within(HANDSHAKE_TIMEOUT, shake_hands(feeder, socket)).await?
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, LinkEnd> {
    tokio::time::timeout(limit, work).await.map_err(|_| LinkEnd::Silence(limit))
}

async fn shake_hands(feeder: LinkId, socket: Box<dyn Socket>) -> Result<Connection, LinkEnd> {
    let (mut reader, mut writer) = tokio::io::split(socket);
    let mut hello = Vec::new();
    let software = concat!("trough ", env!("CARGO_PKG_VERSION")).to_owned();
    link::encode(&LinkMessage::Hello { versions: Versions::OURS, feeder, software }, &mut hello);
    writer.write_all(&hello).await?;
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let len = read_message(&mut reader, &mut buffer).await?;
    let bytes = buffer.split_to(len);
    match link::decode(&bytes)? {
        LinkMessage::Welcome { version, eater, credit, .. } => {
            Versions::OURS.negotiate(Versions { min: version, max: version }).map_err(LinkEnd::Unexpected)?;
            Ok(Connection { reader, writer, buffer, eater, version, credit })
        }
        LinkMessage::Goaway { code, retry_after_ms, text } => Err(goaway(code, retry_after_ms, text)),
        other => Err(LinkEnd::Unexpected(format!("WELCOME was due, it sent {other:?}"))),
    }
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
