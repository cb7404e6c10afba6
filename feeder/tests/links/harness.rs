//! A feeder, and the test in the place of its devices and eaters.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use trough_feeder::{Config, Eaters, Metrics, Parts};
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

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `work`, and fails naming `what` if it does not come.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} did not come in time"))
}

/// A feeder with one shard, so that all sessions share its links.
pub struct Feeder {
    url: String,
    tokens: Vec<String>,
    local: Listener,
    pub metrics: Metrics,
    pub health: Health,
    pub shutdown: Shutdown,
    pub served: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Feeder {
    /// One whose eater is in this process.
    pub async fn start(devices: usize) -> Self {
        let (connector, local) = local::pair();
        Self::start_with(devices, local, Eaters::Local(connector), |_| ()).await
    }

    /// One with eaters elsewhere.
    pub async fn with_eaters(devices: usize, eaters: Eaters, adjust: impl FnOnce(&mut Config)) -> Self {
        Self::start_with(devices, local::pair().1, eaters, adjust).await
    }

    async fn start_with(
        devices: usize,
        local: Listener,
        eaters: Eaters,
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
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
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let (metrics, health) = (Metrics::default(), Health::new());
        let parts = Parts {
            registry,
            bus: None,
            commands: None,
            watched: None,
            clock: Clock::system(),
            health: health.clone(),
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
        };
        let mut config = Config {
            shards: 1,
            drain_linger: Duration::from_millis(50),
            drain_spread: Duration::from_millis(50),
            ..Config::default()
        };
        adjust(&mut config);
        let served = tokio::spawn(async move {
            trough_feeder::run(listener, eaters, parts, config).await.unwrap();
        });
        Self { url, tokens, local, metrics, health, shutdown, served, _dir: dir }
    }

    /// The next link to the eater in this process.
    pub async fn eater(&mut self) -> Eater {
        let socket = soon("a link", self.local.accept()).await.unwrap().unwrap();
        let mut eater = Eater::new(socket).await;
        eater.welcome(7, 8 << 20).await;
        eater
    }

    /// A connection of device `index`. Until a link is up, sessions are refused with 503.
    pub async fn connect(&self, index: usize, path: &str) -> Device {
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

    /// A session of device `index`, which belongs to `eater`.
    pub async fn open(&self, eater: &mut Eater, index: usize) -> Device {
        let mut device = self.connect(index, "/v1/stream").await;
        device.send(&ClientMessage::Hello(Hello::NEW)).await;
        eater.answer_question().await;
        let ServerMessage::Welcome(welcome) = device.receive().await else { panic!("a welcome was due") };
        assert_eq!(welcome.resume, Seq::FIRST);
        device
    }
}

/// A device, played by the test.
pub struct Device {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Device {
    pub async fn send(&mut self, message: &ClientMessage<'_>) {
        let mut bytes = Vec::new();
        binary::encode_client(message, &mut bytes);
        self.socket.send(Message::Binary(bytes.into())).await.unwrap();
    }

    pub async fn frame(&mut self, seq: u64) {
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

    pub async fn receive(&mut self) -> ServerMessage {
        match self.message().await {
            Message::Binary(bytes) => binary::decode_server(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub async fn close(&mut self) -> (u16, String) {
        match self.message().await {
            Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
            other => panic!("a close was due: {other:?}"),
        }
    }

    /// Nothing is said to the device until it pings and gets its pong.
    pub async fn hears_nothing(&mut self) {
        self.socket.send(Message::Ping("?".into())).await.unwrap();
        let next = soon("a pong", self.socket.next()).await.unwrap().unwrap();
        assert_eq!(next, Message::Pong("?".into()));
    }
}

/// One link of an eater, played by the test.
pub struct Eater {
    socket: Box<dyn Socket>,
    buffer: Vec<u8>,
    pub answers_pings: bool,
}

pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

impl Eater {
    /// A link whose hello has come.
    pub async fn new(socket: impl Socket + 'static) -> Self {
        let mut eater = Self { socket: Box::new(socket), buffer: Vec::new(), answers_pings: true };
        eater.receive(|message| matches!(message, LinkMessage::Hello { .. }).then_some(())).await;
        eater
    }

    /// The next link at `listener`.
    pub async fn accept(listener: &TcpListener) -> Self {
        let (socket, _) = soon("a link", listener.accept()).await.unwrap();
        Self::new(socket).await
    }

    pub async fn welcome(&mut self, id: u8, credit: u64) {
        let (version, eater, software) = (1, LinkId([id; 16]), "test".to_owned());
        self.send(&LinkMessage::Welcome { version, eater, credit, software }).await;
    }

    pub async fn send(&mut self, message: &LinkMessage<'_>) {
        let mut bytes = Vec::new();
        link::encode(message, &mut bytes);
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// The first message that `pick` takes.
    pub async fn receive<T>(&mut self, pick: impl Fn(&LinkMessage<'_>) -> Option<T>) -> T {
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
    pub async fn answer_question(&mut self) {
        let query = self.question().await;
        self.send(&LinkMessage::Head { query, seq: Seq::ZERO }).await;
    }

    /// The feeder's next question for a head.
    pub async fn question(&mut self) -> u32 {
        let asked = |message: &LinkMessage<'_>| match message {
            LinkMessage::Locate { query, .. } => Some(*query),
            _ => None,
        };
        self.receive(asked).await
    }

    /// The next batch: its number, and the runs as (device, epoch, first, last).
    pub async fn batch(&mut self) -> (u64, Vec<(String, Epoch, u64, u64)>) {
        self.receive(|message| {
            let LinkMessage::Feed { number, batch } = message else { return None };
            let batch = Batch::check(batch).unwrap();
            let runs = batch.runs().map(|run| (run.device.to_owned(), run.epoch, run.first.0, run.last().0));
            Some((*number, runs.collect()))
        })
        .await
    }

    pub async fn ate(&mut self, number: u64) {
        self.send(&LinkMessage::Ate { number }).await;
    }

    pub async fn goaway(&mut self, code: LinkCode) {
        self.send(&LinkMessage::Goaway { code, retry_after_ms: 1, text: "bye".to_owned() }).await;
    }

    /// No batch has been sent here so far: one would have come before the answer to a ping.
    pub async fn has_no_batch(&mut self) {
        let nonce = 4711;
        self.send(&LinkMessage::Ping { nonce }).await;
        let batch = self
            .receive(|message| match message {
                LinkMessage::Pong { nonce: 4711 } => Some(false),
                LinkMessage::Feed { .. } => Some(true),
                _ => None,
            })
            .await;
        assert!(!batch, "a batch came");
    }

    /// The feeder says why it ends the link, and closes it.
    pub async fn farewell(&mut self) -> LinkCode {
        let code = self
            .receive(|message| match message {
                LinkMessage::Goaway { code, .. } => Some(*code),
                LinkMessage::Feed { .. } => panic!("a batch came"),
                _ => None,
            })
            .await;
        let read = soon("the end of the link", self.socket.read_buf(&mut self.buffer)).await.unwrap();
        assert_eq!(read, 0);
        code
    }
}
