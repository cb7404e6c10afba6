//! The eater: makes batches durable, acknowledges them, and serves what is durable to readers.
//!
//! [`ingest`] takes batches from links, [`journal`] makes them durable and finds them again, [`api`] answers
//! readers. The three know of each other only what the journal's interface says.

pub mod api;
pub mod ingest;
pub mod journal;
pub mod metrics;

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::random::link_id;
use trough_runtime::shutdown::Shutdown;
use trough_runtime::tls::ServerTls;
use trough_store::{Catalog, Registry};

use api::{ApiLimits, ApiState};
pub use ingest::{LinkListener, LinkSecurity};
use journal::{Journal, JournalConfig, JournalError, JournalParts};
pub use metrics::Metrics;

/// How an eater is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The journal.
    pub journal: JournalConfig,
    /// Bytes of batches that all feeders together may have on their way: what ingest needs of memory at most.
    pub budget_bytes: u64,
    /// Limits of the reader API.
    pub api: ApiLimits,
    /// TLS for readers; without it the port speaks plain HTTP.
    pub tls: Option<ServerTls>,
    /// What links from other processes are secured with.
    pub links: LinkSecurity,
}

impl Config {
    /// The defaults, with a journal in `dir`.
    pub fn new(dir: impl Into<std::path::PathBuf>) -> Self {
        Self {
            journal: JournalConfig::new(dir),
            budget_bytes: 256 * 1024 * 1024,
            api: ApiLimits::default(),
            tls: None,
            links: LinkSecurity::default(),
        }
    }
}

/// What an eater stands on; made by its caller.
pub struct Parts {
    /// Who may read.
    pub registry: Arc<dyn Registry>,
    /// What the journal holds.
    pub catalog: Arc<dyn Catalog>,
    /// The time.
    pub clock: Clock,
    /// What `/readyz` says; set ready by `run`.
    pub health: Health,
    /// Counters, registered already.
    pub metrics: Metrics,
    /// When to stop.
    pub shutdown: Shutdown,
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
    let Parts { registry, catalog, clock, health, metrics, shutdown } = parts;
    let journal_parts =
        JournalParts { clock: clock.clone(), catalog, health: health.clone(), metrics: metrics.journal };
    let opening = tokio::task::spawn_blocking(move || Journal::open(config.journal, journal_parts));
    let (journal, report) = opening.await.map_err(|_| RunError::Panicked("journal"))??;
    tracing::info!(
        files = report.files,
        files_scanned = report.files_scanned,
        bytes_scanned = report.bytes_scanned,
        bytes_cut = report.bytes_cut,
        catalog_rebuilt = report.catalog_rebuilt,
        "journal open"
    );

    let ingest =
        start_ingest((links, config.links), journal.clone(), config.budget_bytes, metrics.ingest, &shutdown)?;
    let state =
        ApiState { journal: journal.clone(), registry, clock, health: health.clone(), metrics: metrics.api };
    let readers = tokio::spawn(api::serve(api, config.tls, state, config.api, shutdown.clone()));
    health.set_ready();
    shutdown.draining.cancelled().await;
    health.set_draining();

    let ingest = ingest.await.map_err(|_| RunError::Panicked("ingest"))?;
    let readers = readers.await.map_err(|_| RunError::Panicked("api"))?;
    journal.close().await?;
    ingest?;
    readers?;
    Ok(())
}

fn start_ingest(
    (links, security): (LinkListener, LinkSecurity),
    journal: Journal,
    budget_bytes: u64,
    metrics: metrics::IngestMetrics,
    shutdown: &Shutdown,
) -> io::Result<tokio::sync::oneshot::Receiver<io::Result<()>>> {
    let (sender, done) = tokio::sync::oneshot::channel();
    let (eater, shutdown) = (link_id(), shutdown.clone());
    std::thread::Builder::new().name("eater-ingest".into()).spawn(move || {
        // The receiver is gone only if the eater's own future was dropped.
        let _ = sender.send(ingest::run(links, eater, journal, budget_bytes, metrics, shutdown, security));
    })?;
    Ok(done)
}
