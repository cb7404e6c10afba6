//! What time it is by the outbox, without asking it each time.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use trough_protocol::Micros;
use trough_runtime::clock::micros;
use trough_store::Outbox;
use trough_store::outbox::OutboxError;

/// The outbox's clock as it was when it was last asked, and what has passed since. It is never ahead of the outbox's own,
/// unless that is set back: an answer is older than its arrival. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct OutboxClock(Arc<Mutex<Option<(Micros, Instant)>>>);

impl OutboxClock {
    /// Asks.
    ///
    /// # Errors
    /// The outbox's.
    pub async fn ask(&self, outbox: &dyn Outbox) -> Result<Micros, OutboxError> {
        let now = outbox.now().await?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Instant::now()));
        Ok(now)
    }

    /// What time it is; it is asked only if it was not before.
    ///
    /// # Errors
    /// The outbox's.
    pub async fn now(&self, outbox: &dyn Outbox) -> Result<Micros, OutboxError> {
        match self.known() {
            Some(now) => Ok(now),
            None => self.ask(outbox).await,
        }
    }

    /// What time it is, if it was ever asked.
    pub fn known(&self) -> Option<Micros> {
        let asked = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.map(|(then, at)| then + micros(at.elapsed()))
    }
}
