//! Objects: bytes under a key that never change once they are stored. The journals and segments of a deployment
//! of many machines lie here.
//!
//! A key is written once, by one writer, so no implementation needs conditional writes (OpenStack Swift has
//! none): what counts is what the catalog says, not what lies in the store.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;

use crate::BoxFuture;

pub mod files;
mod location;
pub mod metrics;
pub mod s3;
pub mod steady;

pub use metrics::ObjectMetrics;
pub use s3::Credentials;
pub use steady::Limits;

use location::Location;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// Longest part of a key, in bytes: what file systems take for a name.
pub const PART_BYTES_MAX: usize = 255;
/// Most entries one [`ObjectStore::list`] returns.
pub const LIST_MAX: usize = 1000;

/// Where an object lies: parts of `A–Z a–z 0–9 . _ - =` joined by `/`, none of them empty, `.` or `..`.
///
/// No key may go on where another ends (`a` and `a/b`): in many stores the first is a file, and the second needs
/// a directory of that name. And where `a/…` stands beside `a-…` or `a.…`, stores that have directories do not list
/// them in the order of their bytes: do not count on it there.
///
/// Cloning is cheap (a reference count).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Arc<str>);

impl ObjectKey {
    /// Checks and takes a key.
    ///
    /// # Errors
    /// [`ObjectError::Invalid`] names the key and the rule.
    pub fn new(key: &str) -> Result<Self, ObjectError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-=".contains(&byte);
        let part = |part: &str| {
            (1..=PART_BYTES_MAX).contains(&part.len())
                && part != "."
                && part != ".."
                && part.bytes().all(known)
        };
        if key.len() <= KEY_BYTES_MAX && key.split('/').all(part) {
            return Ok(Self(key.into()));
        }
        let shown: String = key.chars().take(80).collect();
        Err(ObjectError::Invalid(format!(
            "object key {shown:?} is not valid: use parts of A–Z a–z 0–9 . _ - = joined by /, {PART_BYTES_MAX} bytes \
             each and {KEY_BYTES_MAX} together at the most"
        )))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Its key.
    pub key: ObjectKey,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// The store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// There is no such object: it was removed, or never stored.
    #[error("there is no object {0}")]
    NotFound(ObjectKey),
    /// The request itself is wrong: change it.
    #[error("{0}")]
    Invalid(String),
    /// The store cannot be reached, is too busy, or full, also after several tries. Whether a write happened is
    /// open; the same write may be tried again.
    #[error("the object store does not answer ({reason}): try again in {} s", retry_after.as_secs_f64())]
    Unavailable {
        /// What it said, for the log.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// It refuses what was asked, and will do so again: a person must change its configuration or rights.
    #[error("the object store refuses: {0}")]
    Refused(String),
}

/// The store.
///
/// Every call has a deadline of its own, and is tried again with backoff within it where that is safe.
///
/// Cancel safety: dropping a future that changes something leaves it open whether the change happens, but an
/// object is there whole or not at all.
pub trait ObjectStore: Send + Sync + 'static {
    /// Stores an object; it is durable when this returns. A key that exists is replaced: only ever put the same
    /// bytes again.
    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> BoxFuture<'a, Result<(), ObjectError>>;

    /// A whole object.
    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Bytes, ObjectError>>;

    /// Part of an object, in bytes from its start. An empty range gives nothing without asking.
    ///
    /// # Errors
    /// [`ObjectError::Invalid`] if the object ends before the range does.
    fn get_range<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, ObjectError>>;

    /// Removes an object. One that is not there is removed already.
    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), ObjectError>>;

    /// Objects whose keys begin with `prefix`, in the order of their keys' bytes, those after `after`, at most
    /// `limit` and never more than [`LIST_MAX`]. An empty page is the end. `after` need not exist, but no key may go
    /// on where it ends.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a ObjectKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectEntry>, ObjectError>>;
}

/// A store in another's hands is one, too.
impl<S: ObjectStore + ?Sized> ObjectStore for Arc<S> {
    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> BoxFuture<'a, Result<(), ObjectError>> {
        (**self).put(key, bytes)
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        (**self).get(key)
    }

    fn get_range<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        (**self).get_range(key, range)
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), ObjectError>> {
        (**self).delete(key)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a ObjectKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectEntry>, ObjectError>> {
        (**self).list(prefix, after, limit)
    }
}

/// What a store needs besides its URL.
#[derive(Debug)]
pub struct Opening {
    /// Who asks; needed for `s3://`.
    pub credentials: Option<Credentials>,
    /// How long and how much at once.
    pub limits: Limits,
    /// Where it counts.
    pub metrics: ObjectMetrics,
    /// Where the part `store` is degraded while it does not work.
    pub health: Health,
    /// For the age of leftovers.
    pub clock: Clock,
}

/// Opens the store that a URL names: `file:///DIR`, or `s3://BUCKET/PREFIX?endpoint=URL&region=NAME`. A directory
/// is made if it is not there; S3 is not asked before the first call.
///
/// # Errors
/// [`ObjectError::Invalid`] says what is wrong with the URL, or that credentials are missing; what a directory
/// cannot do is [`ObjectError::Refused`] or [`ObjectError::Unavailable`].
pub fn open(url: &str, opening: Opening) -> Result<Arc<dyn ObjectStore>, ObjectError> {
    let Opening { credentials, limits, metrics, health, clock } = opening;
    Ok(match Location::parse(url)? {
        Location::Files(dir) => {
            Arc::new(steady::Steady::new(files::FileStore::open(&dir, &clock)?, limits, metrics, health))
        }
        Location::S3(location) => {
            let credentials = credentials.ok_or_else(|| {
                ObjectError::Invalid(format!(
                    "the store s3://{} needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                    location.bucket
                ))
            })?;
            let store = s3::S3Store::new(&location, &credentials)?;
            Arc::new(steady::Steady::new(store, limits, metrics, health))
        }
    })
}

/// An empty range, or the wrong way round: answered without asking.
fn trivial(key: &ObjectKey, range: &Range<u64>) -> Option<Result<Bytes, ObjectError>> {
    if range.start > range.end {
        return Some(Err(ObjectError::Invalid(format!(
            "range {}..{} of object {key} ends before it starts: ask for start ≤ end",
            range.start, range.end
        ))));
    }
    range.is_empty().then(|| Ok(Bytes::new()))
}

/// The object ends before the range does.
fn too_short(key: &ObjectKey, range: &Range<u64>) -> ObjectError {
    ObjectError::Invalid(format!(
        "object {key} ends before {}..{} does: ask for less",
        range.start, range.end
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_leave_their_place() {
        for good in ["a", "journal/0af3/00000000000000000001.tro", "date=2026-11-25/x_1-2.parquet"] {
            assert_eq!(ObjectKey::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            "../a",
            "a/../b",
            "a/.",
            "a b",
            "ä",
            "a\0",
            &"k".repeat(256),
            &"k/".repeat(257),
        ] {
            assert!(matches!(ObjectKey::new(bad), Err(ObjectError::Invalid(_))), "{bad:?}");
        }
    }
}
