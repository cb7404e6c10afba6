//! The process's own figures, read from /proc when they are asked for.
//!
//! Names are those that every Prometheus client library uses, so that existing dashboards fit.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};

use crate::clock::Clock;

/// Collects `process_*`. A figure that /proc does not give (another system, a locked-down container) is left
/// out of the scrape.
#[derive(Debug)]
pub struct ProcessMetrics {
    start_seconds: f64,
}

impl ProcessMetrics {
    /// Takes the present for the process's start.
    pub fn new(clock: &Clock) -> Self {
        Self { start_seconds: clock.now() as f64 / 1e6 }
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(seconds) = cpu_seconds() {
            let counter = ConstCounter::new(seconds);
            let name = "process_cpu_seconds";
            counter.encode(encoder.encode_descriptor(
                name,
                "User and system CPU time, in seconds",
                None,
                counter.metric_type(),
            )?)?;
        }
        let mut gauge = |name, help, value: Option<i64>| match value {
            None => Ok(()),
            Some(value) => {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
            }
        };
        gauge("process_resident_memory_bytes", "Resident memory, in bytes", resident_bytes())?;
        gauge("process_open_fds", "Open file descriptors", open_fds())?;
        gauge("process_max_fds", "Most file descriptors the process may open", max_fds())?;
        let start = ConstGauge::new(self.start_seconds);
        start.encode(encoder.encode_descriptor(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970",
            None,
            start.metric_type(),
        )?)
    }
}

/// CPU time of all threads so far, in seconds, at the kernel's tick resolution (usually 10 ms).
pub fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // proc(5): fields are counted after the command in parentheses, which may itself contain spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Resident memory, in bytes.
pub fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Open file descriptors.
pub fn open_fds() -> Option<i64> {
    // Since Linux 6.2 the directory's size is the count; before, it was 0 and the entries must be counted.
    let count = match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        count => count,
    };
    i64::try_from(count).ok()
}

/// The soft limit of open file descriptors; `None` if there is no limit.
pub fn max_fds() -> Option<i64> {
    getrlimit(Resource::Nofile).current.and_then(|limit| i64::try_from(limit).ok())
}
