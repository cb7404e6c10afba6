//! Which session's frames enter the next batch: deficit round robin (Shreedhar and Varghese, 1995), so that one
//! loud device cannot starve its neighbours.

use std::collections::VecDeque;
use std::rc::Rc;

use trough_protocol::Seq;
use trough_protocol::batch::BatchBuilder;

use crate::flow::Flow;
use crate::queue::Item;

/// Bytes a session may add in one round. At least the largest item would let every session move in each round,
/// but a smaller quantum is fairer, and a large item only waits for a few rounds more.
const QUANTUM_BYTES: usize = 32 * 1024;

/// One session's part of a batch.
#[derive(Debug)]
pub struct Share {
    /// Whose.
    pub flow: Rc<Flow>,
    /// The last number.
    pub last: Seq,
    /// Bytes of data.
    pub bytes: usize,
    /// Frames.
    pub frames: u64,
}

/// The sessions that have something to send.
#[derive(Debug, Default)]
pub struct Scheduler {
    waiting: VecDeque<Rc<Flow>>,
}

impl Scheduler {
    /// Adds a session that has something to send; `true` if it was not waiting before.
    pub fn add(&mut self, flow: &Rc<Flow>) -> bool {
        let enters = flow.schedule();
        if enters {
            self.waiting.push_back(flow.clone());
        }
        enters
    }

    /// Takes a session out: another link will carry it.
    pub fn remove(&mut self, flow: &Rc<Flow>) {
        if flow.unschedule() {
            self.waiting.retain(|waiting| !Rc::ptr_eq(waiting, flow));
        }
    }

    /// Takes all sessions out.
    pub fn clear(&mut self) {
        for flow in self.waiting.drain(..) {
            flow.unschedule();
        }
    }

    /// Whether no session waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Fills `batch` with up to `goal` bytes and says whose frames it holds. A session that travels alone gets a
    /// batch without others.
    pub fn fill(&mut self, batch: &mut BatchBuilder, goal: usize, shares: &mut Vec<Share>) {
        while let Some(flow) = self.waiting.pop_front() {
            let alone = flow.travels_alone();
            if alone && !batch.is_empty() {
                self.waiting.push_front(flow);
                return;
            }
            flow.grant(QUANTUM_BYTES);
            let full = take_items(&flow, batch, goal, shares);
            if !flow.has_waiting() {
                flow.unschedule();
            } else if full {
                // It keeps its turn and what is left of its quantum.
                self.waiting.push_front(flow);
            } else {
                self.waiting.push_back(flow);
            }
            if full || (alone && !batch.is_empty()) {
                return;
            }
        }
    }
}

/// Moves items until the deficit or the batch is used up; `true` if the batch is full.
fn take_items(flow: &Rc<Flow>, batch: &mut BatchBuilder, goal: usize, shares: &mut Vec<Share>) -> bool {
    loop {
        let room = |len| batch.fits(&flow.device, len) && (batch.is_empty() || batch.len() + len <= goal);
        match flow.take_item(room) {
            Ok(item) => {
                let share =
                    Share { flow: flow.clone(), last: item.last(), bytes: item.len(), frames: item.frames() };
                shares.push(share);
                match item {
                    Item::Frames { first, summary, data } => {
                        batch.push_frames(&flow.device, flow.epoch, first, summary, &data);
                    }
                    Item::Skip { first, count, reason } => {
                        batch.push_skip(&flow.device, flow.epoch, first, count, reason);
                    }
                }
            }
            Err(full) => return full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trough_protocol::frame::FramesSummary;
    use trough_protocol::{DeviceId, Epoch};

    fn flow(name: &str, frames: u64, bytes: usize) -> Rc<Flow> {
        let flow = Rc::new(Flow::new(DeviceId::new(name).unwrap(), Epoch(1), false, Seq::ZERO));
        for seq in 1..=frames {
            let summary = FramesSummary { count: 1, min_ts: 1, max_ts: 1 };
            flow.push_frames(Seq(seq), summary, &vec![0; bytes]);
        }
        flow
    }

    fn fill(scheduler: &mut Scheduler, goal: usize) -> Vec<(String, usize)> {
        let (mut batch, mut shares) = (BatchBuilder::new(), Vec::new());
        scheduler.fill(&mut batch, goal, &mut shares);
        shares.iter().map(|share| (share.flow.device.to_string(), share.bytes)).collect()
    }

    #[test]
    fn a_loud_session_does_not_starve_its_neighbours() {
        let mut scheduler = Scheduler::default();
        let loud = flow("loud", 10_000, 1024);
        let quiet = flow("quiet", 1, 100);
        assert!(scheduler.add(&loud));
        assert!(!scheduler.add(&loud), "it waits already");
        assert!(scheduler.add(&quiet));
        let shares = fill(&mut scheduler, 128 * 1024);
        let before_quiet: usize =
            shares.iter().take_while(|(name, _)| name == "loud").map(|(_, bytes)| bytes).sum();
        assert!(before_quiet <= QUANTUM_BYTES, "{shares:?}");
        assert!(shares.iter().any(|(name, _)| name == "quiet"), "{shares:?}");
    }

    #[test]
    fn items_above_the_quantum_get_their_turn_after_some_rounds() {
        let mut scheduler = Scheduler::default();
        scheduler.add(&flow("large", 1, 5 * QUANTUM_BYTES));
        scheduler.add(&flow("small", 1, 10));
        let shares = fill(&mut scheduler, 1 << 20);
        assert_eq!(shares, [("small".to_owned(), 10), ("large".to_owned(), 5 * QUANTUM_BYTES)]);
        assert!(scheduler.is_empty());
    }

    #[test]
    fn a_suspect_travels_alone() {
        let mut scheduler = Scheduler::default();
        let suspect = flow("suspect", 3, 100);
        for _ in 0..2 {
            suspect.grant(1 << 20);
            suspect.take_item(|_| true).unwrap();
            suspect.link_died();
            suspect.push_frames(Seq(1), FramesSummary { count: 1, min_ts: 1, max_ts: 1 }, &[0; 100]);
        }
        scheduler.add(&flow("before", 1, 10));
        scheduler.add(&suspect);
        scheduler.add(&flow("after", 1, 10));
        let names =
            |shares: Vec<(String, usize)>| shares.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(fill(&mut scheduler, 1 << 20)), ["before"]);
        assert_eq!(names(fill(&mut scheduler, 1 << 20)), ["suspect"]);
        assert_eq!(names(fill(&mut scheduler, 1 << 20)), ["after"]);
    }

    #[test]
    fn a_batch_stops_at_its_goal_and_nothing_is_lost() {
        let mut scheduler = Scheduler::default();
        for name in ["a", "b", "c"] {
            scheduler.add(&flow(name, 100, 1000));
        }
        let mut total = 0;
        while !scheduler.is_empty() {
            let bytes: usize = fill(&mut scheduler, 40_000).iter().map(|(_, bytes)| bytes).sum();
            assert!(bytes <= 40_000);
            total += bytes;
        }
        assert_eq!(total, 300 * 1000);
    }
}
