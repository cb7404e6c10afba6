//! Putting a journal together, and taking it apart.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use trough_runtime::random::random_bytes;

use super::Journal;
use super::background::Background;
use super::catalog::CatalogLink;
use super::committer::Committer;
use super::config::{JournalConfig, JournalParts};
use super::disk::{Disk, FileDisk};
use super::error::JournalError;
use super::handles::Handles;
use super::index::Index;
use super::last_frames::LastCache;
use super::lock::Lock;
use super::queue::Queue;
use super::recovery::{io_error, recover};
use super::shared::{PART, Shared};
use super::work::Work;
use super::writer::{Nonces, Writer};

/// What opening found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Journal files.
    pub files: usize,
    /// Files whose batches were read through, because they had no index.
    pub files_scanned: usize,
    /// Bytes of the files that were read through.
    pub bytes_scanned: u64,
    /// Bytes that were cut, of a torn tail or of a file that was given up. None of them was ever acknowledged.
    pub bytes_cut: u64,
    /// Whether the catalog is being filled anew from the journal.
    pub catalog_rebuilt: bool,
}

/// A journal without threads.
pub(super) struct Core {
    pub shared: Arc<Shared>,
    pub committer: Committer,
    pub background: Background,
    pub report: RecoveryReport,
}

impl Core {
    pub(super) fn open(
        config: JournalConfig,
        parts: JournalParts,
        disk: Arc<dyn Disk>,
        nonces: Nonces,
    ) -> Result<Self, JournalError> {
        config.check()?;
        let dir = config.dir.clone();
        let catalog = CatalogLink::new(parts.catalog)
            .map_err(|error| io_error("make a runtime for the catalog of", &dir, error))?;
        let shared = Arc::new(Shared {
            handles: Handles::new(disk.clone(), config.cache_bytes_max, parts.metrics.read_bytes.clone()),
            disk: disk.clone(),
            index: RwLock::new(Index::new(config.compacted_through)),
            queue: Queue::default(),
            work: Work::default(),
            unrecorded: Mutex::new(BTreeSet::new()),
            last_cache: LastCache::new(),
            catalog,
            clock: parts.clock,
            health: parts.health,
            metrics: parts.metrics,
            doorbell: parts.doorbell,
            config,
        });
        let recovered = recover(&shared)?;
        let report = recovered.report;
        let sync_seconds = shared.metrics.sync_seconds.clone();
        let writer = Writer::new(disk, shared.config.roll_bytes, nonces, sync_seconds, recovered.open);
        let (last_received, vouched) = (recovered.last_received, recovered.vouched);
        shared.metrics.files.set(shared.read().files().len() as i64);
        Ok(Self {
            committer: Committer::new(shared.clone(), writer, last_received, vouched),
            background: Background::new(shared.clone()),
            shared,
            report,
        })
    }
}

/// The threads of an open journal.
pub(super) struct Running {
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    committer: JoinHandle<Result<(), JournalError>>,
    background: JoinHandle<()>,
}

pub(super) fn open(
    config: JournalConfig,
    parts: JournalParts,
) -> Result<(Journal, RecoveryReport), JournalError> {
    let dir = config.dir.clone();
    let disk = FileDisk::open(&dir).map_err(|error| io_error("open the directory", &dir, error))?;
    // Held by both threads, so that nobody else opens the directory while either may still write.
    let lock = Arc::new(Lock::take(&dir)?);
    let nonces = Box::new(|| u64::from_le_bytes(random_bytes()));
    let Core { shared, committer, background, report } = Core::open(config, parts, Arc::new(disk), nonces)?;
    let spawn_error = |error| io_error("start a thread for", &dir, error);
    let background = {
        let (guard, lock) = (Guard(shared.clone()), lock.clone());
        let run = move || {
            let _held = (guard, lock);
            background.run();
        };
        std::thread::Builder::new().name("journal-index".into()).spawn(run).map_err(spawn_error)?
    };
    let committer = {
        let guard = Guard(shared.clone());
        let run = move || {
            let held = (guard, lock);
            let result = committer.run();
            // Whatever waits for an index then waits for the next start.
            held.0.0.work.close();
            result
        };
        let spawned = std::thread::Builder::new().name("journal-commit".into()).spawn(run);
        spawned.inspect_err(|_| shared.work.close()).map_err(spawn_error)?
    };
    let threads = Mutex::new(Some(Threads { committer, background }));
    let running = Arc::new(Running { shared: shared.clone(), threads });
    Ok((Journal { shared, running }, report))
}

impl Running {
    /// Waits for the threads; the queue has been closed.
    pub(super) fn end(&self) -> Result<(), JournalError> {
        let Some(threads) = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        let committed = threads.committer.join();
        let ended = threads.background.join();
        match (committed, ended) {
            (Ok(result), Ok(())) => result,
            // Its panic was logged, and health knows.
            _ => Err(JournalError::Unstored { batches: 0, reason: "a thread of the journal died".into() }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

/// Tells the world if the thread that holds it panics: nothing would be acknowledged any more, in silence.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("a thread").to_owned();
            let reason = format!("{name} died, which is a fault of this program: restart the eater");
            self.0.health.degrade(PART, reason);
            self.0.queue.close();
            self.0.work.close();
        }
    }
}
