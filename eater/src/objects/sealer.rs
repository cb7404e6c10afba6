//! Gathering batches into objects, and storing them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use trough_protocol::Micros;
use trough_protocol::link::LinkCode;
use trough_store::object_catalog::ObjectId;

use super::builder::{Builder, Sealed};
use super::heartbeat;
use super::life::Life;
use super::names;
use crate::journal::{CommitSink, Submission};

/// What goes to the committer, in the order of submission.
pub(super) enum Item {
    /// An object, and its way to the store.
    Object(Sealed, AbortOnDropHandle<()>),
    /// A batch that cannot be read.
    Refused { sink: Arc<dyn CommitSink>, number: u64, text: String },
}

/// Makes objects of batches, one after another. Storing them overlaps; the channel's capacity bounds how many are on
/// their way.
pub(super) struct Sealer {
    life: Arc<Life>,
    items: mpsc::Sender<Item>,
    /// A batch that did not fit into the last object.
    held: Option<Submission>,
    /// A batch that could not be read: it is refused behind the object that was begun before it.
    refused: Option<Item>,
    /// No more batches come.
    ended: bool,
    /// The last object's number, and when it was sealed.
    last: (u64, Micros),
}

impl Sealer {
    pub(super) fn new(life: Arc<Life>, items: mpsc::Sender<Item>) -> Self {
        Self { life, items, held: None, refused: None, ended: false, last: (0, 0) }
    }

    /// Works until the inbox is closed and empty. Ends early, with the channel, if the committer has.
    pub(super) async fn run(mut self) {
        let dead = self.life.dead.clone();
        dead.run_until_cancelled(async {
            while let Some(first) = self.next().await {
                if self.object(first).await.is_none() {
                    return;
                }
            }
        })
        .await;
    }

    async fn next(&mut self) -> Option<Submission> {
        match self.held.take() {
            Some(held) => Some(held),
            None => self.life.inbox.next().await,
        }
    }

    /// One object, from its first batch on. `None` if nobody takes it any more.
    async fn object(&mut self, first: Submission) -> Option<()> {
        let mut builder = Builder::default();
        self.add(&mut builder, first);
        let deadline = Instant::now() + self.life.config.flush_after;
        while self.has_room(&builder)
            && let Ok(next) = timeout_at(deadline, self.life.inbox.next()).await
        {
            self.take(&mut builder, next);
        }
        if !builder.is_empty() {
            self.life.in_objects.fetch_add(builder.batches(), Ordering::SeqCst);
            self.open().await;
            let items = self.items.clone();
            let place = loop {
                let room = self.has_room(&builder);
                tokio::select! {
                    place = items.reserve() => break place.ok()?,
                    // While all places are taken, the object grows instead.
                    next = self.life.inbox.next(), if room => {
                        let before = builder.batches();
                        self.take(&mut builder, next);
                        self.life.in_objects.fetch_add(builder.batches() - before, Ordering::SeqCst);
                    }
                }
            };
            let sealed = self.seal(builder);
            let way = AbortOnDropHandle::new(tokio::spawn(put(
                self.life.clone(),
                sealed.bytes.clone(),
                sealed.row.id,
            )));
            place.send(Item::Object(sealed, way));
        }
        if let Some(refused) = self.refused.take() {
            self.items.send(refused).await.ok()?;
        }
        Some(())
    }

    /// Whether the object may take another batch.
    fn has_room(&self, builder: &Builder) -> bool {
        let blocked = self.ended || self.held.is_some() || self.refused.is_some();
        !blocked && builder.bytes() < self.life.config.object_bytes && !builder.is_crowded()
    }

    fn take(&mut self, builder: &mut Builder, next: Option<Submission>) {
        match next {
            None => self.ended = true,
            Some(next) if builder.bytes() + next.batch.len() > self.life.config.object_bytes => {
                self.held = Some(next);
            }
            Some(next) => self.add(builder, next),
        }
    }

    fn add(&mut self, builder: &mut Builder, submission: Submission) {
        let bytes = submission.batch.len() as i64;
        // Whoever submits has checked the batch; what cannot be indexed must not be acknowledged all the same.
        if let Err((submission, error)) = builder.push(submission) {
            let Submission { number, sink, .. } = submission;
            tracing::error!(%error, number, "an unchecked batch is refused");
            self.life.parts.journal_metrics.queued_bytes.dec_by(bytes);
            self.refused = Some(Item::Refused { sink, number, text: error.to_string() });
        }
    }

    fn seal(&mut self, builder: Builder) -> Sealed {
        let (n, received_at) = self.last;
        // Rising and not only not falling: it decides between copies.
        let received_at = self.life.parts.clock.now().max(received_at + 1);
        self.last = (n + 1, received_at);
        self.life.parts.metrics.in_flight.inc();
        builder.seal(ObjectId { incarnation: self.life.parts.incarnation, n: n + 1 }, received_at)
    }

    /// Makes this incarnation known, before its first object: what is stored under an incarnation that nobody knows
    /// would never be cleaned up.
    async fn open(&self) {
        if self.life.is_known() {
            return;
        }
        while let Err(error) = self.life.parts.catalog.open(self.life.parts.incarnation).await {
            self.life.failed("make this eater known", &error);
            sleep(self.life.config.retry_every).await;
        }
        self.life.opened.store(true, Ordering::SeqCst);
        tracing::info!(incarnation = %self.life.parts.incarnation, "this eater is known to the catalog");
        tokio::spawn(heartbeat::run(self.life.clone()));
    }
}

/// Stores an object, however long it takes: always the same bytes under the same key.
async fn put(life: Arc<Life>, bytes: bytes::Bytes, id: ObjectId) {
    let (key, began) = (names::key(id), Instant::now());
    while let Err(error) = life.parts.store.put(&key, bytes.clone()).await {
        life.failed("store a journal object", &error);
        sleep(life.config.retry_every).await;
    }
    life.parts.metrics.put_seconds.observe(began.elapsed().as_secs_f64());
}

/// What a refused batch is told.
pub(super) const REFUSED: LinkCode = LinkCode::DAMAGED;
