//! How long a watcher has listened itself.
//!
//! Eaters say when a frame was received, and the outbox what time it is: clocks of which one may be wrong, or set while frames
//! come. That a channel is silent is told only if it has been so for as long by the clock of this process that nobody sets.

use std::time::Duration;

use tokio::time::Instant;
use trough_protocol::Micros;
use trough_runtime::clock::micros;

/// Clocks of eaters and of the outbox differ by less: what another watcher has heard a moment ago may be so much older or newer
/// than it seems.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(60);
/// If the outbox's clock is so far from what it should be, somebody has set it.
const JUMP: Duration = Duration::from_secs(5);
/// Who watched last has left a place that is not older, if it watched until a moment ago.
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// Since when frames are listened for of which this watcher has not heard any itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vigil {
    since: Instant,
    /// Somebody else listened until then.
    goes_on: bool,
}

impl Vigil {
    /// Nobody knows what was before.
    pub fn anew() -> Self {
        Self { since: Instant::now(), goes_on: false }
    }

    /// Goes on for whoever has left a place that was taken at a time, if that was so short ago that somebody listened all the
    /// while.
    pub fn after(place_at: Option<Micros>, now: Micros) -> Self {
        let short = |at: Micros| at <= latest(now) && now.saturating_sub(at) <= micros(PAUSE_MAX);
        Self { goes_on: place_at.is_some_and(short), ..Self::anew() }
    }

    /// How long it takes at least until a channel counts as silent that is to be heard within `after`, and was when it was
    /// `heard_here`.
    pub fn left(&self, after: Duration, heard_here: Option<Instant>) -> Duration {
        let until = match heard_here {
            Some(at) => at + after,
            None if self.goes_on => self.since + after.min(CLOCKS_DIFFER_MAX),
            None => self.since + after,
        };
        until.saturating_duration_since(Instant::now())
    }
}

/// Whether the outbox's clock was set, of which something else was expected.
pub(super) fn was_set(expected: Micros, now: Micros) -> bool {
    now.abs_diff(expected) > micros(JUMP)
}

/// No clock that is right shows more.
pub(super) fn latest(now: Micros) -> Micros {
    now.saturating_add(micros(JUMP))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(600);
    const NOW: Micros = 1_700_000_000_000_000;

    #[tokio::test(start_paused = true)]
    async fn what_was_heard_here_has_its_whole_time() {
        let vigil = Vigil::anew();
        let heard_here = Some(Instant::now());
        assert_eq!(vigil.left(AFTER, heard_here), AFTER);
        tokio::time::advance(AFTER / 2).await;
        assert_eq!(vigil.left(AFTER, heard_here), AFTER / 2);
        tokio::time::advance(AFTER / 2).await;
        assert_eq!(vigil.left(AFTER, heard_here), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_on_for_another_need_not_wait_for_all_of_it() {
        let minute = 60_000_000;
        let left = |place_at| Vigil::after(place_at, NOW).left(AFTER, None);
        assert_eq!(left(Some(NOW - minute)), CLOCKS_DIFFER_MAX);
        assert_eq!(Vigil::after(Some(NOW), NOW).left(Duration::from_secs(1), None), Duration::from_secs(1));
        // Nobody was there for long, or the clock is another one.
        for place_at in [None, Some(0), Some(NOW - 6 * minute), Some(NOW + minute)] {
            assert_eq!(left(place_at), AFTER, "{place_at:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_is_known_by_what_it_shows() {
        assert!(was_set(NOW, NOW + 10_800_000_000) && was_set(NOW, NOW - 6_000_000));
        assert!(!was_set(NOW, NOW + 4_000_000) && !was_set(NOW, NOW - 4_000_000));
    }
}
