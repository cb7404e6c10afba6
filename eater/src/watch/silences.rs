//! When channels may become silent, in the order of time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use trough_protocol::{DeviceId, Micros};
use trough_store::RuleName;

use super::states::Due;

/// Silences that are waited for. One that is put off by a frame is found to be so only when its time has come.
#[derive(Debug, Default)]
pub(super) struct Silences {
    order: BinaryHeap<Reverse<Due>>,
    waited_for: HashSet<(DeviceId, RuleName)>,
}

impl Silences {
    /// Waits for one, unless it is waited for.
    pub fn push(&mut self, due: Due) {
        if self.waited_for.insert((due.device.clone(), due.rule.clone())) {
            self.order.push(Reverse(due));
        }
    }

    /// Whether none is waited for.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// When the first one is to be looked at.
    pub fn next_at(&self) -> Option<Micros> {
        self.order.peek().map(|due| due.0.at)
    }

    /// The first one whose time has come.
    pub fn pop(&mut self, now: Micros) -> Option<Due> {
        self.next_at().filter(|at| *at <= now)?;
        let Reverse(due) = self.order.pop()?;
        self.waited_for.remove(&(due.device.clone(), due.rule.clone()));
        Some(due)
    }
}
