//! The circuit breaker of one server: after some failures in a row calls fail at once, except for one now and then
//! that tries whether the server is back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 3;
/// From the last failure to the next try.
const OPEN_FOR: Duration = Duration::from_millis(500);

/// Closed: calls go through. Open: they fail. Half open: one is on its way.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// While open: when the next try may begin.
    try_at: Option<Instant>,
    trying: bool,
}

/// A call that may go on. Dropped without a word (the caller gave up), it says nothing about the server.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    breaker: &'a Breaker,
    is_try: bool,
}

/// What a call has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    None,
    /// It has opened just now.
    Opened,
    /// It stays open.
    StaysOpen,
    /// It has closed again.
    Closed,
}

impl Breaker {
    /// Lets a call go on; `None` while the server is known to be away.
    pub fn admit(&self) -> Option<Permit<'_>> {
        let mut state = self.state();
        let is_try = match state.try_at {
            None => false,
            Some(at) if !state.trying && Instant::now() >= at => true,
            Some(_) => return None,
        };
        state.trying |= is_try;
        Some(Permit { breaker: self, is_try })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The server has answered.
    pub fn succeeded(self) -> Turn {
        let mut state = self.breaker.state();
        state.failures = 0;
        if state.try_at.take().is_some() { Turn::Closed } else { Turn::None }
    }

    /// It has not.
    pub fn failed(self) -> Turn {
        let mut state = self.breaker.state();
        state.failures = state.failures.saturating_add(1);
        let was_open = state.try_at.is_some();
        if state.failures >= FAILURES_MAX {
            state.try_at = Some(Instant::now() + OPEN_FOR);
        }
        match (was_open, state.try_at) {
            (_, None) => Turn::None,
            (false, Some(_)) => Turn::Opened,
            (true, Some(_)) => Turn::StaysOpen,
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_try {
            self.breaker.state().trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker) -> Turn {
        breaker.admit().unwrap().failed()
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_only() {
        let breaker = Breaker::default();
        for _ in 0..10 {
            assert_eq!((fail(&breaker), fail(&breaker)), (Turn::None, Turn::None));
            assert_eq!(breaker.admit().unwrap().succeeded(), Turn::None);
        }
        assert_eq!([fail(&breaker), fail(&breaker), fail(&breaker)], [Turn::None, Turn::None, Turn::Opened]);
        assert!(breaker.admit().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn lets_one_try_at_a_time() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES_MAX {
            fail(&breaker);
        }
        tokio::time::advance(OPEN_FOR).await;
        let attempt = breaker.admit().unwrap();
        assert!(breaker.admit().is_none());
        assert_eq!(attempt.failed(), Turn::StaysOpen);
        assert!(breaker.admit().is_none());
        tokio::time::advance(OPEN_FOR).await;
        drop(breaker.admit().unwrap());
        assert_eq!(breaker.admit().unwrap().succeeded(), Turn::Closed, "one that gave up said nothing");
        assert!(breaker.admit().is_some());
    }
}
