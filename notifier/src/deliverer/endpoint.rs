//! Endpoints: few requests to each at a time, and fewer still to one that does not answer, so that it costs nobody else
//! anything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::tried::Standing;

/// After so many failures in a row an endpoint is only probed.
const FAILURES_MAX: u32 = 5;
/// The first pause between probes; each is twice as long as the one before ...
const PAUSE: Duration = Duration::from_secs(1);
/// ... up to this.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Above so many endpoints those that nobody uses are forgotten.
const ENDPOINTS_MAX: usize = 4096;

/// All endpoints, by host and port.
#[derive(Debug, Default)]
pub struct Endpoints(Mutex<HashMap<String, Arc<Endpoint>>>);

/// One.
#[derive(Debug)]
pub struct Endpoint {
    slots: Arc<Semaphore>,
    breaker: Mutex<Breaker>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Breaker {
    /// In a row.
    failures: u32,
    /// When it may be probed next.
    probe_at: Option<Instant>,
    /// Somebody does.
    probing: bool,
}

/// The right to send to an endpoint.
#[derive(Debug)]
pub struct Visit {
    endpoint: Arc<Endpoint>,
    /// Whether it is a probe: one request, which decides.
    pub probe: bool,
    _slot: OwnedSemaphorePermit,
}

impl Endpoints {
    /// The endpoint of this name, with so many slots if it is new.
    pub fn get(&self, name: &str, slots: usize) -> Arc<Endpoint> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(name) {
            return known.clone();
        }
        if all.len() >= ENDPOINTS_MAX {
            all.retain(|_, endpoint| Arc::strong_count(endpoint) > 1 || endpoint.lock().failures > 0);
        }
        let endpoint = Endpoint {
            slots: Arc::new(Semaphore::new(slots)),
            breaker: Mutex::default(),
            changed: Notify::new(),
        };
        all.entry(name.to_owned()).or_insert(Arc::new(endpoint)).clone()
    }
}

impl Endpoint {
    /// Waits until something may be sent there. Cancel-safe: whoever stops waiting loses only the place in the queue.
    pub async fn enter(self: Arc<Self>) -> Visit {
        #[expect(clippy::expect_used, reason = "nobody closes it")]
        let slot = self.slots.clone().acquire_owned().await.expect("it is open");
        loop {
            let changed = self.changed.notified();
            let wait = {
                let mut breaker = self.lock();
                if breaker.failures < FAILURES_MAX {
                    break;
                }
                let until = breaker.probe_at.filter(|at| *at > Instant::now());
                if until.is_none() && !breaker.probing {
                    breaker.probing = true;
                    drop(breaker);
                    return Visit { endpoint: self.clone(), probe: true, _slot: slot };
                }
                until.filter(|_| !breaker.probing)
            };
            match wait {
                Some(until) => tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
        Visit { endpoint: self, probe: false, _slot: slot }
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        // Its figures are whole, whoever panicked.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    /// What a request said of the endpoint.
    pub fn note(&self, standing: Standing) {
        let mut breaker = self.endpoint.lock();
        match standing {
            Standing::Answers => *breaker = Breaker { probing: breaker.probing, ..Breaker::default() },
            Standing::Fails => {
                breaker.failures = breaker.failures.saturating_add(1);
                let doublings = breaker.failures.saturating_sub(FAILURES_MAX).min(16);
                breaker.probe_at = Some(Instant::now() + (PAUSE * 2_u32.pow(doublings)).min(PAUSE_MAX));
            }
            Standing::Unknown => {}
        }
        drop(breaker);
        self.endpoint.changed.notify_waiters();
    }

    /// Whether the visit may go on: a probe is one request, and an endpoint that fails gets no more.
    pub fn may_go_on(&self) -> bool {
        !self.probe && self.endpoint.lock().failures < FAILURES_MAX
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if self.probe {
            self.endpoint.lock().probing = false;
            self.endpoint.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_fails_is_probed_by_one_at_a_time() {
        let endpoints = Endpoints::default();
        let endpoint = endpoints.get("slow:443", 4);
        for _ in 0..FAILURES_MAX {
            let visit = endpoint.clone().enter().await;
            assert!(!visit.probe);
            visit.note(Standing::Fails);
        }
        let begun = Instant::now();
        let probe = endpoint.clone().enter().await;
        assert!(probe.probe && begun.elapsed() >= PAUSE);
        assert!(endpoint.clone().enter().now_or_never().is_none(), "one probe at a time");
        probe.note(Standing::Fails);
        assert!(!probe.may_go_on());
        drop(probe);
        let probe = endpoint.clone().enter().await;
        assert!(probe.probe && begun.elapsed() >= PAUSE * 3, "the pause grows");
        probe.note(Standing::Answers);
        drop(probe);
        assert!(!endpoint.enter().await.probe, "one answer is enough");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_leaves_room_for_another() {
        let endpoint = Endpoints::default().get("slow:443", 4);
        for _ in 0..FAILURES_MAX {
            endpoint.clone().enter().await.note(Standing::Fails);
        }
        drop(endpoint.clone().enter().await);
        assert!(endpoint.enter().await.probe);
    }

    #[tokio::test]
    async fn an_endpoint_has_so_many_slots_and_others_have_their_own() {
        let endpoints = Endpoints::default();
        let visits: Vec<_> =
            futures_util::future::join_all((0..4).map(|_| endpoints.get("a:1", 4).enter())).await;
        assert!(endpoints.get("a:1", 4).enter().now_or_never().is_none());
        assert!(endpoints.get("b:1", 4).enter().now_or_never().is_some());
        drop(visits);
        assert!(endpoints.get("a:1", 4).enter().now_or_never().is_some());
    }
}
