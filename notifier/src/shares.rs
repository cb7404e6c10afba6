//! How many requests may be on their way, of all owners and of each: one whose endpoints hang leaves room for the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trough_store::ReaderName;

/// Above so many owners those that have nothing on its way are forgotten.
const OWNERS_MAX: usize = 4096;

/// Room for requests.
#[derive(Debug)]
pub struct Shares {
    all: Arc<Semaphore>,
    of_owner_max: usize,
    of_owner: Mutex<HashMap<ReaderName, Arc<Semaphore>>>,
}

/// The right to send one.
#[derive(Debug)]
pub struct Share {
    _of_owner: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Shares {
    /// For so many, and so many of one owner.
    pub fn new(max: usize, of_owner_max: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(max)), of_owner_max, of_owner: Mutex::default() }
    }

    /// Waits until one of this owner's may be sent. Cancel-safe: whoever stops waiting loses only the place in the queue.
    pub async fn enter(&self, owner: &ReaderName) -> Share {
        // In this order: who waits for its own share keeps no room of the others.
        let of_owner = enter(self.of(owner)).await;
        Share { _of_owner: of_owner, _of_all: enter(self.all.clone()).await }
    }

    fn of(&self, owner: &ReaderName) -> Arc<Semaphore> {
        // An entry is whole or not there.
        let mut all = self.of_owner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(owner) {
            return known.clone();
        }
        if all.len() >= OWNERS_MAX {
            // Whoever has a permit, or waits for one, has a clone.
            all.retain(|_, share| Arc::strong_count(share) > 1);
        }
        all.entry(owner.clone()).or_insert(Arc::new(Semaphore::new(self.of_owner_max))).clone()
    }
}

#[expect(clippy::expect_used, reason = "nobody closes it")]
async fn enter(room: Arc<Semaphore>) -> OwnedSemaphorePermit {
    room.acquire_owned().await.expect("it is open")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn an_owner_takes_its_share_and_no_more() {
        let shares = Shares::new(3, 2);
        let (one, other) = (ReaderName::new("one").unwrap(), ReaderName::new("other").unwrap());
        let first = shares.enter(&one).await;
        let _second = shares.enter(&one).await;
        assert!(shares.enter(&one).now_or_never().is_none(), "its share is taken");
        let _third = shares.enter(&other).await;
        assert!(shares.enter(&other).now_or_never().is_none(), "all is taken");
        drop(first);
        assert!(shares.enter(&other).now_or_never().is_some());
    }
}
