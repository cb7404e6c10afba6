//! What all parts of a notifier share.

use std::any::Any;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use trough_runtime::health::Health;
use trough_runtime::shutdown::Shutdown;
use trough_store::outbox::OutboxError;
use trough_store::{Outbox, SealKey};

use crate::apns::Apns;
use crate::book::Books;
use crate::config::Config;
use crate::deliverer::endpoint::Endpoints;
use crate::metrics::Metrics;
use crate::outbox_clock::OutboxClock;
use crate::shares::Shares;
use crate::webhook::Webhooks;

/// The part of health that says that the outbox does not answer.
const PART: &str = "outbox";

pub struct Context {
    pub config: Config,
    /// As whom shards are claimed.
    pub owner: [u8; 16],
    pub outbox: Arc<dyn Outbox>,
    pub books: Books,
    pub seal: SealKey,
    pub webhooks: Webhooks,
    pub apns: Option<Apns>,
    pub clock: OutboxClock,
    pub endpoints: Endpoints,
    /// Room for requests on their way.
    pub in_flight: Shares,
    pub health: Health,
    pub metrics: Metrics,
    pub shutdown: Shutdown,
    /// Where a task says that it has panicked of which nothing else can take the place.
    pub panics: mpsc::Sender<Panic>,
}

/// What a task panicked with.
pub type Panic = Box<dyn Any + Send>;

impl Context {
    /// The outbox did not do what it was asked.
    pub fn failed(&self, error: &OutboxError) {
        match error {
            // Somebody else goes on with it.
            OutboxError::Fenced(shard) => tracing::info!(%shard, "a claim was taken over"),
            error => self.health.degrade(PART, error.to_string()),
        }
    }

    /// Has the notifier end as one of its tasks did, if that has panicked.
    pub async fn share_panic(&self, task: JoinHandle<()>) {
        if let Err(error) = task.await
            && let Ok(panic) = error.try_into_panic()
        {
            // The first is enough.
            let _ = self.panics.try_send(panic);
        }
    }

    /// It did.
    pub fn worked(&self) {
        self.health.restore(PART);
    }
}
