//! Presence in MongoDB.

use std::collections::HashMap;
use std::time::Duration;

use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::ReturnDocument;
use mongodb::{Collection, Database, IndexModel};
use serde::{Deserialize, Serialize};
use trough_protocol::{DeviceId, Micros};

use super::client::{Mongo, OPERATION_MAX, Section};
use super::failure::Failure;
use super::object_catalog::micros;
use super::object_rows::parsed_hex;
use super::{hex, integer};
use crate::BoxFuture;
use crate::outbox::OutboxError;
use crate::presence::{
    FeederId, Feeders, LAPSE, NOTES_MAX, Presence, SessionNote, SessionRow, SessionState, check_count,
};

/// So often notes are entered that others change meanwhile.
const ATTEMPTS_MAX: usize = 8;

/// Presence in a database. It connects when it is first used.
#[derive(Debug)]
pub struct MongoPresence {
    section: Section,
}

impl MongoPresence {
    /// One in the collections `sessions` and `feeders` of the database. Nothing is done yet.
    pub fn new(mongo: Mongo) -> Self {
        Self { section: Section::new(mongo, prepare) }
    }

    async fn run<T, W, F>(&self, work: W) -> Result<T, OutboxError>
    where
        W: FnOnce(Database) -> F + Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send,
        T: Send + 'static,
    {
        Ok(self.section.run(OPERATION_MAX, work).await?)
    }
}

/// A session, under the device's name.
#[derive(Debug, Serialize, Deserialize)]
struct SessionDocument {
    #[serde(rename = "_id")]
    device: String,
    session: String,
    feeder: String,
    opened_at: i64,
    heard_at: i64,
    state: i32,
    changed_at: i64,
}

impl SessionDocument {
    fn of(row: &SessionRow) -> Self {
        Self {
            device: row.device.to_string(),
            session: hex(&row.session),
            feeder: hex(&row.feeder),
            opened_at: integer(row.opened_at),
            heard_at: integer(row.heard_at),
            state: state(row.state),
            changed_at: integer(row.changed_at),
        }
    }

    fn into_row(self) -> Result<SessionRow, Failure> {
        let corrupt = || Failure::Corrupt(format!("the session of {:?} makes no sense", self.device));
        let time = |value| Micros::try_from(value).map_err(|_| corrupt());
        Ok(SessionRow {
            device: DeviceId::new(&self.device).map_err(|_| corrupt())?,
            session: parsed_hex(&self.session).ok_or_else(corrupt)?,
            feeder: parsed_hex(&self.feeder).ok_or_else(corrupt)?,
            opened_at: time(self.opened_at)?,
            heard_at: time(self.heard_at)?,
            state: read_state(self.state),
            changed_at: time(self.changed_at)?,
        })
    }
}

fn state(state: SessionState) -> i32 {
    match state {
        SessionState::Open => 0,
        SessionState::Quiet => 1,
        SessionState::Closed => 2,
    }
}

fn read_state(state: i32) -> SessionState {
    match state {
        0 => SessionState::Open,
        1 => SessionState::Quiet,
        _ => SessionState::Closed,
    }
}

/// Under its id. Beside the feeders lies, under [`LISTENING`], when any of them reported last, and since when without a
/// lapse.
#[derive(Debug, Deserialize)]
struct FeederDocument {
    #[serde(rename = "_id")]
    id: String,
    reported_at: DateTime,
    /// Random: whose report made the document.
    joined: Option<String>,
    since: Option<DateTime>,
    /// The server's clock. Not stored.
    now: Option<DateTime>,
}

const LISTENING: &str = "listening";
/// In the place of what `joined` has, of a feeder whose sessions are being closed.
const BURIED: &str = "buried";

fn sessions(database: &Database) -> Collection<SessionDocument> {
    database.collection("sessions")
}

fn feeders(database: &Database) -> Collection<FeederDocument> {
    database.collection("feeders")
}

fn prepare(database: Database) -> BoxFuture<'static, Result<(), Failure>> {
    Box::pin(async move {
        let keys = [doc! { "changed_at": 1, "_id": 1 }, doc! { "feeder": 1, "state": 1 }];
        let models = keys.map(|keys| IndexModel::builder().keys(keys).build());
        sessions(&database).create_indexes(models).await?;
        Ok(())
    })
}

impl Presence for MongoPresence {
    fn report(&self, feeder: FeederId, notes: Vec<SessionNote>) -> BoxFuture<'_, Result<bool, OutboxError>> {
        Box::pin(async move {
            check_count(notes.len(), "notes")?;
            self.run(async move |database| report(&database, feeder, &notes).await).await
        })
    }

    fn feeders(&self) -> BoxFuture<'_, Result<Feeders, OutboxError>> {
        Box::pin(self.run(async |database| reported(&database).await))
    }

    fn changed(
        &self,
        after: Option<(Micros, DeviceId)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SessionRow>, OutboxError>> {
        Box::pin(self.run(async move |database| {
            let behind = after.map_or_else(Document::new, |(at, device)| {
                let at = integer(at);
                doc! { "$or": [
                    { "changed_at": { "$gt": at } },
                    { "changed_at": at, "_id": { "$gt": device.as_str() } },
                ] }
            });
            let limit = i64::try_from(limit.clamp(1, NOTES_MAX)).unwrap_or(1);
            let order = doc! { "changed_at": 1, "_id": 1 };
            let mut found = sessions(&database).find(behind).sort(order).limit(limit).await?;
            let mut rows = Vec::new();
            while found.advance().await? {
                rows.push(found.deserialize_current()?.into_row()?);
            }
            Ok(rows)
        }))
    }

    fn sessions(
        &self,
        devices: Vec<DeviceId>,
    ) -> BoxFuture<'_, Result<(Vec<SessionRow>, Feeders), OutboxError>> {
        Box::pin(async move {
            check_count(devices.len(), "devices")?;
            let look = async move |database: Database| {
                // First who reports, then the sessions: what is said in between is seen, and errs towards being heard.
                let feeders = reported(&database).await?;
                let names: Vec<&str> = devices.iter().map(DeviceId::as_str).collect();
                Ok((rows(&database, doc! { "_id": { "$in": names } }).await?, feeders))
            };
            self.run(look).await
        })
    }

    fn bury(&self, feeder: FeederId, silent: Duration) -> BoxFuture<'_, Result<(), OutboxError>> {
        Box::pin(self.run(async move |database| bury(&database, feeder, silent).await))
    }
}

async fn reported(database: &Database) -> Result<Feeders, Failure> {
    let fields = doc! { "reported_at": 1, "joined": 1, "since": 1, "now": "$$NOW" };
    let all = feeders(database);
    let mut all = all.aggregate([doc! { "$project": fields }]).with_type::<FeederDocument>().await?;
    let mut found = Feeders { now: 0, since: None, last: None, reported: Vec::new() };
    while all.advance().await? {
        let feeder = all.deserialize_current()?;
        found.now = feeder.now.map_or(0, micros);
        if feeder.id == LISTENING {
            (found.since, found.last) = (feeder.since.map(micros), Some(micros(feeder.reported_at)));
        } else {
            found.reported.push((parsed_feeder(&feeder.id)?, micros(feeder.reported_at)));
        }
    }
    Ok(found)
}

fn parsed_feeder(id: &str) -> Result<FeederId, Failure> {
    parsed_hex(id).ok_or_else(|| Failure::Corrupt(format!("a feeder has the id {id:?}")))
}

async fn report(database: &Database, feeder: FeederId, notes: &[SessionNote]) -> Result<bool, Failure> {
    let life = hex(&trough_runtime::random::random_bytes::<16>());
    let alive = doc! { "$currentDate": { "reported_at": true }, "$setOnInsert": { "joined": &life } };
    let all = feeders(database);
    let alive = all.find_one_and_update(doc! { "_id": hex(&feeder) }, alive);
    let alive = alive.upsert(true).return_document(ReturnDocument::After).await?;
    let alive = alive.ok_or_else(|| Failure::Unavailable("a report was not answered".into()))?;
    let now = alive.reported_at;
    listen(database, now).await?;
    if !notes.is_empty() {
        enter(database, feeder, notes, micros(now)).await?;
    }
    if alive.joined.as_deref() == Some(BURIED) {
        let again = doc! { "$set": { "joined": &life } };
        feeders(database).update_one(doc! { "_id": hex(&feeder) }, again).await?;
        return Ok(false);
    }
    Ok(alive.joined.as_deref() != Some(&*life))
}

/// Somebody has reported.
async fn listen(database: &Database, now: DateTime) -> Result<(), Failure> {
    let lapse = i64::try_from(LAPSE.as_millis()).unwrap_or(i64::MAX);
    let lapsed = DateTime::from_millis(now.timestamp_millis().saturating_sub(lapse));
    // The clock was set back: how long nobody listened meanwhile is not known.
    let ahead = DateTime::from_millis(now.timestamp_millis().saturating_add(lapse));
    let either = vec![doc! { "reported_at": { "$lt": lapsed } }, doc! { "reported_at": { "$gt": ahead } }];
    let begins = doc! { "_id": LISTENING, "$or": either };
    let anew = doc! { "$set": { "since": now, "reported_at": now } };
    if feeders(database).update_one(begins, anew).await?.matched_count > 0 {
        set_right(database, now).await?;
    }
    let more = doc! { "$max": { "reported_at": now }, "$setOnInsert": { "since": now } };
    match feeders(database)
        .update_one(doc! { "_id": LISTENING }, more)
        .upsert(true)
        .await
        .map_err(Failure::from)
    {
        // Another feeder was as quick.
        Ok(_) | Err(Failure::Duplicate(_)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// What was entered by a clock that was ahead, and was set back since, counts as entered now: else nobody would be missed before
/// that time had come.
async fn set_right(database: &Database, now: DateTime) -> Result<(), Failure> {
    let later = doc! { "_id": { "$ne": LISTENING }, "reported_at": { "$gt": now } };
    feeders(database).update_many(later, doc! { "$set": { "reported_at": now } }).await?;
    let now = integer(micros(now));
    let change = doc! { "$set": { "changed_at": now }, "$min": { "opened_at": now, "heard_at": now } };
    sessions(database).update_many(doc! { "changed_at": { "$gt": now } }, change).await?;
    Ok(())
}

/// Each session is replaced if it is still as it was read, so that of notes by two feeders none undoes the other.
async fn enter(
    database: &Database,
    feeder: FeederId,
    notes: &[SessionNote],
    now: Micros,
) -> Result<(), Failure> {
    for _ in 0..ATTEMPTS_MAX {
        let names: Vec<&str> = notes.iter().map(|note| note.device.as_str()).collect();
        let known = rows(database, doc! { "_id": { "$in": names } }).await?;
        let known: HashMap<DeviceId, SessionRow> =
            known.into_iter().map(|row| (row.device.clone(), row)).collect();
        let mut noted: HashMap<&DeviceId, SessionRow> = HashMap::new();
        for note in notes {
            let before = noted.get(&note.device).or_else(|| known.get(&note.device));
            if let Some(row) = SessionRow::noted(before, feeder, note, now) {
                noted.insert(&note.device, row);
            }
        }
        let changes: Vec<_> = noted.values().map(|row| (known.get(&row.device), row)).collect();
        if replace(database, &changes).await? {
            return Ok(());
        }
    }
    Err(Failure::Unavailable("other feeders say something else of the same devices all the time".into()))
}

async fn bury(database: &Database, feeder: FeederId, silent: Duration) -> Result<(), Failure> {
    let known = reported(database).await?;
    let Some(at) = known.reported_at(&feeder) else { return Ok(()) };
    if at > known.now.saturating_sub(trough_runtime::clock::micros(silent)) {
        return Ok(());
    }
    // Should it report from now on, it is told to say everything again. It is removed last: whoever dies here, or has no time
    // for all sessions, is followed by somebody who goes on.
    let reported_at = DateTime::from_millis(i64::try_from(at / 1000).unwrap_or(i64::MAX));
    let silent = doc! { "_id": hex(&feeder), "reported_at": reported_at };
    let buried = doc! { "$set": { "joined": BURIED } };
    if feeders(database).update_one(silent, buried).await?.matched_count == 0 {
        return Ok(());
    }
    let open = doc! {
        "feeder": hex(&feeder),
        "state": { "$ne": state(SessionState::Closed) },
        // What it says again meanwhile stays.
        "changed_at": { "$lte": integer(known.now) },
    };
    loop {
        let open = rows(database, open.clone()).await?;
        if open.is_empty() {
            feeders(database).delete_one(doc! { "_id": hex(&feeder), "joined": BURIED }).await?;
            return Ok(());
        }
        let buried: Vec<_> = open.iter().map(|row| row.clone().buried(at, known.now)).collect();
        let changes: Vec<_> = open.iter().map(Some).zip(&buried).collect();
        replace(database, &changes).await?;
    }
}

/// A page of sessions.
async fn rows(database: &Database, filter: Document) -> Result<Vec<SessionRow>, Failure> {
    let limit = i64::try_from(NOTES_MAX).unwrap_or(i64::MAX);
    let mut found = sessions(database).find(filter).limit(limit).await?;
    let mut rows = Vec::new();
    while found.advance().await? {
        rows.push(found.deserialize_current()?.into_row()?);
    }
    Ok(rows)
}

/// Replaces sessions in one request, each if it is as it was read. Whether all were.
async fn replace(
    database: &Database,
    changes: &[(Option<&SessionRow>, &SessionRow)],
) -> Result<bool, Failure> {
    if changes.is_empty() {
        return Ok(true);
    }
    let updates = changes.iter().map(|(before, after)| {
        let filter = match before {
            Some(row) => doc! { "_id": row.device.as_str(), "session": hex(&row.session), "changed_at": integer(row.changed_at) },
            // Should it be there meanwhile, its key is taken.
            None => doc! { "_id": after.device.as_str(), "session": "" },
        };
        Ok(doc! { "q": filter, "u": mongodb::bson::serialize_to_document(&SessionDocument::of(after))?, "upsert": before.is_none() })
    });
    let updates: Vec<Document> =
        updates.collect::<Result<_, mongodb::bson::error::Error>>().map_err(mongodb::error::Error::from)?;
    let command = doc! {
        "update": "sessions",
        "updates": updates,
        "ordered": false,
        "writeConcern": { "w": "majority", "j": true },
    };
    let answer = database.run_command(command).await?;
    let done = answer.get("n").and_then(|n| n.as_i32().map(i64::from).or_else(|| n.as_i64())).unwrap_or(0);
    Ok(usize::try_from(done).is_ok_and(|done| done == changes.len()))
}
