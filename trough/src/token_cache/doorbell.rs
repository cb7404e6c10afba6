//! The doorbell of the registry: who rings it, and who listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::watch;
use trough_bus::{Bus, Cause, Deployment, Event, Key, Subscription, Topic};
use trough_protocol::Micros;
use trough_runtime::clock::{Clock, micros};

use super::{SKEW, TTL};

/// Rings when rights were taken away. It also leaves the time on the bus, for processes that begin to listen later
/// and find grants from before.
pub(super) struct Doorbell {
    bus: Arc<dyn Bus>,
    topic: Topic,
    changed: Key,
}

impl Doorbell {
    pub fn new(deployment: &Deployment) -> Self {
        let bus = deployment.bus().clone();
        Self { bus, topic: deployment.topic("registry"), changed: deployment.key("registry:changed-at") }
    }

    /// Where the time of the last change lies.
    pub fn changed_key(&self) -> &Key {
        &self.changed
    }

    pub fn subscribe(&self) -> Subscription {
        self.bus.subscribe(&self.topic)
    }

    /// Rings. If nobody hears it, sessions end when the registry is looked at for other reasons, and grants when
    /// they expire.
    pub async fn ring(&self, now: Micros) {
        // Longer than any grant from before can be believed.
        let life = TTL * 2 + SKEW;
        let left = self.bus.set(&self.changed, Bytes::copy_from_slice(&now.to_le_bytes()), life).await;
        let rung = self.bus.publish(&self.topic, Bytes::new()).await.map(drop);
        if let Err(error) = left.and(rung) {
            tracing::warn!(%error, "a change of rights was not announced; it holds within a minute");
        }
    }
}

/// The time that [`Doorbell::ring`] left; `None` if it cannot be read.
pub(super) fn changed_at(bytes: &Bytes) -> Option<Micros> {
    Some(Micros::from_le_bytes(bytes.as_ref().try_into().ok()?))
}

/// Listens to the registry and to the doorbell, until it is dropped. Distrust comes first: whoever is woken by the
/// number must not find a grant from before the change.
pub(super) async fn listen(
    mut inner: watch::Receiver<u64>,
    mut bell: Subscription,
    clock: Clock,
    distrusted_until: Arc<AtomicU64>,
    changes: watch::Sender<u64>,
) {
    loop {
        let heard = tokio::select! {
            changed = inner.changed() => {
                if changed.is_err() {
                    return;
                }
                true
            }
            event = bell.next() => is_news(&event),
        };
        if heard {
            distrusted_until.fetch_max(clock.now() + micros(SKEW), Ordering::SeqCst);
            changes.send_modify(|seen| *seen += 1);
        }
    }
}

/// Whether rights may have changed. At the beginning the time on the bus says so, and from time to time the services
/// look by themselves.
fn is_news(event: &Event) -> bool {
    match event {
        Event::Message(_) | Event::Rescan(Cause::Reset | Cause::Hole) => true,
        Event::Rescan(Cause::Began | Cause::Periodic | Cause::Away) => false,
    }
}
