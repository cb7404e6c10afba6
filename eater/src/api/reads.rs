//! How many reads of the journal may go on at a time, and where they run.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::Full;
use hyper::body::{Frame, SizeHint};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::metrics::ApiMetrics;
use super::refusal::Refusal;

/// When a client that found all places taken may come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A number of places, each for one read with its thread and its memory.
pub(super) struct Reads {
    what: &'static str,
    max: usize,
    places: Arc<Semaphore>,
    metrics: ApiMetrics,
    gauge: Gauge,
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
    pub(super) fn new(what: &'static str, max: usize, metrics: ApiMetrics) -> Self {
        let gauge = metrics.reads.clone();
        Self::counted(what, max, metrics, gauge)
    }

    /// The same, counted apart from other reads.
    pub(super) fn counted(what: &'static str, max: usize, metrics: ApiMetrics, gauge: Gauge) -> Self {
        Self { what, max, places: Arc::new(Semaphore::new(max)), metrics, gauge }
    }

    /// A place, if one is free. Nobody waits: a client that is told to come back costs nothing meanwhile.
    ///
    /// # Errors
    /// [`Refusal::Busy`].
    pub(super) fn permit(&self) -> Result<ReadPermit, Refusal> {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.metrics.reads_refused.inc();
            let what = format!("{} {} are being read already, which is the most", self.max, self.what);
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
