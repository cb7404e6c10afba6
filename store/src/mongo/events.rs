//! Events of the outbox: one document for each.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Result;
use mongodb::options::IndexOptions;
use mongodb::{ClientSession, Collection, Database, IndexModel};
use serde::{Deserialize, Serialize};
use trough_protocol::{DeviceId, Micros};

use super::failure::Failure;
use super::json::{from_json, to_json};
use super::segment_rows::all;
use super::transaction::refuse;
use super::{before, integer, shards};
use crate::event::{Event, EventId};
use crate::outbox::{Claim, Duty, EnteredEvent, EventFilter, OutboxError, PAGE_MAX, Shard, check};

/// Of so many devices the server merges what their index has, and reads no more than a page; of more than 200
/// (`internalQueryMaxScansToExplode`) it reads and sorts all that there is.
const DEVICES_AT_ONCE: usize = 100;

/// An event. The time is in µs since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct EventDocument {
    #[serde(rename = "_id")]
    id: String,
    /// Of the duty of routing.
    shard: u16,
    /// The order in which they were entered: that time, and more where several came at once.
    n: u64,
    routed: bool,
    entered_at: Micros,
    kind: String,
    device: Option<String>,
    /// All of it, as JSON.
    event: String,
}

/// What is needed to tell whether one is there, and whose.
#[derive(Debug, Deserialize)]
struct Named {
    #[serde(rename = "_id")]
    id: String,
    shard: u16,
}

impl TryFrom<EventDocument> for EnteredEvent {
    type Error = Failure;
    fn try_from(document: EventDocument) -> std::result::Result<Self, Failure> {
        Ok(Self { event: from_json(&document.event)?, entered_at: document.entered_at })
    }
}

pub(super) fn events<T: Send + Sync>(database: &Database) -> Collection<T> {
    database.collection("outbox_events")
}

pub(super) fn indexes() -> Vec<IndexModel> {
    let unrouted = IndexOptions::builder().partial_filter_expression(doc! { "routed": false }).build();
    let model = |keys: Document| IndexModel::builder().keys(keys).build();
    vec![
        IndexModel::builder().keys(doc! { "shard": 1, "n": 1 }).options(unrouted).build(),
        model(doc! { "entered_at": -1, "_id": -1 }),
        model(doc! { "device": 1, "entered_at": -1, "_id": -1 }),
        model(doc! { "kind": 1, "entered_at": -1, "_id": -1 }),
    ]
}

fn named(ids: impl IntoIterator<Item = EventId>) -> Document {
    let ids: Vec<Bson> = ids.into_iter().map(|id| id.to_string().into()).collect();
    doc! { "_id": { "$in": ids } }
}

/// Of those that are to be entered, the ones that are not there.
fn missing(
    entered: &[Event],
    known: impl IntoIterator<Item = Named>,
    first: u64,
    now: Micros,
) -> std::result::Result<Vec<EventDocument>, Failure> {
    let mut known: HashSet<String> = known.into_iter().map(|event| event.id).collect();
    let new = entered.iter().zip(first..).filter(|(event, _)| known.insert(event.id.to_string()));
    let document = |(event, n): (&Event, u64)| {
        Ok(EventDocument {
            id: event.id.to_string(),
            shard: Shard::of_event(event).number,
            n,
            routed: false,
            entered_at: now,
            kind: event.kind.to_string(),
            device: event.device.as_ref().map(DeviceId::to_string),
            event: to_json(event)?,
        })
    };
    new.map(document).collect()
}

/// Enters those that are not there, under a claim, in a transaction.
pub(super) async fn enter(
    database: &Database,
    session: &mut ClientSession,
    entered: &[Event],
    claim: Claim,
    now: Micros,
) -> Result<()> {
    if entered.is_empty() {
        return Ok(());
    }
    let first = shards::numbers(database, &mut *session, claim, entered.len(), now).await?;
    let those = named(entered.iter().map(|event| event.id));
    let known: Vec<Named> = all(&events(database), those, &mut *session).await?;
    let new = missing(entered, known, first, now).map_err(|failure| refuse(OutboxError::from(failure)))?;
    if !new.is_empty() {
        events::<EventDocument>(database).insert_many(new).session(session).await?;
    }
    Ok(())
}

/// Enters those that are not there, one after the other, in order: no transaction, which somebody who is killed in it would
/// leave to all others. Where one is there meanwhile it ends with [`Failure::Duplicate`], and those behind it are missing.
pub(super) async fn enter_free(
    database: &Database,
    entered: &[Event],
    first: u64,
    now: Micros,
) -> std::result::Result<(), Failure> {
    let those = named(entered.iter().map(|event| event.id));
    let mut found = events::<Named>(database).find(those).await?;
    let mut known = Vec::new();
    while found.advance().await? {
        known.push(found.deserialize_current()?);
    }
    let new = missing(entered, known, first, now)?;
    if !new.is_empty() {
        events::<EventDocument>(database).insert_many(new).ordered(true).await?;
    }
    Ok(())
}

async fn read(
    database: &Database,
    those: Document,
    order: Document,
    limit: usize,
) -> std::result::Result<Vec<EnteredEvent>, Failure> {
    // To the server no limit is 0.
    let limit = i64::try_from(limit.min(PAGE_MAX)).ok().filter(|limit| *limit > 0);
    let Some(limit) = limit else { return Ok(Vec::new()) };
    let mut found = events::<EventDocument>(database).find(those).sort(order).limit(limit).await?;
    let mut page = Vec::new();
    while found.advance().await? {
        page.push(found.deserialize_current()?.try_into()?);
    }
    Ok(page)
}

/// Those of a part that are not routed, in order.
pub(super) async fn unrouted(
    database: &Database,
    shard: Shard,
    limit: usize,
) -> std::result::Result<Vec<EnteredEvent>, Failure> {
    let those = doc! { "shard": i32::from(shard.number), "routed": false };
    read(database, those, doc! { "n": 1 }, limit).await
}

/// A page of them, newest first.
pub(super) async fn list(
    database: &Database,
    filter: &EventFilter,
) -> std::result::Result<Vec<EnteredEvent>, Failure> {
    let mut those = filter.before.map_or(doc! {}, |(at, id)| before("entered_at", at, &id.to_string()));
    if let Some(kind) = filter.kind {
        those.insert("kind", kind.as_str());
    }
    let Some(devices) = &filter.devices else { return read(database, those, newest(), filter.limit).await };
    let limit = filter.limit.min(PAGE_MAX);
    let devices: Vec<&str> =
        devices.iter().map(DeviceId::as_str).collect::<BTreeSet<_>>().into_iter().collect();
    let mut page: Vec<EnteredEvent> = Vec::new();
    for some in devices.chunks(DEVICES_AT_ONCE) {
        those.insert("device", doc! { "$in": some });
        if let Some(last) = limit.checked_sub(1).and_then(|last| page.get(last)) {
            // What is older is not on the page.
            those.insert("entered_at", doc! { "$gte": integer(last.entered_at) });
        }
        page.extend(read(database, those.clone(), newest(), limit).await?);
        let place = |of: &EnteredEvent| (of.entered_at, of.event.id);
        page.sort_by_key(|of| Reverse(place(of)));
        page.truncate(limit);
    }
    Ok(page)
}

fn newest() -> Document {
    doc! { "entered_at": -1, "_id": -1 }
}

/// Notes that these are routed, in a transaction. Those that are forgotten were.
pub(super) async fn set_routed(
    database: &Database,
    session: &mut ClientSession,
    claim: Claim,
    ids: &[EventId],
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut foreign = named(ids.iter().copied());
    foreign.insert("shard", doc! { "$ne": i32::from(claim.shard.number) });
    if let Some(found) = events::<Named>(database).find_one(foreign).session(&mut *session).await? {
        let shard = Shard { duty: Duty::Route, number: found.shard };
        check::belongs(claim, shard, format_args!("event {}", found.id)).map_err(refuse)?;
    }
    let routed = doc! { "$set": { "routed": true } };
    events::<Document>(database).update_many(named(ids.iter().copied()), routed).session(session).await?;
    Ok(())
}

/// Forgets some that were entered before, and are routed.
pub(super) async fn forget(
    database: &Database,
    before: Micros,
    limit: i64,
) -> std::result::Result<usize, Failure> {
    let old = doc! { "entered_at": { "$lt": integer(before) }, "routed": true };
    let all = events::<Named>(database);
    let mut found = all.find(old).sort(doc! { "entered_at": 1 }).limit(limit).await?;
    let mut ids = Vec::new();
    while found.advance().await? {
        ids.push(found.deserialize_current()?.id);
    }
    if ids.is_empty() {
        return Ok(0);
    }
    let done = all.delete_many(doc! { "_id": { "$in": ids } }).await?;
    Ok(usize::try_from(done.deleted_count).unwrap_or(usize::MAX))
}
