//! The end of every request: one log line, and the figures.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http::{Method, Response, StatusCode};
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;
use trough_runtime::request_id::RequestId;
use trough_store::ReaderName;

use super::metrics::{ApiMetrics, RequestLabels, RouteLabels};

/// What is known of a request. Dropped when its answer has been sent or given up; that is when it is logged.
pub(super) struct Tracker {
    method: Method,
    route: &'static str,
    id: RequestId,
    metrics: ApiMetrics,
    began: Instant,
    status: Option<StatusCode>,
    reader: Option<ReaderName>,
    bytes: u64,
    whole: bool,
}

impl Tracker {
    /// A request that begins now.
    pub(super) fn begin(method: Method, route: &'static str, id: RequestId, metrics: ApiMetrics) -> Self {
        metrics.in_flight.inc();
        let began = Instant::now();
        Self { method, route, id, metrics, began, status: None, reader: None, bytes: 0, whole: false }
    }

    /// The request has this answer; what is left is to send its body.
    pub(super) fn answered(
        mut self,
        response: Response<Body>,
        reader: Option<ReaderName>,
    ) -> Response<TrackedBody> {
        self.status = Some(response.status());
        self.reader = reader;
        // Nothing is sent after the head then, so there is no end to be seen.
        self.whole = self.method == Method::HEAD || response.body().is_end_stream();
        response.map(|body| TrackedBody { body, tracker: self })
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let status = match self.status.map(|status| status.as_u16()).filter(|_| self.whole) {
            None => "aborted",
            Some(..300) => "2xx",
            Some(300..400) => "3xx",
            Some(400..500) => "4xx",
            Some(_) => "5xx",
        };
        let took = self.began.elapsed();
        let Self { route, metrics, .. } = &*self;
        metrics.in_flight.dec();
        metrics.body_bytes.inc_by(self.bytes);
        metrics.requests.get_or_create(&RequestLabels { route, status }).inc();
        metrics.duration.get_or_create(&RouteLabels { route }).observe(took.as_secs_f64());
        // Never the path or the query: they hold what clients put there by mistake, tokens included.
        tracing::info!(
            method = %self.method,
            route,
            status = self.status.map_or(0, |status| status.as_u16()),
            whole = self.whole,
            bytes = self.bytes,
            duration_ms = took.as_secs_f64() * 1e3,
            reader = self.reader.as_ref().map(ReaderName::as_str),
            request_id = %self.id,
            "request"
        );
    }
}

/// A body whose bytes are counted and whose end is noted.
pub struct TrackedBody {
    body: Body,
    tracker: Tracker,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(None) => self.tracker.whole = true,
            Poll::Ready(Some(Ok(frame))) => {
                self.tracker.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.tracker.whole |= self.body.is_end_stream();
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
