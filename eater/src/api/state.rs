//! What the API is given, and what it makes of it.

use std::sync::Arc;
use std::time::Duration;

use trough_protocol::DeviceId;
use trough_runtime::accept::LINGER;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::shutdown::Shutdown;
use trough_store::Registry;

use super::auth::Authenticator;
use super::commands::CommandDesk;
use super::fault::{RETRY_SLOW_AFTER, ReadFault};
use super::live::Directory;
use super::metrics::ApiMetrics;
use super::notices::NoticeDesk;
use super::reads::{ReadKind, Reads, on_thread};
use super::refusal::Refusal;
use crate::frames::AnyJournal;
use crate::live::Live;

/// What the API is given.
pub struct ApiState {
    /// Where frames are read from.
    pub journal: AnyJournal,
    /// What is committed, to be followed.
    pub live: Live,
    /// Who may read what.
    pub registry: Arc<dyn Registry>,
    /// What devices are asked to do.
    pub commands: CommandDesk,
    /// What readers want to be told of.
    pub notices: NoticeDesk,
    /// For request ids.
    pub clock: Clock,
    /// Answers `/healthz` and `/readyz`.
    pub health: Health,
    /// Registered by the caller, with [`ApiMetrics::register`].
    pub metrics: ApiMetrics,
}

/// What the API may cost. The default suits one machine.
#[derive(Debug, Clone)]
pub struct ApiLimits {
    /// Connections at a time; further ones are closed at once. 1024.
    pub connections_max: usize,
    /// A request's head must be complete after this; also how long an idle connection is kept. 10 s.
    pub head_timeout: Duration,
    /// A client that reads nothing for this long is cut. 60 s.
    pub write_timeout: Duration,
    /// Answers that stream at a time, each with one thread and about four chunks. 32.
    pub streams_max: usize,
    /// A stream of buckets passes over the frames of a device so often, and finds up to 20,000 each time; one that has
    /// more is broken off. 64.
    pub passes_max: usize,
    /// Pages being read or sent at a time. 64.
    pub pages_max: usize,
    /// Searches for encounters at a time, each with some tens of MiB. 2.
    pub searches_max: usize,
    /// Live streams at a time, each with a task and two chunks. 256.
    pub live_max: usize,
    /// A live stream is sent in chunks of about this size, in bytes, if there is so much. 64 KiB.
    pub live_chunk_bytes: usize,
    /// A live stream whose client takes nothing for so long, though something is there, is ended. 10 s.
    pub live_patience: Duration,
    /// A stream is sent in chunks of this size, in bytes; a frame is never divided. 128 KiB.
    pub chunk_bytes: usize,
    /// A page that has become this large ends early, in bytes. 4 MiB.
    pub page_bytes: usize,
    /// A page for which so much was read ends early, in bytes of the journal. 256 MiB.
    pub page_read_bytes: usize,
    /// A page must be read by then: it ends early, or is refused if it has not got anywhere. Streams go on as long as
    /// their clients read. 30 s.
    pub query_deadline: Duration,
    /// How long connections are still accepted when the process was told to stop. 5 s.
    pub linger: Duration,
    /// How long answers may still go on when the process was told to stop. 10 s.
    pub drain: Duration,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            streams_max: 32,
            passes_max: 64,
            pages_max: 64,
            searches_max: 2,
            live_max: 256,
            live_chunk_bytes: 64 * 1024,
            live_patience: Duration::from_secs(10),
            chunk_bytes: 128 * 1024,
            page_bytes: 4 * 1024 * 1024,
            page_read_bytes: 256 * 1024 * 1024,
            query_deadline: Duration::from_secs(30),
            linger: LINGER,
            drain: Duration::from_secs(10),
        }
    }
}

/// How much later than its deadline a query is given up from outside: by then it has noticed by itself, unless its storage
/// keeps it waiting.
const OVERTIME: Duration = Duration::from_secs(1);
/// Bodies of rules that are received at a time, each of up to 1 MiB.
const RULE_BODIES_MAX: usize = 16;

/// What handlers share.
pub(super) struct Api {
    pub journal: AnyJournal,
    pub live: Live,
    pub auth: Arc<Authenticator>,
    pub commands: CommandDesk,
    pub notices: NoticeDesk,
    pub directory: Arc<Directory>,
    pub clock: Clock,
    pub health: Health,
    pub metrics: ApiMetrics,
    pub limits: ApiLimits,
    pub streams: Reads,
    pub pages: Reads,
    /// Bodies of rules that are being received.
    pub rule_bodies: Reads,
    pub searches: Reads,
    pub live_streams: Reads,
    /// When to stop, and whether to be empty.
    pub shutdown: Shutdown,
}

impl Api {
    pub(super) fn new(state: ApiState, limits: ApiLimits, shutdown: Shutdown) -> Self {
        let ApiState { journal, live, registry, commands, notices, clock, health, metrics } = state;
        Self {
            journal,
            live,
            directory: Arc::new(Directory::new(registry.clone())),
            shutdown,
            live_streams: Reads::new(ReadKind::LiveStreams, limits.live_max, &metrics),
            auth: Arc::new(Authenticator::new(registry)),
            commands,
            notices,
            clock,
            health,
            streams: Reads::new(ReadKind::Streams, limits.streams_max, &metrics),
            pages: Reads::new(ReadKind::Pages, limits.pages_max, &metrics),
            rule_bodies: Reads::new(ReadKind::RuleBodies, RULE_BODIES_MAX, &metrics),
            searches: Reads::new(ReadKind::Searches, limits.searches_max, &metrics),
            metrics,
            limits,
        }
    }

    /// What an entity tag is made of. Asked before anything is read, so that no tag is newer than its answer.
    pub(super) async fn generation(&self, device: &DeviceId) -> Result<u64, Refusal> {
        self.journal.generation(device).await.map_err(|error| ReadFault::from(error).states_refusal())
    }
    /// Runs `work` on a thread that may block, in the span of the request, and waits for it: until its deadline. It should
    /// notice by itself, but the client is not kept waiting if it does not. It keeps its place until it ends.
    ///
    /// # Errors
    /// [`Refusal::Deadline`]; [`Refusal::Broken`] if it panicked.
    pub(super) async fn query<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let limit = self.limits.query_deadline + OVERTIME;
        match tokio::time::timeout(limit, on_thread(work)).await {
            Ok(done) => done,
            Err(_) => {
                tracing::warn!(limit_s = limit.as_secs_f64(), "a read hangs");
                Err(Refusal::Deadline { retry_after: RETRY_SLOW_AFTER })
            }
        }
    }
}
