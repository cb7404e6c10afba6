//! How many reads of the journal may go on at a time, and where they run.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::Full;
use hyper::body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::metrics::{ApiMetrics, ReadLabels};
use super::refusal::Refusal;

/// When a client that found all places taken may come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What takes a thread or memory for as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadKind {
    /// Pages of anything.
    Pages,
    /// Answers that are written while they are read.
    Streams,
    /// Searches for encounters.
    Searches,
    /// Bodies of rules that are received.
    RuleBodies,
    /// Live streams, which have a gauge of their own.
    LiveStreams,
}

impl ReadKind {
    /// Its label in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Streams => "streams",
            Self::Searches => "searches",
            Self::RuleBodies => "rule_bodies",
            Self::LiveStreams => "live_streams",
        }
    }
}

/// A number of places, each for one read with its thread and its memory.
pub(super) struct Reads {
    kind: ReadKind,
    max: usize,
    places: Arc<Semaphore>,
    gauge: Gauge,
    refused: Counter,
}

/// One of the places, until dropped.
#[derive(Debug)]
pub(super) struct ReadPermit {
    _place: OwnedSemaphorePermit,
    gauge: Gauge,
}

impl Drop for ReadPermit {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Reads {
    pub(super) fn new(kind: ReadKind, max: usize, metrics: &ApiMetrics) -> Self {
        let labels = ReadLabels { kind: kind.label() };
        let (gauge, limit) = match kind {
            ReadKind::LiveStreams => (metrics.live_streams.clone(), metrics.live_streams_max.clone()),
            _ => (metrics.reads_of(kind), metrics.reads_max.get_or_create(&labels).clone()),
        };
        limit.set(i64::try_from(max).unwrap_or(i64::MAX));
        let refused = metrics.reads_refused.get_or_create(&labels).clone();
        Self { kind, max, places: Arc::new(Semaphore::new(max)), gauge, refused }
    }

    /// A place, if one is free. Nobody waits: a client that is told to come back costs nothing meanwhile.
    ///
    /// # Errors
    /// [`Refusal::Busy`].
    pub(super) fn permit(&self) -> Result<ReadPermit, Refusal> {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.refused.inc();
            let what = self.kind.label().replace('_', " ");
            let what = format!("{} {what} are going on already, which is the most", self.max);
            return Err(Refusal::Busy { what, retry_after: RETRY_AFTER });
        };
        self.gauge.inc();
        Ok(ReadPermit { _place: place, gauge: self.gauge.clone() })
    }
}

/// Runs `work` on a thread that may block, in the span of the request, and waits for it.
///
/// Dropping the future leaves the work to its end, which is why pages are bounded.
///
/// # Errors
/// [`Refusal::Broken`] if it panicked.
pub(super) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work)).await.map_err(|error| {
        tracing::error!(%error, "a read died");
        Refusal::Broken("reading broke off; the server's log says why".to_owned())
    })
}

/// A whole body that keeps its place until it has been sent: a slow client holds the memory as long.
pub(super) struct Held {
    body: Full<Bytes>,
    _permit: ReadPermit,
}

impl Held {
    pub(super) fn body(bytes: impl Into<Bytes>, permit: ReadPermit) -> Body {
        Body::new(Self { body: Full::new(bytes.into()), _permit: permit })
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
