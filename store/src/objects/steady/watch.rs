//! Whether the store works, for the process's health.

use std::sync::{Mutex, PoisonError};

use trough_runtime::health::Health;

use super::Direction;
use crate::objects::ObjectError;

/// The name of the part.
const PART: &str = "store";
/// So many failures in a row, with no answer between them, are more than bad luck.
const FAILURES: u32 = 3;

/// Counts failures in a row, writes and reads apart: a store that can be read and not written does not work.
#[derive(Debug)]
pub(super) struct Watch {
    health: Health,
    /// Writes, reads.
    failures: Mutex<[u32; 2]>,
}

impl Watch {
    pub fn new(health: Health) -> Self {
        Self { health, failures: Mutex::new([0; 2]) }
    }

    /// The store did what it was asked, or said why that makes no sense.
    pub fn answered(&self, direction: Direction) {
        self.note(direction, |_| 0, None);
    }

    /// A request failed.
    pub fn failed(&self, direction: Direction, error: &ObjectError) {
        self.note(direction, |before| before.saturating_add(1), Some(error));
    }

    /// A call failed for good. That it was wrong is its caller's fault.
    pub fn gave_up(&self, direction: Direction, error: &ObjectError) {
        if matches!(error, ObjectError::Unavailable { .. } | ObjectError::Refused(_)) {
            self.note(direction, |before| before.max(FAILURES), Some(error));
        }
    }

    fn note(&self, direction: Direction, change: impl Fn(u32) -> u32, error: Option<&ObjectError>) {
        // Held while health is told, so that it hears things in their order. Nothing panics in here.
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let works = |failures: &[u32; 2]| failures.iter().all(|count| *count < FAILURES);
        let before = works(&failures);
        let count = &mut failures[usize::from(direction == Direction::Reads)];
        *count = change(*count);
        match (before, works(&failures), error) {
            // Only the first reason: each may have another key in it, and would be logged.
            (true, false, Some(error)) => self.health.degrade(PART, error.to_string()),
            (false, true, _) => self.health.restore(PART),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_works_again_when_both_directions_do() {
        let health = Health::new();
        let watch = Watch::new(health.clone());
        let error = ObjectError::Refused("403".into());
        for _ in 1..FAILURES {
            watch.failed(Direction::Writes, &error);
        }
        assert!(health.degraded().is_empty(), "{:?}", health.degraded());
        watch.failed(Direction::Writes, &error);
        watch.gave_up(Direction::Reads, &error);
        assert_eq!(health.degraded().len(), 1);
        watch.answered(Direction::Writes);
        assert_eq!(health.degraded().len(), 1);
        watch.answered(Direction::Reads);
        assert!(health.degraded().is_empty());
        watch.gave_up(Direction::Reads, &ObjectError::Invalid("no".into()));
        assert!(health.degraded().is_empty());
    }
}
