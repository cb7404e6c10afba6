//! What the background thread has to do.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trough_protocol::{DeviceId, Seq};

use super::run::Located;

/// A run that has numbers which were durable before it came.
#[derive(Debug, Clone)]
pub(super) struct Check {
    pub device: DeviceId,
    pub run: Located,
    /// How many of its numbers came again.
    pub repeated: u64,
}

/// One piece of work.
#[derive(Debug, Clone)]
pub(super) enum Job {
    /// Seal the rolled file with this id, which is this long.
    Seal { file: u64, len: u64 },
    /// Compare a run with what it repeats.
    Check(Check),
}

/// The background thread's queues. Seals are few; checks are bounded by the caller's `checks_max`.
#[derive(Default)]
pub(super) struct Work {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    seals: VecDeque<(u64, u64)>,
    checks: VecDeque<Check>,
    closed: bool,
}

impl Work {
    pub(super) fn seal(&self, file: u64, len: u64) {
        self.lock().seals.push_back((file, len));
        self.changed.notify_all();
    }

    /// Whether there was room.
    pub(super) fn check(&self, check: Check, checks_max: usize) -> bool {
        let mut state = self.lock();
        let room = state.checks.len() < checks_max;
        if room {
            state.checks.push_back(check);
            self.changed.notify_all();
        }
        room
    }

    /// The next job, seals first: memory waits for them. A seal stays in the queue until
    /// [`Work::sealed`].
    pub(super) fn next(&self, seals_too: bool) -> Option<Job> {
        let mut state = self.lock();
        match state.seals.front() {
            Some((file, len)) if seals_too => Some(Job::Seal { file: *file, len: *len }),
            _ => state.checks.pop_front().map(Job::Check),
        }
    }

    /// The file at the front is sealed.
    pub(super) fn sealed(&self) {
        self.lock().seals.pop_front();
        self.changed.notify_all();
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits for work or the end, at most for `timeout`. With `seals_too` unset, seals are no reason to return.
    pub(super) fn wait(&self, seals_too: bool, timeout: Option<Duration>) {
        let idle = |state: &mut State| {
            !state.closed && state.checks.is_empty() && (state.seals.is_empty() || !seals_too)
        };
        let state = self.lock();
        match timeout {
            Some(timeout) => drop(self.changed.wait_timeout_while(state, timeout, idle)),
            None => drop(self.changed.wait_while(state, idle)),
        }
    }

    /// Waits until fewer than `limit` files wait to be sealed, at most for `timeout`. Whether it is so.
    pub(super) fn wait_for_room(&self, limit: usize, timeout: Duration) -> bool {
        let full = |state: &mut State| state.seals.len() >= limit && !state.closed;
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, full);
        waited.unwrap_or_else(PoisonError::into_inner).0.seals.len() < limit
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers as messages show them.
pub(super) fn span(first: Seq, last: Seq) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}
