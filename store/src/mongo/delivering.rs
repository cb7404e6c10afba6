//! What became of deliveries, in transactions.

use std::collections::{BTreeMap, HashMap, HashSet};

use mongodb::bson::{Document, doc};
use mongodb::error::Result;
use mongodb::{ClientSession, Database};
use serde::Deserialize;
use trough_protocol::Micros;

use super::deliveries::{DeliveryDocument, deliveries, number, parsed, this};
use super::failure::Failure;
use super::segment_rows::all;
use super::transaction::refuse;
use super::{integer, queues};
use crate::outbox::{
    Attempt, Claim, Delivery, DeliveryId, DeliveryState, OutboxError, Outcome, Shard, check,
};
use crate::subscription::SubscriptionId;

/// What is needed of one that was tried.
#[derive(Debug, Deserialize)]
struct Tried {
    #[serde(rename = "_id")]
    id: String,
    subscription: String,
    attempts: u32,
}

/// What several tries of one delivery come to. Of many deliveries it is mostly the same, and written at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Come {
    state: i32,
    attempts: i32,
    next_at: Option<i64>,
    last: String,
}

fn refused(failure: Failure) -> mongodb::error::Error {
    refuse(OutboxError::from(failure))
}

/// What tries come to, of a delivery that was tried so often already; `None` if all of them were noted.
fn result_of<'a>(known: u32, tries: impl Iterator<Item = &'a Attempt>) -> Option<Come> {
    let pending = number(DeliveryState::Pending);
    let mut result: Option<Come> = None;
    let mut counted = known;
    for Attempt { before, outcome, said, .. } in tries {
        if *before != counted {
            continue;
        }
        let come =
            result.get_or_insert(Come { state: pending, attempts: 0, next_at: None, last: String::new() });
        let tried = u32::from(!matches!(outcome, Outcome::Dropped | Outcome::Held(_)));
        counted += tried;
        come.attempts += i32::from(tried > 0);
        check::said(said).clone_into(&mut come.last);
        match outcome {
            Outcome::Retry(at) | Outcome::Held(at) => come.next_at = Some(integer(*at)),
            Outcome::Delivered => come.state = number(DeliveryState::Delivered),
            Outcome::Dead => come.state = number(DeliveryState::Dead),
            Outcome::Dropped => come.state = number(DeliveryState::Dropped),
        }
        if come.state != pending {
            break;
        }
    }
    result
}

/// Notes what tries came to.
pub(super) async fn note(
    database: &Database,
    session: &mut ClientSession,
    claim: Claim,
    attempts: &[Attempt],
    now: Micros,
) -> Result<()> {
    let mut tries: HashMap<String, Vec<&Attempt>> = HashMap::new();
    for attempt in attempts {
        tries.entry(attempt.delivery.to_string()).or_default().push(attempt);
    }
    let those = doc! { "_id": { "$in": tries.keys().collect::<Vec<_>>() }, "state": 0 };
    let waiting: Vec<Tried> = all(&deliveries(database), those, &mut *session).await?;
    let mut results: BTreeMap<Come, Vec<String>> = BTreeMap::new();
    let mut finished: HashMap<SubscriptionId, u64> = HashMap::new();
    for Tried { id, subscription, attempts } in waiting {
        let subscription: SubscriptionId = parsed(&subscription).map_err(refused)?;
        let shard = Shard::of_subscription(subscription);
        check::belongs(claim, shard, format_args!("delivery {id}")).map_err(refuse)?;
        let tries = tries.get(&id).into_iter().flatten().copied();
        let Some(result) = result_of(attempts, tries) else { continue };
        if result.state != number(DeliveryState::Pending) {
            *finished.entry(subscription).or_default() += 1;
        }
        results.entry(result).or_default().push(id);
    }
    for (Come { state, attempts, next_at, last }, ids) in results {
        let mut set = doc! { "state": state, "last": last };
        if state != number(DeliveryState::Pending) {
            set.insert("finished_at", integer(now));
        }
        if let Some(next_at) = next_at {
            set.insert("next_at", next_at);
        }
        let change = doc! { "$set": set, "$inc": { "attempts": attempts } };
        let those = doc! { "_id": { "$in": ids } };
        deliveries::<Document>(database).update_many(those, change).session(&mut *session).await?;
    }
    let ids: HashSet<_> = finished.keys().copied().collect();
    if ids.is_empty() {
        return Ok(());
    }
    let mut changed = queues::of(database, &mut *session, ids).await?;
    for (id, queue) in &mut changed {
        queue.pending = queue.pending.saturating_sub(finished.get(id).copied().unwrap_or(0));
    }
    queues::save(database, session, changed).await
}

/// Has what is tried again later tried now, and notes when that was asked for.
pub(super) async fn resume(
    database: &Database,
    session: &mut ClientSession,
    id: SubscriptionId,
    now: Micros,
) -> Result<()> {
    queues::resume(database, &mut *session, id, now).await?;
    let later = doc! { "$gt": integer(now) };
    let those =
        doc! { "subscription": id.to_string(), "state": 0, "attempts": { "$gt": 0 }, "next_at": later };
    let change = doc! { "$set": { "next_at": integer(now) } };
    deliveries::<Document>(database).update_many(those, change).session(session).await?;
    Ok(())
}

/// Puts a finished delivery at the end of its queue.
pub(super) async fn replay(
    database: &Database,
    session: &mut ClientSession,
    id: DeliveryId,
    now: Micros,
    pending_max: u64,
) -> Result<Delivery> {
    let all = deliveries::<DeliveryDocument>(database);
    let found = all.find_one(this(id)).session(&mut *session).await?;
    let found = found.ok_or_else(|| refuse(check::no_delivery(id)))?;
    let found = Delivery::try_from(found).map_err(refused)?;
    if found.state == DeliveryState::Pending {
        return Ok(found);
    }
    let subscription = found.subscription;
    let mut changed = queues::of(database, &mut *session, [subscription]).await?;
    let mut position = 0;
    for queue in changed.values_mut() {
        if queue.is_full(pending_max) {
            return Err(refuse(check::full(subscription, queue.pending, pending_max)));
        }
        queue.pending += 1;
        position = queue.next();
    }
    queues::save(database, &mut *session, changed).await?;
    let set = doc! {
        "state": 0, "position": integer(position), "attempts_before_replay": i64::from(found.attempts),
        "next_at": integer(now), "finished_at": null,
    };
    all.update_one(this(id), doc! { "$set": set }).session(session).await?;
    let (state, attempts_before_replay) = (DeliveryState::Pending, found.attempts);
    Ok(Delivery { state, position, attempts_before_replay, next_at: now, finished_at: None, ..found })
}
