//! What one session has received and no batch has taken yet.

use std::collections::VecDeque;

use trough_protocol::Seq;
use trough_protocol::frame::FramesSummary;

/// Frames of further messages are appended to the last item until it has this many bytes: larger runs make
/// smaller directories, smaller ones fairer batches.
const ITEM_BYTES_GOAL: usize = 32 * 1024;

/// What a skip counts for, in bytes: its entry here and in the batch's directory. If it counted only for its one
/// byte of data, a window would hold hundreds of thousands.
const SKIP_BYTES: usize = 256;

/// Consecutive numbers that travel as one run.
#[derive(Debug, Clone)]
pub enum Item {
    /// Encoded frames.
    Frames {
        /// The number of the first.
        first: Seq,
        /// How many, and their times.
        summary: FramesSummary,
        /// The frames, one after another.
        data: Vec<u8>,
    },
    /// Numbers declared lost.
    Skip {
        /// The first of them.
        first: Seq,
        /// How many.
        count: u64,
        /// Why, as the device said.
        reason: u8,
    },
}

impl Item {
    /// Bytes it counts for: at least those of its data in a batch.
    pub fn len(&self) -> usize {
        match self {
            Self::Frames { data, .. } => data.len(),
            Self::Skip { .. } => SKIP_BYTES,
        }
    }

    /// The last number.
    pub fn last(&self) -> Seq {
        match self {
            Self::Frames { first, summary, .. } => Seq(first.0 + summary.count - 1),
            Self::Skip { first, count, .. } => Seq(first.0 + count - 1),
        }
    }

    /// How many frames.
    pub fn frames(&self) -> u64 {
        match self {
            Self::Frames { summary, .. } => summary.count,
            Self::Skip { .. } => 0,
        }
    }
}

/// Items in the order of their numbers. Its owner bounds it: see `Config::window_bytes`.
#[derive(Debug, Default)]
pub struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Queue {
    /// Bytes of data that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Appends frames whose numbers follow the last item's.
    pub fn push_frames(&mut self, first: Seq, added: FramesSummary, bytes: &[u8]) {
        self.bytes += bytes.len();
        if let Some(Item::Frames { summary, data, .. }) = self.items.back_mut()
            && data.len() + bytes.len() <= ITEM_BYTES_GOAL
        {
            data.extend_from_slice(bytes);
            summary.count += added.count;
            summary.min_ts = summary.min_ts.min(added.min_ts);
            summary.max_ts = summary.max_ts.max(added.max_ts);
            return;
        }
        self.items.push_back(Item::Frames { first, summary: added, data: bytes.to_vec() });
    }

    /// Appends a declared loss; one that goes on where the last one ended, for the same reason, joins it.
    pub fn push_skip(&mut self, first: Seq, count: u64, reason: u8) {
        if let Some(Item::Skip { count: before, reason: same, .. }) = self.items.back_mut()
            && *same == reason
        {
            *before += count;
            return;
        }
        let item = Item::Skip { first, count, reason };
        self.bytes += item.len();
        self.items.push_back(item);
    }

    /// Puts back what was taken, oldest first.
    pub fn put_back(&mut self, items: VecDeque<Item>) {
        for item in items.into_iter().rev() {
            self.bytes += item.len();
            self.items.push_front(item);
        }
    }

    /// Bytes of the next item.
    pub fn next_len(&self) -> Option<usize> {
        self.items.front().map(Item::len)
    }

    /// Takes the next item.
    pub fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= item.len();
        if self.items.is_empty() && self.items.capacity() > 4 {
            // An idle session keeps nothing.
            self.items = VecDeque::new();
        }
        Some(item)
    }

    /// Forgets everything: the device will send it again.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(count: u64, ts: u64) -> FramesSummary {
        FramesSummary { count, min_ts: ts, max_ts: ts }
    }

    #[test]
    fn messages_gather_into_runs_up_to_the_goal() {
        let mut queue = Queue::default();
        for seq in 1..=100_u64 {
            queue.push_frames(Seq(seq), summary(1, 1000 - seq), &[7; 1024]);
        }
        assert_eq!(queue.bytes(), 100 * 1024);
        let first = queue.pop().unwrap();
        assert_eq!((first.len(), first.last(), first.frames()), (32 * 1024, Seq(32), 32));
        let Item::Frames { summary, .. } = first else { panic!("frames were pushed") };
        assert_eq!((summary.min_ts, summary.max_ts), (968, 999));
    }

    #[test]
    fn a_skip_stands_between_runs_and_what_is_put_back_comes_first() {
        let mut queue = Queue::default();
        queue.push_frames(Seq(1), summary(1, 1), b"a");
        queue.push_skip(Seq(2), 2, 1);
        queue.push_skip(Seq(4), 3, 1);
        queue.push_frames(Seq(7), summary(1, 1), b"b");
        let taken = VecDeque::from([queue.pop().unwrap(), queue.pop().unwrap()]);
        assert_eq!(queue.bytes(), 1);
        queue.put_back(taken);
        assert_eq!(queue.bytes(), 2 + SKIP_BYTES);
        let lasts: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|item| item.last().0).collect();
        assert_eq!(lasts, [1, 6, 7]);
        assert!(queue.is_empty());
    }
}
