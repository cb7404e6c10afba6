//! Who does which part of the outbox's duties, how far watching has come, and what time it is: one document for each
//! part, which everything that is done under a claim writes. So of a change and a claim that takes it over one is first,
//! and the other sees it. What a holder that has died was about to change is undone by whoever comes after it.

use std::time::Duration;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Document, doc};
use mongodb::error::Result;
use mongodb::{ClientSession, Collection, Database};
use serde::{Deserialize, Serialize};
use trough_protocol::Micros;

use super::claim_sessions::{self, ClaimSessions};
use super::failure::Failure;
use super::object_catalog::micros;
use super::transaction::refuse;
use super::{hex, integer};
use crate::outbox::{Claim, Duty, OutboxError, SHARDS, Shard, check};

/// A document that is always there, to ask what time it is. Nobody writes it.
const ANYBODY: &str = "anybody";
/// So often a claim is tried that others move meanwhile.
const CLAIM_ATTEMPTS_MAX: usize = 8;

/// A part of a duty.
#[derive(Debug, Serialize, Deserialize)]
struct ShardDocument {
    /// Duty and number.
    #[serde(rename = "_id")]
    id: String,
    /// That of the last claim; 0 before the first.
    token: u64,
    /// 32 hex digits; missing if it was given back.
    owner: Option<String>,
    until: DateTime,
    /// In which session of the server its owner works; missing if it was given back.
    session: Option<Document>,
    place: Option<Binary>,
    /// The number of the last event that was entered under its claims.
    last: u64,
}

/// What time it is, and what a part's document has.
#[derive(Debug, Deserialize)]
struct Seen {
    token: u64,
    owner: Option<String>,
    until: DateTime,
    session: Option<Document>,
    now: DateTime,
}

fn shards<T: Send + Sync>(database: &Database) -> Collection<T> {
    database.collection("outbox_shards")
}

/// Makes the documents. Idempotent.
pub(super) async fn prepare(database: &Database) -> std::result::Result<(), Failure> {
    let duties = [Duty::Watch, Duty::Presence, Duty::Route, Duty::Deliver];
    let names = duties.into_iter().flat_map(Shard::all).map(|shard| shard.to_string());
    let all = shards::<ShardDocument>(database);
    if all.count_documents(doc! {}).await? > duties.len() as u64 * u64::from(SHARDS) {
        return Ok(());
    }
    let new = names.chain([ANYBODY.to_owned()]).map(|id| {
        let until = DateTime::from_millis(0);
        ShardDocument { id, token: 0, owner: None, until, session: None, place: None, last: 0 }
    });
    match all.insert_many(new).ordered(false).await.map_err(Failure::from) {
        // Another process was as quick.
        Ok(_) | Err(Failure::Duplicate(_)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

async fn look(database: &Database, name: &str) -> std::result::Result<Seen, Failure> {
    let part = [
        doc! { "$match": { "_id": name } },
        doc! { "$project": { "token": 1, "owner": 1, "until": 1, "session": 1, "now": "$$NOW" } },
    ];
    let mut answer = shards::<Document>(database).aggregate(part).with_type::<Seen>().await?;
    if !answer.advance().await? {
        return Err(Failure::Corrupt(format!(
            "the document {name:?} is gone from the database's collection outbox_shards"
        )));
    }
    Ok(answer.deserialize_current()?)
}

/// What time it is.
pub(super) async fn now(database: &Database) -> std::result::Result<Micros, Failure> {
    Ok(micros(look(database, ANYBODY).await?.now))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Takes or lengthens a claim, if nobody moved it since it was looked at.
pub(super) async fn claim(
    database: &Database,
    sessions: &ClaimSessions,
    shard: Shard,
    owner: [u8; 16],
    ttl: Duration,
) -> std::result::Result<Option<Claim>, Failure> {
    let (name, owner) = (shard.to_string(), hex(&owner));
    let session = sessions.of(database, shard).await?.id;
    for _ in 0..CLAIM_ATTEMPTS_MAX {
        let seen = look(database, &name).await?;
        let mine = seen.owner.as_ref() == Some(&owner);
        if seen.owner.is_some() && !mine && check::is_claimed(micros(seen.now), micros(seen.until)) {
            return Ok(None);
        }
        if let Some(last) = seen.session.filter(|last| *last != session) {
            claim_sessions::end(database, shard, &last).await;
        }
        let token = if mine { seen.token } else { seen.token + 1 };
        let until = DateTime::from_millis(seen.now.timestamp_millis().saturating_add(millis(ttl)));
        let this =
            doc! { "_id": &name, "token": integer(seen.token), "owner": seen.owner, "until": seen.until };
        let next = doc! { "token": integer(token), "owner": &owner, "until": until, "session": &session };
        let next = doc! { "$set": next };
        if shards::<Document>(database).update_one(this, next).await?.matched_count == 1 {
            return Ok(Some(Claim { shard, token }));
        }
    }
    Err(Failure::Unavailable(format!("others claim {shard} and give it back all the time")))
}

fn claimed(claim: Claim) -> Document {
    doc! { "_id": claim.shard.to_string(), "token": integer(claim.token) }
}

/// Gives a claim back, if it was not taken over.
pub(super) async fn release(database: &Database, claim: Claim) -> std::result::Result<(), Failure> {
    let free = doc! { "$set": { "owner": null, "until": DateTime::from_millis(0), "session": null } };
    shards::<Document>(database).update_one(claimed(claim), free).await?;
    Ok(())
}

/// That a claim was not taken over, in a transaction, as its first step.
pub(super) async fn require(database: &Database, session: &mut ClientSession, claim: Claim) -> Result<()> {
    write(database, session, claim, doc! { "$inc": { "changes": 1_i64 } }).await
}

/// The same, and notes how far watching has come.
pub(super) async fn move_on(
    database: &Database,
    session: &mut ClientSession,
    claim: Claim,
    place: &[u8],
) -> Result<()> {
    let place = Binary { subtype: BinarySubtype::Generic, bytes: place.to_vec() };
    write(database, session, claim, doc! { "$set": { "place": place } }).await
}

async fn write(
    database: &Database,
    session: &mut ClientSession,
    claim: Claim,
    change: Document,
) -> Result<()> {
    let done = shards::<Document>(database).update_one(claimed(claim), change).session(session).await?;
    if done.matched_count == 1 { Ok(()) } else { Err(refuse(OutboxError::Fenced(claim.shard))) }
}

/// The first of so many numbers for events that are entered under a claim, in a transaction. They are the time, or rise
/// where that does not.
pub(super) async fn numbers(
    database: &Database,
    session: &mut ClientSession,
    claim: Claim,
    count: usize,
    now: Micros,
) -> Result<u64> {
    let this = doc! { "_id": claim.shard.to_string() };
    let all = shards::<ShardDocument>(database);
    let found = all.find_one(this.clone()).session(&mut *session).await?;
    let first = found.map_or(0, |found| found.last + 1).max(now);
    let last = doc! { "$set": { "last": integer(first + count as u64) } };
    all.update_one(this, last).session(session).await?;
    Ok(first)
}

/// How far watching has come.
pub(super) async fn place(
    database: &Database,
    shard: Shard,
) -> std::result::Result<Option<Vec<u8>>, Failure> {
    let this = doc! { "_id": shard.to_string() };
    let found = shards::<ShardDocument>(database).find_one(this).await?;
    Ok(found.and_then(|found| found.place).map(|place| place.bytes))
}
