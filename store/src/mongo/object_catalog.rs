//! The catalog of journal objects in MongoDB.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mongodb::bson::{DateTime, Document, doc};
use mongodb::{Collection, Database};
use serde::Deserialize;
use trough_protocol::limits::INT_MAX;
use trough_protocol::{DeviceId, Micros};

use super::client::{Mongo, OPERATION_MAX, Section};
use super::failure::Failure;
use super::object_rows::{End, RowDocument, end, enter, is_there, objects, parsed_incarnation, rows_of};
use super::{heads, object_removal, object_spans};
use crate::BoxFuture;
use crate::error::CatalogError;
use crate::object_catalog::{
    AppendError, DeviceHead, Found, Incarnation, IncarnationState, LostLife, ObjectCatalog, ObjectId,
    ObjectRow, ROWS_MAX, SpanQuery,
};
use crate::segment_catalog::Through;

/// How long it may take to read many documents, or to go several times.
const LISTING_MAX: Duration = Duration::from_secs(15);
/// How long it may take to enter all rows of an incarnation again.
const RESTORE_MAX: Duration = Duration::from_secs(300);
/// So often an incarnation's end is looked for that moves away meanwhile.
const CLOSE_ATTEMPTS_MAX: usize = 8;

/// A catalog of journal objects in a database. It connects when it is first used.
#[derive(Debug)]
pub struct MongoObjectCatalog {
    section: Section,
    /// The row entered last through this handle: an eater's next one needs no look at the one before.
    entered: Mutex<Option<ObjectId>>,
}

impl MongoObjectCatalog {
    /// Nothing is done yet.
    pub fn new(mongo: Mongo) -> Self {
        Self { section: Section::new(mongo, prepare), entered: Mutex::new(None) }
    }

    async fn run<T, W, F>(&self, at_most: Duration, work: W) -> Result<T, CatalogError>
    where
        W: FnOnce(Database) -> F + Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send,
        T: Send + 'static,
    {
        Ok(self.section.run(at_most, work).await?)
    }

    fn entered(&self) -> std::sync::MutexGuard<'_, Option<ObjectId>> {
        // It is replaced whole.
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare(database: Database) -> BoxFuture<'static, Result<(), Failure>> {
    Box::pin(async move {
        objects::<Document>(&database).create_indexes(object_spans::indexes()).await?;
        Ok(())
    })
}

impl ObjectCatalog for MongoObjectCatalog {
    fn open<'a>(&'a self, incarnation: Incarnation) -> BoxFuture<'a, Result<(), CatalogError>> {
        Box::pin(self.run(OPERATION_MAX, async move |database| {
            let alive = doc! { "$currentDate": { "heartbeat_at": true } };
            lives(&database).update_one(named(incarnation), alive).upsert(true).await?;
            Ok(())
        }))
    }

    fn heartbeat<'a>(&'a self, incarnation: Incarnation) -> BoxFuture<'a, Result<(), AppendError>> {
        Box::pin(async move {
            let beat = async move |database: Database| {
                if let End::Closed(_) = end(&database, incarnation).await? {
                    return Ok(Err(AppendError::Closed(incarnation)));
                }
                let alive = doc! { "$currentDate": { "heartbeat_at": true } };
                let updated = lives(&database).update_one(named(incarnation), alive).await?;
                Ok(if updated.matched_count == 1 { Ok(()) } else { Err(incarnation.never_opened().into()) })
            };
            self.run(OPERATION_MAX, beat).await?
        })
    }

    fn append<'a>(&'a self, row: &'a ObjectRow) -> BoxFuture<'a, Result<(), AppendError>> {
        Box::pin(async move {
            row.check()?;
            let (id, row) = (row.id, row.clone());
            let before = ObjectId { n: id.n - 1, ..id };
            let follows = *self.entered() == Some(before);
            let append = async move |database: Database| {
                if !follows && let Err(refused) = check_turn(&database, id).await? {
                    return Ok(Err(refused));
                }
                enter(&database, &row).await
            };
            let done = self.run(OPERATION_MAX, append).await?;
            if done.is_ok() {
                *self.entered() = Some(id);
            }
            done
        })
    }

    fn close<'a>(&'a self, incarnation: Incarnation) -> BoxFuture<'a, Result<u64, CatalogError>> {
        Box::pin(self.run(LISTING_MAX, async move |database| close(&database, incarnation).await))
    }

    fn incarnations(&self) -> BoxFuture<'_, Result<Vec<IncarnationState>, CatalogError>> {
        Box::pin(self.run(LISTING_MAX, async |database| incarnations(&database).await))
    }

    fn spans<'a>(&'a self, query: &'a SpanQuery) -> BoxFuture<'a, Result<Vec<Found>, CatalogError>> {
        let query = query.clone();
        Box::pin(self.run(LISTING_MAX, async move |database| object_spans::find(&database, &query).await))
    }

    fn rows<'a>(
        &'a self,
        incarnation: Incarnation,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectRow>, CatalogError>> {
        Box::pin(self.run(LISTING_MAX, async move |database| {
            // To the server no limit is 0.
            let Some(limit) = i64::try_from(limit.min(ROWS_MAX)).ok().filter(|limit| *limit > 0) else {
                return Ok(Vec::new());
            };
            let mut filter = rows_of(incarnation, after.min(INT_MAX));
            filter.insert("x", doc! { "$exists": false });
            filter.insert("g", doc! { "$exists": false });
            let objects = objects::<RowDocument>(&database);
            let mut page = objects.find(filter).sort(doc! { "_id": 1 }).limit(limit).await?;
            let mut rows = Vec::new();
            while page.advance().await? {
                rows.push(page.deserialize_current()?.into_row()?);
            }
            Ok(rows)
        }))
    }

    fn remove_through(&self, through: Through, limit: usize) -> BoxFuture<'_, Result<u64, CatalogError>> {
        Box::pin(self.run(LISTING_MAX, async move |database| {
            object_removal::remove(&database, through, limit.min(ROWS_MAX)).await
        }))
    }

    fn restore<'a>(&'a self, life: &'a LostLife) -> BoxFuture<'a, Result<bool, CatalogError>> {
        Box::pin(async move {
            life.check()?;
            let life = life.clone();
            self.run(RESTORE_MAX, async move |database| restore(&database, &life).await).await
        })
    }

    fn note_heads<'a>(&'a self, heads: &'a [DeviceHead]) -> BoxFuture<'a, Result<(), CatalogError>> {
        Box::pin(async move {
            heads.iter().try_for_each(DeviceHead::check)?;
            let heads = heads.to_vec();
            self.run(LISTING_MAX, async move |database| heads::note(&database, &heads).await).await
        })
    }

    fn heads<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Vec<DeviceHead>, CatalogError>> {
        let device = device.clone();
        Box::pin(self.run(LISTING_MAX, async move |database| heads::of_device(&database, &device).await))
    }

    fn device_heads(
        &self,
        after: Option<DeviceId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeviceHead>, CatalogError>> {
        let page = async move |database| heads::newest(&database, after.as_ref(), limit).await;
        Box::pin(self.run(LISTING_MAX, page))
    }
}

/// An incarnation: `{ _id, heartbeat_at, last? }`. `last` is there when it was closed, and only spares a look at its
/// rows: what closes an incarnation is its closing row.
#[derive(Debug, Deserialize)]
struct LifeDocument {
    #[serde(rename = "_id")]
    id: String,
    heartbeat_at: DateTime,
    now: DateTime,
    last: Option<u64>,
}

fn lives(database: &Database) -> Collection<Document> {
    database.collection("incarnations")
}

fn named(incarnation: Incarnation) -> Document {
    doc! { "_id": incarnation.to_string() }
}

/// Whether it is the turn of this number, or it was entered before and is there.
async fn check_turn(database: &Database, id: ObjectId) -> Result<Result<(), AppendError>, Failure> {
    if id.n == 1 && lives(database).find_one(named(id.incarnation)).await?.is_none() {
        return Ok(Err(id.incarnation.never_opened().into()));
    }
    // The last number before the row itself: one that is not there now, though it was entered by then, was removed.
    Ok(match end(database, id.incarnation).await? {
        End::Open(last) | End::Closed(last) if id.n <= last => {
            if is_there(database, id).await? {
                Ok(())
            } else {
                Err(AppendError::Removed(id))
            }
        }
        End::Closed(_) => Err(AppendError::Closed(id.incarnation)),
        End::Open(last) if id.n > last + 1 => Err(id.out_of_turn(last).into()),
        End::Open(_) => Ok(()),
    })
}

/// Enters the closing row behind the last one. An eater that lives and enters a row meanwhile is faster, and the next
/// number is tried; one that is faster again and again is not dead.
async fn close(database: &Database, incarnation: Incarnation) -> Result<u64, Failure> {
    let known = doc! { "$currentDate": { "heartbeat_at": true } };
    // Known first: a closing row of an incarnation that is not listed would never be found.
    if lives(database).find_one(named(incarnation)).await?.is_none() {
        lives(database).update_one(named(incarnation), known).upsert(true).await?;
    }
    for _ in 0..CLOSE_ATTEMPTS_MAX {
        if let Some(last) = try_close(database, incarnation).await? {
            remember_closed(database, incarnation, last).await?;
            return Ok(last);
        }
    }
    Err(Failure::Unavailable(format!("incarnation {incarnation} enters one object after another: it lives")))
}

/// The last object's number, unless somebody else took the one behind it.
async fn try_close(database: &Database, incarnation: Incarnation) -> Result<Option<u64>, Failure> {
    let last = match end(database, incarnation).await? {
        End::Closed(last) => return Ok(Some(last)),
        End::Open(last) => last,
    };
    let row = RowDocument::closing(ObjectId { incarnation, n: last + 1 });
    match objects::<RowDocument>(database).insert_one(row).await.map_err(Failure::from) {
        Ok(_) => Ok(Some(last)),
        Err(Failure::Duplicate(_)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// It becomes known last, so that nobody sees a part of it; what another try has entered is entered.
async fn restore(database: &Database, life: &LostLife) -> Result<bool, Failure> {
    let LostLife { incarnation, removed, rows } = life;
    if lives(database).find_one(named(*incarnation)).await?.is_some() {
        return Ok(false);
    }
    let id = |n| ObjectId { incarnation: *incarnation, n };
    let stub = (*removed > 0).then(|| RowDocument::stub(id(*removed)));
    let rows = rows.iter().map(RowDocument::from);
    for row in stub.into_iter().chain(rows).chain([RowDocument::closing(id(life.last() + 1))]) {
        match objects::<RowDocument>(database).insert_one(row).await.map_err(Failure::from) {
            Ok(_) | Err(Failure::Duplicate(_)) => {}
            Err(failure) => return Err(failure),
        }
    }
    let last = i64::try_from(life.last()).unwrap_or(i64::MAX);
    // Heard last in 1970: what it has left beside its rows is for a person to look at.
    let known = doc! { "$set": { "heartbeat_at": DateTime::from_millis(0), "last": last } };
    lives(database).update_one(named(*incarnation), known).upsert(true).await?;
    Ok(true)
}

async fn remember_closed(database: &Database, incarnation: Incarnation, last: u64) -> Result<(), Failure> {
    let last = i64::try_from(last).unwrap_or(i64::MAX);
    lives(database).update_one(named(incarnation), doc! { "$set": { "last": last } }).await?;
    Ok(())
}

async fn incarnations(database: &Database) -> Result<Vec<IncarnationState>, Failure> {
    // The clock is the server's, as it is for heartbeats.
    let all = [
        doc! { "$sort": { "_id": 1 } },
        doc! { "$project": { "heartbeat_at": 1, "last": 1, "now": "$$NOW" } },
    ];
    let mut all = lives(database).aggregate(all).with_type::<LifeDocument>().await?;
    let mut states = Vec::new();
    while all.advance().await? {
        let LifeDocument { id, heartbeat_at, now, last } = all.deserialize_current()?;
        let incarnation = parsed_incarnation(&id)?;
        let (last, closed) = match last {
            Some(last) => (last, true),
            None => match end(database, incarnation).await? {
                End::Open(last) => (last, false),
                End::Closed(last) => {
                    // Whoever closed it died before it could say so.
                    remember_closed(database, incarnation, last).await?;
                    (last, true)
                }
            },
        };
        let (heartbeat_at, now) = (micros(heartbeat_at), micros(now));
        states.push(IncarnationState { incarnation, heartbeat_at, now, last, closed });
    }
    Ok(states)
}

/// The server's times are in ms.
pub(super) fn micros(time: DateTime) -> Micros {
    u64::try_from(time.timestamp_millis()).unwrap_or(0).saturating_mul(1000)
}
