//! Which device has a session here, and how others end it: a newer session of the same device takes over, a
//! revoked token ends it, a stopping feeder closes it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trough_protocol::close::CloseCode;
use trough_protocol::device::Command;
use trough_protocol::{DeviceId, LinkId};
use trough_runtime::random::random_below;
use trough_store::TokenId;

use crate::reports::Told;

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

/// The order of a session that the other feeders were not told of: it comes after all that they are told.
pub const UNTOLD: u64 = u64::MAX;

/// The handle by which any thread ends a session.
#[derive(Debug)]
pub struct Control {
    /// With which token the session was opened.
    pub token: TokenId,
    requested: AtomicBool,
    ending: Mutex<Option<Ending>>,
    waker: AtomicWaker,
    /// Where the session stands among those of its device on all feeders: the number of the message that told of it.
    order: AtomicU64,
    /// A newer session of the device is on another feeder.
    is_elsewhere: AtomicBool,
    /// Its device has said that it takes commands.
    takes_commands: AtomicBool,
    has_commands: AtomicBool,
    /// To be sent.
    commands: Mutex<Vec<Command>>,
    /// Cancelled when the session is over and nothing of it is in flight.
    gone: CancellationToken,
    /// Names the session.
    pub session: LinkId,
    /// When it began.
    began: Instant,
    /// When the device was heard last, in ms since then.
    heard_ms: AtomicU64,
    /// The socket is not read just now, so nothing can be heard.
    is_deaf: AtomicBool,
    /// What was said of it where presence is kept.
    pub told: Told,
}

impl Control {
    /// A handle for a session opened with `token`.
    pub fn new(token: TokenId, session: LinkId) -> Arc<Self> {
        Arc::new(Self {
            token,
            requested: AtomicBool::new(false),
            ending: Mutex::new(None),
            waker: AtomicWaker::new(),
            order: AtomicU64::new(UNTOLD),
            is_elsewhere: AtomicBool::new(false),
            takes_commands: AtomicBool::new(false),
            has_commands: AtomicBool::new(false),
            commands: Mutex::default(),
            gone: CancellationToken::new(),
            session,
            began: Instant::now(),
            heard_ms: AtomicU64::new(0),
            is_deaf: AtomicBool::new(false),
            told: Told::default(),
        })
    }

    /// Waits until the session is over and nothing of it is in flight. Cancel-safe.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Something came from the device.
    pub fn heard(&self) {
        self.heard_ms.store(self.age().as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether the socket is left unread. What has been sent meanwhile is heard afterwards, so silence counts from its end.
    pub fn set_deaf(&self, deaf: bool) {
        if self.is_deaf.load(Ordering::Relaxed) != deaf {
            self.heard();
            self.is_deaf.store(deaf, Ordering::Relaxed);
        }
    }

    /// How long ago the session began.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// How long ago the device was heard; nothing, as long as nobody listens.
    pub fn heard_ago(&self) -> Duration {
        if self.is_deaf.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.age().saturating_sub(Duration::from_millis(self.heard_ms.load(Ordering::Relaxed)))
    }

    /// Asks the session to end. The first request counts.
    pub fn end(&self, ending: Ending) {
        locked(&self.ending).get_or_insert(ending);
        self.requested.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Asks it to end as a newer session of the device has begun, and the device to stay away for `delay` at the
    /// least, so that two copies of a device cannot fight.
    pub fn take_over(&self, delay: Duration) {
        let jitter = Duration::from_millis(random_below(delay.as_millis() as u64 / 2 + 1));
        let text = "another session of this device began; is its token used twice?";
        self.end(Ending::new(CloseCode::TakenOver, text).after(delay + jitter));
    }

    /// The same, for a session on another feeder. Whether it is news.
    pub fn take_elsewhere(&self, delay: Duration) -> bool {
        let is_news = !self.is_elsewhere.swap(true, Ordering::Relaxed);
        if is_news {
            self.take_over(delay);
        }
        is_news
    }

    /// Whether a newer session of the device is on another feeder.
    pub fn is_elsewhere(&self) -> bool {
        self.is_elsewhere.load(Ordering::Relaxed)
    }

    /// Where it stands among the sessions of its device; [`UNTOLD`] if no feeder was told.
    pub fn order(&self) -> u64 {
        self.order.load(Ordering::Relaxed)
    }

    /// The other feeders were told.
    pub fn set_order(&self, order: u64) {
        self.order.store(order, Ordering::Relaxed);
    }

    /// Its device takes commands.
    pub fn set_takes_commands(&self) {
        self.takes_commands.store(true, Ordering::Relaxed);
    }

    /// Whether it does.
    pub fn takes_commands(&self) -> bool {
        self.takes_commands.load(Ordering::Relaxed)
    }

    /// Gives the session a command to send. Whoever gives bounds how many.
    pub fn give(&self, command: Command) {
        locked(&self.commands).push(command);
        self.has_commands.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether there are commands to send. Call [`Control::set_waker`] before.
    pub fn has_commands(&self) -> bool {
        self.has_commands.load(Ordering::Acquire)
    }

    /// Those, once.
    pub fn take_commands(&self) -> Vec<Command> {
        self.has_commands.store(false, Ordering::Relaxed);
        std::mem::take(&mut *locked(&self.commands))
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
    /// Kept only if there are other feeders to be told.
    changed: Option<Changed>,
}

/// Devices whose session has begun or ended, each once.
#[derive(Debug, Default)]
struct Changed {
    devices: Mutex<HashSet<DeviceId>>,
    some: Notify,
}

impl Changed {
    fn note(&self, device: DeviceId) {
        if locked(&self.devices).insert(device) {
            self.some.notify_one();
        }
    }
}

impl Presence {
    /// One that notes what the other feeders must be told.
    pub fn told() -> Self {
        Self { changed: Some(Changed::default()), ..Self::default() }
    }

    /// Enters a session; an older one of the same device is asked to end and to stay away for `delay` at the
    /// least, so that two copies of a device cannot fight. It is given back, to be waited for.
    pub fn enter(&self, device: &DeviceId, control: &Arc<Control>, delay: Duration) -> Option<Arc<Control>> {
        let older = locked(&self.sessions).insert(device.clone(), control.clone());
        if let Some(older) = &older {
            older.take_over(delay);
        }
        if let Some(changed) = &self.changed {
            changed.note(device.clone());
        }
        older
    }

    /// Removes a session, unless a newer one stands in its place.
    pub fn leave(&self, device: &DeviceId, control: &Arc<Control>) {
        control.gone.cancel();
        let mut sessions = locked(&self.sessions);
        if sessions.get(device).is_some_and(|known| Arc::ptr_eq(known, control)) {
            sessions.remove(device);
            // The value on the bus is the newer session's, if there is one.
            if let Some(changed) = self.changed.as_ref().filter(|_| !control.is_elsewhere()) {
                changed.note(device.clone());
            }
        }
    }

    /// A device's session.
    pub fn session(&self, device: &DeviceId) -> Option<Arc<Control>> {
        locked(&self.sessions).get(device).cloned()
    }

    /// All sessions with their devices.
    pub fn entries(&self) -> Vec<(DeviceId, Arc<Control>)> {
        locked(&self.sessions).iter().map(|(device, control)| (device.clone(), control.clone())).collect()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        locked(&self.sessions).is_empty()
    }

    /// Waits until a session has begun or ended that nobody was told of. Cancel-safe.
    pub async fn has_changed(&self) {
        let Some(changed) = &self.changed else { return std::future::pending().await };
        while locked(&changed.devices).is_empty() {
            changed.some.notified().await;
        }
    }

    /// Takes devices whose session has begun or ended, so many at the most.
    pub fn take_changed(&self, max: usize) -> Vec<DeviceId> {
        let Some(changed) = &self.changed else { return Vec::new() };
        let mut devices = locked(&changed.devices);
        let taken: Vec<DeviceId> = devices.iter().take(max).cloned().collect();
        for device in &taken {
            devices.remove(device);
        }
        taken
    }

    /// Gives devices back whose sessions could not be told of.
    pub fn put_back(&self, devices: impl IntoIterator<Item = DeviceId>) {
        if let Some(changed) = &self.changed {
            devices.into_iter().for_each(|device| changed.note(device));
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
        Control::new(TokenId::random(), LinkId([0; 16]))
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
