//! The journals of all eaters, followed by the catalog.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lru::LruCache;
use tokio::sync::OnceCell;
use trough_protocol::DeviceId;
use trough_store::object_catalog::{DeviceSpan, IncarnationState, ObjectId, ObjectRow};
use trough_store::objects::ObjectError;
use trough_store::{BoxFuture, ObjectCatalog, ObjectStore};

use super::commit::{Commit, Content, LiveRun, Span};
use super::order::find;
use super::source::{Done, LiveError, Source, Walk};
use super::vector::{Place, Vector};
use super::walk::{Lots, ObjectsWalk};
use crate::journal::ReadError;
use crate::journal::run::{Kind, Run};
use crate::objects::{WholeObject, object_key};

/// Most bytes of objects that are kept, so that each is fetched once for all who follow.
const KEPT_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Most objects that are kept.
const KEPT_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// The journals of all eaters. Clones are the same.
#[derive(Clone)]
pub struct ObjectsSource(Arc<Shared>);

pub(super) struct Shared {
    pub catalog: Arc<dyn ObjectCatalog>,
    store: Arc<dyn ObjectStore>,
    pub lots: Lots,
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
        Self::in_lots(Lots::default(), catalog, store)
    }

    /// The same that does so much at a time.
    pub(super) fn in_lots(lots: Lots, catalog: Arc<dyn ObjectCatalog>, store: Arc<dyn ObjectStore>) -> Self {
        let kept = Kept { objects: LruCache::new(KEPT_MAX), bytes: 0 };
        Self(Arc::new(Shared { catalog, store, lots, kept: Mutex::new(kept) }))
    }
}

#[cfg(test)]
impl ObjectsSource {
    /// As [`Source::walk`].
    pub(super) fn objects_walk(&self, from: Vector) -> ObjectsWalk {
        ObjectsWalk::new(self.0.clone(), from)
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
    pub async fn spans(&self, row: ObjectRow) -> Result<Vec<Span>, LiveError> {
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

    fn done(&self, mut vector: Vector) -> BoxFuture<'_, Result<Done, LiveError>> {
        Box::pin(async move {
            for state in self.0.catalog.incarnations().await.map_err(ReadError::from)? {
                if !is_over(&state, &vector) {
                    vector.advance(state.incarnation, Place::behind(0));
                }
            }
            Ok(Done { vector, local_before: 0 })
        })
    }

    fn walk(&self, from: Vector, _: Option<DeviceId>) -> Box<dyn Walk> {
        Box::new(ObjectsWalk::new(self.0.clone(), from))
    }

    fn runs<'a>(
        &'a self,
        commit: &'a Commit,
        devices: &'a [DeviceId],
        // All are needed to tell copies within an object.
        _: u32,
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
                    if commit.is_part && span.is_none() {
                        continue;
                    }
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
pub(super) fn is_over(state: &IncarnationState, vector: &Vector) -> bool {
    state.closed && vector.is_done(state.heartbeat_at)
}
