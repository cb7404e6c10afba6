//! One device by hand: it sends whatever a test wants, right or wrong.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use trough_protocol::device::{ClientMessage, Hello, ServerMessage, Skip, Welcome, binary, json};
use trough_protocol::frame::FrameRef;
use trough_protocol::{ContentType, Seq};

use crate::poll::{SOON, ends};
use crate::upgrade::{Ask, Refused};

/// How a session speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `trough.v1`.
    Binary,
    /// `trough.v1.json`.
    Json,
}

impl Form {
    /// Its subprotocol.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Binary => "trough.v1",
            Self::Json => "trough.v1.json",
        }
    }
}

/// What came from the feeder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A message of the protocol.
    Message(ServerMessage),
    /// A close frame.
    Closed(u16, String),
    /// The connection ended without one.
    Gone(String),
}

/// A session.
#[derive(Debug)]
pub struct Wire {
    socket: WebSocketStream<TcpStream>,
    form: Form,
}

impl Wire {
    /// Opens a WebSocket and says nothing yet.
    ///
    /// # Errors
    /// A refusal.
    pub async fn open(at: SocketAddr, form: Form, token: &str) -> Result<Self, Refused> {
        let ask = Ask::new(at, "/v1/stream").token(token).speaks(form.subprotocol());
        Ok(Self { socket: ask.send().await?, form })
    }

    /// From a socket that is open already.
    pub fn from_socket(socket: WebSocketStream<TcpStream>, form: Form) -> Self {
        Self { socket, form }
    }

    /// Opens a session with a new epoch.
    pub async fn begin(at: SocketAddr, form: Form, token: &str) -> (Self, Welcome) {
        Self::resume(at, form, token, Hello::NEW).await
    }

    /// Opens a session with this hello, which is welcomed.
    pub async fn resume(at: SocketAddr, form: Form, token: &str, hello: Hello) -> (Self, Welcome) {
        let mut wire = Self::open(at, form, token).await.expect("the token is good");
        let welcome = wire.hello(hello).await;
        (wire, welcome)
    }

    /// Says hello and gives the welcome.
    pub async fn hello(&mut self, hello: Hello) -> Welcome {
        self.say(&ClientMessage::Hello(hello)).await;
        match self.hear().await {
            Said::Message(ServerMessage::Welcome(welcome)) => welcome,
            other => panic!("a welcome was due: {other:?}"),
        }
    }

    /// Sends a message of the protocol.
    pub async fn say(&mut self, message: &ClientMessage<'_>) {
        let message = self.encode(message);
        // If the feeder has closed the session, hear() tells why.
        let _ = self.put(message).await;
    }

    fn encode(&self, message: &ClientMessage<'_>) -> Message {
        match self.form {
            Form::Binary => {
                let mut bytes = Vec::new();
                binary::encode_client(message, &mut bytes);
                Message::binary(bytes)
            }
            Form::Json => Message::text(json::encode_client(message).unwrap()),
        }
    }

    /// Sends any WebSocket message.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn put(&mut self, message: Message) -> Result<(), Error> {
        ends("the feeder reads", SOON, self.socket.send(message)).await
    }

    /// Sends frames numbered from `first`.
    pub async fn frames(&mut self, first: u64, payloads: &[&[u8]]) {
        let data = encode_frames(first, payloads);
        self.say(&ClientMessage::Frames { first: Seq(first), data: &data }).await;
    }

    /// Declares a loss.
    pub async fn skip(&mut self, skip: Skip) {
        self.say(&ClientMessage::Skip(skip)).await;
    }

    /// What comes next.
    pub async fn hear(&mut self) -> Said {
        ends("the feeder says something", SOON * 2, self.next()).await
    }

    async fn next(&mut self) -> Said {
        loop {
            let message = match self.socket.next().await {
                None => return Said::Gone("end of the stream".into()),
                Some(Err(error)) => return Said::Gone(error.to_string()),
                Some(Ok(message)) => message,
            };
            return Said::Message(match (self.form, message) {
                (_, Message::Ping(_) | Message::Pong(_)) => continue,
                (_, Message::Close(None)) => return Said::Closed(1005, String::new()),
                (_, Message::Close(Some(frame))) => {
                    return Said::Closed(frame.code.into(), frame.reason.to_string());
                }
                (Form::Binary, Message::Binary(bytes)) => binary::decode_server(&bytes).unwrap(),
                (Form::Json, Message::Text(text)) => json::decode_server(&text).unwrap(),
                (form, message) => panic!("{message:?} came on a session that speaks {form:?}"),
            });
        }
    }

    /// Hears until everything up to `seq` is acknowledged.
    pub async fn acked(&mut self, seq: u64) {
        loop {
            match self.hear().await {
                Said::Message(ServerMessage::Ack(Seq(acked))) if acked == seq => return,
                Said::Message(ServerMessage::Ack(Seq(acked))) if acked < seq => {}
                other => panic!("an ack of {seq} was due: {other:?}"),
            }
        }
    }

    /// Hears until the feeder closes; gives the code, the reason, and the last ack before.
    pub async fn closed(&mut self) -> (u16, String, u64) {
        let mut last = 0;
        loop {
            match self.hear().await {
                Said::Message(ServerMessage::Ack(Seq(acked))) => last = acked,
                Said::Message(_) => {}
                Said::Closed(code, reason) => return (code, reason, last),
                Said::Gone(error) => panic!("the connection ended without a close frame: {error}"),
            }
        }
    }

    /// Ends the session as a good device does.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
        let rest = async { while self.socket.next().await.is_some_and(|message| message.is_ok()) {} };
        ends("the feeder answers the close", SOON, rest).await;
    }

    /// The socket.
    pub fn into_socket(self) -> WebSocketStream<TcpStream> {
        self.socket
    }
}

/// The ts of the frame with this number, in µs since 1970.
pub fn ts_of(seq: u64) -> u64 {
    1_700_000_000_000_000 + seq % 1_000_000_000
}

/// Frames of bytes on the channel `c`, as a message has them.
pub fn encode_frames(first: u64, payloads: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::new();
    for (seq, payload) in (first..).zip(payloads) {
        let frame = FrameRef { ts: ts_of(seq), channel: "c", content_type: ContentType::Bytes, payload };
        frame.encode(&mut data).unwrap();
    }
    data
}
