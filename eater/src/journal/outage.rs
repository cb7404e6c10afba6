//! A disk that takes nothing: counting failures, and telling people once.

use std::io::ErrorKind;

use super::shared::{PART, Shared};
use super::writer::WriteError;

/// The failures since the last success.
#[derive(Debug, Default)]
pub(super) struct Outage {
    failures: u32,
}

impl Outage {
    /// Whether only one commit has failed: that spoilt a file, and a new one is to be tried at once.
    pub(super) fn is_fresh(&self) -> bool {
        self.failures == 1
    }

    /// A commit failed; so many bytes wait. The second failure in a row is one that people must know of: health
    /// says and logs it, once.
    pub(super) fn failed(&mut self, shared: &Shared, error: &WriteError, waiting: usize) {
        self.failures = self.failures.saturating_add(1);
        shared.metrics.failures.inc();
        match self.failures {
            1 => {
                let (doing, error) = (error.doing, &error.source);
                tracing::warn!(doing, %error, "a commit failed, a new file is tried");
            }
            2 => {
                shared.metrics.degraded.set(1);
                shared.health.degrade(PART, reason(shared, error, waiting));
            }
            _ => {}
        }
    }

    /// A commit succeeded.
    pub(super) fn over(&mut self, shared: &Shared) {
        if self.failures >= 2 {
            shared.metrics.degraded.set(0);
            shared.health.restore(PART);
        }
        self.failures = 0;
    }
}

fn reason(shared: &Shared, error: &WriteError, waiting: usize) -> String {
    let remedy = match error.source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space",
        _ => "look at the disk",
    };
    let (doing, dir, source) = (error.doing, shared.config.dir.display(), &error.source);
    format!(
        "nothing can be stored: cannot {doing} {dir}: {source}; {waiting} bytes wait and are not acknowledged; \
         {remedy}, it goes on by itself"
    )
}
