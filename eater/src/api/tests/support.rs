//! A running API, and what fills it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use prometheus_client::registry::Registry as Metrics;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use trough_protocol::batch::{Batch, BatchBuilder};
use trough_protocol::frame::{FrameRef, check_frames};
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_protocol::link::LinkCode;
use trough_protocol::{ContentType, DeviceId, Epoch, Micros, Seq};
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::shutdown::Shutdown;
use trough_store::sqlite::{SqliteCatalog, SqliteOutbox, SqliteRegistry};
use trough_store::webhook::Reach;
use trough_store::{Group, GroupAccess, NewDevice, NewReader, ReaderName, Registry, Scope, SealKey};

use super::client::{Ask, Reply};
use crate::api::fault::ReadFault;
use crate::api::walk::Step;
use crate::api::{ApiLimits, ApiMetrics, ApiState, CommandDesk, NoticeDesk, serve};
use crate::doorbell::{Doorbell, Others};
use crate::journal::{
    Chunk, CommitSink, Journal, JournalConfig, JournalMetrics, JournalParts, ReadError, Submission, local,
};
use crate::live::{Live, Source};

/// When the tests' clock starts: 2023-11-14T22:13:20Z.
pub(super) const NOW: Micros = 1_700_000_000_000_000;
/// The first frame's time stamp: 2017-03-21T05:00:02Z.
pub(super) const TS: Micros = 1_490_072_402_000_000;
/// However slow the machine is: longer than anything takes that works.
pub(super) const SOON: Duration = Duration::from_secs(30);

pub(super) struct Server {
    pub address: SocketAddr,
    pub journal: Journal,
    pub registry: Arc<SqliteRegistry>,
    pub outbox: Arc<SqliteOutbox>,
    pub clock: Clock,
    pub health: Health,
    pub metrics: ApiMetrics,
    pub shutdown: Shutdown,
    pub served: tokio::task::JoinHandle<()>,
    commits: Commits,
    dir: TempDir,
}

/// Tells how far the journal is.
struct Commits {
    sink: Arc<Sink>,
    last: u64,
}

struct Sink(watch::Sender<u64>);

impl CommitSink for Sink {
    fn committed(&self, number: u64) {
        self.0.send_replace(number);
    }

    fn rejected(&self, number: u64, code: LinkCode, text: &str) {
        panic!("batch {number} was rejected with {code:?}: {text}");
    }
}

pub(in crate::api) fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

pub(super) fn groups(names: &[&str]) -> BTreeSet<Group> {
    names.iter().map(|name| Group::new(name).unwrap()).collect()
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::with(ApiLimits::default()).await
    }

    pub(super) async fn with(limits: ApiLimits) -> Self {
        Self::with_files_of(None, limits).await
    }

    /// The same whose journal goes on in a new file when one has so many bytes.
    pub(super) async fn with_files_of(roll_bytes: Option<u64>, limits: ApiLimits) -> Self {
        Self::made(roll_bytes, limits, Some(SealKey::new(&[7; 32])), |journal| Arc::new(journal)).await
    }

    /// The same whose live streams follow something else than its journal.
    pub(super) async fn following(source: impl FnOnce(Journal) -> Arc<dyn Source>) -> Self {
        Self::made(None, ApiLimits::default(), None, source).await
    }

    /// The same that cannot keep secrets.
    pub(super) async fn without_seal_key() -> Self {
        Self::made(None, ApiLimits::default(), None, |journal| Arc::new(journal)).await
    }

    async fn made(
        roll_bytes: Option<u64>,
        limits: ApiLimits,
        seal: Option<SealKey>,
        source: impl FnOnce(Journal) -> Arc<dyn Source>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, health) = (Clock::manual(NOW), Health::new());
        let registry = SqliteRegistry::open(&dir.path().join("registry.sqlite"), clock.clone()).unwrap();
        let registry = Arc::new(registry);
        let outbox = SqliteOutbox::open(&dir.path().join("outbox.sqlite"), clock.clone()).unwrap();
        let outbox = Arc::new(outbox);
        let mut all = Metrics::default();
        let shutdown = Shutdown::new(Duration::from_secs(20));
        let doorbell = Doorbell::start(Others::None(None), shutdown.killed.clone());
        let parts = JournalParts {
            clock: clock.clone(),
            catalog: Arc::new(SqliteCatalog::open(&dir.path().join("catalog.sqlite")).unwrap()),
            health: health.clone(),
            metrics: JournalMetrics::register(&mut all),
            doorbell: Some(doorbell.clone()),
        };
        let mut config = JournalConfig::new(dir.path().join("journal"));
        config.roll_bytes = roll_bytes.unwrap_or(config.roll_bytes);
        let opening = tokio::task::spawn_blocking(|| Journal::open(config, parts));
        let (journal, _) = opening.await.unwrap().unwrap();
        let metrics = ApiMetrics::register(&mut all);
        let state = ApiState {
            journal: Arc::new(journal.clone()),
            live: Live::start(source(journal.clone()), doorbell, shutdown.killed.clone()),
            registry: registry.clone(),
            commands: CommandDesk { store: registry.clone(), bus: None },
            notices: NoticeDesk {
                subscriptions: registry.clone(),
                outbox: outbox.clone(),
                seal,
                reach: Reach::default(),
                bus: None,
            },
            clock: clock.clone(),
            health: health.clone(),
            metrics: metrics.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = shutdown.clone();
        let served = tokio::spawn(async move { serve(listener, None, state, limits, stop).await.unwrap() });
        let commits = Commits { sink: Arc::new(Sink(watch::Sender::new(0))), last: 0 };
        Self { address, journal, registry, outbox, clock, health, metrics, shutdown, served, commits, dir }
    }

    pub(super) fn registry_file(&self) -> PathBuf {
        self.dir.path().join("registry.sqlite")
    }

    pub(super) fn journal_dir(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    pub(super) async fn add_device(&self, name: &str, names: &[&str]) {
        let mut new = NewDevice::new(device(name));
        new.groups = groups(names);
        self.registry.add_device(new).await.unwrap();
    }

    /// A reader's token. No group stands for all.
    pub(super) async fn add_reader(&self, name: &str, scopes: &[Scope], names: &[&str]) -> String {
        let access = if names.is_empty() { GroupAccess::All } else { GroupAccess::Only(groups(names)) };
        let reader = NewReader {
            name: ReaderName::new(name).unwrap(),
            scopes: scopes.iter().copied().collect(),
            groups: access,
        };
        self.registry.add_reader(reader).await.unwrap().expose().to_owned()
    }

    /// The token of a reader who may read everything.
    pub(super) async fn reader(&self) -> String {
        self.add_reader("all", &Scope::ALL, &[]).await
    }

    /// A device and a reader who sees it.
    pub(super) async fn device_and_reader(&self, name: &str) -> String {
        self.add_device(name, &[]).await;
        self.reader().await
    }

    pub(super) fn get(&self, target: &str) -> Ask {
        Ask::new(self.address, Method::GET, target)
    }

    pub(super) fn ask(&self, method: Method, target: &str) -> Ask {
        Ask::new(self.address, method, target)
    }

    /// Asks to change something, with a body.
    pub(super) async fn change(&self, method: Method, target: &str, token: &str, body: Value) -> Reply {
        let ask = self.ask(method, target).token(token).header("content-type", "application/json");
        ask.body(body.to_string()).send().await
    }

    /// Makes a subscription for pushes; its id.
    pub(super) async fn subscribe(&self, token: &str) -> String {
        let made = self.change(Method::POST, "/v1/subscriptions", token, json!({"push": true})).await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["id"].as_str().unwrap().to_owned()
    }

    /// Registers a phone, of which `number` makes the token; its id.
    pub(super) async fn register(&self, token: &str, number: u8) -> String {
        let body = json!({"token": format!("{number:02x}"), "app": "com.example.app"});
        let made = self.change(Method::POST, "/v1/push-tokens", token, body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["id"].as_str().unwrap().to_owned()
    }

    /// Has a subscription tested; the delivery.
    pub(super) async fn test(&self, token: &str, subscription: &str) -> String {
        let target = format!("/v1/subscriptions/{subscription}/test");
        let made = self.ask(Method::POST, &target).token(token).send().await;
        assert_eq!(made.status, 200, "{}", made.text());
        made.json()["deliveries"][0].as_str().unwrap().to_owned()
    }

    /// Stores frames, numbered from `first`, and waits until they are durable.
    pub(super) async fn write(&mut self, name: &str, epoch: u64, first: u64, frames: &[FrameRef<'_>]) {
        self.write_batch(|batch| {
            let mut data = Vec::new();
            frames.iter().for_each(|frame| frame.encode(&mut data).unwrap());
            let summary = check_frames(&data, FRAME_BYTES_MAX).unwrap();
            batch.push_frames(&device(name), Epoch(epoch), Seq(first), summary, &data);
        })
        .await;
    }

    pub(super) async fn skip(&mut self, name: &str, epoch: u64, first: u64, count: u64, reason: u8) {
        self.write_batch(|batch| batch.push_skip(&device(name), Epoch(epoch), Seq(first), count, reason))
            .await;
    }

    pub(super) async fn write_batch(&mut self, fill: impl FnOnce(&mut BatchBuilder)) {
        let mut batch = BatchBuilder::new();
        fill(&mut batch);
        let (head, data) = batch.finish();
        let bytes = [head, data].concat();
        Batch::check(&bytes).unwrap();
        self.commits.last += 1;
        let number = self.commits.last;
        let sink = self.commits.sink.clone();
        self.journal.submit(Submission { batch: bytes.into(), number, sink }).unwrap();
        let mut committed = self.commits.sink.0.subscribe();
        let durable = committed.wait_for(|last| *last >= number);
        tokio::time::timeout(SOON, durable).await.expect("a commit in time").unwrap();
    }

    /// Stores `count` text frames `n…` on channel `c`, one second apart; the first is number `first`.
    pub(super) async fn write_texts(&mut self, name: &str, epoch: u64, first: u64, count: u64) {
        let texts: Vec<String> = (first..first + count).map(|n| format!("n{n}")).collect();
        let frames: Vec<FrameRef<'_>> =
            (first..).zip(&texts).map(|(n, text)| text_frame(TS + (n - 1) * 1_000_000, "c", text)).collect();
        self.write(name, epoch, first, &frames).await;
    }
}

pub(super) fn text_frame<'a>(ts: Micros, channel: &'a str, text: &'a str) -> FrameRef<'a> {
    FrameRef { ts, channel, content_type: ContentType::Text, payload: text.as_bytes() }
}

/// Waits until `done` says so.
pub(super) async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The log lines of this test, as they are written, until the guards are dropped.
pub(super) fn capture_logs()
-> ((tracing::subscriber::DefaultGuard, tracing::Dispatch), mpsc::Receiver<String>) {
    struct Lines(mpsc::Sender<String>);
    impl std::io::Write for &Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.try_send(String::from_utf8_lossy(bytes).into_owned()).unwrap();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (sender, lines) = mpsc::channel(10_000);
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(Arc::new(Lines(sender)))
        .finish();
    // With one subscriber alone, tracing asks that of the thread which comes to a log line first whether anybody
    // wants it, once and for all; and that thread may be another test's, which has none.
    let second = tracing::Dispatch::new(tracing_subscriber::registry());
    ((tracing::subscriber::set_default(subscriber), second), lines)
}

/// A chunk of `count` short frames.
pub(in crate::api) fn chunk(epoch: u64, first: u64, count: u64, channel: &str) -> Chunk {
    let mut bytes = Vec::new();
    for n in first..first + count {
        text_frame(TS + n, channel, "x").encode(&mut bytes).unwrap();
    }
    Chunk {
        epoch: Epoch(epoch),
        first: Seq(first),
        count,
        received_at: NOW,
        source: local(1),
        bytes: bytes.into(),
    }
}

/// What a walk gives of one device.
pub(in crate::api) fn steps(
    name: &str,
    chunks: Vec<Result<Chunk, ReadError>>,
) -> impl Iterator<Item = Result<Step, ReadFault>> + use<> {
    let chunks = chunks.into_iter().map(|chunk| chunk.map(Step::Chunk).map_err(ReadFault::from));
    std::iter::once(Ok(Step::Device(device(name)))).chain(chunks).chain([Ok(Step::End)])
}

/// Frames of epoch 1 that cannot be read.
pub(in crate::api) fn damaged(first: u64, last: u64) -> ReadError {
    ReadError::Damaged { file: "f".into(), offset: 7, epoch: Epoch(1), first: Seq(first), last: Seq(last) }
}
