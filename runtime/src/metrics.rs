//! Metrics in the OpenMetrics text format.
//!
//! Every service registers its own on one [`Registry`] at start; [`Metrics`] then only encodes. Names follow
//! Prometheus: `trough_<part>_<what>_<unit>`, and the registry adds `_total` to counters by itself.

use std::sync::Arc;

pub use prometheus_client::registry::Registry;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;

use crate::clock::Clock;
use crate::process::ProcessMetrics;

/// What the body of `/metrics` is (OpenMetrics 1.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A registry that already has the process's own figures and `trough_build_info{version}`.
pub fn new_registry(version: &'static str, clock: &Clock) -> Registry {
    let mut registry = Registry::default();
    registry.register("trough_build", "What is running", Info::new(vec![("version", version)]));
    registry.register_collector(Box::new(ProcessMetrics::new(clock)));
    registry
}

/// All metrics of the process, complete and ready to be scraped. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Registry>);

impl Metrics {
    /// Closes the registration.
    pub fn new(registry: Registry) -> Self {
        Self(Arc::new(registry))
    }

    /// The metrics as text.
    ///
    /// # Errors
    /// If a metric refuses to be written; that is a fault of the metric's own encoding.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        encode(&mut text, &self.0)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn encodes_the_process_the_build_and_what_was_registered() {
        let mut registry = new_registry("1.2.3", &Clock::manual(1_500_000));
        let frames: Counter = Counter::default();
        registry.register("trough_test_frames", "Frames", frames.clone());
        let metrics = Metrics::new(registry);
        frames.inc_by(3);
        let text = metrics.encode().unwrap();
        for wanted in [
            "trough_build_info{version=\"1.2.3\"} 1\n",
            "process_start_time_seconds 1.5\n",
            "process_cpu_seconds_total ",
            "process_open_fds ",
            "process_max_fds ",
            "trough_test_frames_total 3\n",
            "# EOF\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is missing in:\n{text}");
        }
        let rss = text.lines().find_map(|l| l.strip_prefix("process_resident_memory_bytes ")).unwrap();
        assert!(rss.parse::<u64>().unwrap() > 100_000);
    }
}
