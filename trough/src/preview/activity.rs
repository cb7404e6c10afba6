//! Whether anybody uses a slot, by what its own processes count.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a process had counted when it was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// When the process began, in ms since 1970: another one counts from 0 again.
    pub started: u64,
    /// Frames that were acknowledged.
    pub frames: u64,
    /// Sessions that have ended.
    pub sessions: u64,
    /// Requests of readers; those that were refused as wrong are not readers'.
    pub requests: u64,
}

/// What a process says at one look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// What it has counted.
    pub counters: Counters,
    /// Sessions that are open.
    pub open_sessions: u64,
    /// Live streams that are open.
    pub live_streams: u64,
}

impl Sample {
    /// Reads the text of `/metrics`.
    ///
    /// # Errors
    /// It is not that of a Trough process, or has a number that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut sample = Self::default();
        let (mut ours, mut started) = (false, false);
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (name, labels, value) = split(line).ok_or_else(|| {
                // It is a pod of anybody's, and goes into a log that all may read.
                format!("its line {:?} is no metric", line.chars().take(80).collect::<String>())
            })?;
            let into = match name {
                "trough_build_info" => {
                    ours = true;
                    continue;
                }
                "process_start_time_seconds" => {
                    started = true;
                    sample.counters.started = (number(line, value)? * 1000.0).round() as u64;
                    continue;
                }
                "trough_feeder_frames_total" => &mut sample.counters.frames,
                "trough_feeder_sessions_ended_total" => &mut sample.counters.sessions,
                // Whoever has no right is no reader: scanners must not keep a slot awake.
                "trough_eater_api_requests_total" if !labels.contains("status=\"4xx\"") => {
                    &mut sample.counters.requests
                }
                "trough_feeder_sessions" => &mut sample.open_sessions,
                "trough_eater_api_live_streams" => &mut sample.live_streams,
                _ => continue,
            };
            *into += number(line, value)?.max(0.0) as u64;
        }
        match ours && started {
            true => Ok(sample),
            false => Err("what it has at /metrics is not of a Trough process".to_owned()),
        }
    }

    /// What shows that somebody uses it, since it was looked at before; `None` if nothing does.
    pub fn shows(&self, before: Option<&Counters>) -> Option<String> {
        if self.open_sessions > 0 {
            return Some(format!("sessions of devices are open ({})", self.open_sessions));
        }
        if self.live_streams > 0 {
            return Some(format!("live streams of readers are open ({})", self.live_streams));
        }
        let now = &self.counters;
        // One that has begun anew counts from 0, and so does one that was never looked at.
        let before = before.filter(|before| before.started == now.started).copied().unwrap_or_default();
        let rose = |now: u64, before: u64| if now < before { now } else { now - before };
        let new = [
            (rose(now.frames, before.frames), "frames of devices"),
            (rose(now.sessions, before.sessions), "sessions of devices that have ended"),
            (rose(now.requests, before.requests), "requests of readers"),
        ];
        new.iter().find(|(count, _)| *count > 0).map(|(count, what)| format!("{what} came ({count})"))
    }
}

fn split(line: &str) -> Option<(&str, &str, &str)> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    // A label may have anything in it, also braces and spaces.
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once('}')?,
        None => ("", rest),
    };
    Some((name, labels, rest.split_ascii_whitespace().next()?))
}

fn number(line: &str, value: &str) -> Result<f64, String> {
    value.parse().map_err(|_| format!("its line {line:?} has no number"))
}

/// What is remembered of a slot from one sweep to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When somebody used it last, as far as is known.
    pub active: Timestamp,
    /// What its pods had counted, by their names.
    #[serde(default)]
    pub pods: BTreeMap<String, Counters>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "trough_build_info{version=\"0.1.0\"} 1\nprocess_start_time_seconds 1700000000.25\n";

    fn sample(more: &str) -> Sample {
        Sample::parse(&format!("# HELP x y\n{HEAD}{more}# EOF\n")).unwrap()
    }

    #[test]
    fn counters_are_added_over_their_labels() {
        let read = sample(
            "trough_feeder_frames_total 7\ntrough_feeder_sessions_ended_total{reason=\"going_away\"} \
             2\ntrough_feeder_sessions_ended_total{reason=\"a } b\"} 3\ntrough_eater_api_requests_total{route=\"/v1/x\",\
             status=\"2xx\"} 4\ntrough_eater_api_requests_total{route=\"none\",status=\"4xx\"} 9\n",
        );
        let counters = Counters { started: 1_700_000_000_250, frames: 7, sessions: 5, requests: 4 };
        assert_eq!(read, Sample { counters, ..Sample::default() });
        assert!(Sample::parse("up 1\n").is_err(), "somebody else's");
        assert!(Sample::parse("<html>").is_err());
    }

    #[test]
    fn what_shows_use() {
        let before = Counters { started: 1_700_000_000_250, frames: 7, sessions: 5, requests: 4 };
        let now = |frames, requests| Sample {
            counters: Counters { frames, requests, ..before },
            ..Sample::default()
        };
        assert_eq!(now(7, 4).shows(Some(&before)), None);
        assert_eq!(now(9, 4).shows(Some(&before)).unwrap(), "frames of devices came (2)");
        assert_eq!(now(7, 5).shows(Some(&before)).unwrap(), "requests of readers came (1)");
        assert!(Sample { open_sessions: 1, ..now(7, 4) }.shows(Some(&before)).is_some());
        assert!(Sample { live_streams: 1, ..now(7, 4) }.shows(Some(&before)).is_some());
    }

    #[test]
    fn after_a_restart_counters_begin_at_zero() {
        let before = Counters { started: 1, frames: 7, sessions: 0, requests: 0 };
        let now =
            |frames| Sample { counters: Counters { started: 2, frames, ..before }, ..Sample::default() };
        assert_eq!(now(0).shows(Some(&before)), None, "it went backwards, and nobody came");
        assert_eq!(now(7).shows(Some(&before)).unwrap(), "frames of devices came (7)", "as many as before");
        assert_eq!(
            now(3).shows(None).unwrap(),
            "frames of devices came (3)",
            "a pod that was not there before"
        );
        let same = Sample { counters: Counters { started: 1, frames: 3, ..before }, ..Sample::default() };
        assert!(same.shows(Some(&before)).is_some(), "it fell without a restart, so it counts anew");
    }
}
