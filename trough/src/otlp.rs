//! Spans on their way to a collector: OTLP over HTTP, in protobuf
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

use std::collections::BTreeMap;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as OtlpSpan, Status};
use prometheus_client::metrics::counter::Counter;
use prost::Message as _;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use trough_runtime::trace::{Side, Span, Value};

use crate::http;

/// Most spans of one request.
const SPANS_MAX: usize = 512;
/// How long spans are gathered; while the process stops, how long for its last ones.
const GATHER: Duration = Duration::from_secs(1);
const GATHER_LAST: Duration = Duration::from_millis(50);
/// What a collector may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a request is repeated before its spans are given up.
const RETRIES: usize = 3;

/// Sends spans.
pub struct Exporter {
    /// Where to: the collector's address with its path.
    pub url: Url,
    /// With which client.
    pub client: Client,
    /// What is to be sent.
    pub spans: mpsc::Receiver<Span>,
    /// Spans that the collector has taken.
    pub sent: Counter,
    /// Spans that it has not.
    pub dropped: Counter,
    /// When the process stops.
    pub draining: CancellationToken,
}

/// Why a collector has not taken spans.
#[derive(Debug)]
struct Refused {
    why: String,
    again: bool,
}

impl Exporter {
    /// Sends until nobody makes spans any more. A collector that does not take them costs spans, and nothing else.
    pub async fn run(mut self) {
        let mut well = true;
        let mut gathered = Vec::with_capacity(SPANS_MAX);
        while self.spans.recv_many(&mut gathered, SPANS_MAX).await > 0 {
            self.gather(&mut gathered).await;
            let count = gathered.len() as u64;
            match self.send(std::mem::take(&mut gathered)).await {
                Ok(()) => {
                    self.sent.inc_by(count);
                    well = true;
                }
                Err(Refused { why, .. }) => {
                    self.dropped.inc_by(count);
                    // Once for each time that it turns away.
                    if std::mem::take(&mut well) {
                        let (host, port) = (self.url.host_str(), self.url.port());
                        tracing::warn!(host, port, why, "the collector takes no spans: they are dropped");
                    }
                }
            }
        }
    }

    /// Waits for more to be sent with what there is.
    async fn gather(&mut self, gathered: &mut Vec<Span>) {
        let draining = self.draining.clone();
        let time = async {
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = draining.cancelled() => tokio::time::sleep(GATHER_LAST).await,
            }
        };
        tokio::pin!(time);
        while gathered.len() < SPANS_MAX {
            let room = SPANS_MAX - gathered.len();
            tokio::select! {
                () = &mut time => return,
                more = self.spans.recv_many(gathered, room) => if more == 0 { return },
            }
        }
    }

    async fn send(&self, spans: Vec<Span>) -> Result<(), Refused> {
        let body = request(spans).encode_to_vec();
        let send = || async {
            let request = self.client.post(self.url.clone()).timeout(TIMEOUT);
            let request = request.header(CONTENT_TYPE, "application/x-protobuf").body(body.clone());
            let answer = request.send().await;
            let answer =
                answer.map_err(|error| Refused { why: http::plain(error).to_string(), again: true })?;
            let status = answer.status();
            if status.is_success() {
                return Ok(());
            }
            // The specification's list.
            let again = matches!(status.as_u16(), 429 | 502 | 503 | 504);
            Err(Refused { why: format!("it answers {status}"), again })
        };
        let schedule = ExponentialBuilder::default().with_jitter().with_max_times(RETRIES);
        send.retry(schedule).when(|refused| refused.again).await
    }
}

/// What a collector is sent: the spans of each service under its name.
fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let mut services: BTreeMap<&'static str, Vec<OtlpSpan>> = BTreeMap::new();
    for span in spans {
        services.entry(span.service).or_default().push(otlp(span));
    }
    let of_service = |(service, spans): (&str, Vec<OtlpSpan>)| ResourceSpans {
        resource: Some(Resource {
            attributes: vec![
                attribute("service.name", service.into()),
                attribute("service.version", env!("CARGO_PKG_VERSION").into()),
            ],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope { name: "trough".into(), ..InstrumentationScope::default() }),
            spans,
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: services.into_iter().map(of_service).collect() }
}

fn otlp(span: Span) -> OtlpSpan {
    let kind = match span.side {
        Side::Client => SpanKind::Client,
        Side::Server => SpanKind::Server,
        Side::Internal => SpanKind::Internal,
    };
    let status = span.failed.map(|message| Status { message, code: StatusCode::Error.into() });
    OtlpSpan {
        trace_id: span.context.trace.to_be_bytes().to_vec(),
        span_id: span.context.span.to_be_bytes().to_vec(),
        parent_span_id: span.parent.map_or_else(Vec::new, |parent| parent.to_be_bytes().to_vec()),
        name: span.name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: span.began.saturating_mul(1000),
        end_time_unix_nano: span.ended.max(span.began).saturating_mul(1000),
        attributes: span.attributes.into_iter().map(|(name, value)| attribute(name, value)).collect(),
        status,
        ..OtlpSpan::default()
    }
}

fn attribute(name: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text),
        // Numbers of frames are at most 2^53 - 1.
        Value::Number(number) => any_value::Value::IntValue(i64::try_from(number).unwrap_or(i64::MAX)),
    };
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trough_runtime::trace::TraceContext;

    #[test]
    fn spans_come_under_their_services() {
        let span = |service, failed| Span {
            service,
            name: "feed",
            side: Side::Client,
            context: TraceContext { trace: 1 << 120, span: 2 },
            parent: Some(3),
            began: 1_000_001,
            ended: 1_000_005,
            attributes: vec![("trough.device", "bus".into()), ("trough.frames", 7.into())],
            failed,
        };
        let spans = vec![span("b", None), span("a", Some("no".to_owned())), span("b", None)];
        let bytes = request(spans).encode_to_vec();
        let read = ExportTraceServiceRequest::decode(&bytes[..]).unwrap();
        let counts: Vec<_> = read.resource_spans.iter().map(|of| of.scope_spans[0].spans.len()).collect();
        assert_eq!(counts, [1, 2]);
        let first = &read.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(first.trace_id, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            (&first.span_id[..], &first.parent_span_id[7..]),
            (&[0, 0, 0, 0, 0, 0, 0, 2][..], &[3][..])
        );
        assert_eq!((first.start_time_unix_nano, first.end_time_unix_nano), (1_000_001_000, 1_000_005_000));
        assert_eq!(first.status.as_ref().unwrap().message, "no");
        assert_eq!(read.resource_spans[1].scope_spans[0].spans[0].status, None);
    }
}
