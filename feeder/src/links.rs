//! What the links of all shards come to: whether an eater can be reached, and how many links are missing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use trough_protocol::LinkId;
use trough_runtime::health::Health;

use crate::metrics::Metrics;

/// Where one wanted link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not known yet.
    Opening,
    /// Up and taking batches.
    Up,
    /// It cannot be had now.
    Missing,
    /// It is a further link to a load balancer that has led to known eaters only. Nothing is missing.
    Spare,
}

/// The links of a feeder. Touched when a link comes or goes.
#[derive(Debug)]
pub struct Links {
    health: Health,
    metrics: Metrics,
    counts: Mutex<Counts>,
    lost: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    up: usize,
    missing: usize,
    eaters: HashMap<LinkId, usize>,
}

/// One wanted link's part in it; taken out when dropped.
#[derive(Debug)]
pub struct Entry {
    links: Arc<Links>,
    standing: Standing,
}

impl Links {
    /// No links yet.
    pub fn new(health: Health, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { health, metrics, counts: Mutex::default(), lost: Notify::new() })
    }

    /// Enters a wanted link.
    pub fn enter(self: &Arc<Self>) -> Entry {
        Entry { links: self.clone(), standing: Standing::Opening }
    }

    /// A link to `eater` has come up.
    pub fn opened(&self, eater: LinkId) {
        let mut counts = self.lock();
        *counts.eaters.entry(eater).or_default() += 1;
        self.metrics.links.inc();
        self.metrics.eaters.set(counts.eaters.len() as i64);
    }

    /// A link to `eater` has ended.
    pub fn ended(&self, eater: LinkId) {
        let mut counts = self.lock();
        if let Some(links) = counts.eaters.get_mut(&eater) {
            *links -= 1;
            if *links == 0 {
                counts.eaters.remove(&eater);
            }
        }
        self.metrics.links.dec();
        self.metrics.eaters.set(counts.eaters.len() as i64);
        drop(counts);
        self.lost.notify_one();
    }

    /// Returns when a link has ended since the last call. Cancel-safe.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }

    /// How the last lookup of the names went; `failure` begins with the name.
    pub fn resolved(&self, failure: Option<String>) {
        match failure {
            None => self.health.restore("discovery"),
            Some(reason) => {
                if self.lock().up == 0 {
                    self.health.degrade("eater", format!("no link to {reason}"));
                }
                self.health.degrade("discovery", reason);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Two counters and a map are whole whatever panicked.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, from: Standing, to: Standing) -> (usize, usize) {
        let mut counts = self.lock();
        match from {
            Standing::Up => counts.up -= 1,
            Standing::Missing => counts.missing -= 1,
            Standing::Opening | Standing::Spare => {}
        }
        match to {
            Standing::Up => counts.up += 1,
            Standing::Missing => counts.missing += 1,
            Standing::Opening | Standing::Spare => {}
        }
        (counts.up, counts.missing)
    }
}

impl Entry {
    /// Says where the link stands. `reason` begins with its address and is shown to whoever asks for the feeder's
    /// health.
    pub fn set(&mut self, standing: Standing, reason: &str) {
        let (up, missing) = self.links.change(self.standing, standing);
        self.standing = standing;
        let health = &self.links.health;
        if up > 0 {
            health.restore("eater");
        } else if missing > 0 {
            health.degrade("eater", format!("no link to {reason}"));
        }
        if up == 0 || missing == 0 {
            health.restore("links");
        } else {
            // Without the reason of each attempt: it would be news every second.
            health.degrade("links", format!("{up} of {} links are up", up + missing));
        }
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.set(Standing::Opening, "its address is gone");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_link_is_enough_for_the_eater_and_the_missing_ones_are_counted() {
        let health = Health::new();
        let links = Links::new(health.clone(), Metrics::default());
        let (mut a, mut b, mut spare) = (links.enter(), links.enter(), links.enter());
        assert_eq!(health.degraded(), [], "nothing is known yet");
        a.set(Standing::Missing, "eater:8082: refused");
        assert_eq!(health.degraded(), [("eater".into(), "no link to eater:8082: refused".into())]);
        b.set(Standing::Up, "");
        spare.set(Standing::Spare, "");
        assert_eq!(health.degraded(), [("links".into(), "1 of 2 links are up".into())]);
        drop(a);
        assert_eq!(health.degraded(), [], "it is not wanted any more");
        b.set(Standing::Missing, "eater:8082: silent");
        assert_eq!(health.degraded(), [("eater".into(), "no link to eater:8082: silent".into())]);
    }

    #[test]
    fn links_to_one_eater_are_one_eater() {
        let links = Links::new(Health::new(), Metrics::default());
        for id in [1, 1, 2] {
            links.opened(LinkId([id; 16]));
        }
        assert_eq!((links.metrics.links.get(), links.metrics.eaters.get()), (3, 2));
        links.ended(LinkId([1; 16]));
        assert_eq!(links.metrics.eaters.get(), 2);
        links.ended(LinkId([1; 16]));
        assert_eq!(links.metrics.eaters.get(), 1);
    }
}
