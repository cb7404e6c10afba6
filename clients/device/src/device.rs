//! The handle that a device's program holds.

use std::pin::pin;
use std::sync::Arc;

use http::HeaderValue;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use trough_protocol::device::SkipReason;
use trough_protocol::frame::FrameRef;
use trough_protocol::{Epoch, Seq};

use crate::commands::Command;
use crate::config::{Config, Token};
use crate::dial::Target;
use crate::driver::Driver;
use crate::error::{ConfigError, SendError, StartError, WaitError};
use crate::frames::FrameBuf;
use crate::message::lone_message_bytes;
use crate::outbox::{Outbox, ResumeState};
use crate::shared::{Shared, State, admit};
use crate::status::{Acked, Event, Status};
use crate::tls::Tls;

/// A device: takes frames, and sends each until it is acknowledged, over as many connections as that takes.
///
/// All calls take `&self`: put it into an [`Arc`] to send from several tasks. One background task does the work;
/// dropping the handle ends it at once, and what is not acknowledged then is forgotten ([`Device::close`] waits).
#[derive(Debug)]
pub struct Device {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Device {
    /// Starts a device, which connects in the background. Frames may be sent at once.
    ///
    /// # Errors
    /// A configuration that cannot work.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and I/O enabled. A runtime of one thread will do.
    pub fn start(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let target = Target::parse(&config.url)?;
        let authorization = config.token.header()?;
        let user_agent = HeaderValue::try_from(&config.user_agent).map_err(|_| ConfigError::Value {
            field: "user_agent",
            value: format!("{:?}", config.user_agent),
            accepted: "visible ASCII characters and spaces",
        })?;
        let tls = config.tls.clone().unwrap_or_else(Tls::compiled_in_roots);
        let outbox = Outbox::new(config.cut(), config.resume.unwrap_or_default());
        let shared = Arc::new(Shared::new(config.mode, outbox, authorization));
        let driver = Driver { shared: shared.clone(), config, target, tls, user_agent };
        Ok(Self { shared, task: tokio::spawn(driver.run()) })
    }

    /// Starts a device and waits until it is in a session, as long as that takes.
    ///
    /// # Errors
    /// A configuration that cannot work, or a feeder that refuses the device for good.
    ///
    /// # Cancel safety
    /// Dropping the future ends the device.
    pub async fn connect(config: Config) -> Result<Self, StartError> {
        let device = Self::start(config)?;
        device.connected().await?;
        Ok(device)
    }

    /// Waits until the device is in a session.
    ///
    /// # Errors
    /// [`WaitError`].
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn connected(&self) -> Result<(), WaitError> {
        let mut status = self.shared.status.subscribe();
        let known = |status: &Status| !matches!(status, Status::Connecting | Status::Waiting);
        let status = status.wait_for(known).await.map_err(|_| WaitError::Ended)?;
        match &*status {
            Status::Stopped(stopped) => Err(stopped.clone().into()),
            Status::Closed => Err(WaitError::Ended),
            _ => Ok(()),
        }
    }

    /// Takes a frame and returns its number, which it has until it is acknowledged or the epoch changes
    /// ([`Event::EpochChanged`]). Waits while the buffer is full: that is how a slow feeder slows its devices.
    ///
    /// # Errors
    /// [`SendError`]; the frame was not taken then.
    ///
    /// # Cancel safety
    /// Safe: a frame is taken when the future returns its number, and not at all if the future is dropped before.
    pub async fn send(&self, frame: FrameRef<'_>) -> Result<Seq, SendError> {
        self.when_room(|| self.try_send(frame)).await
    }

    /// Takes a frame if there is room for it now.
    ///
    /// # Errors
    /// [`SendError::Full`] when [`Device::send`] would wait; else as that.
    pub fn try_send(&self, frame: FrameRef<'_>) -> Result<Seq, SendError> {
        let mut guard = self.shared.lock();
        guard.check_open()?;
        let State { outbox, scratch, .. } = &mut *guard;
        let message_max = outbox.limits().map_or(usize::MAX, |limits| limits.message_bytes);
        let message = lone_message_bytes(self.shared.mode, &frame, message_max);
        admit(outbox.room(frame.payload.len(), frame.encoded_len(), message))?;
        scratch.clear();
        frame.encode(scratch)?;
        let seq = outbox.push_frame(scratch);
        self.shared.added(guard);
        Ok(seq)
    }

    /// Takes all frames of `frames`, in order and from its front, and returns the number of the last one. Costs
    /// much less than sending them one by one.
    ///
    /// # Errors
    /// As [`Device::send`]; what was taken is gone from `frames`, the rest is still in it.
    ///
    /// # Cancel safety
    /// Safe in the same way: what has not been taken is still in `frames`.
    pub async fn send_all(&self, frames: &mut FrameBuf) -> Result<Seq, SendError> {
        loop {
            let last = self.when_room(|| self.try_send_all(frames)).await?;
            if frames.is_empty() {
                return Ok(last);
            }
        }
    }

    /// Takes as many frames from the front of `frames` as there is room for now, and returns the number of the
    /// last one taken. With an empty `frames` that is the last number given to anything.
    ///
    /// # Errors
    /// [`SendError::Full`] if there is room for none; else as [`Device::send`].
    pub fn try_send_all(&self, frames: &mut FrameBuf) -> Result<Seq, SendError> {
        let mut guard = self.shared.lock();
        guard.check_open()?;
        let taken = guard.outbox.push_buf(frames, self.shared.mode);
        let last = taken.map(|()| Seq(guard.outbox.next().0 - 1));
        self.shared.added(guard);
        last
    }

    /// Declares that the next `count` frames are lost, and returns their first and last number. Readers see the
    /// gap and its reason. For what the device could not keep, and after a resume for the frames that the program
    /// has no longer. Waits while the buffer is full.
    ///
    /// # Errors
    /// [`SendError`].
    ///
    /// # Cancel safety
    /// As [`Device::send`].
    pub async fn skip(&self, count: u64, reason: SkipReason) -> Result<(Seq, Seq), SendError> {
        self.when_room(|| {
            let mut guard = self.shared.lock();
            guard.check_open()?;
            admit(guard.outbox.room_for_skip())?;
            let first = guard.outbox.push_skip(count, reason).ok_or(SendError::SkipRange(count))?;
            self.shared.added(guard);
            Ok((first, Seq(first.0 + count - 1)))
        })
        .await
    }

    async fn when_room<T>(&self, mut attempt: impl FnMut() -> Result<T, SendError>) -> Result<T, SendError> {
        match attempt() {
            Err(SendError::Full) => {}
            other => return other,
        }
        let mut progress = pin!(self.shared.progress.notified());
        loop {
            // Registered before the attempt, so that what happens after it is not missed.
            progress.as_mut().enable();
            match attempt() {
                Err(SendError::Full) => progress.as_mut().await,
                other => return other,
            }
            progress.set(self.shared.progress.notified());
        }
    }

    /// Waits until everything that was taken before this call is acknowledged.
    ///
    /// # Errors
    /// [`WaitError`].
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn flush(&self) -> Result<(), WaitError> {
        let ticket = self.shared.lock().outbox.ticket();
        self.wait_for(|state| state.outbox.is_durable(ticket)).await
    }

    async fn wait_for(&self, mut done: impl FnMut(&State) -> bool) -> Result<(), WaitError> {
        let mut progress = pin!(self.shared.progress.notified());
        loop {
            progress.as_mut().enable();
            {
                let state = self.shared.lock();
                if done(&state) {
                    return Ok(());
                }
                if state.ended {
                    return Err(WaitError::Ended);
                }
                // A stop is in the way of what is held, and of nothing else.
                if let Some(stopped) = &state.stopped
                    && !state.outbox.is_empty()
                {
                    return Err(stopped.clone().into());
                }
            }
            progress.as_mut().await;
            progress.set(self.shared.progress.notified());
        }
    }

    /// The next command, as long as [`Config::commands`] says that the program takes some; each comes once in the life
    /// of this device, however often the feeder sends it. One that is dropped without an answer comes again.
    ///
    /// # Errors
    /// [`WaitError`]: the device has ended, or was stopped.
    ///
    /// # Cancel safety
    /// Safe: a command is taken when the future returns it.
    pub async fn next_command(&self) -> Result<Command, WaitError> {
        let mut progress = pin!(self.shared.progress.notified());
        loop {
            progress.as_mut().enable();
            {
                let mut state = self.shared.lock();
                if let Some(command) = state.commands.take() {
                    return Ok(Command::new(command, self.shared.clone()));
                }
                if state.ended {
                    return Err(WaitError::Ended);
                }
                if let Some(stopped) = &state.stopped {
                    return Err(stopped.clone().into());
                }
            }
            progress.as_mut().await;
            progress.set(self.shared.progress.notified());
        }
    }

    /// Takes nothing more, waits until everything is acknowledged, closes the session with code 1000, and returns
    /// the state for the next start.
    ///
    /// # Errors
    /// [`WaitError`].
    ///
    /// # Cancel safety
    /// After a drop the device goes on closing in the background; the call may be made again.
    pub async fn close(&self) -> Result<ResumeState, WaitError> {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        self.wait_for(|state| state.ended && state.outbox.is_empty()).await?;
        Ok(self.state())
    }

    /// Goes on after a stop, optionally with another token. Without effect on a device that is not stopped, except
    /// that the token is used from the next connection on.
    ///
    /// # Errors
    /// A token that cannot be one.
    pub fn restart(&self, token: Option<Token>) -> Result<(), ConfigError> {
        let authorization = token.map(|token| token.header()).transpose()?;
        let mut state = self.shared.lock();
        if let Some(authorization) = authorization {
            state.authorization = authorization;
        }
        if state.stopped.take().is_some() {
            state.restart = true;
            drop(state);
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Everything up to and with this number of [`Device::epoch`] is durable.
    pub fn acked(&self) -> Seq {
        self.shared.lock().outbox.acked()
    }

    /// The current numbering; [`Epoch::NONE`] before the first session.
    pub fn epoch(&self) -> Epoch {
        self.shared.lock().outbox.epoch()
    }

    /// Where the device stands now; for [`Config::resume`] of a later run.
    pub fn state(&self) -> ResumeState {
        self.shared.lock().outbox.resume_state()
    }

    /// Bytes of the buffer in use.
    pub fn buffered_bytes(&self) -> usize {
        self.shared.lock().outbox.cost()
    }

    /// Follows the acknowledgements. A receiver that looks seldom sees only the latest.
    pub fn watch_acks(&self) -> watch::Receiver<Acked> {
        self.shared.acks.subscribe()
    }

    /// Follows what the device is doing.
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// What happens from now on. A receiver that falls more than 64 events behind loses the oldest and is told
    /// how many.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.subscribe()
    }
}
