//! Saying that heads are not found in time: devices are sent away then, and nothing else would tell why.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use trough_protocol::{DeviceId, Epoch};

use crate::journal::ReadError;

/// The log has one line in so much time: a fleet that comes back asks for all heads at once.
const EVERY: Duration = Duration::from_secs(10);

/// What is counted and told of them.
pub(super) struct LateHeads {
    count: Counter,
    told: Mutex<Option<Instant>>,
}

impl LateHeads {
    pub(super) fn new(count: Counter) -> Self {
        Self { count, told: Mutex::new(None) }
    }

    /// A head was looked for in vain; `trouble` is what the last try met, if any ended.
    pub(super) fn note(
        &self,
        device: &DeviceId,
        epoch: Epoch,
        waited: Duration,
        trouble: Option<&ReadError>,
    ) {
        self.count.inc();
        if self.is_due() {
            let trouble =
                trouble.map_or_else(|| "the catalog has not answered".to_owned(), ToString::to_string);
            tracing::warn!(
                %device, %epoch, waited_s = waited.as_secs(), late = self.count.get(), %trouble,
                "a device's head was not found in time, so the device is told to come back: look at the database"
            );
        }
    }

    fn is_due(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|told| told.elapsed() >= EVERY);
        if due {
            *told = Some(Instant::now());
        }
        due
    }
}
