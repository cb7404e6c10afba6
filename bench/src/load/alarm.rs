//! Waking at an instant to some tens of microseconds: tokio's own timers know milliseconds only, which is more
//! than what is to be measured.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A timer of the kernel that the event loop waits for like for a socket.
pub struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    /// A timer of the current runtime.
    ///
    /// # Errors
    /// If the system refuses one.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[allow(
            deprecated,
            reason = "sound for an OwnedFd, which is one descriptor for life; the other is unsafe"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Self(timer))
    }

    /// Waits until `at`; not at all if that is past.
    ///
    /// # Errors
    /// If the system refuses the setting.
    ///
    /// # Cancel safety
    /// Safe: the next call sets the timer anew.
    pub async fn until(&self, at: Instant) -> io::Result<()> {
        loop {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let it_value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            // Setting the timer took back what an earlier one had signalled; a readiness that the event loop
            // still remembers only costs another turn.
            self.0.readable().await?.clear_ready();
        }
    }
}
