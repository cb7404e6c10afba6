//! The catalog of segments in an SQLite file.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use trough_protocol::Micros;
use trough_protocol::limits::INT_MAX;
use trough_runtime::clock::{Clock, micros};

use super::database::{Database, OpenError, Schema};
use super::pool::Pool;
use super::segment_rows as rows;
use super::writer::Writer;
use crate::BoxFuture;
use crate::error::CatalogError;
use crate::format_level::FormatLevel;
use crate::segment_catalog::{
    CHANGES_KNOWN, CLAIM_LEFT_MAX, Change, CommitError, Manifest, REMOVED_MAX, Removed, SegmentCatalog,
    SegmentId, check,
};

static SCHEMA: Schema = Schema {
    name: "catalog of segments",
    application_id: 0x5472_5367, // "TrSg"
    // Journals are removed because of what it says.
    synchronous: "FULL",
    migrations: &[include_str!("segment_catalog-1.sql"), include_str!("segment_catalog-2.sql")],
};

/// Connections that read.
const READERS: usize = 2;

/// A catalog of segments in one file. Dropping it finishes what was begun; that blocks for one commit at most.
#[derive(Debug)]
pub struct SqliteSegmentCatalog {
    pool: Pool,
    writer: Writer,
    clock: Clock,
}

impl SqliteSegmentCatalog {
    /// Opens the file, or makes it (mode 0600) in a directory that exists. Blocking, for a few milliseconds.
    ///
    /// # Errors
    /// [`OpenError`]: no access, a newer schema, another kind of file.
    pub fn open(path: &Path, clock: Clock) -> Result<Self, OpenError> {
        let database = Database::open(path, &SCHEMA)?;
        let no_thread = |source| OpenError::Io { name: SCHEMA.name, path: path.to_owned(), source };
        let refused = |reason| OpenError::Refused { name: SCHEMA.name, path: path.to_owned(), reason };
        let level = format_level(&database.connect()?).map_err(|error| refused(error.to_string()))?;
        if let Some(reason) = level.refusal() {
            return Err(refused(reason));
        }
        Ok(Self {
            pool: Pool::open(&database, READERS)?,
            writer: Writer::start(database.connect()?, SCHEMA.name).map_err(no_thread)?,
            clock,
        })
    }
}

impl SegmentCatalog for SqliteSegmentCatalog {
    fn manifest(&self, known: Option<u64>) -> BoxFuture<'_, Result<Option<Manifest>, CatalogError>> {
        Box::pin(self.pool.run(move |connection| {
            // All of it from one moment. It only reads, and ends when it is dropped.
            let moment = connection.unchecked_transaction()?;
            let number = number(&moment)?;
            if known == Some(number) {
                return Ok(None);
            }
            let (through, segments) = (rows::through(&moment)?, rows::live(&moment)?);
            let sql = "SELECT expired FROM claim";
            let expired = moment.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            Ok(Some(Manifest { number, through, segments, expired }))
        }))
    }

    fn format_level(&self) -> BoxFuture<'_, Result<FormatLevel, CatalogError>> {
        Box::pin(self.pool.run(|connection| Ok(format_level(connection)?)))
    }

    fn raise_format_level(&self, to: FormatLevel) -> BoxFuture<'_, Result<FormatLevel, CatalogError>> {
        Box::pin(self.writer.run(move |connection| {
            let sql = "UPDATE format SET level = ?1, release = ?2 WHERE level < ?1";
            connection.prepare_cached(sql)?.execute(params![to.level, to.release])?;
            Ok(format_level(connection)?)
        }))
    }

    fn claim(&self, ttl: Duration) -> BoxFuture<'_, Result<Option<u64>, CatalogError>> {
        let clock = self.clock.clone();
        Box::pin(async move {
            check::claim_ttl(ttl)?;
            self.writer.run(move |connection| claim(connection, ttl, clock.now())).await
        })
    }

    fn renew(&self, token: u64, ttl: Duration) -> BoxFuture<'_, Result<bool, CatalogError>> {
        let clock = self.clock.clone();
        Box::pin(async move {
            check::claim_ttl(ttl)?;
            let until = move || clock.now().saturating_add(micros(ttl));
            self.writer.run(move |connection| Ok(set_until(connection, token, until())?)).await
        })
    }

    fn release(&self, token: u64) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(self.writer.run(move |connection| {
            set_until(connection, token, 0)?;
            Ok(())
        }))
    }

    fn commit<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<u64, CommitError>> {
        let clock = self.clock.clone();
        Box::pin(async move {
            change.check()?;
            let change = change.clone();
            self.writer.run(move |connection| commit(connection, &change, clock.now())).await
        })
    }

    fn restore<'a>(
        &'a self,
        manifest: &'a Manifest,
        replace: bool,
    ) -> BoxFuture<'a, Result<bool, CatalogError>> {
        let now = self.clock.now();
        Box::pin(async move {
            manifest.check()?;
            let manifest = manifest.clone();
            self.writer.run(move |connection| restore(connection, &manifest, replace, now)).await
        })
    }

    fn removed(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Removed>, CatalogError>> {
        let clock = self.clock.clone();
        Box::pin(
            self.pool.run(move |connection| rows::removed(connection, limit.min(REMOVED_MAX), clock.now())),
        )
    }

    fn forget<'a>(&'a self, segments: &'a [SegmentId]) -> BoxFuture<'a, Result<(), CatalogError>> {
        let segments = segments.to_vec();
        Box::pin(self.writer.run(move |connection| rows::forget(connection, &segments)))
    }
}

fn format_level(connection: &Connection) -> rusqlite::Result<FormatLevel> {
    connection
        .prepare_cached("SELECT level, release FROM format")?
        .query_row([], |row| Ok(FormatLevel { level: row.get(0)?, release: row.get(1)? }))
}

/// The newest manifest's number.
fn number(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT number FROM manifests ORDER BY number DESC LIMIT 1";
    let newest = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    Ok(newest.unwrap_or(0))
}

/// The change that made a manifest, if that is still known.
fn made(connection: &Connection, number: u64) -> rusqlite::Result<Option<[u8; 16]>> {
    let sql = "SELECT change FROM manifests WHERE number = ?1";
    connection.prepare_cached(sql)?.query_row([number], |row| row.get(0)).optional()
}

/// The last claim's token, and when it runs out.
fn claimed(connection: &Connection) -> rusqlite::Result<(u64, Micros)> {
    connection
        .prepare_cached("SELECT token, until FROM claim")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}

fn claim(connection: &Connection, ttl: Duration, now: Micros) -> Result<Option<u64>, CatalogError> {
    let (token, until) = claimed(connection)?;
    if until > now && until - now <= micros(CLAIM_LEFT_MAX) {
        return Ok(None);
    }
    let sql = "UPDATE claim SET token = ?1, until = ?2";
    connection.prepare_cached(sql)?.execute(params![token + 1, now.saturating_add(micros(ttl))])?;
    Ok(Some(token + 1))
}

/// Whether the claim was not taken over.
fn set_until(connection: &Connection, token: u64, until: Micros) -> rusqlite::Result<bool> {
    let sql = "UPDATE claim SET until = ?2 WHERE token = ?1";
    Ok(connection.prepare_cached(sql)?.execute(params![token.min(INT_MAX), until])? == 1)
}

/// In a write transaction. Tokens from before the loss are lower than the time is.
fn restore(
    connection: &Connection,
    manifest: &Manifest,
    replace: bool,
    now: Micros,
) -> Result<bool, CatalogError> {
    if !replace && (number(connection)? > 0 || rows::has_any(connection)?) {
        return Ok(false);
    }
    connection.execute_batch("DELETE FROM manifests; DELETE FROM journals; DELETE FROM segments;")?;
    let sql = "INSERT INTO manifests (number, change) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute(params![manifest.number, [0_u8; 16]])?;
    let sql = "UPDATE claim SET token = max(token, ?1), until = 0, expired = ?2";
    connection.prepare_cached(sql)?.execute([now.min(INT_MAX), manifest.expired.min(INT_MAX)])?;
    for segment in &manifest.segments {
        if !rows::add(connection, segment)? {
            return Err(check::known(segment.id));
        }
    }
    for through in &manifest.through {
        rows::go_on(connection, *through)?;
    }
    Ok(true)
}

/// In a write transaction, so that nobody commits or claims anything meanwhile.
fn commit(connection: &Connection, change: &Change, now: Micros) -> Result<u64, CommitError> {
    let (token, _) = claimed(connection)?;
    let made = made(connection, change.after.saturating_add(1))?;
    if let Some(number) = change.turn(number(connection)?, token, made)? {
        return Ok(number);
    }
    let number = change.after + 1;
    let sql = "INSERT INTO manifests (number, change) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute(params![number, change.id])?;
    let sql = "DELETE FROM manifests WHERE number <= ?1";
    connection.prepare_cached(sql)?.execute([number.saturating_sub(CHANGES_KNOWN)])?;
    if change.expires {
        connection.prepare_cached("UPDATE claim SET expired = ?1")?.execute([number])?;
    }
    for id in &change.remove {
        if !rows::remove(connection, *id, number, now)? {
            return Err(check::not_live(*id).into());
        }
    }
    for segment in &change.add {
        if !rows::add(connection, segment)? {
            return Err(check::known(segment.id).into());
        }
    }
    for through in &change.through {
        if let Some(from) = rows::go_on(connection, *through)? {
            return Err(check::goes_back(*through, from).into());
        }
    }
    Ok(number)
}
