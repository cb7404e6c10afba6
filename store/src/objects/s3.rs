//! Objects in a bucket, over the S3 API: Amazon's, SeaweedFS's, OpenStack Swift's.
//!
//! This is one request per call, without a second try: [`Steady`](super::steady::Steady) has those. Paths, not
//! host names, carry the bucket; nothing conditional is asked, and nothing but PUT, GET, DELETE and
//! ListObjectsV2 without a delimiter.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use ::s3::error::S3Error;
use ::s3::{Bucket, Region, creds};
use bytes::Bytes;
use trough_runtime::secret::Secret;

use super::location::S3Location;
use super::{LIST_MAX, ObjectEntry, ObjectError, ObjectKey, ObjectStore, too_short, trivial};
use crate::BoxFuture;

mod put;
#[cfg(test)]
mod tests;

/// When to try again what the store did not do.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest error code that is taken over from an answer, in bytes.
const CODE_BYTES_MAX: usize = 64;

/// Who asks the store. Both halves print as `***`.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The name of the key.
    pub access_key: Secret<String>,
    /// What signs.
    pub secret_key: Secret<String>,
}

/// The store. Cloning shares the connections.
#[derive(Clone)]
pub struct S3Store {
    bucket: Box<Bucket>,
    /// Empty, or with a `/` at its end.
    prefix: String,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the bucket: it holds the credentials.
        f.debug_struct("S3Store").field("bucket", &self.bucket.name).field("prefix", &self.prefix).finish()
    }
}

impl S3Store {
    /// Prepares requests; nothing is resolved or connected before the first.
    ///
    /// # Errors
    /// [`ObjectError::Invalid`] if no client can be made of this.
    pub(super) fn new(location: &S3Location, credentials: &Credentials) -> Result<Self, ObjectError> {
        // For the whole process; nothing else uses this crate. Its own tries wait for whole seconds.
        ::s3::set_retries(0);
        let region = Region::Custom { region: location.region.clone(), endpoint: location.endpoint.clone() };
        // With both given, neither environment nor files are asked.
        let (access_key, secret_key) = (credentials.access_key.expose(), credentials.secret_key.expose());
        let credentials = creds::Credentials::new(Some(access_key), Some(secret_key), None, None, None)
            .map_err(|error| unusable(&error.to_string()))?;
        let bucket = Bucket::new(&location.bucket, region, credentials)
            .map_err(|error| unusable(&error.to_string()))?
            .with_path_style();
        Ok(Self { bucket, prefix: location.prefix.clone() })
    }

    fn path(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.prefix)
    }

    async fn list_some(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectEntry>, ObjectError> {
        let what = || format!("LIST {}{prefix}", self.prefix);
        let limit = limit.min(LIST_MAX);
        let mut after = after.map(|key| self.path(key));
        let mut entries = Vec::new();
        if limit == 0 {
            return Ok(entries);
        }
        loop {
            let prefix = format!("{}{prefix}", self.prefix);
            let page = self.bucket.list_page(prefix, None, None, after.clone(), Some(limit)).await;
            let (page, _) = page.map_err(|error| Fault::of(error).error(&what()))?;
            let last = page.contents.last().map(|object| object.key.clone());
            entries.extend(page.contents.into_iter().filter_map(|object| {
                // What is no key of ours was put there by somebody else.
                let key = ObjectKey::new(object.key.strip_prefix(&self.prefix)?).ok()?;
                Some(ObjectEntry { key, bytes: object.size })
            }));
            // An empty page would say that this is the end.
            match last {
                Some(last) if entries.is_empty() && page.is_truncated && Some(&last) > after.as_ref() => {
                    after = Some(last);
                }
                _ => return Ok(entries),
            }
        }
    }
}

impl ObjectStore for S3Store {
    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            let stored = put::put(&self.bucket, &self.path(key), bytes).await;
            stored.map_err(|error| Fault::of(error).error(&format!("PUT {key}")))
        })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        Box::pin(async move {
            match self.bucket.get_object(self.path(key)).await {
                Ok(answer) => Ok(answer.into_bytes()),
                Err(error) => match Fault::of(error) {
                    Fault::NoObject => Err(ObjectError::NotFound(key.clone())),
                    fault => Err(fault.error(&format!("GET {key}"))),
                },
            }
        })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        if let Some(answer) = trivial(key, &range) {
            return Box::pin(std::future::ready(answer));
        }
        Box::pin(async move {
            let what = || format!("GET {key} {}..{}", range.start, range.end);
            // Theirs has its end inside.
            let asked = self.bucket.get_object_range(self.path(key), range.start, Some(range.end - 1)).await;
            let answer = match asked.map_err(Fault::of) {
                Ok(answer) => answer,
                Err(Fault::NoObject) => return Err(ObjectError::NotFound(key.clone())),
                Err(Fault::NoRange) => return Err(too_short(key, &range)),
                Err(fault) => return Err(fault.error(&what())),
            };
            // 200 is the whole object: a proxy may have dropped the header that asked for a part.
            let whole = answer.status_code() == 200;
            let bytes = answer.into_bytes();
            let wanted = range.end - range.start;
            match bytes.len() as u64 {
                got if got == wanted && (!whole || range.start == 0) => Ok(bytes),
                got if got < wanted => Err(too_short(key, &range)),
                _ => Err(Fault::Never("a whole object instead of a part".into()).error(&what())),
            }
        })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            match self.bucket.delete_object(self.path(key)).await.map_err(Fault::of) {
                Ok(_) | Err(Fault::NoObject) => Ok(()),
                Err(fault) => Err(fault.error(&format!("DELETE {key}"))),
            }
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a ObjectKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectEntry>, ObjectError>> {
        Box::pin(self.list_some(prefix, after, limit))
    }
}

/// What an answer means, or that there is none.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// 404 for the key.
    NoObject,
    /// 416.
    NoRange,
    /// May be otherwise in a moment.
    Again(String),
    /// Will not.
    Never(String),
}

impl Fault {
    fn of(error: S3Error) -> Self {
        match error {
            S3Error::HttpFailWithBody(status, body) => Self::of_status(status, code(&body)),
            S3Error::Reqwest(error) if error.is_builder() => Self::Never(innermost(&error)),
            S3Error::Reqwest(error) => Self::Again(innermost(&error)),
            S3Error::SerdeXml(_) | S3Error::Utf8(_) => Self::Again("an answer that is not S3's".into()),
            other => Self::Never(other.to_string()),
        }
    }

    fn of_status(status: u16, code: &str) -> Self {
        let said = format!("{status} {code}").trim_end().to_owned();
        match (status, code) {
            (404, "NoSuchBucket") => Self::Never(said),
            (404, _) => Self::NoObject,
            (416, _) => Self::NoRange,
            // Amazon's way to say 408.
            (400, "RequestTimeout") => Self::Again(said),
            (501 | 505, _) => Self::Never(said),
            (408 | 409 | 425 | 429 | 500.., _) => Self::Again(said),
            _ => Self::Never(said),
        }
    }

    /// The error of a request for which a missing object makes no sense.
    fn error(self, what: &str) -> ObjectError {
        match self {
            Self::Again(said) => ObjectError::Unavailable { reason: said, retry_after: RETRY_AFTER },
            Self::Never(said) => ObjectError::Refused(format!(
                "{said} to {what}: check bucket, credentials, their rights, and the clock"
            )),
            Self::NoObject => Self::Never("404".into()).error(what),
            Self::NoRange => Self::Never("416".into()).error(what),
        }
    }
}

/// The code in an error's XML; empty if there is none that looks like one.
fn code(body: &str) -> &str {
    let inside = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let code = inside.map_or("", |(code, _)| code);
    let looks_right = code.len() <= CODE_BYTES_MAX && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if looks_right { code } else { "" }
}

/// The cause of a failed connection without the URL that it failed for.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn unusable(reason: &str) -> ObjectError {
    ObjectError::Invalid(format!("no S3 client can be made ({reason}): check endpoint and credentials"))
}
