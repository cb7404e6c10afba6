//! What one process answered at one moment.

use std::time::Instant;

use anyhow::{Context, Result};
use reqwest::Client;
use serde::Deserialize;
use trough_bench::scrape::Scrape;

use crate::admin_port::AdminPort;

/// What kind of process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Everything in one.
    Up,
    /// Has sessions.
    Feeder,
    /// Stores.
    Eater,
    /// Tells.
    Notifier,
    /// It has not answered yet.
    Unknown,
}

impl Service {
    /// As the command is called that runs it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Feeder => "feeder",
            Self::Eater => "eater",
            Self::Notifier => "notifier",
            Self::Unknown => "?",
        }
    }

    /// By that name.
    pub fn named(name: &str) -> Self {
        let all = [Self::Up, Self::Feeder, Self::Eater, Self::Notifier];
        all.into_iter().find(|service| service.name() == name).unwrap_or(Self::Unknown)
    }

    fn of(scrape: &Scrape) -> Self {
        let has = |name| scrape.sum(name).is_some();
        match (
            has("trough_feeder_sessions_max"),
            has("trough_eater_links"),
            has("trough_notifier_events_total"),
        ) {
            (true, true, _) => Self::Up,
            (true, false, _) => Self::Feeder,
            (false, true, _) => Self::Eater,
            (false, false, true) => Self::Notifier,
            (false, false, false) => Self::Unknown,
        }
    }
}

/// What `/readyz` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Readiness {
    /// `ready`, `starting` or `draining`.
    pub status: String,
    /// What does not work.
    #[serde(default)]
    pub degraded: Vec<Part>,
}

/// One part that does not work.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Part {
    /// Its name.
    pub part: String,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it came.
    pub at: Instant,
    /// Who answered.
    pub service: Service,
    /// In what state it is.
    pub readiness: Readiness,
    /// What it counts.
    pub scrape: Scrape,
}

impl Sample {
    /// Asks a process.
    ///
    /// # Errors
    /// It does not answer, or is none of ours.
    pub async fn take(client: &Client, port: &AdminPort) -> Result<Self> {
        let metrics = port.get(client, "/metrics");
        let (metrics, readiness) = tokio::join!(metrics, port.readiness(client));
        let scrape = Scrape::from_text(metrics?);
        let readiness = serde_json::from_str(&readiness?).context("what /readyz says cannot be read")?;
        let service = Service::of(&scrape);
        if service == Service::Unknown {
            anyhow::bail!("it counts nothing of Trough's: is this an admin port?");
        }
        Ok(Self { at: Instant::now(), service, readiness, scrape })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_what_it_counts() {
        let of = |text: &str| Service::of(&Scrape::from_text(text.to_owned()));
        assert_eq!(of("trough_feeder_sessions_max 5\n"), Service::Feeder);
        assert_eq!(of("trough_eater_links 0\n"), Service::Eater);
        assert_eq!(of("trough_notifier_events_total 0\n"), Service::Notifier);
        let all = "trough_feeder_sessions_max 5\ntrough_eater_links 0\ntrough_notifier_events_total 0\n";
        assert_eq!(of(all), Service::Up);
        assert_eq!(of("go_goroutines 5\n"), Service::Unknown);
        assert_eq!(Service::named("eater"), Service::Eater);
        assert_eq!(Service::named("memcached"), Service::Unknown);
    }
}
