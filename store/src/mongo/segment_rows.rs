//! Segments, and how far journals are in them, as documents.

use std::collections::HashMap;

use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::error::Result;
use mongodb::options::{CollectionOptions, IndexOptions, ReadConcern};
use mongodb::{ClientSession, Collection, Database, IndexModel};
use serde::{Deserialize, Serialize};
use trough_protocol::Micros;

use super::failure::Failure;
use super::object_catalog::micros;
use super::object_rows::{parsed_device, parsed_hex, parsed_incarnation};
use super::transaction::refuse;
use crate::segment_catalog::{CommitError, REMOVED_MAX, Removed, Segment, SegmentId, Through, check};

/// Ids in one command.
const COMMAND_IDS_MAX: usize = 1000;

/// A segment: live as long as it has no `x`, the number of the manifest that has it no more. `xa` is when that was made.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SegmentDocument {
    /// 32 hex digits.
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "l")]
    level: u8,
    #[serde(rename = "d")]
    date: u32,
    #[serde(rename = "b")]
    bytes: u64,
    #[serde(rename = "ib")]
    index_bytes: u64,
    #[serde(rename = "ic")]
    index_crc: u32,
    #[serde(rename = "n")]
    frames: u64,
    #[serde(rename = "v")]
    devices: (String, String),
    #[serde(rename = "t")]
    ts: (Micros, Micros),
    #[serde(rename = "r")]
    received: (Micros, Micros),
}

impl From<&Segment> for SegmentDocument {
    fn from(segment: &Segment) -> Self {
        let Segment { id, level, date, bytes, index_bytes, index_crc, frames, ts, received, .. } = *segment;
        let (low, high) = &segment.devices;
        let devices = (low.as_str().to_owned(), high.as_str().to_owned());
        Self { id: id.to_string(), level, date, bytes, index_bytes, index_crc, frames, devices, ts, received }
    }
}

impl SegmentDocument {
    pub fn into_segment(self) -> std::result::Result<Segment, Failure> {
        let Self { level, date, bytes, index_bytes, index_crc, frames, ts, received, .. } = self;
        let devices = (parsed_device(&self.devices.0)?, parsed_device(&self.devices.1)?);
        let id = parsed_segment(&self.id)?;
        Ok(Segment { id, level, date, bytes, index_bytes, index_crc, frames, devices, ts, received })
    }
}

fn parsed_segment(text: &str) -> std::result::Result<SegmentId, Failure> {
    let wrong = || Failure::Corrupt(format!("{text:?} is no segment's id"));
    parsed_hex(text).map(SegmentId).ok_or_else(wrong)
}

/// How far a journal is in segments. It lies in the collection `compaction`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct JournalDocument {
    /// 32 hex digits.
    #[serde(rename = "_id")]
    id: String,
    n: u64,
}

impl JournalDocument {
    pub fn into_through(self) -> std::result::Result<Through, Failure> {
        Ok(Through { incarnation: parsed_incarnation(&self.id)?, n: self.n })
    }
}

impl From<&Through> for JournalDocument {
    fn from(through: &Through) -> Self {
        Self { id: through.incarnation.to_string(), n: through.n }
    }
}

/// Where segments lie. Reads outside of transactions are linearizable, as those of objects.
pub(super) fn segments<T: Send + Sync>(database: &Database) -> Collection<T> {
    let options = CollectionOptions::builder().read_concern(ReadConcern::linearizable()).build();
    database.collection_with_options("segments", options)
}

/// The index of those that are live no more. Everybody who wants the live ones wants them all.
pub(super) fn index() -> IndexModel {
    let sparse = IndexOptions::builder().sparse(true).build();
    IndexModel::builder().keys(doc! { "x": 1, "_id": 1 }).options(sparse).build()
}

/// All live ones, in no order.
pub(super) async fn live(database: &Database, session: &mut ClientSession) -> Result<Vec<SegmentDocument>> {
    let live = doc! { "x": { "$exists": false } };
    all(&segments(database), live, session).await
}

/// All that a filter finds, in a transaction.
pub(super) async fn all<T>(
    collection: &Collection<T>,
    filter: Document,
    session: &mut ClientSession,
) -> Result<Vec<T>>
where
    T: for<'de> Deserialize<'de> + Send + Sync,
{
    let mut answer = collection.find(filter).session(&mut *session).await?;
    let mut found = Vec::new();
    while answer.advance(&mut *session).await? {
        found.push(answer.deserialize_current()?);
    }
    Ok(found)
}

#[derive(Debug, Deserialize)]
struct Named {
    #[serde(rename = "_id")]
    id: String,
}

/// Takes segments out of the manifest, all or none.
pub(super) async fn remove(
    database: &Database,
    session: &mut ClientSession,
    ids: &[SegmentId],
    number: i64,
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut those = named(ids);
    those.insert("x", doc! { "$exists": false });
    let removed = doc! { "$set": { "x": number }, "$currentDate": { "xa": true } };
    let done = segments::<Document>(database).update_many(those, removed).session(&mut *session).await?;
    if done.matched_count == ids.len() as u64 {
        return Ok(());
    }
    let mut those = named(ids);
    those.insert("x", number);
    let found: Vec<Named> = all(&segments(database), those, session).await?;
    let missing = ids.iter().find(|id| !found.iter().any(|found| found.id == id.to_string()));
    let missing = missing.copied().unwrap_or(ids[0]);
    Err(refuse(CommitError::from(check::not_live(missing))))
}

/// Adds segments, all or none.
pub(super) async fn add(database: &Database, session: &mut ClientSession, new: &[Segment]) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let documents = new.iter().map(SegmentDocument::from);
    let done = segments::<SegmentDocument>(database).insert_many(documents).session(session).await;
    done.map(drop).map_err(|error| match Failure::from(error.clone()) {
        // The server says which.
        Failure::Duplicate(reason) => refuse(CommitError::from(check::known(reason))),
        _ => error,
    })
}

/// Moves journals on, all or none. `those` finds all journals: reading them takes less than looking for each.
pub(super) async fn go_on(
    journals: &Collection<JournalDocument>,
    session: &mut ClientSession,
    those: Document,
    through: &[Through],
) -> Result<()> {
    if through.is_empty() {
        return Ok(());
    }
    let known = all(journals, those, session).await?;
    let known: HashMap<String, u64> = known.into_iter().map(|journal| (journal.id, journal.n)).collect();
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for one in through {
        let journal = JournalDocument::from(one);
        match known.get(&journal.id) {
            Some(from) if one.n < *from => {
                return Err(refuse(CommitError::from(check::goes_back(*one, *from))));
            }
            Some(from) if one.n == *from => continue,
            Some(_) => old.push(journal.id.clone()),
            None => {}
        }
        new.push(journal);
    }
    for part in old.chunks(COMMAND_IDS_MAX) {
        journals.delete_many(doc! { "_id": { "$in": part } }).session(&mut *session).await?;
    }
    if !new.is_empty() {
        journals.insert_many(new).session(session).await?;
    }
    Ok(())
}

fn named(ids: &[SegmentId]) -> Document {
    let ids: Vec<Bson> = ids.iter().map(|id| id.to_string().into()).collect();
    doc! { "_id": { "$in": ids } }
}

#[derive(Debug, Deserialize)]
struct RemovedDocument {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "d")]
    date: u32,
    xa: DateTime,
    now: DateTime,
}

/// Those that are live no more. The answer comes in one batch, so that all of it is what the primary made sure of.
pub(super) async fn removed(database: &Database, limit: usize) -> std::result::Result<Vec<Removed>, Failure> {
    // To the server no limit is 0.
    let Some(limit) = i64::try_from(limit.min(REMOVED_MAX)).ok().filter(|limit| *limit > 0) else {
        return Ok(Vec::new());
    };
    let page = [
        doc! { "$match": { "x": { "$gt": 0 } } },
        doc! { "$sort": { "x": 1, "_id": 1 } },
        doc! { "$limit": limit },
        doc! { "$project": { "d": 1, "xa": 1, "now": "$$NOW" } },
    ];
    let batch = u32::try_from(REMOVED_MAX + 1).unwrap_or(u32::MAX);
    let all = segments::<Document>(database);
    let mut answer = all.aggregate(page).with_type::<RemovedDocument>().batch_size(batch).await?;
    let mut found = Vec::new();
    while answer.advance().await? {
        let RemovedDocument { id, date, xa, now } = answer.deserialize_current()?;
        found.push(Removed { id: parsed_segment(&id)?, date, at: micros(xa), now: micros(now) });
    }
    Ok(found)
}

/// Forgets those that are live no more.
pub(super) async fn forget(database: &Database, ids: &[SegmentId]) -> std::result::Result<(), Failure> {
    for part in ids.chunks(COMMAND_IDS_MAX) {
        let mut those = named(part);
        those.insert("x", doc! { "$exists": true });
        segments::<Document>(database).delete_many(those).await?;
    }
    Ok(())
}
