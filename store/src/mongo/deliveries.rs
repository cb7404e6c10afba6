//! Deliveries of the outbox: one document for each.

use mongodb::bson::{Bson, Document, doc};
use mongodb::options::IndexOptions;
use mongodb::{Collection, Database, IndexModel};
use serde::{Deserialize, Serialize};
use trough_protocol::Micros;

use super::failure::Failure;
use super::json::from_json;
use super::{before, integer};
use crate::outbox::{Delivery, DeliveryFilter, DeliveryId, DeliveryState, PAGE_MAX};
use crate::subscription::{PushTokenId, SubscriptionId};

type Result<T> = std::result::Result<T, Failure>;

/// A delivery. Times are in µs since 1970.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DeliveryDocument {
    #[serde(rename = "_id")]
    pub id: String,
    pub subscription: String,
    pub phone: Option<String>,
    pub position: u64,
    /// 0 pending, 1 delivered, 2 dead, 3 dropped.
    pub state: i32,
    pub events: u32,
    pub attempts: u32,
    #[serde(default)]
    pub attempts_before_replay: u32,
    pub next_at: Micros,
    pub last: Option<String>,
    pub created_at: Micros,
    pub finished_at: Option<Micros>,
    /// All of it, as JSON.
    pub event: String,
}

/// What is needed of one that is looked for.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    #[serde(rename = "_id")]
    pub id: String,
}

/// As it is stored.
pub(super) fn number(state: DeliveryState) -> i32 {
    match state {
        DeliveryState::Pending => 0,
        DeliveryState::Delivered => 1,
        DeliveryState::Dead => 2,
        DeliveryState::Dropped => 3,
    }
}

/// Parses an id; what we did not write is corruption.
pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T> {
    text.parse().map_err(|error| Failure::Corrupt(format!("{error}")))
}

impl TryFrom<DeliveryDocument> for Delivery {
    type Error = Failure;
    fn try_from(document: DeliveryDocument) -> Result<Self> {
        let state = DeliveryState::ALL.into_iter().find(|state| number(*state) == document.state);
        let unknown = || Failure::Corrupt(format!("delivery {} has state {}", document.id, document.state));
        Ok(Self {
            id: parsed(&document.id)?,
            subscription: parsed(&document.subscription)?,
            phone: document.phone.as_deref().map(parsed).transpose()?,
            position: document.position,
            event: from_json(&document.event)?,
            events: document.events,
            state: state.ok_or_else(unknown)?,
            attempts: document.attempts,
            attempts_before_replay: document.attempts_before_replay,
            next_at: document.next_at,
            last: document.last,
            created_at: document.created_at,
            finished_at: document.finished_at,
        })
    }
}

pub(super) fn deliveries<T: Send + Sync>(database: &Database) -> Collection<T> {
    database.collection("outbox_deliveries")
}

/// Deliveries that were made and taken up by one that was held: `_id`, and the other one's in `delivery`.
pub(super) fn merged<T: Send + Sync>(database: &Database) -> Collection<T> {
    database.collection("outbox_merged")
}

pub(super) fn indexes() -> Vec<IndexModel> {
    let waiting = IndexOptions::builder().partial_filter_expression(doc! { "state": 0 }).build();
    let of_phone = waiting.clone();
    let finished = doc! { "finished_at": { "$gt": 0_i64 } };
    let finished = IndexOptions::builder().partial_filter_expression(finished).build();
    let model = |keys: Document| IndexModel::builder().keys(keys).build();
    vec![
        IndexModel::builder().keys(doc! { "subscription": 1, "position": 1 }).options(waiting).build(),
        IndexModel::builder().keys(doc! { "subscription": 1, "phone": 1 }).options(of_phone).build(),
        IndexModel::builder().keys(doc! { "finished_at": 1 }).options(finished).build(),
        model(doc! { "state": 1, "created_at": -1, "_id": -1 }),
        model(doc! { "subscription": 1, "state": 1, "created_at": -1, "_id": -1 }),
    ]
}

pub(super) fn this(id: DeliveryId) -> Document {
    doc! { "_id": id.to_string() }
}

/// One of them.
pub(super) async fn find(database: &Database, id: DeliveryId) -> Result<Option<Delivery>> {
    let found = deliveries::<DeliveryDocument>(database).find_one(this(id)).await?;
    found.map(Delivery::try_from).transpose()
}

async fn read(database: &Database, those: Document, order: Document, limit: usize) -> Result<Vec<Delivery>> {
    // To the server no limit is 0.
    let limit = i64::try_from(limit.min(PAGE_MAX)).ok().filter(|limit| *limit > 0);
    let Some(limit) = limit else { return Ok(Vec::new()) };
    let all = deliveries::<DeliveryDocument>(database);
    let mut found = all.find(those).sort(order).limit(limit).await?;
    let mut page = Vec::new();
    while found.advance().await? {
        page.push(found.deserialize_current()?.try_into()?);
    }
    Ok(page)
}

/// The first of a subscription that wait, but for those to some phones.
pub(super) async fn pending(
    database: &Database,
    subscription: SubscriptionId,
    without: &[PushTokenId],
    limit: usize,
    now: Micros,
) -> Result<Vec<Delivery>> {
    let limit = limit.min(PAGE_MAX);
    let mut due = doc! { "subscription": subscription.to_string(), "state": 0 };
    if !without.is_empty() {
        let phones: Vec<Bson> = without.iter().map(|phone| phone.to_string().into()).collect();
        due.insert("phone", doc! { "$nin": phones });
    }
    let mut held = due.clone();
    let is_due = doc! { "next_at": { "$lte": integer(now) } };
    due.insert("$or", vec![doc! { "attempts": { "$gt": 0 } }, is_due]);
    held.insert("attempts", 0);
    held.insert("next_at", doc! { "$gt": integer(now) });
    let mut pending = read(database, due, doc! { "position": 1 }, limit).await?;
    let left = limit.saturating_sub(pending.len());
    pending.extend(read(database, held, doc! { "position": 1 }, left).await?);
    Ok(pending)
}

/// A page of them, newest first.
pub(super) async fn list(database: &Database, filter: &DeliveryFilter) -> Result<Vec<Delivery>> {
    let mut those = doc! {};
    if let Some((at, id)) = filter.before {
        those = before("created_at", at, &id.to_string());
    }
    if let Some(subscriptions) = &filter.subscriptions {
        let ids: Vec<Bson> = subscriptions.iter().map(|id| id.to_string().into()).collect();
        those.insert("subscription", doc! { "$in": ids });
    }
    match filter.state {
        Some(state) => those.insert("state", number(state)),
        // So that the indexes, which have the state before the time, are as good for all states.
        None => those.insert("state", doc! { "$in": DeliveryState::ALL.map(number).to_vec() }),
    };
    read(database, those, doc! { "created_at": -1, "_id": -1 }, filter.limit).await
}

/// Forgets some that were finished before, and what only concerned them.
pub(super) async fn forget(database: &Database, before: Micros, limit: i64) -> Result<usize> {
    let old = doc! { "finished_at": { "$gt": 0_i64, "$lt": integer(before) } };
    let all = deliveries::<Named>(database);
    let mut found = all.find(old.clone()).sort(doc! { "finished_at": 1 }).limit(limit).await?;
    let mut ids = Vec::new();
    while found.advance().await? {
        ids.push(found.deserialize_current()?.id);
    }
    if ids.is_empty() {
        return Ok(0);
    }
    merged::<Document>(database).delete_many(doc! { "delivery": { "$in": &ids } }).await?;
    // One that is replayed meanwhile stays.
    let mut those = old;
    those.insert("_id", doc! { "$in": ids });
    Ok(usize::try_from(all.delete_many(those).await?.deleted_count).unwrap_or(usize::MAX))
}
