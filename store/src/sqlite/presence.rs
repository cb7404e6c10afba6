//! Presence in an SQLite file.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use trough_protocol::{DeviceId, Micros};
use trough_runtime::clock::{Clock, micros};

use super::database::{Database, OpenError, Schema};
use super::devices::parsed;
use super::pool::Pool;
use super::writer::Writer;
use crate::BoxFuture;
use crate::outbox::OutboxError;
use crate::presence::{
    FeederId, Feeders, LAPSE, NOTES_MAX, Presence, SessionNote, SessionRow, SessionState, check_count,
};

static SCHEMA: Schema = Schema {
    name: "presence",
    application_id: 0x5472_5072, // "TrPr"
    // What is lost in a power cut is said again by the feeders.
    synchronous: "NORMAL",
    migrations: &[include_str!("presence-1.sql")],
};

/// Presence in one file. Dropping it finishes what was begun.
#[derive(Debug)]
pub struct SqlitePresence {
    pool: Pool,
    writer: Writer,
    clock: Clock,
}

impl SqlitePresence {
    /// Opens the file, or makes it (mode 0600) in a directory that exists. Blocking, for a few milliseconds.
    ///
    /// # Errors
    /// [`OpenError`]: no access, a newer schema, another kind of file.
    pub fn open(path: &Path, clock: Clock) -> Result<Self, OpenError> {
        let database = Database::open(path, &SCHEMA)?;
        let no_thread = |source| OpenError::Io { name: SCHEMA.name, path: path.to_owned(), source };
        Ok(Self {
            pool: Pool::open(&database, 1)?,
            writer: Writer::start(database.connect()?, SCHEMA.name).map_err(no_thread)?,
            clock,
        })
    }
}

impl Presence for SqlitePresence {
    fn report(&self, feeder: FeederId, notes: Vec<SessionNote>) -> BoxFuture<'_, Result<bool, OutboxError>> {
        let clock = self.clock.clone();
        Box::pin(async move {
            check_count(notes.len(), "notes")?;
            self.writer.run(move |connection| report(connection, &feeder, &notes, clock.now())).await
        })
    }

    fn feeders(&self) -> BoxFuture<'_, Result<Feeders, OutboxError>> {
        let clock = self.clock.clone();
        Box::pin(self.pool.run(move |connection| feeders(connection, &clock)))
    }

    fn changed(
        &self,
        after: Option<(Micros, DeviceId)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SessionRow>, OutboxError>> {
        Box::pin(self.pool.run(move |connection| {
            let (at, device) = match &after {
                Some((at, device)) => (*at, device.as_str()),
                None => (0, ""),
            };
            let sql = "SELECT device, session, feeder, opened_at, heard_at, state, changed_at FROM sessions
                       WHERE (changed_at, device) > (?1, ?2) ORDER BY changed_at, device LIMIT ?3";
            let mut found = connection.prepare_cached(sql)?;
            let rows = found.query_map(params![at, device, limit.min(NOTES_MAX)], read)?;
            Ok(rows.collect::<Result<_, _>>()?)
        }))
    }

    fn sessions(
        &self,
        devices: Vec<DeviceId>,
    ) -> BoxFuture<'_, Result<(Vec<SessionRow>, Feeders), OutboxError>> {
        let clock = self.clock.clone();
        Box::pin(async move {
            check_count(devices.len(), "devices")?;
            let look = move |connection: &Connection| {
                let moment = connection.unchecked_transaction()?;
                let rows = devices.iter().map(|device| session(&moment, device));
                let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
                Ok((rows.into_iter().flatten().collect(), feeders(&moment, &clock)?))
            };
            self.pool.run(look).await
        })
    }

    fn bury(&self, feeder: FeederId, silent: Duration) -> BoxFuture<'_, Result<(), OutboxError>> {
        let clock = self.clock.clone();
        Box::pin(self.writer.run(move |connection| {
            let now = clock.now();
            let sql = "DELETE FROM feeders WHERE feeder = ?1 AND reported_at <= ?2 RETURNING reported_at";
            let since = now.saturating_sub(micros(silent));
            let mut removed = connection.prepare_cached(sql)?;
            let reported: Option<Micros> =
                removed.query_row(params![feeder, since], |row| row.get(0)).optional()?;
            let Some(reported) = reported else { return Ok(()) };
            let sql = "SELECT device, session, feeder, opened_at, heard_at, state, changed_at FROM sessions
                       WHERE feeder = ?1 AND state <> 2";
            let mut open = connection.prepare_cached(sql)?;
            let open: Vec<SessionRow> = open.query_map([feeder], read)?.collect::<Result<_, _>>()?;
            for row in open {
                write(connection, &row.buried(reported, now))?;
            }
            Ok(())
        }))
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        device: parsed(row, 0)?,
        session: row.get(1)?,
        feeder: row.get(2)?,
        opened_at: row.get(3)?,
        heard_at: row.get(4)?,
        state: match row.get(5)? {
            0 => SessionState::Open,
            1 => SessionState::Quiet,
            _ => SessionState::Closed,
        },
        changed_at: row.get(6)?,
    })
}

fn feeders(connection: &Connection, clock: &Clock) -> Result<Feeders, OutboxError> {
    let sql = "SELECT since, last FROM listening";
    let listening =
        connection.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (since, last) = listening.unzip();
    let mut found = connection.prepare_cached("SELECT feeder, reported_at FROM feeders")?;
    let reported = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Feeders { since, last, reported: reported.collect::<Result<_, _>>()?, now: clock.now() })
}

fn report(
    connection: &Connection,
    feeder: &FeederId,
    notes: &[SessionNote],
    now: Micros,
) -> Result<bool, OutboxError> {
    set_right(connection, now)?;
    let sql = "INSERT INTO listening (only_one, since, last) VALUES (1, ?1, ?1) ON CONFLICT DO UPDATE
               SET since = CASE WHEN last < ?1 - ?2 THEN ?1 ELSE since END, last = max(last, ?1)";
    connection.prepare_cached(sql)?.execute(params![now, micros(LAPSE)])?;
    let sql = "UPDATE feeders SET reported_at = ?2 WHERE feeder = ?1";
    let known = connection.prepare_cached(sql)?.execute(params![feeder, now])? == 1;
    if !known {
        let sql = "INSERT INTO feeders (feeder, reported_at) VALUES (?1, ?2)";
        connection.prepare_cached(sql)?.execute(params![feeder, now])?;
    }
    for note in notes {
        let row = SessionRow::noted(session(connection, &note.device)?.as_ref(), *feeder, note, now);
        if let Some(row) = row {
            write(connection, &row)?;
        }
    }
    Ok(known)
}

/// What was entered by a clock that was ahead, and was set back since, counts as entered now: else nobody would be missed before
/// that time had come. How long nobody listened meanwhile is not known, so listening begins anew.
fn set_right(connection: &Connection, now: Micros) -> Result<(), OutboxError> {
    let sql = "UPDATE listening SET since = ?1, last = ?1 WHERE last > ?1 + ?2";
    if connection.prepare_cached(sql)?.execute(params![now, micros(LAPSE)])? == 0 {
        return Ok(());
    }
    tracing::warn!("the clock was set back: what was known of devices from later than now counts as of now");
    let sql = "UPDATE feeders SET reported_at = ?1 WHERE reported_at > ?1";
    connection.prepare_cached(sql)?.execute([now])?;
    let sql =
        "UPDATE sessions SET opened_at = min(opened_at, ?1), heard_at = min(heard_at, ?1), changed_at = ?1
               WHERE changed_at > ?1";
    connection.prepare_cached(sql)?.execute([now])?;
    Ok(())
}

fn session(connection: &Connection, device: &DeviceId) -> rusqlite::Result<Option<SessionRow>> {
    let sql = "SELECT device, session, feeder, opened_at, heard_at, state, changed_at FROM sessions
               WHERE device = ?1";
    connection.prepare_cached(sql)?.query_row([device.as_str()], read).optional()
}

fn write(connection: &Connection, row: &SessionRow) -> rusqlite::Result<()> {
    let state = match row.state {
        SessionState::Open => 0,
        SessionState::Quiet => 1,
        SessionState::Closed => 2,
    };
    let sql =
        "INSERT OR REPLACE INTO sessions (device, session, feeder, opened_at, heard_at, state, changed_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    connection.prepare_cached(sql)?.execute(params![
        row.device.as_str(),
        row.session,
        row.feeder,
        row.opened_at,
        row.heard_at,
        state,
        row.changed_at
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::conformance::{Fixture, START};

    fn fixture() -> Fixture<dyn Presence> {
        let directory = tempfile::tempdir().unwrap();
        let (path, clock) = (directory.path().join("presence.db"), Clock::manual(START));
        let time = clock.clone();
        let open = move || Arc::new(SqlitePresence::open(&path, time.clone()).unwrap()) as Arc<dyn Presence>;
        Fixture { clock, open: Box::new(open), keep: Box::new(directory) }
    }

    crate::presence_suite!(fixture());

    /// Else a device is not missed, and a feeder that was killed counts as alive, until the time has come.
    #[tokio::test]
    async fn what_a_clock_that_was_ahead_has_left_counts_as_of_now() {
        let on = fixture();
        let presence = (on.open)();
        let bus = DeviceId::new("bus-1").unwrap();
        let note = |session, state| SessionNote {
            device: bus.clone(),
            session: [session; 16],
            opened_ago: Duration::from_secs(1),
            heard_ago: Duration::ZERO,
            state,
        };
        let day = Duration::from_secs(24 * 60 * 60);
        on.clock.set(START + micros(day));
        presence.report([1; 16], vec![note(1, SessionState::Open)]).await.unwrap();
        presence.report([2; 16], vec![]).await.unwrap();
        on.clock.set(START);
        presence.report([2; 16], vec![]).await.unwrap();
        let (rows, feeders) = presence.sessions(vec![bus.clone()]).await.unwrap();
        assert_eq!((feeders.since, feeders.last), (Some(START), Some(START)));
        assert_eq!(feeders.reported_at(&[1; 16]), Some(START), "it has time to die");
        assert_eq!((rows[0].opened_at, rows[0].heard_at, rows[0].changed_at), (START, START, START));
        // A new session is no older one, and a clock that is a little back is nothing.
        on.clock.advance(Duration::from_secs(10));
        presence.report([2; 16], vec![note(2, SessionState::Open)]).await.unwrap();
        on.clock.set(on.clock.now() - 1_000_000);
        presence.report([2; 16], vec![]).await.unwrap();
        let (rows, feeders) = presence.sessions(vec![bus]).await.unwrap();
        assert_eq!((rows[0].session, feeders.since), ([2; 16], Some(START + 10_000_000)));
    }

    #[tokio::test]
    async fn a_lapse_of_all_feeders_begins_anew() {
        let on = fixture();
        let presence = (on.open)();
        let since = async || presence.feeders().await.unwrap().since.unwrap();
        presence.report([1; 16], vec![]).await.unwrap();
        for _ in 0..5 {
            on.clock.advance(LAPSE);
            presence.report([2; 16], vec![]).await.unwrap();
        }
        assert_eq!(since().await, START, "somebody was always there");
        on.clock.advance(LAPSE + Duration::from_micros(1));
        presence.report([1; 16], vec![]).await.unwrap();
        assert_eq!(since().await, on.clock.now());
    }
}
