//! One end of a link, by hand: a feeder of another release, or an eater of one, or neither.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trough_protocol::LinkId;
use trough_protocol::batch::BatchBuilder;
use trough_protocol::frame::check_frames;
use trough_protocol::link::{self, Challenge, LinkMessage, Proof, Versions};
use trough_protocol::{DeviceId, Epoch, Seq};

use crate::poll::{SOON, ends};
use crate::wire::encode_frames;

/// A connection that speaks the link protocol.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A WELCOME.
    Welcome {
        /// What both speak.
        version: u16,
        /// Bytes that may be on their way.
        credit: u64,
    },
    /// A HELLO.
    Hello(Versions),
    /// A FEED.
    Feed {
        /// Its number.
        number: u64,
        /// The batch.
        batch: Vec<u8>,
    },
    /// An ATE.
    Ate(u64),
    /// A REJECT.
    Reject {
        /// Which batch.
        number: u64,
        /// Why.
        code: &'static str,
    },
    /// A GOAWAY.
    Goaway {
        /// Why.
        code: &'static str,
        /// For people.
        text: String,
    },
    /// A CHALLENGE.
    Challenge {
        /// Which eater.
        eater: LinkId,
        /// What must be answered.
        challenge: Challenge,
        /// The eater's own proof.
        proof: Proof,
    },
    /// A PONG.
    Pong(u64),
    /// A LOCATE.
    Locate(u32),
    /// Another message, as it is printed.
    Other(String),
    /// The end of the connection.
    End,
}

impl Peer {
    /// Connects to an eater.
    pub async fn connect(at: SocketAddr) -> Self {
        Self::new(TcpStream::connect(at).await.unwrap())
    }

    /// Over a connection that was accepted.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Connects, and says hello with these versions.
    pub async fn greet(at: SocketAddr, versions: Versions) -> Self {
        let mut peer = Self::connect(at).await;
        peer.say(&hello(versions)).await;
        peer
    }

    /// Connects as a feeder of this release; gives the credit, too.
    pub async fn up(at: SocketAddr) -> (Self, u64) {
        let mut peer = Self::greet(at, Versions::OURS).await;
        match peer.hear().await {
            Heard::Welcome { credit, .. } => (peer, credit),
            other => panic!("a WELCOME was due: {other:?}"),
        }
    }

    /// Sends a message.
    pub async fn say(&mut self, message: &LinkMessage<'_>) {
        let mut bytes = Vec::new();
        link::encode(message, &mut bytes);
        self.put(&bytes).await;
    }

    /// Sends any bytes. That the other end has closed shows when it is heard.
    pub async fn put(&mut self, bytes: &[u8]) {
        let _ = ends("the peer reads", SOON, self.stream.write_all(bytes)).await;
    }

    /// What comes next.
    pub async fn hear(&mut self) -> Heard {
        ends("the peer says something", SOON, self.next()).await
    }

    async fn next(&mut self) -> Heard {
        let len = loop {
            let len = link::message_len(&self.buffer).unwrap();
            if let Some(len) = len.filter(|len| self.buffer.len() >= *len) {
                break len;
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Heard::End,
                Ok(_) => {}
            }
        };
        let message: Vec<u8> = self.buffer.drain(..len).collect();
        match link::decode(&message).unwrap() {
            LinkMessage::Welcome { version, credit, .. } => Heard::Welcome { version, credit },
            LinkMessage::Hello { versions, .. } => Heard::Hello(versions),
            LinkMessage::Feed { number, batch } => Heard::Feed { number, batch: batch.to_vec() },
            LinkMessage::Ate { number } => Heard::Ate(number),
            LinkMessage::Reject { number, code, .. } => Heard::Reject { number, code: code.name() },
            LinkMessage::Goaway { code, text, .. } => Heard::Goaway { code: code.name(), text },
            LinkMessage::Challenge { eater, challenge, proof } => {
                Heard::Challenge { eater, challenge, proof }
            }
            LinkMessage::Pong { nonce } => Heard::Pong(nonce),
            LinkMessage::Locate { query, .. } => Heard::Locate(query),
            other => Heard::Other(format!("{other:?}")),
        }
    }

    /// Hears until batch `number` is durable.
    pub async fn ate(&mut self, number: u64) {
        loop {
            match self.hear().await {
                Heard::Ate(ate) if ate >= number => return,
                Heard::Ate(_) => {}
                other => panic!("an ATE of {number} was due: {other:?}"),
            }
        }
    }
}

/// A HELLO.
pub fn hello(versions: Versions) -> LinkMessage<'static> {
    LinkMessage::Hello { versions, feeder: LinkId([7; 16]), software: "a test".into(), challenge: None }
}

/// Appends bytes to an encoded control message, as a later release may, and mends length and checksum.
pub fn append_to_message(message: &LinkMessage<'_>, more: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    link::encode(message, &mut bytes);
    bytes.extend_from_slice(more);
    let len = u32::try_from(bytes.len() - 4).unwrap();
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..5]), &bytes[link::ENVELOPE_BYTES..]);
    bytes[5..9].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// A batch with one run of a device's frames in epoch 1.
pub fn batch(device: &str, first: u64, payloads: &[&[u8]]) -> Vec<u8> {
    let data = encode_frames(first, payloads);
    let summary = check_frames(&data, trough_protocol::limits::FRAME_BYTES_MAX).unwrap();
    let mut builder = BatchBuilder::new();
    builder.push_frames(&DeviceId::new(device).unwrap(), Epoch(1), Seq(first), summary, &data);
    let (head, data) = builder.finish();
    [head, data].concat()
}
