//! A page of a queue, and whose turn it is on the next one.

use std::time::Duration;

use tokio::time::Instant;
use trough_protocol::Micros;
use trough_store::subscription::PushTokenId;

use super::queue::{LATER, Rest};

/// A page that was worked on.
pub struct Round {
    /// Deliveries that were finished.
    pub finished: u64,
    /// Deliveries that were found to be held.
    pub held: u64,
    /// How the queue is left.
    pub rest: Rest,
    /// Something may be behind the page.
    pub full: bool,
    /// Phones whose next delivery is tried again later.
    pub waiting: Vec<PushTokenId>,
    /// Other phones that were on the page.
    pub had_turn: Vec<PushTokenId>,
}

impl Round {
    /// Nothing was on it.
    pub fn over(rest: Rest) -> Self {
        Self { finished: 0, held: 0, rest, full: false, waiting: Vec::new(), had_turn: Vec::new() }
    }

    /// What came of one phone.
    pub fn add(&mut self, lane: &Lane, now: Micros) {
        self.finished += lane.finished;
        self.held += lane.held;
        self.rest.blocked |= lane.blocked || lane.disabled || lane.unknown;
        let wait = lane.due.map(|due| Duration::from_micros(due.saturating_sub(now)));
        let wait = if lane.unknown || lane.disabled { Some(LATER) } else { wait };
        let until = wait.map(|wait| Instant::now() + wait);
        self.rest.until = earliest(self.rest.until, until);
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// How the deliveries of one phone ended.
#[derive(Debug, Default)]
pub struct Lane {
    /// Deliveries that were finished, and tries.
    pub finished: u64,
    pub tries: u64,
    /// Deliveries that were found to be held.
    pub held: u64,
    /// When there is something to do.
    pub due: Option<Micros>,
    /// What is behind its first delivery waits.
    pub blocked: bool,
    /// Until its first delivery is tried again.
    pub waits: bool,
    /// The subscription is disabled, or nobody could tell whether it may be delivered.
    pub disabled: bool,
    pub unknown: bool,
}

impl Lane {
    /// It has something to do then.
    pub fn due(&mut self, at: Micros) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

/// Whose turn it is, where more waits than fits on a page: phones that have had theirs are left out until all others have,
/// and phones whose next delivery is tried again later are left out altogether.
#[derive(Debug, Default)]
pub struct Turns {
    waiting: Vec<PushTokenId>,
    had: Vec<PushTokenId>,
    /// Whether anything came of it since the first of them had theirs.
    moved: bool,
    /// When there is something to do.
    pub until: Option<Instant>,
}

impl Turns {
    /// Phones that are left out.
    pub fn without(&self) -> Vec<PushTokenId> {
        self.waiting.iter().chain(&self.had).copied().collect()
    }

    /// Whether there is another page after this one.
    pub fn next(&mut self, round: &Round) -> bool {
        self.until = earliest(self.until, round.rest.until);
        let moved = round.finished + round.held > 0 || !round.waiting.is_empty();
        self.moved |= moved;
        self.waiting.extend(&round.waiting);
        if round.full {
            self.had.extend(&round.had_turn);
            return moved || !round.had_turn.is_empty();
        }
        let again = self.moved && !self.had.is_empty();
        (self.moved, self.had) = (false, Vec::new());
        again
    }
}
