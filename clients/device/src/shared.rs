//! What the handle and the background task of a device share.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use http::HeaderValue;
use tokio::sync::{Notify, broadcast, watch};

use crate::commands::Commands;
use crate::config::Mode;
use crate::error::{SendError, Stopped};
use crate::outbox::{Outbox, Room};
use crate::status::{Acked, Event, Status};

/// Events that a slow receiver may lag behind.
const EVENTS: usize = 64;

/// Under the lock, which is held for a batch of work and never across an await.
#[derive(Debug)]
pub(crate) struct State {
    pub outbox: Outbox,
    /// What the feeder asks the program to do.
    pub commands: Commands,
    /// For encoding, so that it need not be allocated for every frame.
    pub scratch: Vec<u8>,
    pub authorization: HeaderValue,
    /// The task sleeps because there is nothing to send, and must be woken for the next frame. While this is
    /// false a frame costs no wake-up at all.
    pub idle: bool,
    /// The caller asked for the end.
    pub closing: bool,
    /// The task has ended: as it was asked to, or because its runtime did.
    pub ended: bool,
    pub stopped: Option<Arc<Stopped>>,
    /// The caller asked to go on after a stop.
    pub restart: bool,
}

impl State {
    /// Gives back memory that a quiet device does not need.
    pub fn shrink(&mut self) {
        self.scratch = Vec::new();
        self.outbox.shrink();
    }

    /// Whether frames are taken.
    pub fn check_open(&self) -> Result<(), SendError> {
        if self.closing || self.ended {
            return Err(SendError::Closed);
        }
        match &self.stopped {
            Some(stopped) => Err(stopped.clone().into()),
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub mode: Mode,
    /// Wakes the task.
    pub work: Notify,
    /// Wakes every caller that waits for acknowledgements, for room or for the end.
    pub progress: Notify,
    pub acks: watch::Sender<Acked>,
    pub status: watch::Sender<Status>,
    events: OnceLock<broadcast::Sender<Event>>,
}

impl Shared {
    pub fn new(mode: Mode, outbox: Outbox, authorization: HeaderValue) -> Self {
        let acked = Acked { epoch: outbox.epoch(), seq: outbox.acked(), frames: 0 };
        let state = State {
            outbox,
            commands: Commands::default(),
            scratch: Vec::new(),
            authorization,
            idle: false,
            closing: false,
            ended: false,
            stopped: None,
            restart: false,
        };
        Self {
            state: Mutex::new(state),
            mode,
            work: Notify::new(),
            progress: Notify::new(),
            acks: watch::Sender::new(acked),
            status: watch::Sender::new(Status::Connecting),
            events: OnceLock::new(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug that the panicking call has reported; the others go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the lock after something was added.
    pub fn added(&self, mut state: MutexGuard<'_, State>) {
        let wake = std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    /// Tells everybody how far the acknowledgements are. Called with the lock held, so that nobody sees an older
    /// state after a newer one.
    pub fn publish(&self, state: &State) {
        let outbox = &state.outbox;
        let acked = Acked { epoch: outbox.epoch(), seq: outbox.acked(), frames: outbox.frames_acked() };
        self.acks.send_if_modified(|current| std::mem::replace(current, acked) != acked);
        self.progress.notify_waiters();
    }

    pub fn set_status(&self, status: Status) {
        self.status.send_if_modified(|current| std::mem::replace(current, status.clone()) != status);
    }

    /// Tells the event to whom it may concern; costs nothing as long as nobody has asked.
    pub fn emit(&self, event: impl FnOnce() -> Event) {
        if let Some(events) = self.events.get() {
            // Nobody listens any more: nobody misses it.
            let _ = events.send(event());
        }
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.get_or_init(|| broadcast::channel(EVENTS).0).subscribe()
    }

    /// The device stops until it is restarted.
    pub fn stop(&self, stopped: Arc<Stopped>) {
        self.lock().stopped = Some(stopped.clone());
        self.set_status(Status::Stopped(stopped));
        self.progress.notify_waiters();
    }

    /// The task ends.
    pub fn end(&self) {
        self.lock().ended = true;
        self.set_status(Status::Closed);
        self.progress.notify_waiters();
    }
}

/// What `room` means for the caller.
pub(crate) fn admit(room: Room) -> Result<(), SendError> {
    match room {
        Room::Yes => Ok(()),
        Room::Later => Err(SendError::Full),
        Room::Never { what, value, max } => Err(SendError::TooLarge { what, bytes: value, max }),
    }
}
