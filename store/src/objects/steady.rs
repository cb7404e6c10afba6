//! A store that is tried again: deadlines, backoff, and bounds on what is in flight, over any other.
//!
//! Writes and reads have bounds of their own, so that no crowd of readers delays an acknowledgement.

use std::ops::Range;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout_at};
use trough_runtime::health::Health;

use super::metrics::{ObjectMetrics, Operation};
use super::{LIST_MAX, ObjectEntry, ObjectError, ObjectKey, ObjectStore};
use crate::BoxFuture;

mod watch;

use watch::Watch;

const MIB: u64 = 1 << 20;
/// What a `get` counts for, as nobody knows the size yet.
const GET_BYTES: u64 = 4 * MIB;
/// What a page of a listing counts for.
const LIST_BYTES: u64 = LIST_MAX as u64 * 512;
/// Each MiB of a request gives all its deadlines so much more.
const ALLOWANCE_PER_MIB: Duration = Duration::from_secs(1);

/// How long a call may take, and how much may be in flight.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Deadline of one request; for each MiB of it, a second more.
    pub attempt: Duration,
    /// Deadline of a call with all its tries and waits; for each MiB, a second more.
    pub call: Duration,
    /// The first wait before another try. The next is twice as long, and each up to twice that by chance.
    pub backoff_min: Duration,
    /// No wait is longer, but for chance.
    pub backoff_max: Duration,
    /// Requests in flight: so many writes, and so many reads.
    pub requests: usize,
    /// Bytes in flight, in writes and again in reads. A single request may be larger.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(5),
            call: Duration::from_secs(20),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(2),
            requests: 32,
            bytes: 64 * MIB,
        }
    }
}

/// The store: what [`ObjectError::Unavailable`] of the one below says is tried again until the deadline. Every
/// operation is safe to repeat, as a key only ever gets the same bytes.
#[derive(Debug)]
pub struct Steady<S> {
    store: S,
    limits: Limits,
    metrics: ObjectMetrics,
    watch: Watch,
    writes: Lane,
    reads: Lane,
}

/// What may be in flight in one direction.
#[derive(Debug)]
struct Lane {
    requests: Semaphore,
    kib: Semaphore,
    kib_max: u32,
}

/// Which lane, by its place in [`Watch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Writes,
    Reads,
}

/// One call.
#[derive(Debug, Clone, Copy)]
struct Call {
    operation: &'static str,
    direction: Direction,
    bytes: u64,
}

impl Lane {
    fn new(limits: &Limits) -> Self {
        let kib_max = u32::try_from(limits.bytes.div_ceil(1024)).unwrap_or(u32::MAX).max(1);
        let kib = Semaphore::new(usize::try_from(kib_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS));
        Self { requests: Semaphore::new(limits.requests.max(1)), kib, kib_max }
    }

    /// Waits for its turn. Nobody is overtaken, so that a large request is not starved by small ones.
    async fn enter(&self, bytes: u64) -> (SemaphorePermit<'_>, SemaphorePermit<'_>) {
        const OPEN: &str = "nobody closes these semaphores";
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.kib_max);
        let request = self.requests.acquire().await.expect(OPEN);
        (request, self.kib.acquire_many(kib).await.expect(OPEN))
    }
}

/// Counts as long as it is there: also when a call is dropped.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl<S: ObjectStore> Steady<S> {
    /// Wraps a store. `health` gets the part `store`.
    pub fn new(store: S, limits: Limits, metrics: ObjectMetrics, health: Health) -> Self {
        let (writes, reads) = (Lane::new(&limits), Lane::new(&limits));
        Self { store, limits, metrics, watch: Watch::new(health), writes, reads }
    }

    /// Tries until it succeeds, is refused, or the deadline is near.
    async fn call<'a, T>(
        &'a self,
        call: Call,
        size: fn(&T) -> u64,
        ask: impl Fn(&'a S) -> BoxFuture<'a, Result<T, ObjectError>>,
    ) -> Result<T, ObjectError> {
        let deadline = Instant::now() + self.limits.call + allowance(call.bytes);
        let mut waits = ExponentialBuilder::new()
            .with_min_delay(self.limits.backoff_min)
            .with_max_delay(self.limits.backoff_max)
            .without_max_times()
            .with_jitter()
            .build();
        let label = Operation { operation: call.operation };
        loop {
            let error = match self.attempt(call, deadline, &label, &ask).await {
                Ok(value) => {
                    self.metrics.bytes.get_or_create(&label).inc_by(size(&value));
                    return Ok(value);
                }
                Err(error) => error,
            };
            let wait = waits.next().unwrap_or(self.limits.backoff_max);
            if !matches!(error, ObjectError::Unavailable { .. }) || Instant::now() + wait >= deadline {
                self.watch.gave_up(call.direction, &error);
                return Err(error);
            }
            sleep(wait).await;
            self.metrics.retries.get_or_create(&label).inc();
        }
    }

    /// One try, with its turn.
    async fn attempt<'a, T>(
        &'a self,
        call: Call,
        deadline: Instant,
        label: &Operation,
        ask: &impl Fn(&'a S) -> BoxFuture<'a, Result<T, ObjectError>>,
    ) -> Result<T, ObjectError> {
        let lane = match call.direction {
            Direction::Writes => &self.writes,
            Direction::Reads => &self.reads,
        };
        let waiting = Counted::new(self.metrics.waiting.get_or_create_owned(label));
        let Ok(_turn) = timeout_at(deadline, lane.enter(call.bytes)).await else {
            return Err(self.unavailable("too much waits for it".to_owned()));
        };
        drop(waiting);
        let _in_flight = Counted::new(self.metrics.in_flight.get_or_create_owned(label));
        self.metrics.requests.get_or_create(label).inc();
        let began = Instant::now();
        let until = deadline.min(began + self.limits.attempt + allowance(call.bytes));
        let result = timeout_at(until, ask(&self.store)).await.unwrap_or_else(|_| {
            Err(self.unavailable(format!("no answer within {:.1} s", (until - began).as_secs_f64())))
        });
        self.metrics.seconds.get_or_create(label).observe(began.elapsed().as_secs_f64());
        match &result {
            Err(error @ (ObjectError::Unavailable { .. } | ObjectError::Refused(_))) => {
                self.metrics.failures.get_or_create(label).inc();
                self.watch.failed(call.direction, error);
            }
            // It answered, and that is what counts.
            Ok(_) | Err(ObjectError::NotFound(_) | ObjectError::Invalid(_)) => {
                self.watch.answered(call.direction);
            }
        }
        result
    }

    fn unavailable(&self, reason: String) -> ObjectError {
        ObjectError::Unavailable { reason, retry_after: self.limits.backoff_max }
    }
}

fn allowance(bytes: u64) -> Duration {
    let mib = u32::try_from(bytes / MIB).unwrap_or(u32::MAX);
    ALLOWANCE_PER_MIB.saturating_mul(mib).min(Duration::from_secs(3600))
}

impl<S: ObjectStore> ObjectStore for Steady<S> {
    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> BoxFuture<'a, Result<(), ObjectError>> {
        let call = Call { operation: "put", direction: Direction::Writes, bytes: bytes.len() as u64 };
        Box::pin(async move {
            self.call(call, |()| 0, |store| store.put(key, bytes.clone())).await?;
            self.metrics.bytes.get_or_create(&Operation { operation: call.operation }).inc_by(call.bytes);
            Ok(())
        })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        let call = Call { operation: "get", direction: Direction::Reads, bytes: GET_BYTES };
        Box::pin(self.call(call, |bytes: &Bytes| bytes.len() as u64, |store| store.get(key)))
    }

    fn get_range<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        if let Some(answer) = super::trivial(key, &range) {
            return Box::pin(std::future::ready(answer));
        }
        let bytes = range.end - range.start;
        let call = Call { operation: "get_range", direction: Direction::Reads, bytes };
        Box::pin(async move {
            let ask = |store: &'a S| store.get_range(key, range.clone());
            self.call(call, |bytes: &Bytes| bytes.len() as u64, ask).await
        })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), ObjectError>> {
        let call = Call { operation: "delete", direction: Direction::Writes, bytes: 0 };
        Box::pin(self.call(call, |()| 0, |store| store.delete(key)))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a ObjectKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectEntry>, ObjectError>> {
        let call = Call { operation: "list", direction: Direction::Reads, bytes: LIST_BYTES };
        Box::pin(self.call(call, |_: &Vec<ObjectEntry>| 0, move |store| store.list(prefix, after, limit)))
    }
}
