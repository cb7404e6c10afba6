//! Which shards this process watches.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use trough_runtime::random::random_bytes;
use trough_store::outbox::{Claim, Duty, Shard};

use super::Shared;
use super::chosen::Chooser;
use super::shard::ShardWatch;

/// How long a claim lasts.
const CLAIM_TTL: Duration = Duration::from_secs(10);
/// How often claims are renewed, and those of others asked for.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How long the outbox may take for that: less than a claim lasts, so that one that is busy need not lose them.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(7);
/// How long the end waits for what is to be stored.
const END: Duration = Duration::from_secs(2);

/// A shard that is watched.
struct Kept {
    claim: Claim,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Watches whatever nobody else does, while there are rules.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut choosers: watch::Receiver<Arc<Chooser>>,
    stopped: CancellationToken,
) {
    let owner = random_bytes();
    let mut kept: HashMap<Shard, Kept> = HashMap::new();
    let mut told = false;
    loop {
        let renew_at = Instant::now() + RENEW_EVERY;
        let has_rules = !choosers.borrow_and_update().rules.is_empty();
        if has_rules {
            // What is claimed when it is broken off runs out by itself.
            stopped.run_until_cancelled(claim_all(&shared, &choosers, owner, (&mut kept, &mut told))).await;
        } else {
            end_all(&shared, &mut kept).await;
        }
        let turned = async {
            // An error means that nothing changes any more: the process ends.
            if choosers.wait_for(|chooser| chooser.rules.is_empty() == has_rules).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let next = async {
            tokio::select! {
                () = sleep_until(renew_at) => {}
                () = turned => {}
            }
        };
        if stopped.run_until_cancelled(next).await.is_none() {
            return end_all(&shared, &mut kept).await;
        }
    }
}

async fn claim_all(
    shared: &Arc<Shared>,
    choosers: &watch::Receiver<Arc<Chooser>>,
    owner: [u8; 16],
    (kept, told): (&mut HashMap<Shard, Kept>, &mut bool),
) {
    let mut claims: FuturesUnordered<_> = Shard::all(Duty::Watch)
        .map(async |shard| {
            let claim = timeout(CLAIM_TIMEOUT, shared.parts.outbox.claim(shard, owner, CLAIM_TTL)).await;
            (shard, claim)
        })
        .collect();
    while let Some((shard, claim)) = claims.next().await {
        let claim = match claim {
            Ok(Ok(claim)) => {
                *told = false;
                claim
            }
            // What is watched is watched on: its token says whether it still may be.
            Ok(Err(error)) => {
                failed(shared, shard, &error, told);
                continue;
            }
            Err(_) => {
                failed(shared, shard, &"it does not answer", told);
                continue;
            }
        };
        let is_same =
            kept.get(&shard).is_some_and(|kept| Some(kept.claim) == claim && !kept.task.is_finished());
        if is_same {
            continue;
        }
        if let Some(before) = kept.remove(&shard) {
            before.stop.cancel();
            // It stores under a token that counts for nothing any more, or has ended.
            let _ = timeout(END, before.task).await;
        }
        let Some(claim) = claim else { continue };
        let stop = CancellationToken::new();
        let watch = ShardWatch::new(shared.clone(), claim, choosers.clone(), stop.clone());
        kept.insert(shard, Kept { claim, stop, task: tokio::spawn(watch.run()) });
        shared.parts.metrics.shards.set(i64::try_from(kept.len()).unwrap_or(i64::MAX));
    }
    shared.parts.metrics.shards.set(i64::try_from(kept.len()).unwrap_or(i64::MAX));
}

/// Ends what is watched: what was found is stored, and others may go on at once.
async fn end_all(shared: &Shared, kept: &mut HashMap<Shard, Kept>) {
    kept.values().for_each(|kept| kept.stop.cancel());
    let ends = kept.drain().map(async |(_, Kept { claim, mut task, .. })| {
        if timeout(END, &mut task).await.is_err() {
            task.abort();
        }
        let released = timeout(CLAIM_TIMEOUT, shared.parts.outbox.release(claim)).await;
        if let Ok(Err(error)) = released {
            tracing::debug!(%error, shard = %claim.shard, "a claim could not be given back: it runs out by itself");
        }
    });
    join_all(ends).await;
    shared.parts.metrics.shards.set(0);
}

/// Told once, until one was had again.
fn failed(shared: &Shared, shard: Shard, error: &dyn Display, told: &mut bool) {
    shared.parts.metrics.failures.inc();
    if !std::mem::replace(told, true) {
        tracing::warn!(%error, %shard, "a claim cannot be had: events come later; it is tried again");
    }
}
