//! What was used last, up to a number of bytes.

use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

/// A cache that is bounded in bytes. Anything that weighs more than all of it is not kept.
pub(super) struct Weighted<K: Hash + Eq, V> {
    inner: Mutex<Inner<K, V>>,
    bytes_max: usize,
}

struct Inner<K: Hash + Eq, V> {
    entries: LruCache<K, (V, usize)>,
    bytes: usize,
}

impl<K: Hash + Eq, V: Clone> Weighted<K, V> {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { inner: Mutex::new(Inner { entries: LruCache::unbounded(), bytes: 0 }), bytes_max }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.entries.get(key).map(|(value, _)| value.clone())
    }

    pub(super) fn put(&self, key: K, value: V, weight: usize) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.bytes += weight;
        if let Some((_, before)) = inner.entries.put(key, (value, weight)) {
            inner.bytes -= before;
        }
        while inner.bytes > self.bytes_max
            && let Some((_, (_, gone))) = inner.entries.pop_lru()
        {
            inner.bytes -= gone;
        }
    }

    /// Bytes of what is in it.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_longest_goes_first() {
        let cache = Weighted::new(10);
        for key in 1..=3 {
            cache.put(key, key, 3);
        }
        assert_eq!(cache.get(&1), Some(1));
        cache.put(4, 4, 3);
        assert_eq!([1, 2, 3, 4].map(|key| cache.get(&key)), [Some(1), None, Some(3), Some(4)]);
        cache.put(4, 5, 4);
        assert_eq!((cache.get(&4), cache.bytes()), (Some(5), 10));
        cache.put(9, 9, 11);
        assert_eq!((cache.get(&9), cache.bytes()), (None, 0));
    }
}
