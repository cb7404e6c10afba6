//! Delivering: of each subscription one delivery at a time, in order; of different ones side by side.
//!
//! A process holds claims on shards; in each, every subscription that has something waiting gets a task that goes through
//! its queue ([`queue`]). A try ([`attempt`]) goes by an [`endpoint`], which lets few pass at a time, and what it comes to
//! is written down by [`notes`], many in one change.

pub mod attempt;
pub mod endpoint;
mod notes;
mod queue;
mod round;
mod traces;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;
use trough_store::SubscriptionId;
use trough_store::outbox;

use crate::bell::Bell;
use crate::claims::Held;
use crate::context::Context;
use crate::metrics::Waiting;
use notes::Notes;
use queue::{Queue, Rest};

/// Rings that come this soon after a look are heard as one.
const PAUSE: Duration = Duration::from_millis(2);

/// A subscription that has something waiting.
enum State {
    /// A task is at it.
    Runs,
    /// It was left like this, with so many that wait.
    Rests(Rest, outbox::Queue),
}

/// Works on one shard.
struct Deliverer {
    context: Arc<Context>,
    held: Held,
    notes: Notes,
    states: HashMap<SubscriptionId, State>,
    running: JoinSet<(outbox::Queue, Rest)>,
    tasks: HashMap<task::Id, SubscriptionId>,
}

/// Delivers what belongs to a shard, until it is lost or the process stops; then what is on its way ends, and is noted.
pub async fn run(context: Arc<Context>, held: Held, mut bell: Bell) {
    let notes = Notes::begin(context.clone(), held.clone());
    let (states, running, tasks) = (HashMap::new(), JoinSet::new(), HashMap::new());
    let mut deliverer = Deliverer { context, held, notes, states, running, tasks };
    while deliverer.held.may_begin() {
        let next = deliverer.look().await;
        tokio::select! {
            // The first one is heard at once.
            () = async { tokio::time::sleep(PAUSE).await; bell.rung().await } => {}
            () = tokio::time::sleep_until(next) => {}
            Some(ended) = deliverer.running.join_next_with_id() => deliverer.ended(ended),
            () = deliverer.held.ends() => {}
        }
        while let Some(ended) = deliverer.running.try_join_next_with_id() {
            deliverer.ended(ended);
        }
    }
    // Nothing new begins; whoever is at it notes what comes of it.
    let lost = deliverer.held.lost.clone();
    tokio::select! {
        () = async { while deliverer.running.join_next().await.is_some() {} } => {}
        () = lost.cancelled() => {}
    }
    deliverer.context.metrics.waits(deliverer.held.claim.shard.number, None);
}

impl Deliverer {
    /// Starts what is due, and says when to look again.
    async fn look(&mut self) -> Instant {
        let later = Instant::now() + self.context.config.look_every;
        let queues = match self.context.outbox.queues(self.held.claim.shard).await {
            Ok(queues) => queues,
            Err(error) => {
                self.context.failed(&error);
                return later;
            }
        };
        let waiting: HashMap<_, _> = queues.iter().map(|queue| (queue.subscription, queue.pending)).collect();
        self.states.retain(|id, state| matches!(state, State::Runs) || waiting.contains_key(id));
        let enabled = self.enabled().await;
        let mut next = later;
        for queue in &queues {
            let state = self.states.get(&queue.subscription);
            match state {
                Some(State::Runs) => continue,
                Some(State::Rests(rest, left)) => {
                    let more = !rest.blocked && queue.pending != left.pending;
                    let due = rest.until.is_some_and(|until| until <= Instant::now());
                    let begins = queue.resumed_at != left.resumed_at || enabled.contains(&queue.subscription);
                    if !more && !due && !begins {
                        next = rest.until.map_or(next, |until| next.min(until));
                        continue;
                    }
                }
                None => {}
            }
            self.start(*queue);
        }
        self.report(&queues);
        next
    }

    /// Those that rest as they were disabled, and are not any more.
    async fn enabled(&self) -> HashSet<SubscriptionId> {
        let disabled = self.states.iter().filter_map(|(id, state)| match state {
            State::Rests(rest, _) => rest.disabled.then_some(*id),
            State::Runs => None,
        });
        let disabled: Vec<_> = disabled.collect();
        if disabled.is_empty() {
            return HashSet::new();
        }
        // If it is not known, they are looked at when their time has come.
        let Ok(book) = self.context.books.current().await else { return HashSet::new() };
        disabled
            .into_iter()
            .filter(|id| book.subscription(*id).is_none_or(|subscription| subscription.disabled.is_none()))
            .collect()
    }

    fn start(&mut self, left: outbox::Queue) {
        let subscription = left.subscription;
        self.states.insert(subscription, State::Runs);
        let queue = Queue {
            context: self.context.clone(),
            held: self.held.clone(),
            notes: self.notes.clone(),
            subscription,
        };
        let task = self.running.spawn(async move { (left, queue.run().await) });
        self.tasks.insert(task.id(), subscription);
    }

    fn ended(&mut self, ended: Result<(task::Id, (outbox::Queue, Rest)), JoinError>) {
        let (id, left) = match ended {
            Ok((id, (mut left, rest))) => {
                left.pending = left.pending.saturating_sub(rest.finished);
                (id, Some((rest, left)))
            }
            Err(error) => {
                tracing::error!(%error, "whoever delivered has panicked; it is begun anew");
                (error.id(), None)
            }
        };
        let Some(subscription) = self.tasks.remove(&id) else { return };
        match left {
            Some((rest, left)) => drop(self.states.insert(subscription, State::Rests(rest, left))),
            None => drop(self.states.remove(&subscription)),
        }
    }

    fn report(&self, queues: &[outbox::Queue]) {
        let now = self.context.clock.known().unwrap_or_default();
        let oldest = self.states.values().filter_map(|state| match state {
            State::Rests(rest, _) => rest.oldest,
            State::Runs => None,
        });
        let oldest = oldest.min().map_or(Duration::ZERO, |at| Duration::from_micros(now.saturating_sub(at)));
        let pending = queues.iter().map(|queue| queue.pending).sum();
        self.context.metrics.waits(self.held.claim.shard.number, Some(Waiting { pending, oldest }));
    }
}
