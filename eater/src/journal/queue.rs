//! The batches that wait for their commit.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use trough_protocol::link::LinkCode;

use super::error::Closed;

/// Who is told what became of a batch: one link.
///
/// Both are called on the committer's thread, so they must not block: the next group waits for them.
pub trait CommitSink: Send + Sync {
    /// Batch `number` of this link, and all before it that were submitted, are durable and can be read. Called
    /// once per commit group with the highest number.
    fn committed(&self, number: u64);
    /// Batch `number` cannot be stored, ever: its header or directory is not what the journal can read.
    fn rejected(&self, number: u64, code: LinkCode, text: &str);
}

/// A batch to be made durable.
#[derive(Clone)]
pub struct Submission {
    /// As received, and found good by [`trough_protocol::batch::Batch::check`].
    pub batch: Bytes,
    /// The batch's number on its link.
    pub number: u64,
    /// Its link.
    pub sink: Arc<dyn CommitSink>,
}

/// What waits. The links' credit bounds it; it has no bound of its own.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Submission>,
    committer_sleeps: bool,
    closed: bool,
}

/// Why [`Queue::take`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// There are batches.
    Some,
    /// Nothing came in time.
    TimedOut,
    /// There are none, and there will never be.
    Closed,
}

impl Queue {
    pub(super) fn push(&self, submission: Submission) -> Result<(), Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        state.waiting.push(submission);
        // A committer that is at work takes the batch when it is done: waking it costs a system call.
        if std::mem::take(&mut state.committer_sleeps) {
            drop(state);
            self.filled.notify_one();
        }
        Ok(())
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// Moves all that waits behind `into`; waits for some for at most `timeout`.
    pub(super) fn take(&self, into: &mut VecDeque<Submission>, timeout: Option<Duration>) -> Taken {
        let mut state = self.lock();
        if state.waiting.is_empty() && !state.closed && timeout != Some(Duration::ZERO) {
            state.committer_sleeps = true;
            let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
            state = match timeout {
                Some(timeout) => {
                    let waited = self.filled.wait_timeout_while(state, timeout, idle);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.filled.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
            };
            state.committer_sleeps = false;
        }
        if !state.waiting.is_empty() {
            into.extend(state.waiting.drain(..));
            Taken::Some
        } else if state.closed {
            Taken::Closed
        } else {
            Taken::TimedOut
        }
    }

    /// Waits until the queue is closed, for at most `timeout`; batches stay where they are.
    pub(super) fn wait_closed(&self, timeout: Duration) -> bool {
        let waited = self.filled.wait_timeout_while(self.lock(), timeout, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Pushing and appending do not panic but for want of memory.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
