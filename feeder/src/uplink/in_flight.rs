//! The batches of one link that are sent and not yet answered.

use std::collections::VecDeque;
use std::rc::Rc;

use super::traces::{Traced, Traces};
use crate::flow::Flow;
use crate::scheduler::Share;

/// One of them.
#[derive(Debug)]
pub struct Sent {
    /// Counts up from 1 on each link.
    pub number: u64,
    /// Bytes of the batch, which its credit was taken for.
    pub bytes: usize,
    /// Whose frames it holds.
    pub shares: Vec<Share>,
    /// Those of its runs that are traced.
    pub traced: Vec<Traced>,
}

/// All of them, in the order of their numbers.
#[derive(Debug, Default)]
pub struct InFlight {
    sent: VecDeque<Sent>,
    bytes: usize,
    last_number: u64,
    /// Emptied lists, used again.
    spare: Vec<Vec<Share>>,
    /// Where spans go.
    traces: Traces,
}

/// An answer to a batch that was never sent: the eater and this feeder do not understand each other.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownBatch(pub u64);

impl InFlight {
    /// None yet.
    pub fn new(traces: Traces) -> Self {
        Self { traces, ..Self::default() }
    }

    /// Bytes of all batches.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether every batch is answered.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// A list for the next batch.
    pub fn new_shares(&mut self) -> Vec<Share> {
        self.spare.pop().unwrap_or_default()
    }

    /// Enters a batch and gives it its number.
    pub fn enter(&mut self, bytes: usize, shares: Vec<Share>) -> u64 {
        self.last_number += 1;
        self.bytes += bytes;
        let traced = self.traces.begin(&shares);
        self.sent.push_back(Sent { number: self.last_number, bytes, shares, traced });
        self.last_number
    }

    /// All batches up to `number` are durable: tells their sessions. Gives the batches, frames and bytes, and in
    /// `landed` the sessions that leave this link and have nothing more on it.
    ///
    /// # Errors
    /// [`UnknownBatch`] if `number` was not sent yet.
    pub fn ate(&mut self, number: u64, landed: &mut Vec<Rc<Flow>>) -> Result<Settled, UnknownBatch> {
        if number > self.last_number {
            return Err(UnknownBatch(number));
        }
        let mut settled = Settled::default();
        while self.sent.front().is_some_and(|sent| sent.number <= number) {
            let mut sent = self.sent.pop_front().expect("just seen");
            self.bytes -= sent.bytes;
            settled.batches += 1;
            settled.bytes += sent.bytes;
            self.traces.end(sent.number, sent.traced, None);
            for share in sent.shares.drain(..) {
                settled.frames += share.frames;
                if share.flow.settled(share.last, share.bytes) {
                    landed.push(share.flow);
                }
            }
            if self.spare.len() < 8 {
                self.spare.push(sent.shares);
            }
        }
        Ok(settled)
    }

    /// Removes one refused batch.
    pub fn reject(&mut self, number: u64, why: &str) -> Option<Sent> {
        let index = self.sent.iter().position(|sent| sent.number == number)?;
        let mut sent = self.sent.remove(index)?;
        self.traces.end(number, std::mem::take(&mut sent.traced), Some(why));
        self.bytes -= sent.bytes;
        Some(sent)
    }

    /// Everything that was in flight, when the link is dead.
    pub fn into_shares(self) -> impl Iterator<Item = Share> {
        self.sent.into_iter().flat_map(|sent| sent.shares)
    }
}

/// What an ATE settled.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Batches.
    pub batches: u64,
    /// Frames.
    pub frames: u64,
    /// Bytes of the batches.
    pub bytes: usize,
}

impl Settled {
    /// Adds what another ATE settled.
    pub fn add(&mut self, other: &Self) {
        self.batches += other.batches;
        self.frames += other.frames;
        self.bytes += other.bytes;
    }
}
