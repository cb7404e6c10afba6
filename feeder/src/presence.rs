//! Which device has a session here, and how others end it: a newer session of the same device takes over, a
//! revoked token ends it, a stopping feeder closes it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio_util::sync::CancellationToken;
use trough_protocol::DeviceId;
use trough_protocol::close::CloseCode;
use trough_runtime::random::random_below;
use trough_store::TokenId;

/// A request to end a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub code: CloseCode,
    /// When the device may come back.
    pub retry_after: Option<Duration>,
    /// For people.
    pub text: String,
    /// Whether what is in flight is acknowledged first.
    pub settle: bool,
}

impl Ending {
    /// An end at once.
    pub fn new(code: CloseCode, text: impl Into<String>) -> Self {
        Self { code, retry_after: None, text: text.into(), settle: false }
    }

    /// Names the delay before the device may come back.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { retry_after: Some(delay), ..self }
    }
}

/// The handle by which any thread ends a session.
#[derive(Debug)]
pub struct Control {
    /// With which token the session was opened.
    pub token: TokenId,
    requested: AtomicBool,
    ending: Mutex<Option<Ending>>,
    waker: AtomicWaker,
    /// Cancelled when the session is over and nothing of it is in flight.
    gone: CancellationToken,
}

impl Control {
    /// A handle for a session opened with `token`.
    pub fn new(token: TokenId) -> Arc<Self> {
        Arc::new(Self {
            token,
            requested: AtomicBool::new(false),
            ending: Mutex::new(None),
            waker: AtomicWaker::new(),
            gone: CancellationToken::new(),
        })
    }

    /// Waits until the session is over and nothing of it is in flight. Cancel-safe.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Asks the session to end. The first request counts.
    pub fn end(&self, ending: Ending) {
        locked(&self.ending).get_or_insert(ending);
        self.requested.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Who is woken by a request. Call it before [`Control::requested`].
    pub fn set_waker(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// The request, once.
    pub fn requested(&self) -> Option<Ending> {
        // One relaxed load in the ordinary case; the lock only when there is a request.
        if !self.requested.load(Ordering::Acquire) {
            return None;
        }
        self.requested.store(false, Ordering::Relaxed);
        locked(&self.ending).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held cannot leave these maps half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sessions of this feeder, by device.
#[derive(Debug, Default)]
pub struct Presence {
    sessions: Mutex<HashMap<DeviceId, Arc<Control>>>,
}

impl Presence {
    /// Enters a session; an older one of the same device is asked to end and to stay away for `delay` at the
    /// least, so that two copies of a device cannot fight. It is given back, to be waited for.
    pub fn enter(&self, device: &DeviceId, control: &Arc<Control>, delay: Duration) -> Option<Arc<Control>> {
        let older = locked(&self.sessions).insert(device.clone(), control.clone());
        if let Some(older) = &older {
            let jitter = Duration::from_millis(random_below(delay.as_millis() as u64 / 2 + 1));
            let text = "another session of this device began; is its token used twice?";
            older.end(Ending::new(CloseCode::TakenOver, text).after(delay + jitter));
        }
        older
    }

    /// Removes a session, unless a newer one stands in its place.
    pub fn leave(&self, device: &DeviceId, control: &Arc<Control>) {
        control.gone.cancel();
        let mut sessions = locked(&self.sessions);
        if sessions.get(device).is_some_and(|known| Arc::ptr_eq(known, control)) {
            sessions.remove(device);
        }
    }

    /// All sessions as they stand.
    pub fn all(&self) -> Vec<Arc<Control>> {
        locked(&self.sessions).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> Arc<Control> {
        Control::new(TokenId::random())
    }

    #[test]
    fn a_newer_session_ends_the_older_and_keeps_its_place() {
        let presence = Presence::default();
        let device = DeviceId::new("d").unwrap();
        let (older, newer) = (control(), control());
        presence.enter(&device, &older, Duration::from_secs(10));
        presence.enter(&device, &newer, Duration::from_secs(10));
        let ending = older.requested().unwrap();
        assert_eq!(ending.code, CloseCode::TakenOver);
        assert!(ending.retry_after.unwrap() >= Duration::from_secs(10));
        assert_eq!(older.requested(), None, "told once");
        assert_eq!(newer.requested(), None);
        presence.leave(&device, &older);
        assert_eq!(presence.all().len(), 1, "the older one does not remove the newer one");
        presence.leave(&device, &newer);
        assert!(presence.all().is_empty());
    }
}
