//! A feeder that does what a test tells it, over memory instead of a network, so that time can be paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use trough_device::{Config, ContentType, Dialer, Epoch, Frame, Mode, Seq};
use trough_protocol::device::{
    ClientMessage, CommandId, CommandResult, CommandStatus, Hello, ServerMessage, Skip, Welcome, binary, json,
};
use trough_protocol::frame::frames;

/// Longer than anything a device waits for; in paused time it costs nothing.
const NEVER: Duration = Duration::from_secs(24 * 3600);
const PIPE_BYTES: usize = 256 * 1024;

pub const WINDOW_BYTES: u32 = 64 * 1024;
pub const FRAME_BYTES: u32 = 4096;
pub const MESSAGE_BYTES: u32 = 8192;

/// Where devices connect to.
pub struct Feeder {
    connections: mpsc::Receiver<DuplexStream>,
    failing: Arc<AtomicU32>,
}

/// What a device said.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    Hello(Hello),
    Frames(u64, Vec<String>),
    Skip(Skip),
    Rewind(u64),
    /// Which command, how it went, and what was said.
    Result(CommandId, CommandStatus, String),
    Close(u16, String),
    /// The connection ended.
    Gone,
}

/// One connection that became a WebSocket.
pub struct Session {
    websocket: WebSocketStream<DuplexStream>,
    json: bool,
    /// `Authorization`, `User-Agent` and the path.
    pub authorization: String,
    pub user_agent: String,
    pub path: String,
}

/// A feeder and the configuration of a device that connects to it.
pub fn feeder() -> (Feeder, Config) {
    let (sender, connections) = mpsc::channel(16);
    let failing = Arc::new(AtomicU32::new(0));
    let fail = failing.clone();
    let mut config = Config::new("ws://feeder.test", "secret-token");
    config.seed = Some(1);
    config.dialer = Some(Dialer::new(move || {
        let (sender, fail) = (sender.clone(), fail.clone());
        async move {
            let failing = fail.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if failing.is_ok() {
                return Err(std::io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = tokio::io::duplex(PIPE_BYTES);
            sender.send(far).await.map_err(std::io::Error::other)?;
            Ok(Box::new(near) as Box<dyn trough_device::Stream>)
        }
    }));
    (Feeder { connections, failing }, config)
}

impl Feeder {
    /// The next so many connections cannot be made.
    pub fn fail(&self, connections: u32) {
        self.failing.store(connections, Ordering::SeqCst);
    }

    /// Whether the next so many connections have been tried.
    pub fn failures_left(&self) -> u32 {
        self.failing.load(Ordering::SeqCst)
    }

    /// The next connection, as bytes.
    pub async fn connection(&mut self) -> DuplexStream {
        let connection = timeout(NEVER, self.connections.recv()).await;
        connection.expect("a device connects").expect("a device lives")
    }

    /// Whether nobody connects for so long.
    pub async fn silent_for(&mut self, time: Duration) -> bool {
        timeout(time, self.connections.recv()).await.is_err()
    }

    /// The next connection, upgraded.
    #[allow(clippy::result_large_err, reason = "tungstenite's callback is what it is")]
    pub async fn accept(&mut self) -> Session {
        let connection = self.connection().await;
        let mut seen = Vec::new();
        let callback = |request: &Request, mut response: Response| {
            let header =
                |name| request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
            seen = vec![
                header("sec-websocket-protocol"),
                header("authorization"),
                header("user-agent"),
                request.uri().path().to_owned(),
            ];
            response.headers_mut().insert("sec-websocket-protocol", seen[0].parse().unwrap());
            Ok(response)
        };
        let websocket = tokio_tungstenite::accept_hdr_async(connection, callback).await.unwrap();
        let [subprotocol, authorization, user_agent, path] = seen.try_into().unwrap();
        let json = match &*subprotocol {
            "trough.v1" => false,
            "trough.v1.json" => true,
            other => panic!("subprotocol {other}"),
        };
        Session { websocket, json, authorization, user_agent, path }
    }

    /// The next connection, welcomed.
    pub async fn welcome(&mut self, epoch: u64, resume: u64) -> (Session, Hello) {
        let mut session = self.accept().await;
        let hello = session.hello().await;
        session.welcome(epoch, resume).await;
        (session, hello)
    }

    /// Answers the next connection's request with these bytes, and hangs up.
    pub async fn answer(&mut self, answer: &str) {
        let mut connection = self.connection().await;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            connection.read_buf(&mut request).await.unwrap();
        }
        connection.write_all(answer.as_bytes()).await.unwrap();
    }
}

impl Session {
    pub async fn hello(&mut self) -> Hello {
        match self.said().await {
            Said::Hello(hello) => hello,
            other => panic!("{other:?} instead of a hello"),
        }
    }

    pub async fn welcome(&mut self, epoch: u64, resume: u64) {
        self.say(ServerMessage::Welcome(Welcome {
            epoch: Epoch(epoch),
            resume: Seq(resume),
            time: 1_490_072_402_000_000,
            window_bytes: WINDOW_BYTES,
            frame_bytes_max: FRAME_BYTES,
            message_bytes_max: MESSAGE_BYTES,
            session: [7; 16],
        }))
        .await;
    }

    pub async fn ack(&mut self, seq: u64) {
        self.say(ServerMessage::Ack(Seq(seq))).await;
    }

    pub async fn rewind(&mut self, seq: u64) {
        self.say(ServerMessage::Rewind(Seq(seq))).await;
    }

    pub async fn say(&mut self, message: ServerMessage) {
        let message = if self.json {
            Message::text(json::encode_server(&message))
        } else {
            let mut bytes = Vec::new();
            binary::encode_server(&message, &mut bytes);
            Message::binary(bytes)
        };
        self.send(message).await;
    }

    pub async fn send(&mut self, message: Message) {
        self.websocket.send(message).await.unwrap();
    }

    /// Closes, and waits until the device has gone.
    pub async fn close(mut self, code: u16, reason: &str) {
        self.send(Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }))).await;
        while !matches!(self.said().await, Said::Gone) {}
    }

    /// The next message of the protocol; pings are answered and passed over.
    pub async fn said(&mut self) -> Said {
        loop {
            let message = timeout(NEVER, self.websocket.next()).await.expect("the device says something");
            match message {
                Some(Ok(Message::Binary(bytes))) => {
                    assert!(!self.json, "a binary message in JSON mode");
                    assert!(bytes.len() <= MESSAGE_BYTES as usize, "{} bytes", bytes.len());
                    return said(binary::decode_client(&bytes).unwrap());
                }
                Some(Ok(Message::Text(text))) => {
                    assert!(self.json, "a text message in binary mode");
                    assert!(text.len() <= MESSAGE_BYTES as usize, "{} bytes", text.len());
                    return said(json::decode_client(&text, &mut Vec::new(), FRAME_BYTES as usize).unwrap());
                }
                Some(Ok(Message::Close(frame))) => {
                    let frame = frame.expect("a close with a code");
                    return Said::Close(frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Said::Gone,
            }
        }
    }

    /// The next frames, however they are cut into messages.
    pub async fn frames(&mut self, count: usize) -> (u64, Vec<String>) {
        let (mut start, mut all) = (0, Vec::new());
        while all.len() < count {
            match self.said().await {
                Said::Frames(first, payloads) => {
                    if all.is_empty() {
                        start = first;
                    }
                    assert_eq!(first, start + all.len() as u64, "the number that is due");
                    all.extend(payloads);
                }
                other => panic!("{other:?} instead of frames"),
            }
        }
        assert_eq!(all.len(), count, "{all:?}");
        (start, all)
    }

    /// Whether the device says nothing for so long.
    pub async fn silent_for(&mut self, time: Duration) -> bool {
        timeout(time, self.said()).await.is_err()
    }
}

fn said(message: ClientMessage<'_>) -> Said {
    match message {
        ClientMessage::Hello(hello) => Said::Hello(hello),
        ClientMessage::Skip(skip) => Said::Skip(skip),
        ClientMessage::Rewind(seq) => Said::Rewind(seq.0),
        ClientMessage::CommandResult(CommandResult { id, status, payload, .. }) => {
            Said::Result(id, status, String::from_utf8(payload.to_vec()).unwrap())
        }
        ClientMessage::Frames { first, data } => {
            let payload = |frame: Frame<'_>| String::from_utf8(frame.payload.to_vec()).unwrap();
            Said::Frames(first.0, frames(data).map(|frame| payload(frame.unwrap())).collect())
        }
    }
}

/// A frame with this text.
pub fn frame(text: &str) -> Frame<'_> {
    Frame {
        ts: 1_490_072_402_000_000,
        channel: "test",
        content_type: ContentType::Text,
        payload: text.as_bytes(),
    }
}

/// How long something takes.
pub async fn elapsed(future: impl Future) -> Duration {
    let start = Instant::now();
    future.await;
    start.elapsed()
}

/// Both forms of the protocol.
pub const MODES: [Mode; 2] = [Mode::Binary, Mode::Json];
