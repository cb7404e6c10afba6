//! Objects that were opened: their indexes, and the ends of their bytes, which for a small object are all of it.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lru::LruCache;
use trough_protocol::Micros;
use trough_protocol::wire::WireError;
use trough_store::object_catalog::ObjectId;
use trough_store::objects::ObjectError;

use super::Reader;
use crate::journal::run::Run;
use crate::objects::format::{Index, TRAILER_BYTES, Trailer};
use crate::objects::names;

/// How much of an object's end is read to find its index: most objects that were sealed by the clock are smaller, and
/// cost one read in all.
const TAIL_BYTES: u64 = 64 * 1024;

/// An object whose index is known.
pub(super) struct Opened {
    pub id: ObjectId,
    index: Index,
    /// The bytes that were read together with the index, and where they begin.
    tail: Bytes,
    tail_start: u64,
}

/// An object cannot be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Not now.
    Store(ObjectError),
    /// It is not there, or is not what was stored.
    Damaged {
        /// Where, in bytes; 0 if it is not there.
        offset: u64,
        found: String,
    },
}

impl OpenError {
    fn at(offset: u64) -> impl Fn(WireError) -> Self {
        move |error| Self::Damaged { offset, found: error.to_string() }
    }
}

impl From<ObjectError> for OpenError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::NotFound(_) | ObjectError::Invalid(_) => {
                Self::Damaged { offset: 0, found: error.to_string() }
            }
            other => Self::Store(other),
        }
    }
}

impl Opened {
    /// A device's runs, by key.
    pub(super) fn runs(&self, device: &str) -> Vec<Run> {
        self.index.runs(device)
    }

    /// Bytes of the object, if they were read already.
    pub(super) fn at_hand(&self, range: Range<u64>) -> Option<Bytes> {
        let from = usize::try_from(range.start.checked_sub(self.tail_start)?).ok()?;
        let to = from.checked_add(usize::try_from(range.end - range.start).ok()?)?;
        (to <= self.tail.len()).then(|| self.tail.slice(from..to))
    }

    fn weight(&self) -> usize {
        // The index is part of the tail as a rule; counted twice rather than not at all.
        self.tail.len() + self.index.bytes().len() + 256
    }
}

/// The objects opened last.
pub(super) struct Cache {
    inner: Mutex<Inner>,
    bytes_max: usize,
}

struct Inner {
    opened: LruCache<ObjectId, Arc<Opened>>,
    bytes: usize,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { inner: Mutex::new(Inner { opened: LruCache::unbounded(), bytes: 0 }), bytes_max }
    }

    fn get(&self, id: ObjectId) -> Option<Arc<Opened>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).opened.get(&id).cloned()
    }

    fn put(&self, opened: &Arc<Opened>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.bytes += opened.weight();
        if let Some(before) = inner.opened.put(opened.id, opened.clone()) {
            inner.bytes -= before.weight();
        }
        while inner.bytes > self.bytes_max
            && let Some((_, gone)) = inner.opened.pop_lru()
        {
            inner.bytes -= gone.weight();
        }
    }
}

impl Reader {
    /// Opens an object of this size, unless it is open.
    pub(super) async fn open(
        &self,
        id: ObjectId,
        bytes: u64,
        received_at: Micros,
    ) -> Result<Arc<Opened>, OpenError> {
        if let Some(opened) = self.cache.get(id) {
            return Ok(opened);
        }
        let key = names::key(id);
        let mut tail_start = bytes.saturating_sub(TAIL_BYTES);
        let mut tail = self.store.get_range(&key, tail_start..bytes).await?;
        let split = tail.len().checked_sub(TRAILER_BYTES);
        let split =
            split.ok_or_else(|| OpenError::Damaged { offset: 0, found: format!("it has {bytes} bytes") })?;
        let end = bytes - TRAILER_BYTES as u64;
        let trailer = Trailer::decode(&tail[split..]).map_err(OpenError::at(end))?;
        if trailer.id != id {
            let ObjectId { incarnation, n } = trailer.id;
            let found = format!("it says that it is object {n} of {incarnation}");
            return Err(OpenError::Damaged { offset: end, found });
        }
        let start = trailer.index_start(bytes).map_err(OpenError::at(end))?;
        if start < tail_start {
            tail_start = start;
            tail = self.store.get_range(&key, start..bytes).await?;
        }
        let within = |at: u64| usize::try_from(at - tail_start).expect("an object has at most 64 MiB");
        if within(end) > tail.len() {
            let found = format!("{} bytes came where {} were asked for", tail.len(), bytes - tail_start);
            return Err(OpenError::Damaged { offset: tail_start, found });
        }
        let index = Index::decode(tail.slice(within(start)..within(end)), start, &trailer, received_at)
            .map_err(OpenError::at(start))?;
        let opened = Arc::new(Opened { id, index, tail, tail_start });
        self.metrics.opened.inc();
        self.cache.put(&opened);
        Ok(opened)
    }

    /// Bytes of an object.
    pub(super) async fn range(&self, id: ObjectId, range: Range<u64>) -> Result<Bytes, OpenError> {
        Ok(self.store.get_range(&names::key(id), range).await?)
    }
}
