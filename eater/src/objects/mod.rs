//! The object journal: batches gathered into objects of a store that every eater reads, and entered in a catalog that
//! says which of them count. Nothing is kept on this machine. The bytes and the rules are in `docs/storage.md`.
//!
//! - [`inbox`] → [`sealer`] → [`committer`]: the way of a batch. Objects are stored several at a time; their rows are
//!   entered one after another, and only then is anything acknowledged.
//! - [`heartbeat`], [`heads`]: what is said besides, behind the acknowledgements.
//! - [`janitor`]: declares eaters dead that say nothing, and removes what dead eaters left without a row.
//! - [`read`]: reading what any eater has stored.
//! - [`mod@format`]: the bytes.

mod acks;
mod builder;
mod committer;
mod config;
pub mod format;
mod heads;
mod heartbeat;
mod inbox;
mod janitor;
mod late;
mod life;
mod metrics;
mod names;
mod read;
mod sealer;
#[cfg(test)]
pub(crate) mod tests;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::DropGuard;
use tokio_util::task::AbortOnDropHandle;
use trough_protocol::{DeviceId, Epoch, Seq};
use trough_store::object_catalog::AppendError;
use trough_store::{BoxFuture, DeviceState};

pub use config::{ObjectsConfig, ObjectsParts};
pub use metrics::ObjectMetrics;

use crate::frames::{Chunks, Frames};
use crate::journal::{Closed, Gap, JournalError, LastFrame, ReadError, ScanRange, Submission};
use late::LateHeads;
use life::Life;
pub(crate) use names::{
    id as id_of_key, key as object_key, number as object_number, prefix as object_prefix,
};
use read::{Reader, Scan};
use sealer::Sealer;
pub(crate) use whole::WholeObject;

/// How long a head is looked for: the feeder's own patience.
const HEAD_PATIENCE: Duration = Duration::from_secs(8);
/// Heads and states looked for at a time.
const QUESTIONS_MAX: usize = 32;
/// How long the last words to the catalog may take when an eater ends: without them it is declared dead a little later.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// An object journal, open. Dropping it ends its tasks, and what was not acknowledged is not stored any more.
pub struct ObjectJournal {
    life: Arc<Life>,
    reader: Arc<Reader>,
    /// Where reads wait for the store, whatever thread or runtime they are asked on.
    handle: Handle,
    questions: Arc<Semaphore>,
    late: Arc<LateHeads>,
    _tasks: [AbortOnDropHandle<()>; 3],
    _dropped: DropGuard,
}

impl ObjectJournal {
    /// Opens it: starts its tasks, and asks nobody. Store and catalog may come later.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(config: ObjectsConfig, parts: ObjectsParts) -> Self {
        let limits = (config.objects_max, config.cache_bytes_max);
        let late = Arc::new(LateHeads::new(parts.metrics.heads_late.clone()));
        let reader = Reader::new(parts.store.clone(), parts.catalog.clone(), parts.metrics.clone(), limits);
        // The committer has one object in its hand besides.
        let places = config.in_flight_max.max(2) - 1;
        let life = Life::new(config, parts);
        let (items, taken) = mpsc::channel(places);
        let tasks = [
            tokio::spawn(Sealer::new(life.clone(), items).run()),
            tokio::spawn(committer::run(life.clone(), taken)),
            tokio::spawn(janitor::run(life.clone())),
        ];
        Self {
            _dropped: life.ended.clone().drop_guard(),
            life,
            reader,
            handle: Handle::current(),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            late,
            _tasks: tasks.map(AbortOnDropHandle::new),
        }
    }

    async fn closed(&self) -> Result<(), JournalError> {
        self.life.inbox.close();
        let unstored = || {
            let (batches, reason) = (self.life.unacknowledged(), self.life.trouble());
            JournalError::Unstored { batches, reason }
        };
        tokio::select! {
            () = self.life.finished.cancelled() => {}
            () = self.life.dead.cancelled() => return Err(JournalError::Fenced(self.life.why())),
            () = self.life.parts.killed.cancelled() => return Err(unstored()),
        }
        let parts = &self.life.parts;
        let last_words = async {
            self.life.heads.write(&*parts.catalog).await;
            if !self.life.is_known() {
                return;
            }
            // One that does not know this eater any more must not hear that it has ended without an object.
            let ended = match parts.catalog.heartbeat(parts.incarnation).await {
                Ok(()) | Err(AppendError::Closed(_)) => {
                    parts.catalog.close(parts.incarnation).await.map(drop).map_err(AppendError::from)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                tracing::warn!(%error, "the catalog could not be told that this eater has ended");
            }
        };
        if timeout(LAST_WORDS, last_words).await.is_err() {
            tracing::warn!("the catalog does not answer: others will find that this eater has ended");
        }
        Ok(())
    }
}

impl Frames for ObjectJournal {
    fn submit(&self, submission: Submission) -> Result<(), Closed> {
        let bytes = submission.batch.len() as i64;
        self.life.inbox.push(submission)?;
        self.life.parts.journal_metrics.queued_bytes.inc_by(bytes);
        Ok(())
    }

    fn head<'a>(&'a self, device: &'a DeviceId, epoch: Epoch) -> BoxFuture<'a, Option<Seq>> {
        let (reader, questions, device) = (self.reader.clone(), self.questions.clone(), device.clone());
        let (late, retry) = (self.late.clone(), self.life.config.retry_every);
        // On the journal's own runtime: a client of a database may tie itself to the one that it is first used on.
        let asking = AbortOnDropHandle::new(self.handle.spawn(async move {
            let mut trouble = None;
            let asking = async {
                loop {
                    let _place = questions.acquire().await.ok()?;
                    match reader.head(&device, epoch).await {
                        Ok(seq) => return Some(seq),
                        Err(error) => trouble = Some(error),
                    }
                    drop(_place);
                    sleep(retry).await;
                }
            };
            let found = timeout(HEAD_PATIENCE, asking).await;
            found.unwrap_or_else(|_| {
                late.note(&device, epoch, HEAD_PATIENCE, trouble.as_ref());
                None
            })
        }));
        Box::pin(async move { asking.await.ok().flatten() })
    }

    fn generation<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(self.reader.generation(device))
    }

    fn device_states(&self, devices: &[DeviceId]) -> Result<Vec<Option<DeviceState>>, ReadError> {
        self.handle.block_on(async {
            let mut asking = JoinSet::new();
            for (at, device) in devices.iter().cloned().enumerate() {
                let (reader, questions) = (self.reader.clone(), self.questions.clone());
                asking.spawn(async move {
                    let _place = questions.acquire().await;
                    (at, reader.state(&device).await)
                });
            }
            let mut states = vec![None; devices.len()];
            while let Some(answer) = asking.join_next().await {
                let (at, state) = answer.map_err(|error| ReadError::Broken(error.to_string()))?;
                states[at] = state?;
            }
            Ok(states)
        })
    }

    fn knows_all_devices(&self) -> bool {
        // Heads are noted before rows are removed, and nothing removes them.
        true
    }

    fn last_per_channel(&self, device: &DeviceId) -> Result<Vec<LastFrame>, ReadError> {
        self.handle.block_on(self.reader.lasts(device))
    }

    fn scan(&self, device: &DeviceId, range: ScanRange) -> Chunks {
        let mut scan = Scan::new(self.reader.clone(), device.clone(), range);
        let handle = self.handle.clone();
        Box::new(std::iter::from_fn(move || handle.block_on(scan.next())))
    }

    fn gaps(
        &self,
        device: &DeviceId,
        after: Option<(Epoch, Seq)>,
        limit: usize,
    ) -> Result<Vec<Gap>, ReadError> {
        self.handle.block_on(self.reader.gaps(device, after, limit))
    }

    fn failed(&self) -> BoxFuture<'_, JournalError> {
        Box::pin(async {
            self.life.dead.cancelled().await;
            JournalError::Fenced(self.life.why())
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(self.closed())
    }
}
