//! What rules know of devices: one document for each.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};
use mongodb::error::Result;
use mongodb::{ClientSession, Collection, Database};
use serde::{Deserialize, Serialize};
use trough_protocol::DeviceId;

use super::failure::Failure;
use super::object_rows::parsed_device;
use crate::names::RuleName;
use crate::outbox::{Shard, WatchState};

/// A state. Field names are short, as there are many.
#[derive(Debug, Serialize, Deserialize)]
struct StateDocument {
    /// Duty, number, rule and device. A rule's name has no `/`.
    #[serde(rename = "_id")]
    id: String,
    /// Duty and number.
    #[serde(rename = "s")]
    shard: String,
    #[serde(rename = "d")]
    device: String,
    #[serde(rename = "r")]
    rule: String,
    #[serde(rename = "v")]
    version: u64,
    #[serde(rename = "b")]
    state: Binary,
}

pub(super) fn states<T: Send + Sync>(database: &Database) -> Collection<T> {
    database.collection("outbox_states")
}

/// The keys of its indexes.
pub(super) fn indexes() -> Vec<Document> {
    vec![doc! { "s": 1, "d": 1, "r": 1 }]
}

fn id(shard: Shard, state: &WatchState) -> String {
    format!("{shard}/{}/{}", state.rule, state.device)
}

impl StateDocument {
    fn of(shard: Shard, state: &WatchState) -> Self {
        Self {
            id: id(shard, state),
            shard: shard.to_string(),
            device: state.device.to_string(),
            rule: state.rule.to_string(),
            version: state.version,
            state: Binary { subtype: BinarySubtype::Generic, bytes: state.state.clone() },
        }
    }

    fn into_state(self) -> std::result::Result<WatchState, Failure> {
        let rule = RuleName::new(&self.rule).map_err(|error| Failure::Corrupt(error.to_string()))?;
        let device = parsed_device(&self.device)?;
        Ok(WatchState { device, rule, version: self.version, state: self.state.bytes })
    }
}

/// Those of a part, by device and rule.
pub(super) async fn list(
    database: &Database,
    shard: Shard,
    after: Option<(DeviceId, RuleName)>,
    limit: usize,
) -> std::result::Result<Vec<WatchState>, Failure> {
    // To the server no limit is 0.
    let Some(limit) = i64::try_from(limit).ok().filter(|limit| *limit > 0) else { return Ok(Vec::new()) };
    let mut those = doc! { "s": shard.to_string() };
    if let Some((device, rule)) = after {
        let (device, rule) = (device.as_str(), rule.as_str());
        let next_rule = doc! { "d": device, "r": { "$gt": rule } };
        those.insert("$or", vec![doc! { "d": { "$gt": device } }, next_rule]);
    }
    let all = states::<StateDocument>(database);
    let mut found = all.find(those).sort(doc! { "d": 1, "r": 1 }).limit(limit).await?;
    let mut listed = Vec::new();
    while found.advance().await? {
        listed.push(found.deserialize_current()?.into_state()?);
    }
    Ok(listed)
}

/// Notes states, in a transaction; empty ones are forgotten.
pub(super) async fn set(
    database: &Database,
    session: &mut ClientSession,
    shard: Shard,
    changed: &[WatchState],
) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let all = states::<StateDocument>(database);
    let ids: Vec<_> = changed.iter().map(|state| id(shard, state)).collect();
    all.delete_many(doc! { "_id": { "$in": ids } }).session(&mut *session).await?;
    let known = changed.iter().filter(|state| !state.state.is_empty());
    let known: Vec<_> = known.map(|state| StateDocument::of(shard, state)).collect();
    if !known.is_empty() {
        all.insert_many(known).session(session).await?;
    }
    Ok(())
}
