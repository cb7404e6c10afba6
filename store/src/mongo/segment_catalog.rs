//! The catalog of segments in MongoDB.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{DateTime, Document, doc};
use mongodb::error::Result;
use mongodb::{ClientSession, Database};

use super::client::{Mongo, OPERATION_MAX, Section};
use super::compaction_rows::{
    STATE, State, compaction, format_level, gone, journals, look, the_format, the_state,
};
use super::failure::Failure;
use super::integer;
use super::segment_rows::{self as rows, JournalDocument, SegmentDocument};
use super::transaction::{refuse, transact};
use crate::BoxFuture;
use crate::error::CatalogError;
use crate::format_level::FormatLevel;
use crate::segment_catalog::{
    CHANGES_KNOWN, CLAIM_LEFT_MAX, Change, CommitError, Manifest, Removed, SegmentCatalog, SegmentId, check,
};

/// How long it may take to read a manifest, or what was removed.
const LISTING_MAX: Duration = Duration::from_secs(15);
/// How long a change may take, or forgetting segments: the server gives a transaction a minute.
const COMMIT_MAX: Duration = Duration::from_secs(60);
/// So often a claim is tried that others move meanwhile.
const CLAIM_ATTEMPTS_MAX: usize = 8;

/// A catalog of segments in a database. It connects when it is first used.
#[derive(Debug)]
pub struct MongoSegmentCatalog {
    section: Section,
}

impl MongoSegmentCatalog {
    /// One in the collections `segments` and `compaction` of the database. Nothing is done yet.
    pub fn new(mongo: Mongo) -> Self {
        Self { section: Section::new(mongo, prepare) }
    }

    async fn run<T, W, F>(&self, at_most: Duration, work: W) -> std::result::Result<T, CatalogError>
    where
        W: FnOnce(Database) -> F + Send + 'static,
        F: Future<Output = std::result::Result<T, Failure>> + Send,
        T: Send + 'static,
    {
        Ok(self.section.run(at_most, work).await?)
    }
}

fn prepare(database: Database) -> BoxFuture<'static, std::result::Result<(), Failure>> {
    Box::pin(async move {
        let FormatLevel { level, release } = FormatLevel::newest();
        let format = doc! { "$setOnInsert": { "level": i64::from(level), "release": release } };
        let made = compaction::<Document>(&database).update_one(the_format(), format).upsert(true).await;
        match made.map_err(Failure::from) {
            Ok(_) | Err(Failure::Duplicate(_)) => {}
            Err(failure) => return Err(failure),
        }
        if let Some(reason) = format_level(&database).await?.refusal() {
            return Err(Failure::Invalid(reason));
        }
        let new = doc! { "number": 0_i64, "token": 0_i64, "until": DateTime::from_millis(0), "made": [] };
        let new = doc! { "$setOnInsert": new };
        let made = compaction::<Document>(&database).update_one(the_state(), new).upsert(true).await;
        match made.map_err(Failure::from) {
            // Another process was as quick.
            Ok(_) | Err(Failure::Duplicate(_)) => {}
            Err(failure) => return Err(failure),
        }
        rows::segments::<Document>(&database).create_index(rows::index()).await?;
        Ok(())
    })
}

impl SegmentCatalog for MongoSegmentCatalog {
    fn manifest(
        &self,
        known: Option<u64>,
    ) -> BoxFuture<'_, std::result::Result<Option<Manifest>, CatalogError>> {
        Box::pin(self.run(LISTING_MAX, async move |database| manifest(database, known).await))
    }

    fn format_level(&self) -> BoxFuture<'_, std::result::Result<FormatLevel, CatalogError>> {
        Box::pin(self.run(OPERATION_MAX, async |database| format_level(&database).await))
    }

    fn raise_format_level(
        &self,
        to: FormatLevel,
    ) -> BoxFuture<'_, std::result::Result<FormatLevel, CatalogError>> {
        Box::pin(self.run(OPERATION_MAX, async move |database| {
            let mut lower = the_format();
            lower.insert("level", doc! { "$lt": i64::from(to.level) });
            let raised = doc! { "$set": { "level": i64::from(to.level), "release": to.release } };
            compaction::<Document>(&database).update_one(lower, raised).await?;
            format_level(&database).await
        }))
    }

    fn claim(&self, ttl: Duration) -> BoxFuture<'_, std::result::Result<Option<u64>, CatalogError>> {
        Box::pin(async move {
            check::claim_ttl(ttl)?;
            self.run(OPERATION_MAX, async move |database| claim(&database, ttl).await).await
        })
    }

    fn renew(&self, token: u64, ttl: Duration) -> BoxFuture<'_, std::result::Result<bool, CatalogError>> {
        Box::pin(async move {
            check::claim_ttl(ttl)?;
            let renew = async move |database: Database| {
                let now = look(&database).await?.now.unwrap_or(DateTime::from_millis(0));
                set_until(&database, token, later(now, ttl)).await
            };
            self.run(OPERATION_MAX, renew).await
        })
    }

    fn release(&self, token: u64) -> BoxFuture<'_, std::result::Result<(), CatalogError>> {
        Box::pin(self.run(OPERATION_MAX, async move |database| {
            set_until(&database, token, DateTime::from_millis(0)).await?;
            Ok(())
        }))
    }

    fn commit<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, std::result::Result<u64, CommitError>> {
        Box::pin(async move {
            change.check()?;
            let change = Arc::new(change.clone());
            self.run(COMMIT_MAX, async move |database| commit(database, change).await).await?
        })
    }

    fn restore<'a>(
        &'a self,
        manifest: &'a Manifest,
        replace: bool,
    ) -> BoxFuture<'a, std::result::Result<bool, CatalogError>> {
        Box::pin(async move {
            manifest.check()?;
            let manifest = Arc::new(manifest.clone());
            self.run(COMMIT_MAX, async move |database| restore(database, manifest, replace).await).await
        })
    }

    fn removed(&self, limit: usize) -> BoxFuture<'_, std::result::Result<Vec<Removed>, CatalogError>> {
        Box::pin(self.run(LISTING_MAX, async move |database| rows::removed(&database, limit).await))
    }

    fn forget<'a>(
        &'a self,
        segments: &'a [SegmentId],
    ) -> BoxFuture<'a, std::result::Result<(), CatalogError>> {
        let segments = segments.to_vec();
        Box::pin(self.run(COMMIT_MAX, async move |database| rows::forget(&database, &segments).await))
    }
}

async fn manifest(database: Database, known: Option<u64>) -> std::result::Result<Option<Manifest>, Failure> {
    let newest = look(&database).await?.number;
    if known == Some(newest) {
        return Ok(None);
    }
    // All of it from one moment.
    let read = transact(database, |database, session| Box::pin(snapshot(database, session)));
    let (state, journals, segments) = read.await?.unwrap_or_else(|refused: Infallible| match refused {});
    // A document that is gone was there a moment ago, under a higher number than this.
    let (number, expired) = state.map_or((0, 0), |state| (state.number, state.expired));
    if number < newest {
        return Err(Failure::Unavailable(format!("it answers with manifest {number}, and {newest} is made")));
    }
    let journals = journals.into_iter().map(JournalDocument::into_through);
    let mut through = journals.collect::<std::result::Result<Vec<_>, _>>()?;
    through.sort_unstable();
    let segments = segments.into_iter().map(SegmentDocument::into_segment);
    let mut segments = segments.collect::<std::result::Result<Vec<_>, _>>()?;
    segments.sort_unstable_by_key(|segment| (segment.date, segment.level, segment.id));
    Ok(Some(Manifest { number, through, segments, expired }))
}

async fn snapshot(
    database: &Database,
    session: &mut ClientSession,
) -> Result<(Option<State>, Vec<JournalDocument>, Vec<SegmentDocument>)> {
    let state = compaction::<State>(database).find_one(the_state()).session(&mut *session).await?;
    let journals = rows::all(&compaction(database), journals(), &mut *session).await?;
    Ok((state, journals, rows::live(database, session).await?))
}

/// Takes the next token, if nobody moved the claim since it was looked at.
async fn claim(database: &Database, ttl: Duration) -> std::result::Result<Option<u64>, Failure> {
    let longest = millis(CLAIM_LEFT_MAX);
    for _ in 0..CLAIM_ATTEMPTS_MAX {
        let State { token, until, now, .. } = look(database).await?;
        let now = now.unwrap_or(DateTime::from_millis(0));
        let left = until.timestamp_millis().saturating_sub(now.timestamp_millis());
        if (1..=longest).contains(&left) {
            return Ok(None);
        }
        let seen = doc! { "_id": STATE, "token": integer(token), "until": until };
        let next = doc! { "$set": { "token": integer(token + 1), "until": later(now, ttl) } };
        if compaction::<Document>(database).update_one(seen, next).await?.matched_count == 1 {
            return Ok(Some(token + 1));
        }
    }
    Err(Failure::Unavailable("others claim compaction and give it back all the time".into()))
}

/// Whether the claim was not taken over.
async fn set_until(database: &Database, token: u64, until: DateTime) -> std::result::Result<bool, Failure> {
    let own = doc! { "_id": STATE, "token": integer(token) };
    let until = doc! { "$set": { "until": until } };
    Ok(compaction::<Document>(database).update_one(own, until).await?.matched_count == 1)
}

async fn commit(
    database: Database,
    change: Arc<Change>,
) -> std::result::Result<std::result::Result<u64, CommitError>, Failure> {
    let own = change.clone();
    let done = transact(database.clone(), move |database, session| {
        let change = own.clone();
        Box::pin(async move { make(database, session, &change).await })
    });
    let refused: CommitError = match done.await? {
        Ok(number) => return Ok(Ok(number)),
        Err(refused) => refused,
    };
    // A server that has been cut off and has not noticed refuses what another one has made already, and nobody may
    // be told then that it was not made.
    match look(&database).await?.turn(&change) {
        Ok(Some(number)) => Ok(Ok(number)),
        _ => Ok(Err(refused)),
    }
}

/// In a transaction. Its first write is to the state, so that of those who collide nobody has worked in vain.
async fn make(database: &Database, session: &mut ClientSession, change: &Change) -> Result<u64> {
    let states = compaction::<State>(database);
    let state = states.find_one(the_state()).session(&mut *session).await?;
    let mut state = state.ok_or_else(|| refuse(CommitError::from(gone())))?;
    if let Some(number) = state.turn(change).map_err(refuse)? {
        return Ok(number);
    }
    let number = integer(change.after + 1);
    state.made.push(SegmentId(change.id).to_string());
    let known = usize::try_from(CHANGES_KNOWN).unwrap_or(usize::MAX);
    state.made.drain(..state.made.len().saturating_sub(known));
    let mut next = doc! { "number": number, "made": state.made };
    if change.expires {
        next.insert("expired", number);
    }
    let next = doc! { "$set": next };
    states.update_one(the_state(), next).session(&mut *session).await?;
    rows::remove(database, session, &change.remove, number).await?;
    rows::add(database, session, &change.add).await?;
    rows::go_on(&compaction(database), session, journals(), &change.through).await?;
    Ok(change.after + 1)
}

async fn restore(
    database: Database,
    manifest: Arc<Manifest>,
    replace: bool,
) -> std::result::Result<bool, Failure> {
    // Tokens from before the loss are lower than the time is.
    let now = look(&database).await?.now.map_or(0, |now| now.timestamp_millis().saturating_mul(1000));
    let done = transact(database, move |database, session| {
        let manifest = manifest.clone();
        Box::pin(async move { put(database, session, &manifest, replace, now).await })
    });
    Ok(done.await?.unwrap_or_else(|refused: Infallible| match refused {}))
}

/// In a transaction.
async fn put(
    database: &Database,
    session: &mut ClientSession,
    manifest: &Manifest,
    replace: bool,
    now: i64,
) -> Result<bool> {
    let state = compaction::<State>(database).find_one(the_state()).session(&mut *session).await?;
    let any = rows::segments::<Document>(database).find_one(doc! {}).session(&mut *session).await?;
    if !replace && (any.is_some() || state.is_some_and(|state| state.number > 0)) {
        return Ok(false);
    }
    let number = integer(manifest.number);
    let state = doc! {
        "$set": {
            "number": number, "made": [], "until": DateTime::from_millis(0), "expired": integer(manifest.expired),
        },
        "$max": { "token": now },
    };
    let states = compaction::<Document>(database);
    states.update_one(the_state(), state).upsert(true).session(&mut *session).await?;
    rows::segments::<Document>(database).delete_many(doc! {}).session(&mut *session).await?;
    states.delete_many(journals()).session(&mut *session).await?;
    rows::add(database, session, &manifest.segments).await?;
    rows::go_on(&compaction(database), session, journals(), &manifest.through).await?;
    Ok(true)
}

fn later(now: DateTime, ttl: Duration) -> DateTime {
    DateTime::from_millis(now.timestamp_millis().saturating_add(millis(ttl)))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
