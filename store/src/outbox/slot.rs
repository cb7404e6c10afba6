//! When deliveries go that are told of together.

use std::time::Duration;

use trough_protocol::Micros;
use trough_protocol::limits::INT_MAX;
use trough_runtime::clock::micros;

/// Nothing joins a delivery so shortly before its time: whoever delivers may have looked already.
const CLOSED_BEFORE: Duration = Duration::from_secs(2);

/// When a delivery goes, and from when on the next one of its key may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub at: Micros,
    pub free_at: Micros,
}

impl Slot {
    /// That of a delivery that is made now; `free_at` is what the last one of its key left.
    pub fn of(now: Micros, free_at: Option<Micros>, not_before: Micros, every: Duration) -> Self {
        let every = micros(every);
        // Two times ahead is as far as one gets by itself. What is farther is of a clock that was set back, or of a time
        // that was made shorter, and holds nothing up.
        let free = free_at.filter(|free| *free <= now.saturating_add(every.saturating_mul(2)));
        let at = now.max(not_before).max(free.unwrap_or(0));
        Self { at, free_at: at.saturating_add(every).min(INT_MAX) }
    }
}

/// Whether an event may still join a delivery that was never tried and goes at this time.
pub(crate) fn is_open(now: Micros, next_at: Micros, every: Duration) -> bool {
    next_at > now.saturating_add(micros(CLOSED_BEFORE.min(every / 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_micros(100);

    #[test]
    fn one_goes_at_once_and_the_next_when_its_time_is_over() {
        let first = Slot::of(1000, None, 0, EVERY);
        assert_eq!(first, Slot { at: 1000, free_at: 1100 });
        let second = Slot::of(1010, Some(first.free_at), 0, EVERY);
        assert_eq!(second, Slot { at: 1100, free_at: 1200 });
        // Counted from when the last one went, not from when it was made.
        assert_eq!(Slot::of(1150, Some(second.free_at), 0, EVERY).at, 1200);
        assert_eq!(Slot::of(1200, Some(second.free_at), 0, EVERY).at, 1200);
        assert_eq!(Slot::of(1300, Some(second.free_at), 0, EVERY).at, 1300);
        assert_eq!(Slot::of(1300, Some(second.free_at), 1500, EVERY), Slot { at: 1500, free_at: 1600 });
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nothing_up() {
        assert_eq!(Slot::of(1000, Some(1201), 0, EVERY).at, 1000);
        assert_eq!(Slot::of(1000, Some(1200), 0, EVERY).at, 1200);
    }

    #[test]
    fn nothing_joins_what_is_about_to_go() {
        assert!(is_open(1000, 1026, EVERY) && !is_open(1000, 1025, EVERY) && !is_open(1000, 1000, EVERY));
        let long = Duration::from_secs(3600);
        assert!(is_open(0, 2_000_001, long) && !is_open(0, 2_000_000, long));
    }
}
