//! For the benchmark: looking at frames without anything around it.

use std::collections::BTreeSet;

use trough_protocol::frame::frames;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_store::event::FrameNumber;
use trough_store::outbox::STEP_MAX;
use trough_store::rule::Rule;

use super::compiled::Rules;
use super::frame::Seen;
use super::states::States;

/// Rules, and what they know.
#[derive(Debug)]
pub struct Looking {
    rules: Rules,
    states: States,
    next: Seq,
}

impl Looking {
    /// Compiles rules.
    pub fn new(rules: &[Rule]) -> Self {
        let (rules, states) = (Rules::new(0, rules, &[]), States::default());
        Self { rules, states, next: Seq::FIRST }
    }

    /// Whether any rule concerns a device.
    pub fn concerns(&self, device: &DeviceId) -> bool {
        self.rules.concerning(device, &BTreeSet::new()).is_some()
    }

    /// Has the rules of a device look at some encoded frames, which get the next numbers. How many events there were.
    pub fn look(&mut self, device: &DeviceId, bytes: &[u8], received_at: Micros) -> usize {
        let Some(concerned) = self.rules.concerning(device, &BTreeSet::new()) else { return 0 };
        for frame in frames(bytes).flatten() {
            let number = FrameNumber { epoch: Epoch(1), seq: self.next };
            self.next = self.next.next();
            let seen = Seen::new(number, received_at, frame, false, &self.rules.positions);
            self.states.take(&self.rules, (device, &concerned), &seen, (0, usize::MAX));
        }
        let events = self.states.events().len();
        let states = self.states.to_store(STEP_MAX);
        self.states.stored(&states);
        events
    }
}
