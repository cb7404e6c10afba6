//! The batches that wait to become part of an object.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::journal::{Closed, Submission};

/// What waits, taken by one task. The links' credit bounds it; it has no bound of its own.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Submission>,
    closed: bool,
}

impl Inbox {
    pub(super) fn push(&self, submission: Submission) -> Result<(), Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        state.waiting.push_back(submission);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// No more batches come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// The next batch; `None` if there is none and will never be. Cancel-safe: a batch is taken as the last thing.
    pub(super) async fn next(&self) -> Option<Submission> {
        loop {
            {
                let mut state = self.lock();
                if let Some(submission) = state.waiting.pop_front() {
                    return Some(submission);
                }
                if state.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it but for want of memory.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
