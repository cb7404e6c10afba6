//! The registry's subscriptions: one document for each.

use mongodb::bson::{Document, doc};
use mongodb::error::Result;
use mongodb::{ClientSession, Collection, Database};
use serde::{Deserialize, Serialize};
use trough_protocol::Micros;

use super::failure::Failure;
use super::json::{from_json, to_json};
use super::transaction::refuse;
use super::{integer, readers};
use crate::checks::{no_subscription, subscription_exists, too_many_subscriptions};
use crate::error::RegistryError;
use crate::names::ReaderName;
use crate::subscription::{Disabled, NewSubscription, SUBSCRIPTIONS_MAX, Subscription, SubscriptionId};

/// A subscription. Times are in µs since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct SubscriptionDocument {
    #[serde(rename = "_id")]
    id: String,
    owner: String,
    created_at: Micros,
    /// Both are missing while events are sent.
    disabled_at: Option<Micros>,
    disabled_reason: Option<String>,
    /// What is wanted, as JSON.
    wanted: String,
}

pub(super) fn subscriptions<T: Send + Sync>(database: &Database) -> Collection<T> {
    database.collection("subscriptions")
}

/// The keys of its indexes.
pub(super) fn indexes() -> Vec<Document> {
    vec![doc! { "owner": 1, "_id": 1 }]
}

impl TryFrom<SubscriptionDocument> for Subscription {
    type Error = Failure;
    fn try_from(document: SubscriptionDocument) -> std::result::Result<Self, Failure> {
        let reason = document.disabled_reason.unwrap_or_default();
        Ok(Self {
            wanted: from_json(&document.wanted)?,
            created_at: document.created_at,
            disabled: document.disabled_at.map(|at| Disabled { at, reason }),
        })
    }
}

fn refused(failure: Failure) -> mongodb::error::Error {
    refuse(RegistryError::from(failure))
}

fn this(id: SubscriptionId) -> Document {
    doc! { "_id": id.to_string() }
}

/// One of them.
pub(super) async fn find(
    database: &Database,
    id: SubscriptionId,
) -> std::result::Result<Option<Subscription>, Failure> {
    let found = subscriptions::<SubscriptionDocument>(database).find_one(this(id)).await?;
    found.map(Subscription::try_from).transpose()
}

async fn find_in(
    database: &Database,
    session: &mut ClientSession,
    id: SubscriptionId,
) -> Result<Option<Subscription>> {
    let found = subscriptions::<SubscriptionDocument>(database).find_one(this(id)).session(session).await?;
    found.map(Subscription::try_from).transpose().map_err(refused)
}

/// Adds one, in a transaction.
pub(super) async fn add(
    database: &Database,
    session: &mut ClientSession,
    wanted: &NewSubscription,
    now: Micros,
) -> Result<Subscription> {
    if let Some(found) = find_in(database, &mut *session, wanted.id).await? {
        return if found.wanted == *wanted { Ok(found) } else { Err(refuse(subscription_exists(wanted.id))) };
    }
    let all = subscriptions::<SubscriptionDocument>(database);
    let count = all.count_documents(doc! {}).session(&mut *session).await?;
    if count >= SUBSCRIPTIONS_MAX as u64 {
        return Err(refuse(too_many_subscriptions()));
    }
    // It is its reader's, whatever the clock showed then.
    let now = now.max(readers::since(database, &mut *session, &wanted.owner).await?);
    let document = SubscriptionDocument {
        id: wanted.id.to_string(),
        owner: wanted.owner.to_string(),
        created_at: now,
        disabled_at: None,
        disabled_reason: None,
        wanted: to_json(wanted).map_err(refused)?,
    };
    all.insert_one(document).session(session).await?;
    Ok(Subscription { wanted: wanted.clone(), created_at: now, disabled: None })
}

/// When the last one of an owner was made, in a transaction; 0 if it has none.
pub(super) async fn last_of(database: &Database, session: &mut ClientSession, owner: &str) -> Result<Micros> {
    let all = subscriptions::<SubscriptionDocument>(database);
    let last = all.find_one(doc! { "owner": owner }).sort(doc! { "created_at": -1 }).session(session).await?;
    Ok(last.map_or(0, |last| last.created_at))
}

/// Puts other wishes in the place of one's, if they are as they were before, in a transaction.
pub(super) async fn replace(
    database: &Database,
    session: &mut ClientSession,
    before: &NewSubscription,
    wanted: &NewSubscription,
) -> Result<Option<Subscription>> {
    let found = find_in(database, &mut *session, wanted.id).await?;
    let found = found.filter(|found| found.wanted.owner == wanted.owner);
    let found = found.ok_or_else(|| refuse(no_subscription(wanted.id)))?;
    if found.wanted == *wanted {
        // Perhaps by a try before, whose answer was lost.
        return Ok(Some(found));
    }
    if found.wanted != *before {
        return Ok(None);
    }
    let wishes = doc! { "$set": { "wanted": to_json(wanted).map_err(refused)? } };
    subscriptions::<Document>(database).update_one(this(wanted.id), wishes).session(session).await?;
    Ok(Some(Subscription { wanted: wanted.clone(), ..found }))
}

/// Those of an owner, or all, by id.
pub(super) async fn list(
    database: &Database,
    owner: Option<&ReaderName>,
) -> std::result::Result<Vec<Subscription>, Failure> {
    let those = owner.map_or(doc! {}, |owner| doc! { "owner": owner.as_str() });
    let all = subscriptions::<SubscriptionDocument>(database);
    let mut found = all.find(those).sort(doc! { "_id": 1 }).await?;
    let mut all = Vec::new();
    while found.advance().await? {
        all.push(found.deserialize_current()?.try_into()?);
    }
    Ok(all)
}

/// Removes one, in a transaction.
pub(super) async fn remove(
    database: &Database,
    session: &mut ClientSession,
    id: SubscriptionId,
) -> Result<()> {
    let done = subscriptions::<Document>(database).delete_one(this(id)).session(session).await?;
    if done.deleted_count == 0 { Err(refuse(no_subscription(id))) } else { Ok(()) }
}

/// Disables one, unless it is, or enables it, in a transaction.
pub(super) async fn disable(
    database: &Database,
    session: &mut ClientSession,
    id: SubscriptionId,
    reason: Option<&str>,
    now: Micros,
) -> Result<()> {
    let mut those = this(id);
    if reason.is_some() {
        those.insert("disabled_at", doc! { "$eq": null });
    }
    let to = doc! { "$set": { "disabled_at": reason.map(|_| integer(now)), "disabled_reason": reason } };
    subscriptions::<Document>(database).update_one(those, to).session(session).await?;
    Ok(())
}
