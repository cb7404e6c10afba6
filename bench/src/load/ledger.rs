//! Which frames wait for their ack since when, and what is recorded when it comes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Latencies above this are recorded as this.
const LATENCY_MAX: Duration = Duration::from_secs(60);
/// Digits that a recorded value keeps.
const DIGITS: u8 = 3;

/// When a run begins and ends, and what part of it counts.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// The first frame.
    pub start: Instant,
    /// The first frame that counts.
    pub from: Instant,
    /// No frame begins at or after this.
    pub to: Instant,
}

/// What all sessions of a thread record.
#[derive(Debug)]
pub struct Recorder {
    schedule: Schedule,
    /// Acked frames of all threads.
    acked: Arc<AtomicU64>,
    ack_ns: RefCell<Histogram<u64>>,
}

/// A histogram of nanoseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, DIGITS).expect("the bounds are in order")
}

impl Recorder {
    /// Empty.
    pub fn new(schedule: Schedule, acked: Arc<AtomicU64>) -> Self {
        Self { schedule, acked, ack_ns: RefCell::new(histogram()) }
    }

    /// The times of the run.
    pub fn schedule(&self) -> Schedule {
        self.schedule
    }

    /// Whether frames that began then count.
    pub fn counts(&self, at: Instant) -> bool {
        (self.schedule.from..self.schedule.to).contains(&at)
    }

    /// The latencies so far.
    pub fn take(&self) -> Histogram<u64> {
        self.ack_ns.replace(histogram())
    }
}

/// One session's frames on their way, oldest first.
#[derive(Debug, Default)]
pub struct Ledger {
    waiting: VecDeque<(Instant, u64)>,
    sent: u64,
    acked: u64,
}

impl Ledger {
    /// `count` frames began at `at`.
    pub fn sent(&mut self, at: Instant, count: u64) {
        self.waiting.push_back((at, count));
        self.sent += count;
    }

    /// Frames sent so far.
    pub fn total(&self) -> u64 {
        self.sent
    }

    /// Frames on their way.
    pub fn in_flight(&self) -> u64 {
        self.sent - self.acked
    }

    /// The session's first `acked` frames are durable, as was seen just now.
    pub fn acked(&mut self, acked: u64, recorder: &Recorder) {
        let now = Instant::now();
        recorder.acked.fetch_add(acked - self.acked, Ordering::Relaxed);
        let mut histogram = recorder.ack_ns.borrow_mut();
        while self.acked < acked
            && let Some((at, count)) = self.waiting.front_mut()
        {
            let settled = (*count).min(acked - self.acked);
            if recorder.counts(*at) {
                let latency = u64::try_from((now - *at).as_nanos()).unwrap_or(u64::MAX);
                histogram.saturating_record_n(latency.max(1), settled);
            }
            self.acked += settled;
            *count -= settled;
            if *count == 0 {
                self.waiting.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_settle_the_oldest_frames_and_only_what_counts_is_recorded() {
        let now = Instant::now();
        let at = |ms| now - Duration::from_millis(ms);
        let schedule = Schedule { start: at(1000), from: at(500), to: at(100) };
        let acked = Arc::new(AtomicU64::new(0));
        let recorder = Recorder::new(schedule, acked.clone());
        let mut ledger = Ledger::default();
        ledger.sent(at(600), 10);
        ledger.sent(at(400), 10);
        ledger.sent(at(50), 10);
        ledger.acked(15, &recorder);
        assert_eq!((ledger.in_flight(), acked.load(Ordering::Relaxed)), (15, 15));
        ledger.acked(30, &recorder);
        assert_eq!((ledger.in_flight(), ledger.total(), acked.load(Ordering::Relaxed)), (0, 30, 30));
        let latencies = recorder.take();
        assert_eq!(latencies.len(), 10, "those of the warm-up and those after the end do not count");
        assert!(latencies.min() >= 399_000_000);
    }
}
