//! The journals of all eaters, followed by the catalog.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lru::LruCache;
use tokio::sync::OnceCell;
use trough_protocol::{DeviceId, Seq};
use trough_store::object_catalog::{
    DeviceSpan, Incarnation, IncarnationState, ObjectId, ObjectRow, ROWS_MAX, SpanQuery,
};
use trough_store::objects::ObjectError;
use trough_store::{BoxFuture, ObjectCatalog, ObjectStore};

use super::commit::{Commit, Content, LiveRun, Span};
use super::order::{Entered, Queues, Turn, find};
use super::source::{Found, LiveError, Source, Walk};
use super::vector::{Place, Vector};
use crate::journal::ReadError;
use crate::journal::run::{Kind, Run};
use crate::objects::{WholeObject, object_key};

/// Most bytes of objects that are kept, so that each is fetched once for all who follow.
const KEPT_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Most objects that are kept.
const KEPT_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
/// Copies of one number that are looked at.
const COPIES_MAX: usize = 64;
/// So many objects before a walk's beginning are looked at, to tell what they have from what is new.
const BEFORE: u64 = ROWS_MAX as u64;

/// The journals of all eaters. Clones are the same.
#[derive(Clone)]
pub struct ObjectsSource(Arc<Shared>);

struct Shared {
    catalog: Arc<dyn ObjectCatalog>,
    store: Arc<dyn ObjectStore>,
    kept: Mutex<Kept>,
}

struct Kept {
    objects: LruCache<ObjectId, (Arc<OnceCell<Object>>, u64)>,
    bytes: u64,
}

/// A whole object; `None` if it is damaged, or gone.
type Object = Option<Arc<WholeObject>>;

impl ObjectsSource {
    /// What this catalog names in this store.
    pub fn new(catalog: Arc<dyn ObjectCatalog>, store: Arc<dyn ObjectStore>) -> Self {
        let kept = Kept { objects: LruCache::new(KEPT_MAX), bytes: 0 };
        Self(Arc::new(Shared { catalog, store, kept: Mutex::new(kept) }))
    }
}

impl Shared {
    /// An object, fetched once, however many ask for it at a time.
    async fn object(&self, id: ObjectId, received_at: u64) -> Result<Object, LiveError> {
        let cell = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.objects.get_or_insert(id, || (Arc::default(), 0)).0.clone()
        };
        let object = cell.get_or_try_init(async || {
            let bytes = match self.store.get(&object_key(id)).await {
                Ok(bytes) => bytes,
                Err(error @ (ObjectError::NotFound(_) | ObjectError::Invalid(_))) => {
                    // Rows are removed before their objects.
                    let row =
                        self.catalog.rows(id.incarnation, id.n - 1, 1).await.map_err(ReadError::from)?;
                    let there = row.first().is_some_and(|row| row.id == id);
                    return if there { Ok(damaged(id, &error)) } else { Err(LiveError::Expired) };
                }
                Err(error) => return Err(ReadError::from(error).into()),
            };
            self.keep(id, bytes.len() as u64);
            let (spans, wide) = (Vec::new(), false);
            let row = ObjectRow { id, bytes: bytes.len() as u64, crc: 0, received_at, spans, wide };
            Ok(match WholeObject::new(&row, bytes) {
                Ok(object) => Some(Arc::new(object)),
                Err(error) => damaged(id, &error),
            })
        });
        object.await.cloned()
    }

    /// Takes note of an object's size, and lets go those used longest ago.
    fn keep(&self, id: ObjectId, bytes: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = kept.objects.get_mut(&id) else { return };
        entry.1 = bytes;
        kept.bytes = kept.objects.iter().map(|(_, entry)| entry.1).sum();
        while kept.bytes > KEPT_BYTES_MAX
            && let Some((_, gone)) = kept.objects.pop_lru()
        {
            kept.bytes -= gone.1;
        }
    }

    /// What an object has, each span without a hole: where its row does not tell, the object does.
    async fn spans(&self, row: ObjectRow) -> Result<Vec<Span>, LiveError> {
        let whole = |span: &DeviceSpan| span.last.0 - span.first.0 + 1 == span.frames;
        if !row.wide && row.spans.iter().all(whole) {
            return Ok(row.spans.into_iter().map(span).collect());
        }
        let Some(object) = self.object(row.id, row.received_at).await? else {
            return Ok(row.spans.into_iter().map(span).collect());
        };
        let mut spans: Vec<Span> = Vec::new();
        for device in object.devices() {
            for run in object.runs(device.as_str()) {
                match spans.last_mut() {
                    Some(open)
                        if (&open.device, open.epoch) == (&device, run.epoch)
                            && run.first <= open.last.next() =>
                    {
                        open.last = run.last().max(open.last);
                    }
                    _ => {
                        let (device, epoch, first) = (device.clone(), run.epoch, run.first);
                        spans.push(Span { device, epoch, first, last: run.last(), fresh: first });
                    }
                }
            }
        }
        Ok(spans)
    }
}

fn damaged(id: ObjectId, error: &dyn std::fmt::Display) -> Object {
    tracing::error!(key = %object_key(id), %error, "a journal object cannot be followed");
    None
}

fn span(of: DeviceSpan) -> Span {
    let DeviceSpan { device, epoch, first, last, .. } = of;
    Span { device, epoch, first, last, fresh: first }
}

impl Source for ObjectsSource {
    fn end(&self) -> BoxFuture<'_, Result<Vector, LiveError>> {
        Box::pin(async move {
            let states = self.0.catalog.incarnations().await.map_err(ReadError::from)?;
            let time = states.iter().map(|state| state.now).min().unwrap_or(0);
            let mut vector = Vector { time, ..Vector::default() };
            for state in states {
                if !is_over(&state, &vector) {
                    vector.advance(state.incarnation, Place::behind(state.last));
                }
            }
            Ok(vector)
        })
    }

    fn walk(&self, from: Vector, _: Option<DeviceId>) -> Box<dyn Walk> {
        let shared = self.0.clone();
        let (ahead, queues) = (from.clone(), Queues::new());
        Box::new(ObjectsWalk { shared, vector: from, ahead, queues, primed: false, ready: Vec::new() })
    }

    fn runs<'a>(
        &'a self,
        commit: &'a Commit,
        devices: &'a [DeviceId],
    ) -> BoxFuture<'a, Result<Vec<LiveRun>, LiveError>> {
        Box::pin(async move {
            let Content::Object { received_at, spans } = &commit.content else { return Ok(Vec::new()) };
            let Some(object) = self.0.object(commit.id, *received_at).await? else {
                return Ok(lost(spans, *received_at, devices));
            };
            let mut runs = Vec::new();
            for device in devices {
                for run in object.runs(device.as_str()) {
                    let mut of = find(spans, device, run.epoch).iter();
                    let span = of.find(|span| span.first <= run.first && run.first <= span.last);
                    let fresh = span.map_or(run.first, |span| span.fresh);
                    runs.push(LiveRun { device: device.clone(), run, fresh });
                }
            }
            runs.sort_unstable_by_key(|live| live.run.offset);
            Ok(runs)
        })
    }

    fn data<'a>(
        &'a self,
        commit: &'a Commit,
        runs: &'a [LiveRun],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, LiveError>> {
        Box::pin(async move {
            let Content::Object { received_at, .. } = &commit.content else { return Ok(Vec::new()) };
            let object = self.0.object(commit.id, *received_at).await?;
            let data = |live: &LiveRun| object.as_ref().and_then(|object| object.data(&live.run));
            Ok(runs.iter().map(data).collect())
        })
    }
}

/// What an object had that cannot be read.
fn lost(spans: &[Span], received_at: u64, devices: &[DeviceId]) -> Vec<LiveRun> {
    let wanted = spans.iter().filter(|span| devices.binary_search(&span.device).is_ok());
    let run = |(offset, span): (u32, &Span)| LiveRun {
        device: span.device.clone(),
        run: Run {
            epoch: span.epoch,
            first: span.first,
            count: span.last.0 - span.first.0 + 1,
            min_ts: 0,
            max_ts: 0,
            received_at,
            offset,
            len: 0,
            crc: 0,
            kind: Kind::Damaged,
        },
        fresh: span.fresh,
    };
    (0..).zip(wanted).map(run).collect()
}

/// Whether a journal is done with: its eater has ended, and was heard last so long ago that it need not be named.
fn is_over(state: &IncarnationState, vector: &Vector) -> bool {
    state.closed && vector.is_done(state.heartbeat_at)
}

struct ObjectsWalk {
    shared: Arc<Shared>,
    /// What is done of what was given.
    vector: Vector,
    /// The same with what had its turn.
    ahead: Vector,
    queues: Queues,
    /// What comes before the beginning was looked at.
    primed: bool,
    /// What had its turn before a step failed.
    ready: Vec<Arc<Commit>>,
}

impl ObjectsWalk {
    /// Takes note of what the objects before the beginning have: frames that are sent again come soon after.
    async fn prime(&mut self) -> Result<(), LiveError> {
        for (incarnation, place) in &self.ahead.places {
            let done = place.whole();
            if done == 0 {
                continue;
            }
            let from = done.saturating_sub(BEFORE);
            let rows = self.shared.catalog.rows(*incarnation, from, ROWS_MAX).await;
            for row in rows.map_err(ReadError::from)?.into_iter().filter(|row| row.id.n <= done) {
                row.spans.iter().for_each(|span| self.queues.note(&span.device, span.epoch, span.last));
            }
        }
        self.primed = true;
        Ok(())
    }

    /// Fetches the next rows of a journal. Whether there may be more.
    async fn fetch(&mut self, incarnation: Incarnation) -> Result<Option<bool>, LiveError> {
        let done = self.ahead.place(incarnation).whole();
        let mut last = self.queues.end_of(incarnation).unwrap_or(done);
        let rows = self.shared.catalog.rows(incarnation, last, ROWS_MAX).await.map_err(ReadError::from)?;
        let (some, more) = (!rows.is_empty(), rows.len() >= ROWS_MAX);
        for row in rows {
            if row.id.n != last + 1 {
                // Those between were compacted and removed.
                return Err(LiveError::Expired);
            }
            last = row.id.n;
            let received_at = row.received_at;
            let spans = self.shared.spans(row).await?;
            self.queues.push(incarnation, Entered { n: last, received_at, spans });
        }
        Ok(some.then_some(more))
    }

    /// Looks at every journal. Whether there may be more.
    async fn look(&mut self) -> Result<bool, LiveError> {
        let states = self.shared.catalog.incarnations().await.map_err(ReadError::from)?;
        let mut more = false;
        for state in &states {
            let of = state.incarnation;
            let named = self.ahead.places.contains_key(&of);
            if !named && self.ahead.is_done(state.heartbeat_at) && state.closed {
                continue;
            }
            if !named {
                self.ahead.advance(of, Place::behind(0));
            }
            let known = self.queues.end_of(of).unwrap_or(self.ahead.place(of).whole());
            if state.last > known {
                // None though there was one: it was removed.
                more |= self.fetch(of).await?.ok_or(LiveError::Expired)?;
            }
        }
        self.forget_ended(&states);
        Ok(more)
    }

    /// Asks the catalog whether what waiting objects go on from was done long ago, or is in segments. Whether it was.
    async fn find_missing(&mut self) -> Result<bool, LiveError> {
        let mut found = false;
        for (device, epoch, seq) in self.queues.missing() {
            let (after, before) = (Some((epoch, Seq(seq.0 - 1))), Some((epoch, seq.next())));
            let query = SpanQuery { device: device.clone(), after, before, limit: COPIES_MAX };
            let copies = self.shared.catalog.spans(&query).await.map_err(ReadError::from)?;
            let mut listed = copies.iter().filter(|copy| copy.span.is_some()).peekable();
            let is_done = |id: ObjectId| match self.ahead.places.contains_key(&id.incarnation) {
                true => self.ahead.has(id),
                false => true,
            };
            if listed.peek().is_none() || listed.any(|copy| is_done(copy.id)) {
                self.queues.note(&device, epoch, seq);
                found = true;
            }
        }
        Ok(found)
    }

    /// Names journals no more that have ended and are done.
    fn forget_ended(&mut self, states: &[IncarnationState]) {
        let Some(time) = states.iter().map(|state| state.now).min() else { return };
        self.ahead.time = self.ahead.time.max(time);
        for state in states {
            let done = self.ahead.place(state.incarnation).whole() >= state.last;
            if done && is_over(state, &self.ahead) {
                self.ahead.places.remove(&state.incarnation);
            }
        }
    }
}

impl Walk for ObjectsWalk {
    fn vector(&self) -> &Vector {
        &self.vector
    }

    fn step(&mut self, of: Option<Incarnation>) -> BoxFuture<'_, Result<Found, LiveError>> {
        Box::pin(async move {
            if !self.primed {
                self.prime().await?;
            }
            let known = of.filter(|of| self.ahead.places.contains_key(of));
            let mut more = match known {
                Some(of) => self.fetch(of).await?.unwrap_or(false),
                None => self.look().await?,
            };
            let mut turn = Turn::Follows;
            while !self.queues.is_empty() {
                // There may be many, and others follow on this thread.
                tokio::task::yield_now().await;
                match (self.queues.pop(turn), turn) {
                    (Some(commit), _) => {
                        self.ahead.advance(commit.id.incarnation, commit.through);
                        self.ready.push(Arc::new(commit));
                        if turn == Turn::Any {
                            turn = Turn::Free;
                        }
                    }
                    (None, Turn::Follows) => {
                        // Of one that is far behind not all is in hand yet.
                        more = self.look().await?;
                        turn = if more { Turn::Follows } else { Turn::Free };
                    }
                    (None, Turn::Free) if self.find_missing().await? => {}
                    (None, Turn::Free | Turn::Any) => turn = Turn::Any,
                }
            }
            self.vector = self.ahead.clone();
            Ok(Found { commits: std::mem::take(&mut self.ready), more })
        })
    }
}
