//! What the demo measured.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use trough_runtime::process;

use super::replay::{IN_FLIGHT, Replayed};
use crate::output::grouped;

/// Every figure, as `--json` prints them.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub buses: u64,
    pub positions: u64,
    /// Frames that were acknowledged, and then read back and found equal to the file.
    pub frames_durable: u64,
    pub equal_to_file: bool,
    pub connect_seconds: f64,
    pub replay_seconds: f64,
    pub replay_frames_per_second: u64,
    pub in_flight_per_session: usize,
    pub ack_p50_ms: f64,
    pub ack_p99_ms: f64,
    pub ack_max_ms: f64,
    pub read_back_seconds: f64,
    pub read_back_frames_per_second: u64,
    pub journal_bytes: u64,
    /// Of this process, which is the server and all devices and the reader.
    pub process_cpu_seconds: Option<f64>,
    pub process_resident_bytes: Option<i64>,
}

impl Figures {
    /// From what was done.
    pub fn new(buses: usize, replayed: &Replayed, read: u64, reading: Duration, journal: &Path) -> Self {
        let positions = replayed.acks.len() as u64;
        Self {
            buses: buses as u64,
            positions,
            frames_durable: read,
            equal_to_file: read == positions,
            connect_seconds: seconds(replayed.connecting),
            replay_seconds: seconds(replayed.replaying),
            replay_frames_per_second: rate(positions, replayed.replaying),
            in_flight_per_session: IN_FLIGHT,
            ack_p50_ms: millis(quantile(&replayed.acks, 0.50)),
            ack_p99_ms: millis(quantile(&replayed.acks, 0.99)),
            ack_max_ms: millis(quantile(&replayed.acks, 1.0)),
            read_back_seconds: seconds(reading),
            read_back_frames_per_second: rate(read, reading),
            journal_bytes: bytes_in(journal),
            process_cpu_seconds: process::cpu_seconds(),
            process_resident_bytes: process::resident_bytes(),
        }
    }

    /// For people.
    pub fn to_text(&self) -> String {
        format!(
            "\
{frames} positions of {buses} buses are durable, and equal to the file, each bus in order.

  connect     {connect:.2} s for {buses} sessions
  replay      {replay:.2} s, {replay_rate} frames/s, each on disk before its ack
  ack         p50 {p50:.1} ms, p99 {p99:.1} ms, at full speed, {in_flight} frames of each bus in flight
  read back   {read:.2} s, {read_rate} frames/s over HTTP",
            frames = grouped(self.frames_durable),
            buses = self.buses,
            connect = self.connect_seconds,
            replay = self.replay_seconds,
            replay_rate = grouped(self.replay_frames_per_second),
            p50 = self.ack_p50_ms,
            p99 = self.ack_p99_ms,
            in_flight = self.in_flight_per_session,
            read = self.read_back_seconds,
            read_rate = grouped(self.read_back_frames_per_second),
        )
    }
}

/// The smallest value that at least this part of the sorted values does not exceed (nearest rank).
fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

fn rate(count: u64, duration: Duration) -> u64 {
    (count as f64 / duration.as_secs_f64().max(1e-9)) as u64
}

/// Of the files of one directory; 0 if it cannot be read.
fn bytes_in(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_by_nearest_rank() {
        let sorted: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        let ranks = [0.0, 0.5, 0.99, 1.0].map(|part| quantile(&sorted, part).as_millis());
        assert_eq!(ranks, [1, 100, 198, 200]);
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
