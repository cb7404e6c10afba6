//! Holding the parts of a duty: claiming what is free, renewing what is held, and letting go in time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trough_runtime::random::random_below;
use trough_store::outbox::{Claim, Duty, OutboxError, SHARDS, Shard};

use crate::context::Context;

/// How often is looked what is to be renewed or to be had.
const TICK: Duration = Duration::from_millis(500);
/// How often a part that another has is asked for: it may have died.
const FREE_AFTER: Duration = Duration::from_secs(1);
const STOPPING_TICK: Duration = Duration::from_millis(10);
/// A part of the life of a claim that is not used: clocks of machines do not run alike.
const MARGIN: u32 = 10;

/// A claim that is held. It must not be used behind its end by this machine's own steady clock, and what is stored under
/// it is fenced besides.
#[derive(Debug, Clone)]
pub struct Held {
    /// What is stored under it.
    pub claim: Claim,
    /// Begin nothing new: the process stops.
    pub stop: CancellationToken,
    /// Drop everything: somebody else may hold it.
    pub lost: CancellationToken,
    until: Arc<Mutex<Instant>>,
}

impl Held {
    /// One that may be used until this time.
    pub fn new(claim: Claim, until: Instant) -> Self {
        Self {
            claim,
            stop: CancellationToken::new(),
            lost: CancellationToken::new(),
            until: Arc::new(Mutex::new(until)),
        }
    }

    /// Whether something new may be begun.
    pub fn may_begin(&self) -> bool {
        !self.stop.is_cancelled() && !self.lost.is_cancelled() && Instant::now() < self.until()
    }

    /// Resolves when nothing new may be begun. Cancel-safe.
    pub async fn ends(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.lost.cancelled() => {}
        }
    }

    fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lengthen(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

struct Work {
    held: Held,
    renewed: Instant,
    task: JoinHandle<()>,
}

/// Claims parts of a duty, and has `work` done on each until it is lost or the process stops. Returns when all of it has
/// ended and the claims are given back.
pub async fn keep<F>(context: Arc<Context>, duty: Duty, mut work: impl FnMut(Held) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut held: HashMap<u16, Work> = HashMap::new();
    let mut tried: HashMap<u16, Instant> = HashMap::new();
    let (draining, killed) = (context.shutdown.draining.clone(), context.shutdown.killed.clone());
    loop {
        let stopping = draining.is_cancelled();
        if stopping {
            held.values().for_each(|work| work.held.stop.cancel());
        }
        if killed.is_cancelled() {
            held.values().for_each(|work| work.held.lost.cancel());
            return;
        }
        give_up(&context, &mut held).await;
        if stopping && held.is_empty() {
            return;
        }
        let shards = due(&context, duty, &held, &mut tried, stopping);
        let asked = Instant::now();
        let (owner, ttl) = (context.owner, context.config.claim_ttl);
        let ask = |shard| {
            let outbox = &context.outbox;
            async move { (shard, outbox.claim(shard, owner, ttl).await) }
        };
        // Each as it comes: one part that cannot be had, or not soon, keeps no other from being renewed in time.
        let mut answers: FuturesUnordered<_> = shards.into_iter().map(ask).collect();
        while let Some((shard, answer)) = answers.next().await {
            let until = asked + ttl - ttl / MARGIN;
            settle(&context, &mut held, shard, answer, until, asked, &mut work);
        }
        // What ends because it was told to is given back at once.
        let look_after = if stopping { STOPPING_TICK } else { TICK };
        tokio::select! {
            () = tokio::time::sleep(look_after) => {}
            () = draining.cancelled(), if !stopping => {}
            () = killed.cancelled() => {}
        }
    }
}

/// Ends what was lost, and gives back what has ended.
async fn give_up(context: &Context, held: &mut HashMap<u16, Work>) {
    for work in held.values().filter(|work| Instant::now() >= work.held.until()) {
        tracing::warn!(shard = %work.held.claim.shard, "a claim could not be renewed in time: another process takes over");
        work.held.lost.cancel();
    }
    let over: Vec<u16> = held
        .iter()
        .filter(|(_, work)| work.held.lost.is_cancelled() || work.task.is_finished())
        .map(|(n, _)| *n)
        .collect();
    for number in over {
        let Some(work) = held.remove(&number) else { continue };
        work.held.lost.cancel();
        if work.task.await.is_err() {
            tracing::error!(shard = %work.held.claim.shard, "whoever worked on a shard has panicked; it is begun anew");
        }
        // Another takes it over in time, if this is not heard.
        if let Err(error) = context.outbox.release(work.held.claim).await {
            tracing::debug!(%error, "a claim could not be given back");
        }
    }
}

/// What is to be renewed, and what may be had: not all at once, so that processes which start together share.
fn due(
    context: &Context,
    duty: Duty,
    held: &HashMap<u16, Work>,
    tried: &mut HashMap<u16, Instant>,
    stopping: bool,
) -> Vec<Shard> {
    let every = context.config.claim_ttl * 3 / 10;
    let now = Instant::now();
    let mut shards: Vec<Shard> =
        held.values().filter(|work| now >= work.renewed + every).map(|work| work.held.claim.shard).collect();
    if stopping {
        return shards;
    }
    let first = random_below(u64::from(SHARDS)) as usize;
    let every = every.min(FREE_AFTER);
    let mut free: Vec<_> = Shard::all(duty).collect();
    free.rotate_left(first);
    let free = free.into_iter().filter(|shard| {
        !held.contains_key(&shard.number) && tried.get(&shard.number).is_none_or(|at| now >= *at + every)
    });
    let free: Vec<_> = free.take(context.config.claims_at_once).collect();
    tried.extend(free.iter().map(|shard| (shard.number, now)));
    shards.extend(free);
    shards
}

fn settle<F>(
    context: &Arc<Context>,
    held: &mut HashMap<u16, Work>,
    shard: Shard,
    answer: Result<Option<Claim>, OutboxError>,
    until: Instant,
    asked: Instant,
    work: &mut impl FnMut(Held) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    match (answer, held.get_mut(&shard.number)) {
        (Ok(Some(claim)), Some(known)) if known.held.claim == claim => {
            known.held.lengthen(until);
            known.renewed = asked;
            context.worked();
        }
        // It was somebody else's in between.
        (Ok(_), Some(known)) => known.held.lost.cancel(),
        (Ok(Some(claim)), None) => {
            context.worked();
            let new = Held::new(claim, until);
            let task = context.shutdown.tasks.spawn(work(new.clone()));
            held.insert(shard.number, Work { held: new, renewed: asked, task });
        }
        (Ok(None), None) => context.worked(),
        (Err(error), known) => {
            context.failed(&error);
            if known.is_none() {
                tracing::debug!(%shard, %error, "a claim could not be asked for");
            }
        }
    }
}
