//! Leases: one holder at a time, nearly always.
//!
//! A lease saves work; it does not make anything safe. Two holders can overlap when the bus is wiped, or when a
//! process stands still between asking [`Lease::is_held`] and acting on it. What two holders must never both do is
//! fenced by a number that the *catalog* gives out and checks, not by this.
//!
//! The holder judges by its own monotonic clock (which stands still while a machine sleeps): a lease is held until
//! its last renewal that surely arrived, counted from when that was sent, plus its life, less a second (memcached
//! counts in whole ones) and a margin. A renewal whose outcome is unknown counts as failed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use trough_runtime::random::random_bytes;

use crate::BoxFuture;
use crate::error::BusError;
use crate::key::Key;

/// Shortest and longest life, in seconds.
const TTL_SECONDS: std::ops::RangeInclusive<u64> = 3..=60;
/// An item of n seconds lasts (n − 1, n].
const GRANULARITY: Duration = Duration::from_secs(1);
/// For what clocks and schedulers do.
const MARGIN: Duration = Duration::from_millis(500);
/// After a renewal that failed.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// A holder's random name: what stands in the lease.
pub(crate) type Owner = [u8; 16];

/// Where leases lie: single items, each with a number that changes with every write (memcached's CAS).
pub(crate) trait Items: Send + Sync + 'static {
    /// Makes an item unless there is one; its number if it was made.
    fn add<'a>(
        &'a self,
        key: &'a Key,
        owner: Owner,
        ttl_s: u32,
    ) -> BoxFuture<'a, Result<Option<u64>, BusError>>;

    /// Writes it again if it still has this number; its next number if so.
    fn renew<'a>(
        &'a self,
        key: &'a Key,
        owner: Owner,
        number: u64,
        ttl_s: u32,
    ) -> BoxFuture<'a, Result<Option<u64>, BusError>>;

    /// Whose it is, and its number; `None` if there is none, or one that makes no sense.
    fn read<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<(Owner, u64)>, BusError>>;

    /// Removes it if it still has this number.
    fn remove<'a>(&'a self, key: &'a Key, number: u64) -> BoxFuture<'a, Result<(), BusError>>;
}

/// A lease that was acquired. It is renewed in the background, and given back by [`Lease::release`], or a moment
/// after it was dropped.
pub struct Lease {
    key: Key,
    /// Until when it is held; `None` when it is lost for good.
    held: watch::Receiver<Option<Instant>>,
    stop: oneshot::Sender<()>,
    renewal: JoinHandle<()>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).field("held", &self.is_held()).finish_non_exhaustive()
    }
}

/// Acquires a lease over such items.
pub(crate) async fn acquire(
    items: Arc<dyn Items>,
    key: &Key,
    ttl: Duration,
) -> Result<Option<Lease>, BusError> {
    if ttl.subsec_nanos() > 0 || !TTL_SECONDS.contains(&ttl.as_secs()) {
        return Err(BusError::Invalid(format!("a lease {key} of {ttl:?}: use 3 to 60 whole seconds")));
    }
    let owner = random_bytes();
    let sent = Instant::now();
    let Some(number) = items.add(key, owner, ttl.as_secs() as u32).await? else { return Ok(None) };
    let (sender, held) = watch::channel(Some(fence(sent, ttl)));
    let (stop, stopped) = oneshot::channel();
    let renewal = Renewal { items, key: key.clone(), owner, ttl, number: Some(number), held: sender };
    let renewal = tokio::spawn(renewal.run(stopped));
    Ok(Some(Lease { key: key.clone(), held, stop, renewal }))
}

fn fence(sent: Instant, ttl: Duration) -> Instant {
    sent + ttl - GRANULARITY - MARGIN
}

impl Lease {
    /// Whether it is surely held now. Ask before every step, not once.
    pub fn is_held(&self) -> bool {
        self.held.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Returns as soon as the lease is no longer surely held. Cancel-safe.
    pub async fn lost(&self) {
        let mut held = self.held.clone();
        loop {
            let Some(until) = *held.borrow_and_update() else { return };
            tokio::select! {
                changed = held.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = sleep_until(until) => return,
            }
        }
    }

    /// Gives it back, so that the next holder need not wait. If the bus does not answer, it expires by itself.
    pub async fn release(self) {
        // The receiver is gone only if the lease is lost already.
        let _ = self.stop.send(());
        // A panic there was reported where it happened.
        let _ = self.renewal.await;
    }
}

struct Renewal {
    items: Arc<dyn Items>,
    key: Key,
    owner: Owner,
    ttl: Duration,
    /// The item's number; `None` if the last renewal may or may not have happened.
    number: Option<u64>,
    held: watch::Sender<Option<Instant>>,
}

impl Renewal {
    async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let every = self.ttl * 3 / 10;
        let mut due = Instant::now() + every;
        loop {
            tokio::select! {
                // Dropping the lease ends it as well.
                _ = &mut stop => return self.give_back().await,
                () = sleep_until(due) => {}
            }
            let sent = Instant::now();
            match self.renew().await {
                // A fence that has passed stays passed: somebody may have been told that the lease is lost.
                Ok(true) if self.is_held() => {
                    self.held.send_replace(Some(fence(sent, self.ttl)));
                    due = sent + every;
                }
                Ok(true) => return self.give_back().await,
                Ok(false) => {
                    tracing::warn!(lease = %self.key, "the lease was lost: the bus has forgotten it");
                    self.held.send_replace(None);
                    return;
                }
                Err(error) => {
                    tracing::debug!(lease = %self.key, %error, "the lease was not renewed, trying again");
                    if !self.is_held() {
                        tracing::warn!(lease = %self.key, %error, "the lease was lost: the bus did not answer in time");
                        self.held.send_replace(None);
                        return;
                    }
                    due = Instant::now() + RETRY_AFTER;
                }
            }
        }
    }

    fn is_held(&self) -> bool {
        self.held.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Whether it is ours for another life. After an unknown outcome the item is read first: if our name is in it,
    /// nobody else had it in between.
    async fn renew(&mut self) -> Result<bool, BusError> {
        let known = match self.number.take() {
            Some(number) => Some(number),
            None => self.own_number().await?,
        };
        let Some(number) = known else { return Ok(false) };
        let ttl_s = self.ttl.as_secs() as u32;
        self.number = self.items.renew(&self.key, self.owner, number, ttl_s).await?;
        if self.number.is_none()
            // An earlier renewal of ours may have happened only now, on a connection that was given up: a server that
            // was stopped takes what waits in no order.
            && let Some(number) = self.own_number().await?
        {
            self.number = self.items.renew(&self.key, self.owner, number, ttl_s).await?;
        }
        Ok(self.number.is_some())
    }

    async fn own_number(&self) -> Result<Option<u64>, BusError> {
        let found = self.items.read(&self.key).await?;
        Ok(found.filter(|(owner, _)| *owner == self.owner).map(|(_, number)| number))
    }

    async fn give_back(self) {
        self.held.send_replace(None);
        let number = match self.number {
            Some(number) => Some(number),
            None => self.own_number().await.unwrap_or_default(),
        };
        if let Some(number) = number
            && let Err(error) = self.items.remove(&self.key, number).await
        {
            tracing::debug!(lease = %self.key, %error, "the lease was not given back; it expires");
        }
    }
}

#[cfg(test)]
mod tests;
