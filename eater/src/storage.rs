//! Where an eater keeps frames, opened: a journal, and history behind it.

use std::io;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::shutdown::Shutdown;
use trough_store::object_catalog::Incarnation;
use trough_store::{Catalog, ObjectCatalog, ObjectStore, Outbox, Registry, SegmentCatalog};

use crate::compaction::{CompactionConfig, CompactionParts, Compactor, Journals};
use crate::doorbell::Doorbell;
use crate::frames::AnyJournal;
use crate::history::{History, Segments};
use crate::journal::{Journal, JournalConfig, JournalError, JournalParts};
use crate::live::{Live, ObjectsSource, Source};
use crate::metrics::Metrics;
use crate::objects::{ObjectJournal, ObjectsConfig, ObjectsParts};
use crate::segments::{SegmentCache, SegmentCacheLimits};
use crate::{LOCAL_BUDGET_BYTES, OBJECTS_BUDGET_BYTES, RunError};

/// Where an eater keeps what it has received.
pub enum Storage {
    /// In files of this machine.
    Local {
        /// What the files hold.
        catalog: Arc<dyn Catalog>,
        /// Where they are.
        config: JournalConfig,
        /// Where history is kept.
        history: HistoryStorage,
    },
    /// In an object store, which all eaters share.
    Objects {
        /// Where objects lie.
        store: Arc<dyn ObjectStore>,
        /// Which of them count.
        catalog: Arc<dyn ObjectCatalog>,
        /// Who this eater is in this life: random, never used before.
        incarnation: Incarnation,
        /// How it is set up.
        config: ObjectsConfig,
        /// Where history is kept: in the same store.
        history: HistoryStorage,
    },
}

/// Where an eater keeps what is compacted.
pub struct HistoryStorage {
    /// Where segments lie.
    pub store: Arc<dyn ObjectStore>,
    /// Which of them are live.
    pub segments: Arc<dyn SegmentCatalog>,
    /// How they are made.
    pub compaction: CompactionConfig,
}

impl Storage {
    /// What all feeders together may have on their way unless something else is said, in bytes.
    pub fn budget_bytes(&self) -> u64 {
        match self {
            Self::Local { .. } => LOCAL_BUDGET_BYTES,
            Self::Objects { .. } => OBJECTS_BUDGET_BYTES,
        }
    }
}

/// Storage that can be used.
pub(crate) struct Opened {
    /// Everything, to write to and to read from.
    pub journal: AnyJournal,
    /// What is committed, by this eater and others, to be followed.
    pub live: Live,
    /// What makes history of it.
    pub compactor: Compactor,
}

/// Opens storage.
pub(crate) async fn open(
    storage: Storage,
    doorbell: Doorbell,
    (registry, outbox): (Arc<dyn Registry>, Option<Arc<dyn Outbox>>),
    clock: &Clock,
    health: &Health,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Result<Opened, RunError> {
    let bell = doorbell.clone();
    let (journal, source, journals, history): (AnyJournal, Arc<dyn Source>, _, _) = match storage {
        Storage::Local { catalog, mut config, history } => {
            let manifest = history.segments.manifest(None).await.map_err(JournalError::from)?;
            config.compacted_through = manifest.map_or(0, |manifest| manifest.through_of(Incarnation::LOCAL));
            let parts = JournalParts {
                clock: clock.clone(),
                catalog,
                health: health.clone(),
                metrics: metrics.journal.clone(),
                doorbell: Some(doorbell),
            };
            let opening = tokio::task::spawn_blocking(move || Journal::open(config, parts));
            let (journal, report) = opening.await.map_err(|_| RunError::Panicked("journal"))??;
            tracing::info!(
                files = report.files,
                files_scanned = report.files_scanned,
                bytes_scanned = report.bytes_scanned,
                bytes_cut = report.bytes_cut,
                catalog_rebuilt = report.catalog_rebuilt,
                "journal open"
            );
            (Arc::new(journal.clone()), Arc::new(journal.clone()), Journals::Local(journal), history)
        }
        Storage::Objects { store, catalog, incarnation, config, history } => {
            let parts = ObjectsParts {
                store: store.clone(),
                catalog: catalog.clone(),
                incarnation,
                clock: clock.clone(),
                health: health.clone(),
                journal_metrics: metrics.journal.clone(),
                metrics: metrics.objects.clone(),
                doorbell: Some(doorbell),
                killed: shutdown.killed.clone(),
            };
            let journal = Arc::new(ObjectJournal::open(config, parts));
            let source = ObjectsSource::new(catalog.clone(), store);
            (journal, Arc::new(source), Journals::Objects(catalog), history)
        }
    };
    let live = Live::start(source, bell, shutdown.killed.clone());
    let HistoryStorage { store, segments, compaction } = history;
    let cache = SegmentCache::new(store.clone(), SegmentCacheLimits::default(), metrics.segments.clone());
    let segments_read = Segments::new(segments.clone(), cache.clone(), Handle::current());
    let (clock, health, metrics) = (clock.clone(), health.clone(), metrics.compaction.clone());
    let parts =
        CompactionParts { journals, store, segments, registry, outbox, cache, clock, health, metrics };
    let compactor = Compactor::new(compaction, parts, Handle::current(), shutdown.draining.clone());
    let journal = Arc::new(History::new(journal, segments_read));
    Ok(Opened { journal, live, compactor })
}

/// Compacts on a thread of its own, which works and blocks. What it gives is answered when it has stopped.
pub(crate) fn start_compaction(compactor: Compactor) -> io::Result<oneshot::Receiver<()>> {
    let (sender, done) = oneshot::channel();
    std::thread::Builder::new().name("compaction".into()).spawn(move || {
        compactor.run();
        drop(sender);
    })?;
    Ok(done)
}
