//! How long the registry says that frames are kept: one document for each group.

use mongodb::bson::{Document, doc};
use mongodb::{Collection, Database};
use serde::{Deserialize, Serialize};
use trough_protocol::Micros;

use super::devices::devices;
use super::failure::Failure;
use super::integer;
use crate::names::Group;
use crate::retention::{RetentionCount, RetentionNote, RetentionPolicy, RetentionRecord};

type Result<T> = std::result::Result<T, Failure>;

/// A policy. Times are in µs since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct RetentionDocument {
    #[serde(rename = "_id")]
    group: String,
    days: Option<u32>,
    bytes: Option<u64>,
    set_at: Micros,
    enforced: bool,
    counted: Option<CountDocument>,
    removed_frames: u64,
    removed_bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct CountDocument {
    at: Micros,
    devices: u64,
    frames: u64,
    bytes: u64,
}

fn retention<T: Send + Sync>(database: &Database) -> Collection<T> {
    database.collection("retention")
}

impl TryFrom<RetentionDocument> for RetentionRecord {
    type Error = Failure;
    fn try_from(document: RetentionDocument) -> Result<Self> {
        let group = Group::new(&document.group).map_err(|error| Failure::Corrupt(error.to_string()))?;
        let counted = document.counted.map(|counted| {
            let CountDocument { at, devices, frames, bytes } = counted;
            RetentionCount { at, devices, frames, bytes }
        });
        Ok(Self {
            policy: RetentionPolicy { group, days: document.days, bytes: document.bytes },
            set_at: document.set_at,
            enforced: document.enforced,
            counted,
            removed_frames: document.removed_frames,
            removed_bytes: document.removed_bytes,
        })
    }
}

fn this(group: &Group, set_at: Micros) -> Document {
    doc! { "_id": group.as_str(), "set_at": integer(set_at) }
}

/// How many policies other groups have.
pub(super) async fn others(database: &Database, group: &Group) -> Result<u64> {
    Ok(retention::<Document>(database).count_documents(doc! { "_id": { "$ne": group.as_str() } }).await?)
}

/// If the group has a policy with days, it may be all that keeps frames which a shorter one of another group would remove:
/// other groups that share devices with it are counted and enforced anew. First of all, so that whoever is interrupted has
/// only kept too much.
async fn loosen_neighbours(database: &Database, group: &Group) -> Result<()> {
    let with_days = doc! { "_id": group.as_str(), "days": { "$ne": null } };
    if retention::<Document>(database).find_one(with_days).await?.is_none() {
        return Ok(());
    }
    let shared = devices(database).distinct("groups", doc! { "groups": group.as_str() }).await?;
    let others = doc! { "_id": { "$in": shared, "$ne": group.as_str() } };
    let anew = doc! { "$set": { "enforced": false, "counted": null } };
    retention::<Document>(database).update_many(others, anew).await?;
    Ok(())
}

/// Sets a policy, in place of the one that the group had.
pub(super) async fn set(database: &Database, policy: &RetentionPolicy, now: Micros) -> Result<()> {
    loosen_neighbours(database, &policy.group).await?;
    let document = RetentionDocument {
        group: policy.group.as_str().to_owned(),
        days: policy.days,
        bytes: policy.bytes,
        set_at: now,
        enforced: false,
        counted: None,
        removed_frames: 0,
        removed_bytes: 0,
    };
    retention(database).replace_one(doc! { "_id": policy.group.as_str() }, document).upsert(true).await?;
    Ok(())
}

/// All policies, by group.
pub(super) async fn list(database: &Database) -> Result<Vec<RetentionRecord>> {
    let mut found = retention::<RetentionDocument>(database).find(doc! {}).sort(doc! { "_id": 1 }).await?;
    let mut all = Vec::new();
    while found.advance().await? {
        all.push(found.deserialize_current()?.try_into()?);
    }
    Ok(all)
}

/// Enforces a policy that was counted: whether it was there, and counted.
pub(super) async fn enforce(database: &Database, group: &Group, set_at: Micros) -> Result<(bool, bool)> {
    let all = retention::<Document>(database);
    let mut counted = this(group, set_at);
    counted.insert("counted", doc! { "$ne": null });
    let done = all.update_one(counted, doc! { "$set": { "enforced": true } }).await?;
    if done.matched_count == 1 {
        return Ok((true, true));
    }
    Ok((all.find_one(this(group, set_at)).await?.is_some(), false))
}

/// Removes a policy: whether it was there.
pub(super) async fn remove(database: &Database, group: &Group) -> Result<bool> {
    loosen_neighbours(database, group).await?;
    let done = retention::<Document>(database).delete_one(doc! { "_id": group.as_str() }).await?;
    Ok(done.deleted_count == 1)
}

/// Notes what was found. Of a policy that is not there any more nothing is noted.
pub(super) async fn note(
    database: &Database,
    group: &Group,
    set_at: Micros,
    note: &RetentionNote,
) -> Result<()> {
    let RetentionCount { at, devices, frames, bytes } = note.counted;
    let [at, devices, frames, bytes] = [at, devices, frames, bytes].map(integer);
    let change = doc! {
        "$set": { "counted": { "at": at, "devices": devices, "frames": frames, "bytes": bytes } },
        "$inc": {
            "removed_frames": integer(note.removed_frames),
            "removed_bytes": integer(note.removed_bytes),
        },
    };
    retention::<Document>(database).update_one(this(group, set_at), change).await?;
    Ok(())
}
