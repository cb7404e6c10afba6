//! Positions and numbers of what waits, by subscription: one document for each, which whatever makes or finishes
//! deliveries writes, so that two who do collide.

use std::collections::HashMap;

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Result;
use mongodb::options::IndexOptions;
use mongodb::{ClientSession, Collection, Database, IndexModel};
use serde::{Deserialize, Serialize};
use trough_protocol::Micros;

use super::deliveries::parsed;
use super::failure::Failure;
use super::integer;
use super::segment_rows::all;
use crate::outbox::{Queue, Shard, check};
use crate::subscription::SubscriptionId;

/// A queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct QueueDocument {
    #[serde(rename = "_id")]
    id: String,
    /// Of the duty of delivering.
    shard: u16,
    /// The last position that was given.
    position: u64,
    /// How many deliveries wait.
    pub pending: u64,
    /// When it was last resumed; 0: never.
    #[serde(default)]
    resumed_at: Micros,
}

impl QueueDocument {
    /// The next position.
    pub fn next(&mut self) -> u64 {
        self.position += 1;
        self.position
    }

    /// Whether no more may wait, of so many at most.
    pub fn is_full(&self, pending_max: u64) -> bool {
        self.pending > pending_max
    }

    /// Whether it is to be disabled for that.
    pub fn is_over(&self, pending_max: u64, now: Micros) -> bool {
        self.is_full(pending_max) && !check::is_resumed(self.resumed_at, now)
    }
}

pub(super) fn queues<T: Send + Sync>(database: &Database) -> Collection<T> {
    database.collection("outbox_queues")
}

pub(super) fn indexes() -> Vec<IndexModel> {
    let waiting = doc! { "pending": { "$gt": 0_i64 } };
    let waiting = IndexOptions::builder().partial_filter_expression(waiting).build();
    vec![IndexModel::builder().keys(doc! { "shard": 1, "_id": 1 }).options(waiting).build()]
}

fn named(ids: impl IntoIterator<Item = SubscriptionId>) -> Document {
    let ids: Vec<Bson> = ids.into_iter().map(|id| id.to_string().into()).collect();
    doc! { "_id": { "$in": ids } }
}

/// The queues of these subscriptions, in a transaction; new ones are empty.
pub(super) async fn of(
    database: &Database,
    session: &mut ClientSession,
    ids: impl IntoIterator<Item = SubscriptionId> + Clone,
) -> Result<HashMap<SubscriptionId, QueueDocument>> {
    let known: Vec<QueueDocument> = all(&queues(database), named(ids.clone()), session).await?;
    let mut known: HashMap<String, QueueDocument> =
        known.into_iter().map(|queue| (queue.id.clone(), queue)).collect();
    let queue = |id: SubscriptionId| {
        let name = id.to_string();
        let shard = Shard::of_subscription(id).number;
        known.remove(&name).unwrap_or(QueueDocument {
            id: name,
            shard,
            position: 0,
            pending: 0,
            resumed_at: 0,
        })
    };
    let mut queue = queue;
    let mut found = HashMap::new();
    for id in ids {
        found.entry(id).or_insert_with(|| queue(id));
    }
    Ok(found)
}

/// Writes them, in the same transaction.
pub(super) async fn save(
    database: &Database,
    session: &mut ClientSession,
    changed: HashMap<SubscriptionId, QueueDocument>,
) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let those = named(changed.keys().copied());
    queues::<Document>(database).delete_many(those).session(&mut *session).await?;
    queues(database).insert_many(changed.into_values()).session(session).await?;
    Ok(())
}

/// Notes when what waits was made due, in a transaction.
pub(super) async fn resume(
    database: &Database,
    session: &mut ClientSession,
    id: SubscriptionId,
    now: Micros,
) -> Result<()> {
    let change = doc! { "$set": { "resumed_at": integer(now) } };
    let this = doc! { "_id": id.to_string() };
    queues::<Document>(database).update_one(this, change).session(session).await?;
    Ok(())
}

/// Those of a part in which something waits.
pub(super) async fn list(database: &Database, shard: Shard) -> std::result::Result<Vec<Queue>, Failure> {
    let those = doc! { "shard": i32::from(shard.number), "pending": { "$gt": 0_i64 } };
    let mut found = queues::<QueueDocument>(database).find(those).sort(doc! { "_id": 1 }).await?;
    let mut listed = Vec::new();
    while found.advance().await? {
        let QueueDocument { id, pending, resumed_at, .. } = found.deserialize_current()?;
        listed.push(Queue { subscription: parsed(&id)?, pending, resumed_at });
    }
    Ok(listed)
}
