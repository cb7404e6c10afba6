//! One object in memory, read through the trait of all stores: so that it is fetched once and looked at twice.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use trough_store::objects::{ObjectEntry, ObjectError};
use trough_store::{BoxFuture, ObjectKey, ObjectStore};

/// A store whose object `key` is at hand.
pub(super) struct Held {
    pub store: Arc<dyn ObjectStore>,
    pub key: ObjectKey,
    pub bytes: Bytes,
}

impl ObjectStore for Held {
    fn put<'a>(&'a self, key: &'a ObjectKey, _: Bytes) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move { Err(ObjectError::Refused(format!("a check does not write {key}"))) })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        self.store.get(key)
    }

    fn get_range<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        if *key != self.key {
            return self.store.get_range(key, range);
        }
        Box::pin(async move {
            let within = |at: u64| usize::try_from(at).ok().filter(|at| *at <= self.bytes.len());
            match (within(range.start), within(range.end)) {
                (Some(start), Some(end)) if start <= end => Ok(self.bytes.slice(start..end)),
                _ => Err(ObjectError::Invalid(format!("object {key} has {} bytes", self.bytes.len()))),
            }
        })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move { Err(ObjectError::Refused(format!("a check does not remove {key}"))) })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a ObjectKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectEntry>, ObjectError>> {
        self.store.list(prefix, after, limit)
    }
}
