//! What time it is, passed in, so that tests and simulations can say it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use trough_protocol::Micros;

/// A wall clock. Cloning is cheap, and clones of a manual clock show the same time.
///
/// It is for time stamps only: the system may set it forwards or back at any moment. Deadlines and timeouts
/// use `tokio::time`, which tests can pause.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `start` µs since 1970 until [`Clock::advance`] or [`Clock::set`] moves it.
    pub fn manual(start: Micros) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(start))))
    }

    /// Microseconds since 1970-01-01T00:00:00Z; 0 on a machine whose clock stands before that.
    pub fn now(&self) -> Micros {
        match &self.0 {
            Source::System => system_now(),
            Source::Manual(now) => now.load(Ordering::SeqCst),
        }
    }

    /// Moves a manual clock, and all its clones, forward.
    ///
    /// # Panics
    /// On the system clock, which is not ours to move.
    pub fn advance(&self, by: Duration) {
        self.manual_source().fetch_add(micros(by), Ordering::SeqCst);
    }

    /// Sets a manual clock, and all its clones, even backwards, as a machine's clock may be.
    ///
    /// # Panics
    /// On the system clock.
    pub fn set(&self, now: Micros) {
        self.manual_source().store(now, Ordering::SeqCst);
    }

    fn manual_source(&self) -> &AtomicU64 {
        match &self.0 {
            Source::Manual(now) => now,
            Source::System => panic!("only a manual clock can be moved: make it with Clock::manual"),
        }
    }
}

/// A duration in whole microseconds, at most `u64::MAX`.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
fn system_now() -> Micros {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_and_its_clones_move_together() {
        let clock = Clock::manual(5);
        let other = clock.clone();
        clock.advance(Duration::from_millis(2));
        assert_eq!(other.now(), 2_005);
        other.set(1);
        assert_eq!(clock.now(), 1);
    }

    #[test]
    fn the_system_clock_counts_microseconds() {
        let year_2020 = 1_577_836_800_000_000;
        let year_2200 = 7_258_118_400_000_000;
        assert!((year_2020..year_2200).contains(&Clock::system().now()));
    }
}
