//! What a feeder does when its eater misbehaves, which a real eater hardly can.
//!
//! 1. Frames are acknowledged when the eater says ATE, and not before.
//! 2. A link that dies with frames in flight: the device is told to rewind to the last ack + 1, what it sends
//!    before its echo is discarded, and what it sends again arrives on the next link.
//! 3. A refused batch: its session is closed with 4406, another session of the link is rewound and goes on.
//! 4. GOAWAY: what is in flight is still acknowledged, what follows goes over the next link.
//! 5. An eater that falls silent with frames in flight is left after 4 s.
//! 6. Raw frames in flight at a link's death are sent again by the feeder, with the same numbers.
//! 7. The feeder stops: what was received is acknowledged, then comes 1012 with a delay.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use trough_feeder::{Config, EaterAddress, Metrics, Parts};
use trough_protocol::batch::Batch;
use trough_protocol::device::{ClientMessage, Hello, ServerMessage, binary};
use trough_protocol::frame::FrameRef;
use trough_protocol::link::{self, LinkCode, LinkMessage};
use trough_protocol::{ContentType, DeviceId, Epoch, LinkId, Seq};
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::local::{self, Listener};
use trough_runtime::shutdown::Shutdown;
use trough_store::registry::{NewDevice, Registry};
use trough_store::sqlite::SqliteRegistry;

const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} did not come in time"))
}

struct Feeder {
    url: String,
    tokens: Vec<String>,
    eaters: Listener,
    shutdown: Shutdown,
    served: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Feeder {
    async fn start(devices: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = SqliteRegistry::open(&dir.path().join("registry.sqlite"), Clock::system()).unwrap();
        let registry: Arc<dyn Registry> = Arc::new(registry);
        let mut tokens = Vec::new();
        for index in 0..devices {
            let device = NewDevice::new(DeviceId::new(&format!("device-{index}")).unwrap());
            tokens.push(registry.add_device(device).await.unwrap().expose().to_owned());
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let (connector, eaters) = local::pair();
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let parts = Parts {
            registry,
            clock: Clock::system(),
            health: Health::new(),
            metrics: Metrics::default(),
            shutdown: shutdown.clone(),
        };
        // One shard, so that all sessions share one link.
        let config = Config {
            shards: 1,
            drain_linger: Duration::from_millis(50),
            drain_spread: Duration::from_millis(50),
            ..Config::default()
        };
        let served = tokio::spawn(async move {
            trough_feeder::run(listener, EaterAddress::Local(connector), parts, config).await.unwrap();
        });
        Self { url, tokens, eaters, shutdown, served, _dir: dir }
    }

    async fn eater(&mut self) -> Eater {
        let socket = soon("a link", self.eaters.accept()).await.unwrap().unwrap();
        let mut eater = Eater { socket, buffer: Vec::new(), answers_pings: true };
        eater.receive(|message| matches!(message, LinkMessage::Hello { .. }).then_some(())).await;
        let software = "test".to_owned();
        let (version, eater_id, credit) = (1, LinkId([7; 16]), 8 << 20);
        eater.send(&LinkMessage::Welcome { version, eater: eater_id, credit, software }).await;
        eater
    }

    async fn connect(&self, index: usize, path: &str) -> Device {
        // Until the link is up, sessions are refused with 503.
        let socket = soon("a session", async {
            loop {
                let mut request = format!("{}{path}", self.url).into_client_request().unwrap();
                let headers = request.headers_mut();
                headers.insert("authorization", format!("Bearer {}", self.tokens[index]).parse().unwrap());
                if path == "/v1/stream" {
                    headers.insert("sec-websocket-protocol", "trough.v1".parse().unwrap());
                }
                match tokio_tungstenite::connect_async(request).await {
                    Ok((socket, _)) => return socket,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        })
        .await;
        Device { socket }
    }

    async fn open(&self, eater: &mut Eater, index: usize) -> Device {
        let mut device = self.connect(index, "/v1/stream").await;
        device.send(&ClientMessage::Hello(Hello::NEW)).await;
        eater.answer_question().await;
        let ServerMessage::Welcome(welcome) = device.receive().await else { panic!("a welcome was due") };
        assert_eq!(welcome.resume, Seq::FIRST);
        device
    }
}

struct Device {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Device {
    async fn send(&mut self, message: &ClientMessage<'_>) {
        let mut bytes = Vec::new();
        binary::encode_client(message, &mut bytes);
        self.socket.send(Message::Binary(bytes.into())).await.unwrap();
    }

    async fn frame(&mut self, seq: u64) {
        let mut data = Vec::new();
        let payload = seq.to_string();
        let frame =
            FrameRef { ts: seq, channel: "c", content_type: ContentType::Text, payload: payload.as_bytes() };
        frame.encode(&mut data).unwrap();
        self.send(&ClientMessage::Frames { first: Seq(seq), data: &data }).await;
    }

    async fn message(&mut self) -> Message {
        soon("a message of the feeder", async {
            loop {
                match self.socket.next().await.expect("the feeder closed without a frame").unwrap() {
                    Message::Ping(_) | Message::Pong(_) => {}
                    message => return message,
                }
            }
        })
        .await
    }

    async fn receive(&mut self) -> ServerMessage {
        match self.message().await {
            Message::Binary(bytes) => binary::decode_server(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn close(&mut self) -> (u16, String) {
        match self.message().await {
            Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
            other => panic!("a close was due: {other:?}"),
        }
    }

    /// Nothing is said to the device until it pings and gets its pong.
    async fn hears_nothing(&mut self) {
        self.socket.send(Message::Ping("?".into())).await.unwrap();
        let next = soon("a pong", self.socket.next()).await.unwrap().unwrap();
        assert_eq!(next, Message::Pong("?".into()));
    }
}

struct Eater {
    socket: UnixStream,
    buffer: Vec<u8>,
    answers_pings: bool,
}

impl Eater {
    async fn send(&mut self, message: &LinkMessage<'_>) {
        let mut bytes = Vec::new();
        link::encode(message, &mut bytes);
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// The first message that `pick` takes.
    async fn receive<T>(&mut self, pick: impl Fn(&LinkMessage<'_>) -> Option<T>) -> T {
        soon("a message of the feeder", async {
            loop {
                if let Some(len) = link::message_len(&self.buffer).unwrap()
                    && self.buffer.len() >= len
                {
                    let bytes: Vec<u8> = self.buffer.drain(..len).collect();
                    let message = link::decode(&bytes).unwrap();
                    if let LinkMessage::Ping { nonce } = message
                        && self.answers_pings
                    {
                        self.send(&LinkMessage::Pong { nonce }).await;
                    }
                    match pick(&message) {
                        Some(found) => return found,
                        None => continue,
                    }
                }
                assert_ne!(
                    self.socket.read_buf(&mut self.buffer).await.unwrap(),
                    0,
                    "the feeder closed the link"
                );
            }
        })
        .await
    }

    /// The feeder asks whether the epoch it was granted is empty; it is.
    async fn answer_question(&mut self) {
        let asked = |message: &LinkMessage<'_>| match message {
            LinkMessage::Locate { query, .. } => Some(*query),
            _ => None,
        };
        let query = self.receive(asked).await;
        self.send(&LinkMessage::Head { query, seq: Seq::ZERO }).await;
    }

    /// The next batch: its number, and the runs as (device, epoch, first, last).
    async fn batch(&mut self) -> (u64, Vec<(String, Epoch, u64, u64)>) {
        self.receive(|message| {
            let LinkMessage::Feed { number, batch } = message else { return None };
            let batch = Batch::check(batch).unwrap();
            let runs = batch.runs().map(|run| (run.device.to_owned(), run.epoch, run.first.0, run.last().0));
            Some((*number, runs.collect()))
        })
        .await
    }
}

#[tokio::test]
async fn acks_come_after_ate_and_not_before() {
    let mut feeder = Feeder::start(1).await;
    let mut eater = feeder.eater().await;
    let mut device = feeder.open(&mut eater, 0).await;
    device.frame(1).await;
    device.frame(2).await;
    let (number, runs) = eater.batch().await;
    assert_eq!(runs[0].2, 1);
    device.hears_nothing().await;
    let last = runs[0].3;
    eater.send(&LinkMessage::Ate { number }).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(last)));
}

#[tokio::test]
async fn a_dead_link_rewinds_the_device_which_sends_again() {
    let mut feeder = Feeder::start(1).await;
    let mut eater = feeder.eater().await;
    let mut device = feeder.open(&mut eater, 0).await;
    device.frame(1).await;
    let (number, _) = eater.batch().await;
    eater.send(&LinkMessage::Ate { number }).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(1)));
    device.frame(2).await;
    eater.batch().await;
    drop(eater);
    assert_eq!(device.receive().await, ServerMessage::Rewind(Seq(2)));
    let mut eater = feeder.eater().await;
    device.frame(3).await;
    device.send(&ClientMessage::Rewind(Seq(2))).await;
    device.frame(2).await;
    let (number, runs) = eater.batch().await;
    assert_eq!(runs, [("device-0".to_owned(), Epoch(1), 2, 2)], "frame 3 came before the echo");
    eater.send(&LinkMessage::Ate { number }).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(2)));
}

#[tokio::test]
async fn a_refused_batch_closes_its_session_and_rewinds_the_others() {
    let mut feeder = Feeder::start(2).await;
    let mut eater = feeder.eater().await;
    let mut sick = feeder.open(&mut eater, 0).await;
    let mut well = feeder.open(&mut eater, 1).await;
    sick.frame(1).await;
    let (refused, runs) = eater.batch().await;
    assert_eq!(runs[0].0, "device-0");
    well.frame(1).await;
    eater.batch().await;
    let (code, text) = (LinkCode::DAMAGED, "no good".to_owned());
    eater.send(&LinkMessage::Reject { number: refused, code, text }).await;
    let (code, reason) = sick.close().await;
    assert_eq!(code, 4406);
    assert!(reason.contains("no good"), "{reason}");
    drop(eater);
    assert_eq!(well.receive().await, ServerMessage::Rewind(Seq(1)));
}

#[tokio::test]
async fn after_goaway_what_is_in_flight_is_acknowledged_and_the_rest_goes_elsewhere() {
    let mut feeder = Feeder::start(1).await;
    let mut old = feeder.eater().await;
    let mut device = feeder.open(&mut old, 0).await;
    device.frame(1).await;
    let (number, _) = old.batch().await;
    let text = "bye".to_owned();
    old.send(&LinkMessage::Goaway { code: LinkCode::DRAINING, retry_after_ms: 1, text }).await;
    device.hears_nothing().await;
    device.frame(2).await;
    old.send(&LinkMessage::Ate { number }).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(1)));
    let mut new = feeder.eater().await;
    let (number, runs) = new.batch().await;
    assert_eq!((runs[0].2, runs[0].3), (2, 2));
    new.send(&LinkMessage::Ate { number }).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(2)), "no rewind: nothing was lost");
}

#[tokio::test]
async fn a_silent_eater_is_left() {
    let mut feeder = Feeder::start(1).await;
    let mut silent = feeder.eater().await;
    silent.answers_pings = false;
    let mut device = feeder.open(&mut silent, 0).await;
    device.frame(1).await;
    silent.batch().await;
    silent.receive(|message| matches!(message, LinkMessage::Ping { .. }).then_some(())).await;
    assert_eq!(device.receive().await, ServerMessage::Rewind(Seq(1)));
    feeder.eater().await;
}

#[tokio::test]
async fn raw_frames_are_sent_again_by_the_feeder() {
    let mut feeder = Feeder::start(1).await;
    let mut eater = feeder.eater().await;
    let mut device = feeder.connect(0, "/v1/raw?channel=log").await;
    eater.answer_question().await;
    device.socket.send(Message::Text("one".into())).await.unwrap();
    let (_, first) = eater.batch().await;
    drop(eater);
    let mut eater = feeder.eater().await;
    let (number, again) = eater.batch().await;
    assert_eq!(first, again);
    device.socket.send(Message::Binary(vec![1].into())).await.unwrap();
    device.socket.close(None).await.unwrap();
    let (last, runs) = eater.batch().await;
    assert_eq!((runs[0].2, runs[0].3), (2, 2), "what came before the goodbye still goes");
    assert!(last > number);
}

#[tokio::test]
async fn a_feeder_that_stops_acknowledges_first() {
    let mut feeder = Feeder::start(1).await;
    let mut eater = feeder.eater().await;
    let mut device = feeder.open(&mut eater, 0).await;
    device.frame(1).await;
    let (number, _) = eater.batch().await;
    device.hears_nothing().await;
    feeder.shutdown.begin();
    eater.send(&LinkMessage::Ate { number }).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(1)));
    let (code, reason) = device.close().await;
    assert_eq!(code, 1012);
    assert!(reason.contains("retry_after_ms="), "{reason}");
    drop(device);
    soon("the end", feeder.served).await.unwrap();
}
