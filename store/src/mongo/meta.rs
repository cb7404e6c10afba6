//! One document that says what the registry is, and counts its changes.

use mongodb::bson::{Document, doc};
use mongodb::error::Result;
use mongodb::{ClientSession, Collection, Database, IndexModel};
use serde::{Deserialize, Serialize};
use trough_protocol::Micros;

use super::failure::Failure;
use super::object_catalog::micros;
use super::{devices, push_tokens, subscription_rows, tokens};

/// The document's id.
const ID: &str = "registry";
/// The format that this release writes and reads.
const FORMAT: i64 = 1;

/// What the registry is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MetaDocument {
    #[serde(rename = "_id")]
    id: String,
    format: i64,
    /// Rises with every change of who may do what; epoch grants leave it.
    generation: i64,
    /// The last version that any rule was given.
    #[serde(default)]
    rule_version: u64,
}

fn meta(database: &Database) -> Collection<MetaDocument> {
    database.collection("meta")
}

/// Makes the indexes and the document, and refuses the format of another release. Idempotent.
pub(super) async fn prepare(database: Database) -> std::result::Result<(), Failure> {
    let known = meta(&database).find_one(doc! { "_id": ID }).await?;
    if known.is_none() {
        let new = doc! { "$setOnInsert": { "format": FORMAT, "generation": 0_i64 } };
        match meta(&database).update_one(doc! { "_id": ID }, new).upsert(true).await.map_err(Failure::from) {
            // Another process was as quick.
            Ok(_) | Err(Failure::Duplicate(_)) => {}
            Err(failure) => return Err(failure),
        }
    }
    let found = meta(&database).find_one(doc! { "_id": ID }).await?.map(|meta| meta.format);
    if found != Some(FORMAT) {
        return Err(Failure::Invalid(format!(
            "the registry in the database has format {}, and this release reads {FORMAT}: run the release that \
             wrote it, or a newer one",
            found.unwrap_or_default()
        )));
    }
    let models = |keys: Vec<Document>| keys.into_iter().map(|keys| IndexModel::builder().keys(keys).build());
    devices::devices(&database).create_indexes(models(devices::indexes())).await?;
    tokens::tokens(&database).create_indexes(models(tokens::indexes())).await?;
    let subscriptions = subscription_rows::subscriptions::<Document>(&database);
    subscriptions.create_indexes(models(subscription_rows::indexes())).await?;
    push_tokens::push_tokens::<Document>(&database).create_indexes(models(push_tokens::indexes())).await?;
    Ok(())
}

/// Counts a change, in its transaction, as its first step: two changes at once collide here, before either has
/// done its work in vain.
pub(super) async fn count_change(database: &Database, session: &mut ClientSession) -> Result<()> {
    let more = doc! { "$inc": { "generation": 1_i64 } };
    meta(database).update_one(doc! { "_id": ID }, more).session(session).await?;
    Ok(())
}

/// What time it is by the database.
pub(super) async fn now(database: &Database) -> std::result::Result<Micros, Failure> {
    let ask = [doc! { "$match": { "_id": ID } }, doc! { "$project": { "now": "$$NOW" } }];
    let mut answer = meta(database).aggregate(ask).await?;
    if !answer.advance().await? {
        return Err(gone());
    }
    let now: Document = answer.deserialize_current()?;
    now.get_datetime("now").map(|now| micros(*now)).map_err(|error| Failure::Corrupt(error.to_string()))
}

fn gone() -> Failure {
    Failure::Corrupt("the registry's own document is gone from the database's collection meta".into())
}

/// A version that no rule ever had, in the transaction of a change.
pub(super) async fn next_rule_version(database: &Database, session: &mut ClientSession) -> Result<u64> {
    let more = doc! { "$inc": { "rule_version": 1_i64 } };
    meta(database).update_one(doc! { "_id": ID }, more).session(&mut *session).await?;
    let found = meta(database).find_one(doc! { "_id": ID }).session(session).await?;
    Ok(found.map_or(0, |meta| meta.rule_version))
}

/// Changes so far.
pub(super) async fn generation(database: &Database) -> std::result::Result<i64, Failure> {
    let found = meta(database).find_one(doc! { "_id": ID }).await?;
    found.map(|meta| meta.generation).ok_or_else(gone)
}
