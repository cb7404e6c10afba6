//! Rate, errors and duration of requests, by route.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::reads::ReadKind;

/// Upper bounds of the duration buckets, in seconds: from an answer out of the index to a long download.
const DURATION_BUCKETS: [f64; 11] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 600.0];

/// Both label sets are closed: routes are patterns, never paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabels {
    pub route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub route: &'static str,
    /// `2xx` to `5xx`; `aborted` if the body did not reach its end.
    pub status: &'static str,
}

/// Closed, too: see [`ReadKind`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReadLabels {
    pub kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EndLabels {
    pub reason: &'static str,
}

/// The metrics of the HTTP API. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct ApiMetrics {
    pub(super) requests: Family<RequestLabels, Counter>,
    pub(super) duration: Family<RouteLabels, Histogram>,
    pub(super) in_flight: Gauge,
    pub(super) connections: Gauge,
    pub(super) connections_max: Gauge,
    pub(super) connections_refused: Counter,
    pub(super) body_bytes: Counter,
    pub(super) frames: Counter,
    pub(super) reads: Family<ReadLabels, Gauge>,
    pub(super) reads_max: Family<ReadLabels, Gauge>,
    pub(super) reads_refused: Family<ReadLabels, Counter>,
    pub(super) live_streams: Gauge,
    pub(super) live_streams_max: Gauge,
    pub(super) live_ends: Family<EndLabels, Counter>,
}

impl ApiMetrics {
    /// How many reads of a kind there are.
    pub(super) fn reads_of(&self, kind: ReadKind) -> Gauge {
        self.reads.get_or_create(&ReadLabels { kind: kind.label() }).clone()
    }

    /// A live stream has ended.
    pub(super) fn count_live_end(&self, reason: &'static str) {
        self.live_ends.get_or_create(&EndLabels { reason }).inc();
    }

    /// Enters them in a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            connections_max: Gauge::default(),
            connections_refused: Counter::default(),
            body_bytes: Counter::default(),
            frames: Counter::default(),
            reads: Family::default(),
            reads_max: Family::default(),
            reads_refused: Family::default(),
            live_streams: Gauge::default(),
            live_streams_max: Gauge::default(),
            live_ends: Family::default(),
        };
        let all = registry.sub_registry_with_prefix("trough_eater_api");
        all.register(
            "requests",
            "Requests answered, by route and status class; aborted are those whose body did not reach its end",
            metrics.requests.clone(),
        );
        all.register(
            "request_duration_seconds",
            "From the request's head to the end of the answer's body",
            metrics.duration.clone(),
        );
        all.register("requests_in_flight", "Requests being answered", metrics.in_flight.clone());
        all.register("connections", "Open connections", metrics.connections.clone());
        all.register("connections_max", "How many there may be", metrics.connections_max.clone());
        all.register(
            "connections_refused",
            "Connections closed at once because there were too many",
            metrics.connections_refused.clone(),
        );
        all.register("body_bytes", "Bytes of bodies handed to connections", metrics.body_bytes.clone());
        all.register("frames", "Frames written into answers", metrics.frames.clone());
        all.register("reads", "What is being read or sent, by kind", metrics.reads.clone());
        all.register("reads_max", "How many there may be, by kind", metrics.reads_max.clone());
        all.register(
            "reads_refused",
            "Requests refused because too many of their kind were going on",
            metrics.reads_refused.clone(),
        );
        all.register("live_streams", "Open live streams", metrics.live_streams.clone());
        all.register("live_streams_max", "How many there may be", metrics.live_streams_max.clone());
        all.register(
            "live_ends",
            "Live streams that ended by themselves, by reason; slow are those whose client did not take what was there",
            metrics.live_ends.clone(),
        );
        metrics
    }
}
