//! Questions for heads that one link has not answered yet.

use std::collections::HashMap;

use tokio::sync::oneshot;
use trough_protocol::Seq;

const PRUNE_MIN: usize = 64;

/// All of them, by query number.
#[derive(Debug, Default)]
pub struct Locates {
    waiting: HashMap<u32, oneshot::Sender<Seq>>,
    next_query: u32,
    /// So many wait that those nobody waits for any more are looked for.
    prune_at: usize,
}

impl Locates {
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Enters a question: its number, and where its answer comes.
    pub fn ask(&mut self) -> (u32, oneshot::Receiver<Seq>) {
        if self.waiting.len() >= self.prune_at.max(PRUNE_MIN) {
            self.waiting.retain(|_, waiting| !waiting.is_closed());
            self.prune_at = 2 * self.waiting.len();
        }
        let query = self.next_query;
        self.next_query = query.wrapping_add(1);
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(query, sender);
        (query, receiver)
    }

    /// Passes an answer on. An unknown number is that of a question which was forgotten.
    pub fn answer(&mut self, query: u32, head: Seq) {
        if let Some(waiting) = self.waiting.remove(&query) {
            // Whoever asked may have gone.
            let _ = waiting.send(head);
        }
    }

    /// Forgets all: whoever waits asks elsewhere.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}
