//! Whether a service traces, as options say.

use clap::Args;
use prometheus_client::metrics::counter::Counter;
use reqwest::Url;
use trough_runtime::trace::Tracer;

use crate::faults::Faults;
use crate::http;
use crate::opt;
use crate::otlp::Exporter;
use crate::service::Chassis;

/// Where traces go.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Traces")]
pub struct TraceArgs {
    /// A collector that takes spans by OTLP over HTTP, as http://collector:4318; /v1/traces is added [default: none,
    /// nothing is traced]
    #[arg(long, env = opt::OTLP.env, hide_env_values = true, value_name = "URL")]
    otlp: Option<String>,
    /// Of so many runs of frames one is traced: the same ones by all processes, if they are given the same number
    #[arg(long, env = opt::TRACE_EVERY.env, hide_env_values = true, value_name = "RUNS", default_value = "1000")]
    trace_every: String,
}

/// The options, checked.
#[derive(Debug, Clone, Default)]
pub struct TraceSettings {
    to: Option<Url>,
    every: u64,
}

impl TraceArgs {
    /// Checks them.
    pub fn check(&self, faults: &mut Faults) -> Option<TraceSettings> {
        let every = faults.number(opt::TRACE_EVERY, &self.trace_every, "runs", 1..=1_000_000_000);
        let to = match &self.otlp {
            None => None,
            Some(url) => {
                let base = faults.url(opt::OTLP, url, &["http", "https"], "http://collector:4318")?;
                Some(http::join(&base, "/v1/traces"))
            }
        };
        Some(TraceSettings { to, every: every? })
    }
}

impl TraceSettings {
    /// Starts to send spans, if there is anybody to send them to.
    ///
    /// # Errors
    /// The client cannot be made: the system's certificates cannot be read.
    pub fn start(self, chassis: &mut Chassis) -> anyhow::Result<Tracer> {
        let Some(url) = self.to else { return Ok(Tracer::off()) };
        let (sent, dropped) = (Counter::default(), Counter::default());
        let metrics = &mut chassis.metrics;
        metrics.register("trough_trace_spans_sent", "Spans that the collector has taken", sent.clone());
        metrics.register("trough_trace_spans_dropped", "Spans that it has not", dropped.clone());
        let (tracer, spans) = Tracer::new(self.every, chassis.clock.clone(), dropped.clone());
        let (client, draining) = (http::client_that_stays(None)?, chassis.shutdown.draining.clone());
        tokio::spawn(Exporter { url, client, spans, sent, dropped, draining }.run());
        Ok(tracer)
    }
}
