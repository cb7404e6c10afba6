//! Rules, watched where frames are eaten: what of all that is committed is an event.
//!
//! An event is a function of durable frames, so it rides in no commit. A *watcher* follows what is committed with a place
//! of its own, asks the rules about each frame, and enters what they know now, what happened, and the new place in the
//! outbox at once. Whoever goes on from that place, after whatever has happened to the watcher, finds the same events
//! with the same ids: a device's frames are looked at in the order of their numbers, and no number twice.
//!
//! Devices are cut into shards, each watched by one process at a time ([`keeper`]), which holds a fenced claim.
//!
//! - [`rulebook`] looks what rules there are, [`compiled`] has them ready for use, [`chosen`] knows which of them concern a
//!   device.
//! - One file for each kind of condition: [`compare`] (and [`matching`]), [`rate`], [`geofence`], [`first_frame`],
//!   [`gaps`], [`silence`]. They are pure: of what was known and a [`frame`] they make what is known, and perhaps a
//!   [`happening`].
//! - [`shard`] is the task of a shard: it loads [`state`]s, follows ([`follow`]), reads history where that is not enough
//!   ([`catch_up`]), waits for silences ([`expire`]), and stores.

mod catch_up;
mod chosen;
mod compare;
mod compiled;
mod expire;
mod first_frame;
mod follow;
mod frame;
mod gaps;
mod geofence;
mod happening;
mod keeper;
mod matching;
#[doc(hidden)]
pub mod measure;
mod metrics;
mod place;
mod rate;
mod retry;
mod rulebook;
mod shard;
mod silence;
mod silences;
mod state;
mod states;
#[cfg(test)]
mod tests;
mod traces;
mod vigil;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trough_bus::Deployment;
use trough_runtime::clock::Clock;
use trough_runtime::trace::Tracer;
use trough_store::{Outbox, Registry, Subscriptions};

use crate::frames::AnyJournal;
use crate::live::Live;
pub use metrics::WatchMetrics;

/// The topic on which those are told who deliver events.
pub(crate) const TOPIC: &str = "outbox";
/// From one ring to the next: what is entered meanwhile is told together.
const RING_EVERY: Duration = Duration::from_millis(5);

/// What watching stands on.
pub(crate) struct WatchParts {
    /// Which devices there are, and in which groups they are.
    pub registry: Arc<dyn Registry>,
    /// What rules there are.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// Where events go.
    pub outbox: Arc<dyn Outbox>,
    /// What is committed.
    pub live: Live,
    /// What was committed before.
    pub journal: AnyJournal,
    /// Where others hear that there are events.
    pub bus: Option<Deployment>,
    /// The time by which frames are received.
    pub clock: Clock,
    /// Registered by the caller.
    pub metrics: WatchMetrics,
    /// Where traces of runs go.
    pub tracer: Tracer,
}

/// The same, shared by all tasks.
struct Shared {
    parts: WatchParts,
    /// Events were entered.
    entered: Notify,
}

/// Watches until `stopped`; the handle's task ends when claims are given back.
///
/// # Panics
/// Outside a tokio runtime.
pub(crate) fn start(parts: WatchParts, stopped: CancellationToken) -> JoinHandle<()> {
    let shared = Arc::new(Shared { parts, entered: Notify::new() });
    let choosers = rulebook::start(shared.clone(), stopped.clone());
    let (ringing, stop) = (shared.clone(), stopped.clone());
    tokio::spawn(async move { stop.run_until_cancelled(ring(&ringing)).await });
    tokio::spawn(keeper::run(shared, choosers, stopped))
}

/// Tells other processes of events, for ever. One that is not told looks by itself after a while.
async fn ring(shared: &Shared) {
    let Some(deployment) = &shared.parts.bus else { return };
    let topic = deployment.topic(TOPIC);
    loop {
        shared.entered.notified().await;
        if let Err(error) = deployment.bus().publish(&topic, Bytes::from_static(b"{}")).await {
            tracing::trace!(%error, "other processes are told of events later");
        }
        sleep(RING_EVERY).await;
    }
}
