//! The eater: makes batches durable, acknowledges them, and serves what is durable to readers.
//!
//! [`ingest`] takes batches from links, a journal makes them durable and finds them again, [`api`] answers readers.
//! The three know of each other only what [`frames`] says. [`journal`] is the local one,
//! [`objects`] the one that many eaters share. [`doorbell`] tells those who wait for new frames, and [`segments`] is the
//! form in which history is kept: [`compaction`] makes them, [`history`] reads them and the journal as one.
//! [`fsck`] checks what is stored, and [`export`] copies it out. [`live`] follows what is committed, and [`watch`] asks
//! rules about it.

pub mod api;
pub mod compaction;
mod directory;
pub mod doorbell;
pub mod encounters;
pub mod export;
pub mod frames;
pub mod fsck;
pub mod history;
pub mod ingest;
pub mod journal;
mod json;
pub mod live;
pub mod metrics;
pub mod objects;
pub mod segments;
mod storage;
pub mod watch;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use trough_bus::Deployment;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::random::link_id;
use trough_runtime::shutdown::Shutdown;
use trough_runtime::tls::ServerTls;
use trough_runtime::trace::Tracer;
use trough_store::{Outbox, Registry, Subscriptions};

use api::{ApiLimits, ApiState};
pub use api::{CommandDesk, NoticeDesk};
use doorbell::{Doorbell, Others};
pub use ingest::{LinkListener, LinkSecurity};
use journal::JournalError;
pub use metrics::Metrics;
pub use storage::{HistoryStorage, Storage};
use watch::WatchParts;

/// How long an end waits for what watches rules.
const WATCH_END: Duration = Duration::from_secs(3);
/// How long an end waits for compaction.
const COMPACTION_END: Duration = Duration::from_secs(2);

/// With a journal on this machine.
pub const LOCAL_BUDGET_BYTES: u64 = 256 * 1024 * 1024;
/// With an object store, which may be away for minutes, and all of this is in memory then: so much that the whole
/// process stays below 256 MiB, with what is kept for readers.
pub const OBJECTS_BUDGET_BYTES: u64 = 96 * 1024 * 1024;

/// How an eater is set up.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Bytes of batches that all feeders together may have on their way; without it what suits the storage,
    /// [`Storage::budget_bytes`].
    pub budget_bytes: Option<u64>,
    /// Limits of the reader API.
    pub api: ApiLimits,
    /// TLS for readers; without it the port speaks plain HTTP.
    pub tls: Option<ServerTls>,
    /// What links from other processes are secured with.
    pub links: LinkSecurity,
    /// Where traces of runs go.
    pub tracer: Tracer,
}

/// What an eater stands on; made by its caller.
pub struct Parts {
    /// Who may read.
    pub registry: Arc<dyn Registry>,
    /// Where eaters tell each other, and whoever else listens, that there are new frames.
    pub bus: Option<Deployment>,
    /// What rules there are, and where events go; without it no rules are watched.
    pub watch: Option<WatchStores>,
    /// What devices are asked to do.
    pub commands: CommandDesk,
    /// What readers want to be told of, and what they were told.
    pub notices: NoticeDesk,
    /// Where frames are kept.
    pub storage: Storage,
    /// The time.
    pub clock: Clock,
    /// What `/readyz` says; set ready by `run`.
    pub health: Health,
    /// Counters, registered already.
    pub metrics: Metrics,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// What watching rules needs.
#[derive(Clone)]
pub struct WatchStores {
    /// What rules there are.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// Where events go.
    pub outbox: Arc<dyn Outbox>,
}

/// An eater cannot start, or could not store what it had received.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The journal cannot be opened or closed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The system refuses a thread or a socket.
    #[error("cannot serve: {0}")]
    Io(#[from] io::Error),
    /// A thread has panicked; the log has it.
    #[error("the {0} thread has panicked")]
    Panicked(&'static str),
}

/// Opens the journal, then serves links and readers until `parts.shutdown` begins: feeders are told to go away,
/// what they sent is committed and acknowledged, the journal is closed with its marker.
///
/// # Errors
/// [`RunError`].
pub async fn run(
    links: LinkListener,
    api: TcpListener,
    parts: Parts,
    config: Config,
) -> Result<(), RunError> {
    let Parts { registry, bus, commands, notices, watch, storage, clock, health, metrics, shutdown } = parts;
    let others = match &storage {
        Storage::Local { .. } => Others::None(bus.clone()),
        Storage::Objects { .. } => Others::Eaters(bus.clone()),
    };
    let budget_bytes = config.budget_bytes.unwrap_or_else(|| storage.budget_bytes());
    let doorbell = Doorbell::start(others, shutdown.killed.clone());
    let outbox = watch.as_ref().map(|watch| watch.outbox.clone());
    let opened =
        storage::open(storage, doorbell, (registry.clone(), outbox), &clock, &health, &metrics, &shutdown)
            .await?;
    let (journal, live) = (opened.journal, opened.live);
    let compaction = storage::start_compaction(opened.compactor)?;
    let watching = watch.map(|WatchStores { subscriptions, outbox }| {
        let (registry, live, journal) = (registry.clone(), live.clone(), journal.clone());
        let (clock, metrics, tracer) = (clock.clone(), metrics.watch, config.tracer.clone());
        let parts =
            WatchParts { registry, subscriptions, outbox, live, journal, bus, clock, metrics, tracer };
        watch::start(parts, shutdown.draining.clone())
    });

    let ingest = ingest::Parts {
        journal: journal.clone(),
        budget_bytes,
        metrics: metrics.ingest,
        shutdown: shutdown.clone(),
        security: config.links,
        tracer: config.tracer.clone(),
    };
    let ingest = start_ingest(links, ingest)?;
    let (health_of_api, metrics) = (health.clone(), metrics.api);
    let state = ApiState {
        journal: journal.clone(),
        live,
        registry,
        commands,
        notices,
        clock,
        health: health_of_api,
        metrics,
    };
    let readers = tokio::spawn(api::serve(api, config.tls, state, config.api, shutdown.clone()));
    health.set_ready();
    let failed = tokio::select! {
        () = shutdown.draining.cancelled() => None,
        error = journal.failed() => Some(error),
    };
    health.set_draining();
    if let Some(error) = failed {
        // Nothing can be acknowledged any more, so there is nothing to wait for.
        shutdown.begin();
        shutdown.killed.cancel();
        return Err(error.into());
    }

    let ingest = ingest.await.map_err(|_| RunError::Panicked("ingest"))?;
    let readers = readers.await.map_err(|_| RunError::Panicked("api"))?;
    if let Some(watching) = watching {
        // What it has not stored is found again after the next start.
        let _ = tokio::time::timeout(WATCH_END, watching).await;
    }
    // It stops at the next device; should its store not answer, it is left behind, which does no harm.
    let _ = tokio::time::timeout(COMPACTION_END, compaction).await;
    journal.close().await?;
    ingest?;
    readers?;
    Ok(())
}

fn start_ingest(
    links: LinkListener,
    parts: ingest::Parts,
) -> io::Result<tokio::sync::oneshot::Receiver<io::Result<()>>> {
    // Here and not in its thread: whoever finds the eater ready finds the gauge set.
    parts.metrics.budget_bytes.set(parts.budget_bytes as i64);
    let (sender, done) = tokio::sync::oneshot::channel();
    let eater = link_id();
    std::thread::Builder::new().name("eater-ingest".into()).spawn(move || {
        // The receiver is gone only if the eater's own future was dropped.
        let _ = sender.send(ingest::run(links, eater, parts));
    })?;
    Ok(done)
}
