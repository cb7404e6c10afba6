//! How a bus stands: what its process says of it in `/readyz` and in its metrics.

use std::sync::{Mutex, PoisonError};

use trough_runtime::health::Health;

use super::metrics::{BusMetrics, Counts};

/// Where a bus on memcached says how it stands.
#[derive(Debug, Clone)]
pub struct Report {
    /// The part of health that is degraded while a server is away, and the label of the metrics.
    pub part: &'static str,
    /// Where that is said.
    pub health: Health,
    /// Registered by the caller.
    pub metrics: BusMetrics,
}

/// How many of a bus's servers are away.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub counts: Counts,
    servers: usize,
    away: Mutex<usize>,
    report: Option<(&'static str, Health)>,
}

impl Standing {
    /// That of a bus with so many servers; nobody is told without a report.
    pub fn new(servers: usize, report: Option<Report>) -> Self {
        let counts = report.as_ref().map(|report| report.metrics.of(report.part, servers));
        Self {
            counts: counts.unwrap_or_default(),
            servers,
            away: Mutex::default(),
            report: report.map(|report| (report.part, report.health)),
        }
    }

    /// A server's breaker has opened.
    pub fn lost_one(&self) {
        self.change(|away| away + 1);
    }

    /// A server's breaker has closed again.
    pub fn found_one(&self) {
        self.change(|away| away.saturating_sub(1));
    }

    fn change(&self, change: impl FnOnce(usize) -> usize) {
        // Held while it is told, so that what was told last is what holds. Nothing panics meanwhile.
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        *away = change(*away);
        self.counts.servers_away.set(*away as i64);
        let Some((part, health)) = &self.report else { return };
        match *away {
            0 => health.restore(part),
            // Which ones is for the log: anybody may read this.
            away => health.degrade(
                *part,
                format!(
                    "{away} of {} memcached servers do not answer; nothing is lost, what they would tell is found out \
                     later",
                    self.servers
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_names_the_part_while_a_server_is_away() {
        let health = Health::new();
        let report = Report { part: "bus", health: health.clone(), metrics: BusMetrics::default() };
        let standing = Standing::new(3, Some(report));
        standing.lost_one();
        standing.lost_one();
        standing.found_one();
        let [(part, why)] = &health.degraded()[..] else { panic!("{:?}", health.degraded()) };
        assert!(part == "bus" && why.starts_with("1 of 3 "), "{part}: {why}");
        assert_eq!(standing.counts.servers_away.get(), 1);
        standing.found_one();
        assert_eq!(health.degraded(), []);
    }
}
