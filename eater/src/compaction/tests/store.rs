//! A store in memory that fails when it is told to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use trough_store::objects::{ObjectEntry, ObjectError};
use trough_store::{BoxFuture, ObjectKey, ObjectStore};

use crate::journal::testing::Rng;

pub struct FlakyStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// How many calls go well until all fail; and which of the failing writes happen all the same.
    left: Mutex<u64>,
    rng: Mutex<Rng>,
}

impl FlakyStore {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            objects: Mutex::default(),
            left: Mutex::new(u64::MAX),
            rng: Mutex::new(Rng::new(seed ^ 0x5eed)),
        })
    }

    /// All calls fail after so many.
    pub fn fail(&self, after: u64) {
        *self.left.lock().unwrap() = after;
    }

    /// Damages an object.
    pub fn change(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut objects = self.objects.lock().unwrap();
        let mut bytes = objects[key].to_vec();
        change(&mut bytes);
        objects.insert(key.to_owned(), bytes.into());
    }

    /// Takes an object away.
    pub fn take(&self, key: &str) -> Bytes {
        self.objects.lock().unwrap().remove(key).unwrap()
    }

    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    fn call<T>(
        &self,
        act: impl FnOnce(&mut BTreeMap<String, Bytes>) -> Result<T, ObjectError>,
    ) -> Result<T, ObjectError> {
        let mut left = self.left.lock().unwrap();
        let works = *left > 0;
        if *left != u64::MAX {
            *left = left.saturating_sub(1);
        }
        let retry_after = Duration::from_millis(1);
        let down = ObjectError::Unavailable { reason: "told to fail".into(), retry_after };
        if works || self.rng.lock().unwrap().percent(30) {
            let done = act(&mut self.objects.lock().unwrap());
            return if works { done } else { Err(down) };
        }
        Err(down)
    }
}

fn ready<'a, T: Send + 'a>(answer: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(answer))
}

impl ObjectStore for FlakyStore {
    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> BoxFuture<'a, Result<(), ObjectError>> {
        ready(self.call(|objects| {
            let before = objects.insert(key.to_string(), bytes.clone());
            assert!(before.is_none_or(|before| before == bytes), "{key} was stored with other bytes");
            Ok(())
        }))
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        ready(self.call(|objects| {
            objects.get(key.as_str()).cloned().ok_or_else(|| ObjectError::NotFound(key.clone()))
        }))
    }

    fn get_range<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        ready(self.call(|objects| {
            let bytes = objects.get(key.as_str()).ok_or_else(|| ObjectError::NotFound(key.clone()))?;
            if range.end > bytes.len() as u64 {
                return Err(ObjectError::Invalid(format!("{key} has {} bytes", bytes.len())));
            }
            Ok(bytes.slice(range.start as usize..range.end as usize))
        }))
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), ObjectError>> {
        ready(self.call(|objects| {
            objects.remove(key.as_str());
            Ok(())
        }))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a ObjectKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectEntry>, ObjectError>> {
        ready(self.call(|objects| {
            let behind = |key: &str| after.is_none_or(|after| key > after.as_str());
            let found = objects.iter().filter(|(key, _)| key.starts_with(prefix) && behind(key));
            let entry = |(key, bytes): (&String, &Bytes)| ObjectEntry {
                key: ObjectKey::new(key).unwrap(),
                bytes: bytes.len() as u64,
            };
            Ok(found.map(entry).take(limit).collect())
        }))
    }
}
