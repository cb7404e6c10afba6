//! Where devices stand, as it was noted behind the rows.

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::FindOptions;
use serde::Deserialize;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};

use super::failure::Failure;
use super::object_rows::parsed_device;
use crate::object_catalog::{DeviceHead, HEADS_MAX};

/// Heads in one command.
const COMMAND_HEADS_MAX: usize = 1000;
/// The server's code for a document that somebody else made at the same moment.
const DUPLICATE_KEY: i32 = 11000;
/// So often a command is sent again for documents that others made meanwhile. The second time they are there.
const ATTEMPTS_MAX: usize = 5;

/// A head in an epoch, in the collection `heads` with the id `DEVICE!EPOCH`, or a device's newest one, in the
/// collection `devices_heads` with the device as its id.
#[derive(Debug, Deserialize)]
struct HeadDocument {
    #[serde(rename = "d")]
    device: String,
    at: Standing,
}

/// The server compares documents field by field in this order, which is what makes `$max` keep the right one.
#[derive(Debug, Deserialize)]
struct Standing {
    #[serde(rename = "e")]
    epoch: u64,
    #[serde(rename = "h")]
    head: u64,
    #[serde(rename = "r")]
    received_at: Micros,
}

impl HeadDocument {
    fn into_head(self) -> Result<DeviceHead, Failure> {
        let Standing { epoch, head, received_at } = self.at;
        Ok(DeviceHead {
            device: parsed_device(&self.device)?,
            epoch: Epoch(epoch),
            head: Seq(head),
            received_at,
        })
    }
}

/// By device and epoch. '!' comes before every character of a device's id, so that devices stay in order.
const HEADS: &str = "heads";
/// By device.
const NEWEST: &str = "newest_heads";

/// Notes heads: `$max` keeps the greatest, whoever comes first.
pub(super) async fn note(database: &Database, heads: &[DeviceHead]) -> Result<(), Failure> {
    for part in heads.chunks(COMMAND_HEADS_MAX) {
        let by_epoch = part.iter().map(|head| raise(head, format!("{}!{:016}", head.device, head.epoch.0)));
        update(database, HEADS, by_epoch.collect()).await?;
        let by_device = part.iter().map(|head| raise(head, head.device.as_str().to_owned()));
        update(database, NEWEST, by_device.collect()).await?;
    }
    Ok(())
}

fn raise(head: &DeviceHead, id: String) -> Document {
    // They were checked to be at most 2^53.
    let integer = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let at = doc! { "e": integer(head.epoch.0), "h": integer(head.head.0), "r": integer(head.received_at) };
    doc! {
        "q": { "_id": id },
        "u": { "$max": { "at": at }, "$setOnInsert": { "d": head.device.as_str() } },
        "upsert": true,
    }
}

/// One command, unordered. Two processes that make a document at once both try to insert it; the one that is told
/// that it exists tries again.
async fn update(database: &Database, collection: &str, mut updates: Vec<Document>) -> Result<(), Failure> {
    for _ in 0..ATTEMPTS_MAX {
        let answer = database
            .run_command(doc! {
                "update": collection,
                "updates": updates.clone(),
                "ordered": false,
                "writeConcern": { "w": "majority", "j": true },
            })
            .await?;
        // The driver looks into the answers of its own methods, not into those of a command.
        if let Ok(error) = answer.get_document("writeConcernError") {
            return Err(Failure::Unavailable(format!("heads may not be durable: {error}")));
        }
        let errors = answer.get_array("writeErrors").map_or(&[][..], Vec::as_slice);
        let mut again = Vec::new();
        for error in errors.iter().filter_map(Bson::as_document) {
            let at = error.get("index").and_then(integer_of).and_then(|at| updates.get(at));
            match (error.get("code").and_then(integer_of), at) {
                (Some(code), Some(update)) if code == DUPLICATE_KEY as usize => again.push(update.clone()),
                _ => return Err(Failure::Unavailable(format!("a head was not noted: {error}"))),
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        updates = again;
    }
    Err(Failure::Unavailable("others make the same heads again and again".into()))
}

fn integer_of(value: &Bson) -> Option<usize> {
    match value {
        Bson::Int32(value) => usize::try_from(*value).ok(),
        Bson::Int64(value) => usize::try_from(*value).ok(),
        _ => None,
    }
}

/// A device's heads, by epoch.
pub(super) async fn of_device(database: &Database, device: &DeviceId) -> Result<Vec<DeviceHead>, Failure> {
    // '"' is the character behind '!'.
    let own = doc! { "_id": { "$gt": format!("{device}!"), "$lt": format!("{device}\"") } };
    list(database, HEADS, own, None).await
}

/// A page of devices, each with its head in its newest epoch.
pub(super) async fn newest(
    database: &Database,
    after: Option<&DeviceId>,
    limit: usize,
) -> Result<Vec<DeviceHead>, Failure> {
    // To the server no limit is 0.
    let Some(limit) = i64::try_from(limit.min(HEADS_MAX)).ok().filter(|limit| *limit > 0) else {
        return Ok(Vec::new());
    };
    let after = after.map_or("", DeviceId::as_str);
    list(database, NEWEST, doc! { "_id": { "$gt": after } }, Some(limit)).await
}

async fn list(
    database: &Database,
    collection: &str,
    filter: Document,
    limit: Option<i64>,
) -> Result<Vec<DeviceHead>, Failure> {
    let options = FindOptions::builder().sort(doc! { "_id": 1 }).limit(limit).build();
    let mut answer =
        database.collection::<HeadDocument>(collection).find(filter).with_options(options).await?;
    let mut heads = Vec::new();
    while answer.advance().await? {
        heads.push(answer.deserialize_current()?.into_head()?);
    }
    Ok(heads)
}
