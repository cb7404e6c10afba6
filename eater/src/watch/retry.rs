//! What fails is tried again, for as long as it takes: ingest does not wait for it.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trough_store::RegistryError;
use trough_store::outbox::OutboxError;

use super::metrics::WatchMetrics;
use crate::journal::ReadError;
use crate::live::LiveError;

/// How long to wait before what failed is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Watching a shard cannot go on as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Somebody else watches it, or the process ends.
    Ended,
    /// The journal does not have any more what comes next.
    Expired,
}

/// What an error means for a watcher.
pub(super) trait Fault: Display {
    /// `None`: try again.
    fn stop(&self) -> Option<Stop> {
        None
    }
}

impl Fault for OutboxError {
    fn stop(&self) -> Option<Stop> {
        matches!(self, Self::Fenced(_)).then_some(Stop::Ended)
    }
}

impl Fault for LiveError {
    fn stop(&self) -> Option<Stop> {
        matches!(self, Self::Expired).then_some(Stop::Expired)
    }
}

impl Fault for RegistryError {}
impl Fault for ReadError {}
impl Fault for String {}

/// Tries again what fails, and says so once.
pub(super) struct Retry {
    pub stop: CancellationToken,
    metrics: WatchMetrics,
    failing: bool,
}

impl Retry {
    pub fn new(stop: CancellationToken, metrics: WatchMetrics) -> Self {
        Self { stop, metrics, failing: false }
    }

    /// Waits until what failed is to be tried again.
    ///
    /// # Errors
    /// [`Stop`], if it is not to be.
    pub async fn failed(&mut self, what: &str, fault: &impl Fault) -> Result<(), Stop> {
        if let Some(stop) = fault.stop() {
            return Err(stop);
        }
        self.metrics.failures.inc();
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(error = %fault, "{what}: events come later; it is tried again");
        }
        self.stop.run_until_cancelled(sleep(RETRY_EVERY)).await.ok_or(Stop::Ended)
    }

    /// It did not fail.
    pub fn went_well(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("rules are watched again");
        }
    }
}

/// Asks until there is an answer; returns [`Stop`] from the function if there is to be none.
macro_rules! again {
    ($retry:expr, $what:literal, $ask:expr) => {
        loop {
            match $ask.await {
                Ok(answer) => {
                    $retry.went_well();
                    break answer;
                }
                Err(error) => $retry.failed($what, &error).await?,
            }
        }
    };
}
pub(super) use again;
