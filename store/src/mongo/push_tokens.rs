//! The registry's push tokens: one document for each.

use mongodb::bson::{Document, doc};
use mongodb::error::Result;
use mongodb::{ClientSession, Collection, Database};
use serde::{Deserialize, Serialize};
use trough_protocol::Micros;

use super::failure::Failure;
use super::json::{from_json, to_json};
use super::transaction::refuse;
use super::{integer, readers};
use crate::error::RegistryError;
use crate::names::ReaderName;
use crate::subscription::{PUSH_TOKENS_MAX, PushToken, PushTokenId};

/// A push token. The time is in µs since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct TokenDocument {
    #[serde(rename = "_id")]
    id: String,
    owner: String,
    registered_at: Micros,
    /// All of it, as JSON.
    token: String,
}

/// What is needed of one that may give way.
#[derive(Debug, Deserialize)]
struct Named {
    #[serde(rename = "_id")]
    id: String,
}

pub(super) fn push_tokens<T: Send + Sync>(database: &Database) -> Collection<T> {
    database.collection("push_tokens")
}

/// The keys of its indexes.
pub(super) fn indexes() -> Vec<Document> {
    vec![doc! { "owner": 1, "registered_at": -1, "_id": -1 }]
}

/// Registers a phone, in a transaction; the oldest others of its owner give way.
pub(super) async fn set(database: &Database, session: &mut ClientSession, token: &PushToken) -> Result<()> {
    let (id, owner) = (token.id.to_string(), token.owner.to_string());
    // It is its reader's, whatever the clock showed then.
    let since = readers::since(database, &mut *session, &token.owner).await?;
    let token = &PushToken { registered_at: token.registered_at.max(since), ..token.clone() };
    let json = to_json(token).map_err(|failure| refuse(RegistryError::from(failure)))?;
    let document = TokenDocument {
        id: id.clone(),
        owner: owner.clone(),
        registered_at: token.registered_at,
        token: json,
    };
    push_tokens(database)
        .replace_one(doc! { "_id": &id }, document)
        .upsert(true)
        .session(&mut *session)
        .await?;
    let others = doc! { "owner": owner, "_id": { "$ne": &id } };
    let mut found = push_tokens::<Named>(database)
        .find(others)
        .sort(doc! { "registered_at": -1, "_id": -1 })
        .skip(PUSH_TOKENS_MAX as u64 - 1)
        .session(&mut *session)
        .await?;
    let mut oldest = Vec::new();
    while found.advance(&mut *session).await? {
        oldest.push(found.deserialize_current()?.id);
    }
    if !oldest.is_empty() {
        let those = doc! { "_id": { "$in": oldest } };
        push_tokens::<Document>(database).delete_many(those).session(session).await?;
    }
    Ok(())
}

/// When the last one of an owner was registered, in a transaction; 0 if it has none.
pub(super) async fn last_of(database: &Database, session: &mut ClientSession, owner: &str) -> Result<Micros> {
    let all = push_tokens::<TokenDocument>(database);
    let last =
        all.find_one(doc! { "owner": owner }).sort(doc! { "registered_at": -1 }).session(session).await?;
    Ok(last.map_or(0, |last| last.registered_at))
}

/// Those of an owner, or all, by id.
pub(super) async fn list(
    database: &Database,
    owner: Option<&ReaderName>,
) -> std::result::Result<Vec<PushToken>, Failure> {
    let those = owner.map_or(doc! {}, |owner| doc! { "owner": owner.as_str() });
    let mut found = push_tokens::<TokenDocument>(database).find(those).sort(doc! { "_id": 1 }).await?;
    let mut all = Vec::new();
    while found.advance().await? {
        all.push(from_json(&found.deserialize_current()?.token)?);
    }
    Ok(all)
}

/// One registration, or whichever there is.
fn this(id: PushTokenId, registered_at: Option<Micros>) -> Document {
    let mut this = doc! { "_id": id.to_string() };
    if let Some(registered_at) = registered_at {
        this.insert("registered_at", integer(registered_at));
    }
    this
}

/// Whether there is this registration.
pub(super) async fn is_there(
    database: &Database,
    id: PushTokenId,
    registered_at: Option<Micros>,
) -> std::result::Result<bool, Failure> {
    Ok(push_tokens::<Document>(database).find_one(this(id, registered_at)).await?.is_some())
}

/// Forgets it, in a transaction.
pub(super) async fn remove(
    database: &Database,
    session: &mut ClientSession,
    id: PushTokenId,
    registered_at: Option<Micros>,
) -> Result<()> {
    push_tokens::<Document>(database).delete_one(this(id, registered_at)).session(session).await?;
    Ok(())
}
