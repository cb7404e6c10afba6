//! Noticing what anybody changed in the registry: this process, another, or time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OnceCell, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use trough_protocol::Micros;
use trough_runtime::clock::Clock;

use super::client::{OPERATION_MAX, Section};
use super::failure::Failure;
use super::{meta, tokens};

/// How often the registry is looked at: one small document, by its id.
const POLL: Duration = Duration::from_millis(250);
/// How often while it cannot be reached.
const POLL_UNREACHABLE: Duration = Duration::from_secs(1);

/// Watches the registry from its first use on, until it is dropped. Before that nobody was granted anything that a
/// change could take away.
#[derive(Debug)]
pub(super) struct Changes {
    sender: watch::Sender<u64>,
    wake: Arc<Notify>,
    watching: OnceCell<AbortHandle>,
}

impl Drop for Changes {
    fn drop(&mut self) {
        if let Some(task) = self.watching.get() {
            task.abort();
        }
    }
}

impl Changes {
    /// Looks at nothing yet.
    pub fn new() -> Self {
        Self { sender: watch::Sender::new(0), wake: Arc::new(Notify::new()), watching: OnceCell::new() }
    }

    /// The number that rises.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.sender.subscribe()
    }

    /// The registry is about to be used: begins to watch, if that has not happened.
    pub async fn begin(&self, section: &Section, clock: &Clock) {
        let begin = async || {
            let watcher = Watcher {
                section: section.clone(),
                clock: clock.clone(),
                generation: None,
                expired_until: clock.now(),
                next_expiry: None,
            };
            section.mongo().spawn(watcher.watch(self.sender.clone(), self.wake.clone()))
        };
        self.watching.get_or_init(begin).await;
    }

    /// Makes it look now: this process has changed something.
    pub fn look_now(&self) {
        self.wake.notify_one();
    }
}

struct Watcher {
    section: Section,
    clock: Clock,
    /// The registry's own count of changes.
    generation: Option<i64>,
    /// Tokens that ended up to this time were announced.
    expired_until: Micros,
    next_expiry: Option<Micros>,
}

impl Watcher {
    async fn watch(mut self, sender: watch::Sender<u64>, wake: Arc<Notify>) {
        loop {
            // Whether the database can be reached is logged by its client.
            let pause = match self.look().await {
                Ok(moved) => {
                    if moved {
                        sender.send_modify(|seen| *seen += 1);
                    }
                    POLL
                }
                Err(_) => POLL_UNREACHABLE,
            };
            // Woken or not, it looks again.
            let _ = timeout(pause, wake.notified()).await;
        }
    }

    /// Whether anything changed since the last look. The first one counts as a change: what came before it is not
    /// known.
    async fn look(&mut self) -> Result<bool, Failure> {
        let now = self.clock.now();
        let expired = self.next_expiry.is_some_and(|at| at <= now);
        let generation =
            self.section.run(OPERATION_MAX, async |database| meta::generation(&database).await).await?;
        let changed = self.generation != Some(generation);
        if !changed && !expired {
            return Ok(false);
        }
        if expired {
            self.expired_until = now;
        }
        let after = self.expired_until;
        let next = async move |database| tokens::expiry_after(&database, after).await;
        self.next_expiry = self.section.run(OPERATION_MAX, next).await?;
        self.generation = Some(generation);
        Ok(true)
    }
}
