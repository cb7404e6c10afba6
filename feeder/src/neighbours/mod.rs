//! The other feeders of a deployment: they are told which sessions begin here, and tell which begin there, so that a
//! device has one session, whatever feeder it comes to.
//!
//! - A session that begins is told of in the topic `sessions`, together with others of the same moment. **The number
//!   of that message is the session's order**: memcached gives it out, each once and rising, so that of two sessions
//!   of a device every feeder agrees which is the newer one, whatever their clocks say. A session that nobody was told
//!   of yet comes after all that was told: its message will have a higher number. So of two that begin at the same
//!   time one ends, and never both.
//! - A feeder that hears of a session with a higher order than its own of that device ends its own, with the code of
//!   any takeover and the same delay for the device.
//! - Each session also has a value ([`record::place_key`]), for feeders that have missed a message: when the
//!   topic says that something may be lost, and every minute, they look there ([`scan`]). A value counts while its feeder's
//!   [`lease`] lives.
//!
//! All of this is one task beside the shards. Sessions wait for none of it: while the bus is away an older session
//! lives until its own end, and what has begun meanwhile is told when the bus is back. A message or a value that is
//! forged or stale ends a session at the worst, and the device resumes.

mod lease;
mod record;
mod scan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use trough_bus::{Cause, Deployment, Event, KEYS_MAX, Key, Topic};
use trough_protocol::{DeviceId, LinkId};
use trough_runtime::shutdown::Shutdown;

use crate::context::Context;
use crate::metrics::Metrics;
use crate::presence::{Control, Presence, UNTOLD};
use record::Feeder;

/// From one message to the next: what begins meanwhile is told together. With [`KEYS_MAX`] sessions each, 10,000 devices
/// that come back at once take a second and 40 messages.
const TELL_EVERY: Duration = Duration::from_millis(25);
/// After a bus that did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long after something was missed the values are looked at: by then whoever told of a session has written its
/// value, and feeders whose leases were wiped have them again.
const SCAN_AFTER: Duration = Duration::from_secs(4);
/// From one look at all values to the next: a bus that is full loses message after message.
const SCAN_EVERY: Duration = Duration::from_secs(5);
/// How long a value lies there if nobody removes it; its feeder looks every minute whether it still does.
const PLACE_TTL: Duration = Duration::from_secs(60 * 60);

/// Begins to tell and to listen, until the feeder is killed.
pub fn start(deployment: Deployment, feeder: LinkId, context: &Context) {
    let feeder = Feeder::new(feeder);
    let shutdown = context.shutdown.clone();
    let lease = lease::keep(deployment.clone(), deployment.key(&feeder.lease()), shutdown.clone());
    shutdown.tasks.spawn(lease);
    let delay = context.config.takeover_delay;
    let neighbours = Neighbours::new(deployment, feeder, context.presence.clone(), delay, &context.metrics);
    tokio::spawn(async move { shutdown.killed.clone().run_until_cancelled(neighbours.run(shutdown)).await });
}

/// What this feeder tells the others, and hears from them.
struct Neighbours {
    deployment: Deployment,
    topic: Topic,
    feeder: Feeder,
    presence: Arc<Presence>,
    /// How long a device that was taken over is asked to wait.
    delay: Duration,
    metrics: Metrics,
    /// When the next message may be sent.
    tell_at: Instant,
    /// When the values are looked at, if there is a reason.
    scan_at: Option<Instant>,
    scanned_at: Option<Instant>,
}

impl Neighbours {
    fn new(
        deployment: Deployment,
        feeder: Feeder,
        presence: Arc<Presence>,
        delay: Duration,
        metrics: &Metrics,
    ) -> Self {
        let topic = deployment.topic("sessions");
        let (metrics, tell_at) = (metrics.clone(), Instant::now());
        Self { deployment, topic, feeder, presence, delay, metrics, tell_at, scan_at: None, scanned_at: None }
    }

    /// One thing after another: no message is heard while one is being told, so that what was told has its order when
    /// the next is heard.
    async fn run(mut self, shutdown: Shutdown) {
        let mut bell = self.deployment.bus().subscribe(&self.topic);
        loop {
            let due = async {
                self.presence.has_changed().await;
                sleep_until(self.tell_at).await;
            };
            let scan_at = self.scan_at.unwrap_or(self.tell_at);
            tokio::select! {
                () = due => self.tell(shutdown.is_draining()).await,
                event = bell.next() => self.hear(event, bell.number()),
                () = sleep_until(scan_at), if self.scan_at.is_some() => {
                    (self.scan_at, self.scanned_at) = (None, Some(Instant::now()));
                    self.scan().await;
                }
            }
        }
    }

    /// Tells which sessions have begun, and takes the values of those away that have ended.
    async fn tell(&mut self, is_draining: bool) {
        let (mut began, mut ended) = (Vec::new(), Vec::new());
        for device in self.presence.take_changed(KEYS_MAX) {
            match self.presence.session(&device) {
                Some(control) if control.order() == UNTOLD => began.push((device, control)),
                Some(_) => {}
                None => ended.push(device),
            }
        }
        self.tell_at = Instant::now() + TELL_EVERY;
        if !began.is_empty() && !self.tell_of(&began).await {
            // What has ended meanwhile is not worth remembering: its value counts no longer than this feeder's lease.
            self.presence.put_back(began.into_iter().map(|(device, _)| device));
            self.tell_at = Instant::now() + RETRY_AFTER;
            return;
        }
        // With the lease given back, no value of this feeder counts.
        if !is_draining {
            self.remove(ended).await;
        }
    }

    /// Whether the others can know.
    async fn tell_of(&self, began: &[(DeviceId, Arc<Control>)]) -> bool {
        let devices: Vec<DeviceId> = began.iter().map(|(device, _)| device.clone()).collect();
        let message = record::began(&self.feeder, &devices);
        let order = match self.deployment.bus().publish(&self.topic, message).await {
            Ok(order) => order,
            Err(error) => {
                tracing::debug!(%error, sessions = began.len(), "other feeders are told of sessions later");
                return false;
            }
        };
        began.iter().for_each(|(_, control)| control.set_order(order));
        self.write(began).await;
        true
    }

    /// Writes the values of sessions. One that is missing is written when this feeder looks for it next.
    async fn write(&self, sessions: &[(DeviceId, Arc<Control>)]) {
        let value = |(device, control): &(DeviceId, Arc<Control>)| {
            (self.key(device), record::place(&self.feeder, control.order()))
        };
        let values: Vec<_> = sessions.iter().map(value).collect();
        if let Err(error) = self.deployment.bus().set_many(&values, PLACE_TTL).await {
            tracing::debug!(%error, "where sessions are is written later");
        }
    }

    /// Removes the values of sessions that have ended, but for those that another feeder has written meanwhile.
    async fn remove(&self, ended: Vec<DeviceId>) {
        if ended.is_empty() {
            return;
        }
        let mut keys: Vec<Key> = ended.iter().map(|device| self.key(device)).collect();
        let Ok(found) = self.deployment.bus().get_many(&keys).await else { return };
        let mut is_ours = found.iter().map(|value| {
            value.as_deref().and_then(record::read_place).is_some_and(|(feeder, _)| feeder == self.feeder)
        });
        keys.retain(|_| is_ours.next().unwrap_or(false));
        if let Err(error) = self.deployment.bus().delete_many(&keys).await {
            tracing::debug!(%error, "where sessions were is not removed; it expires");
        }
    }

    /// `number` is that of the message, or of the last that was missed.
    fn hear(&mut self, event: Event, number: u64) {
        match event {
            Event::Message(message) => self.hear_of(number, &message),
            Event::Rescan(Cause::Away) => {}
            Event::Rescan(cause) => {
                if cause == Cause::Reset {
                    self.forget_orders(number);
                }
                let soon = Instant::now() + SCAN_AFTER;
                let earliest = self.scanned_at.map_or(soon, |at| at + SCAN_EVERY);
                self.scan_at.get_or_insert(earliest.max(soon));
            }
        }
    }

    /// Ends the sessions here that are older than those of a message.
    fn hear_of(&self, order: u64, message: &[u8]) {
        let Some((feeder, devices)) = record::read_began(message) else {
            tracing::debug!(order, "a message that makes no sense is passed over");
            return;
        };
        if feeder == self.feeder {
            return;
        }
        for device in devices {
            if let Some(control) = self.presence.session(&device).filter(|control| control.order() < order) {
                self.end(&device, &control);
            }
        }
    }

    /// The topic was made anew, and its numbers begin with the time again, by the clock of whoever was first. If that
    /// was behind, sessions from before would come after all that follows: they come before it.
    fn forget_orders(&self, number: u64) {
        let all = self.presence.all().into_iter();
        let ahead = all.filter(|control| control.order() != UNTOLD && control.order() > number);
        ahead.for_each(|control| control.set_order(0));
    }

    fn end(&self, device: &DeviceId, control: &Control) {
        if control.take_elsewhere(self.delay) {
            tracing::debug!(%device, "the device has a newer session on another feeder");
            self.metrics.taken_elsewhere.inc();
        }
    }

    fn key(&self, device: &DeviceId) -> Key {
        self.deployment.key(&record::place_key(device))
    }
}
