//! What two answers of one process come to: levels as they are, and rates of what is counted.

use serde::Serialize;
use trough_bench::scrape::Scrape;

use super::sample::{Sample, Service};

/// The figures of one process, or of all. What a process does not have, or cannot be told yet, is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Open sessions.
    pub sessions: Option<u64>,
    /// Most sessions that may be open.
    pub sessions_max: Option<u64>,
    /// Frames acknowledged in a second (feeders), made durable (eaters).
    pub frames_per_second: Option<f64>,
    /// How long what is on its way waits for its acknowledgement, in seconds; of a notifier, how long its oldest delivery
    /// has waited.
    pub lag_seconds: Option<f64>,
    /// The part of an eater's credit that is in use.
    pub credit_used: Option<f64>,
    /// Bytes that wait: at feeders for their acknowledgement, at eaters for their commit.
    pub queue_bytes: Option<u64>,
    /// Deliveries that wait.
    pub deliveries: Option<u64>,
    /// What was refused or failed, in a second.
    pub errors_per_second: Option<f64>,
    /// CPU time in a second.
    pub cpu: Option<f64>,
    /// Resident memory.
    pub memory_bytes: Option<u64>,
}

/// What is an error of a process: counters whose every rise is one.
const FAILURES: [&str; 5] = [
    "trough_feeder_batches_rejected_total",
    "trough_eater_batches_rejected_total",
    "trough_journal_failures_total",
    "trough_compaction_failures_total",
    "trough_notifier_dead_total",
];

/// All errors until now. Some counters are there only once there was one.
fn errors(scrape: &Scrape) -> f64 {
    let failures: f64 = FAILURES.iter().filter_map(|name| scrape.sum(name)).sum();
    let answered = |status: &str| {
        scrape.sum_where("trough_eater_api_requests_total", |labels| labels.get("status") == Some(status))
    };
    // A feeder that drains refuses in order.
    let refused = scrape.sum_where("trough_feeder_handshakes_refused_total", |labels| {
        labels.get("reason") != Some("draining")
    });
    failures + refused.unwrap_or(0.0) + answered("5xx").unwrap_or(0.0)
}

/// How fast a count rises. One that fell began anew: the process was started again.
fn rate(before: f64, now: f64, seconds: f64) -> Option<f64> {
    let rise = if now >= before { now - before } else { now };
    (seconds > 0.0).then(|| rise / seconds)
}

impl Figures {
    /// Of the newest answer, and the one before if there is one.
    pub fn of(before: Option<&Sample>, now: &Sample) -> Self {
        let scrape = &now.scrape;
        let level = |name: &str| scrape.sum(name).map(|value| value.max(0.0) as u64);
        let is_same = |before: &&Sample| {
            let start = |sample: &Sample| sample.scrape.sum("process_start_time_seconds");
            start(before) == start(now)
        };
        let seconds = before.map_or(0.0, |before| now.at.duration_since(before.at).as_secs_f64());
        // Of a process that was started in between all is new.
        let earlier = |name: &str| before.filter(is_same).and_then(|before| before.scrape.sum(name));
        let rate_of = |name: &str| rate(earlier(name).unwrap_or(0.0), scrape.sum(name)?, seconds);
        let mut figures = Self {
            sessions: level("trough_feeder_sessions"),
            sessions_max: level("trough_feeder_sessions_max"),
            cpu: rate_of("process_cpu_seconds_total"),
            memory_bytes: level("process_resident_memory_bytes"),
            errors_per_second: rate(
                before.filter(is_same).map_or(0.0, |before| errors(&before.scrape)),
                errors(scrape),
                seconds,
            ),
            credit_used: ratio(
                scrape.sum("trough_eater_waiting_bytes"),
                scrape.sum("trough_eater_budget_bytes"),
            ),
            deliveries: level("trough_notifier_pending"),
            ..Self::default()
        };
        match now.service {
            Service::Feeder | Service::Up => {
                figures.frames_per_second = rate_of("trough_feeder_frames_total");
                figures.queue_bytes = level("trough_feeder_in_flight_bytes");
                figures.lag_seconds =
                    lag(figures.queue_bytes, rate_of("trough_feeder_batch_bytes_total"), seconds);
            }
            Service::Eater => {
                figures.frames_per_second = rate_of("trough_journal_frames_total");
                figures.queue_bytes = level("trough_journal_queued_bytes");
                figures.lag_seconds = lag(
                    level("trough_eater_waiting_bytes"),
                    rate_of("trough_journal_written_bytes_total"),
                    seconds,
                );
            }
            Service::Notifier => figures.lag_seconds = scrape.sum("trough_notifier_oldest_pending_seconds"),
            Service::Unknown => {}
        }
        figures
    }

    /// Of all together. Frames and bytes pass feeders and eaters, so they are counted at one of the two.
    pub fn total<'a>(all: impl Iterator<Item = (Service, &'a Self)> + Clone) -> Self {
        let at_feeders = |(service, _): &(Service, &Self)| matches!(service, Service::Feeder | Service::Up);
        let has_feeders = all.clone().any(|one| at_feeders(&one));
        let passed = all.clone().filter(|one| !has_feeders || at_feeders(one));
        let credit = all.clone().filter_map(|(_, figures)| figures.credit_used);
        Self {
            sessions: sum(all.clone(), |figures| figures.sessions),
            sessions_max: sum(all.clone(), |figures| figures.sessions_max),
            frames_per_second: sum_f64(passed.clone(), |figures| figures.frames_per_second),
            lag_seconds: passed.clone().filter_map(|(_, figures)| figures.lag_seconds).reduce(f64::max),
            credit_used: credit.reduce(f64::max),
            queue_bytes: sum(passed, |figures| figures.queue_bytes),
            deliveries: sum(all.clone(), |figures| figures.deliveries),
            errors_per_second: sum_f64(all.clone(), |figures| figures.errors_per_second),
            cpu: sum_f64(all.clone(), |figures| figures.cpu),
            memory_bytes: sum(all, |figures| figures.memory_bytes),
        }
    }
}

/// How long what waits has to wait, by what passes meanwhile (Little's law). With nothing passing, at least as long as
/// nothing has passed.
fn lag(waiting: Option<u64>, per_second: Option<f64>, seconds: f64) -> Option<f64> {
    match (waiting? as f64, per_second?) {
        (0.0, _) => Some(0.0),
        (_, 0.0) => Some(seconds),
        (waiting, per_second) => Some(waiting / per_second),
    }
}

fn ratio(part: Option<f64>, whole: Option<f64>) -> Option<f64> {
    let (part, whole) = (part?, whole?);
    (whole > 0.0).then(|| part / whole)
}

fn sum<'a>(
    all: impl Iterator<Item = (Service, &'a Figures)>,
    of: impl Fn(&Figures) -> Option<u64>,
) -> Option<u64> {
    all.filter_map(|(_, figures)| of(figures)).reduce(|sum, value| sum + value)
}

fn sum_f64<'a>(
    all: impl Iterator<Item = (Service, &'a Figures)>,
    of: impl Fn(&Figures) -> Option<f64>,
) -> Option<f64> {
    all.filter_map(|(_, figures)| of(figures)).reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::top::sample::Readiness;

    fn sample(service: Service, at: Instant, text: &str) -> Sample {
        let scrape = Scrape::from_text(text.to_owned());
        Sample { at, service, readiness: Readiness::default(), scrape }
    }

    #[test]
    fn levels_are_as_they_are_and_counts_become_rates() {
        let began = Instant::now();
        let feeder = |seconds, frames, bytes, flight| {
            let text = format!(
                "trough_feeder_sessions 7\ntrough_feeder_sessions_max 100\ntrough_feeder_frames_total {frames}\n\
                 trough_feeder_batch_bytes_total {bytes}\ntrough_feeder_in_flight_bytes {flight}\n\
                 trough_feeder_handshakes_refused_total{{reason=\"a\"}} {seconds}\n\
                 trough_feeder_handshakes_refused_total{{reason=\"draining\"}} {frames}\nprocess_start_time_seconds 5\n"
            );
            sample(Service::Feeder, began + Duration::from_secs(seconds), &text)
        };
        let first = feeder(0, 1000, 50_000, 0);
        let alone = Figures::of(None, &first);
        assert_eq!((alone.sessions, alone.sessions_max, alone.frames_per_second), (Some(7), Some(100), None));
        let later = Figures::of(Some(&first), &feeder(2, 3000, 90_000, 2000));
        assert_eq!(later.frames_per_second, Some(1000.0));
        assert_eq!(later.lag_seconds, Some(0.1), "2,000 bytes wait, 20,000 pass in a second");
        assert_eq!(later.errors_per_second, Some(1.0));
        let stuck = Figures::of(Some(&first), &feeder(3, 1000, 50_000, 2000));
        assert_eq!(stuck.lag_seconds, Some(3.0), "nothing has passed for three seconds");
    }

    #[test]
    fn a_counter_that_began_anew_never_gives_a_negative_rate() {
        let began = Instant::now();
        let eater = |seconds, frames, start| {
            let text = format!("trough_journal_frames_total {frames}\nprocess_start_time_seconds {start}\n");
            sample(Service::Eater, began + Duration::from_secs(seconds), &text)
        };
        let rate = |before, now| Figures::of(Some(&before), &now).frames_per_second;
        assert_eq!(rate(eater(0, 9_000, 1), eater(10, 500, 1)), Some(50.0));
        // Even if it has overtaken its predecessor.
        assert_eq!(rate(eater(0, 100, 1), eater(10, 500, 2)), Some(50.0));
        assert_eq!(rate(eater(0, 100, 1), eater(0, 500, 1)), None, "no time has passed");
    }

    #[test]
    fn the_total_counts_what_passes_two_processes_once() {
        let of = |frames, lag, credit| Figures {
            frames_per_second: Some(frames),
            lag_seconds: Some(lag),
            credit_used: credit,
            sessions: credit.is_none().then_some(10),
            ..Figures::default()
        };
        let all = [
            (Service::Feeder, of(100.0, 0.1, None)),
            (Service::Feeder, of(50.0, 0.3, None)),
            (Service::Eater, of(150.0, 9.0, Some(0.5))),
        ];
        let total = Figures::total(all.iter().map(|(service, figures)| (*service, figures)));
        assert_eq!((total.frames_per_second, total.lag_seconds), (Some(150.0), Some(0.3)));
        assert_eq!((total.sessions, total.credit_used), (Some(20), Some(0.5)));
        let eaters = Figures::total(all[2..].iter().map(|(service, figures)| (*service, figures)));
        assert_eq!(eaters.frames_per_second, Some(150.0), "without feeders, at the eaters");
    }
}
