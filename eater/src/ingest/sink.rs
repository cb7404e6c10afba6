//! What the journal tells a link, from the committer's thread to the link's task.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use trough_protocol::link::LinkCode;

use super::direct::DirectAte;
use super::traces::Traces;
use crate::journal::CommitSink;

/// A batch that cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its number.
    pub number: u64,
    /// Why.
    pub code: LinkCode,
    /// For people.
    pub text: String,
}

/// The mailbox of one link. It holds the newest commit and the first rejection, so it cannot overflow.
#[derive(Debug)]
pub struct LinkSink {
    committed: AtomicU64,
    /// The first rejected batch, or a number that no batch has.
    refused: AtomicU64,
    rejected: Mutex<Option<Rejection>>,
    /// How the feeder learns of commits without the link's task.
    pub direct: DirectAte,
    /// What is traced of it.
    pub traces: Traces,
    news: Notify,
}

impl LinkSink {
    /// An empty one.
    pub fn new(traces: Traces) -> Arc<Self> {
        let refused = AtomicU64::new(u64::MAX);
        let (committed, rejected, direct, news) = Default::default();
        Arc::new(Self { committed, refused, rejected, direct, traces, news })
    }

    /// Waits for news. Cancel-safe: what was not taken stays.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// The highest committed batch.
    pub fn committed_number(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Whether the journal has decided on a batch.
    pub fn has_decided(&self, number: u64) -> bool {
        self.committed_number() >= number || self.refused.load(Ordering::Acquire) <= number
    }

    /// The rejection, once.
    pub fn take_rejection(&self) -> Option<Rejection> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl CommitSink for LinkSink {
    fn committed(&self, number: u64) {
        // Before the feeder learns of it: its next batch is checked against what is committed.
        self.committed.fetch_max(number, Ordering::Release);
        self.traces.committed(number);
        if !self.direct.tell(number) {
            self.news.notify_one();
        }
    }

    fn rejected(&self, number: u64, code: LinkCode, text: &str) {
        self.traces.rejected(number, code.name());
        let rejection = Rejection { number, code, text: text.to_owned() };
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(rejection);
        self.refused.fetch_min(number, Ordering::Release);
        self.news.notify_one();
    }
}
