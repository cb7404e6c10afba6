//! The catalog of journal objects in an SQLite file.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};
use trough_protocol::limits::INT_MAX;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_runtime::clock::Clock;

use super::database::{Database, OpenError, Schema};
use super::devices::parsed;
use super::pool::Pool;
use super::writer::Writer;
use super::{object_removal, spans};
use crate::BoxFuture;
use crate::error::CatalogError;
use crate::object_catalog::{
    AppendError, DeviceHead, Found, HEADS_MAX, Incarnation, IncarnationState, LostLife, ObjectCatalog,
    ObjectId, ObjectRow, ROWS_MAX, SpanQuery,
};
use crate::segment_catalog::Through;

static SCHEMA: Schema = Schema {
    name: "catalog of objects",
    application_id: 0x5472_4f62, // "TrOb"
    // A row that was acknowledged must outlive a power cut.
    synchronous: "FULL",
    migrations: &[include_str!("object_catalog-1.sql"), include_str!("object_catalog-2.sql")],
};

/// Connections that read: every read of frames asks.
const READERS: usize = 4;

/// A catalog of journal objects in one file. Dropping it finishes what was begun; that blocks for one commit at most.
#[derive(Debug)]
pub struct SqliteObjectCatalog {
    pool: Pool,
    writer: Writer,
    clock: Clock,
}

impl SqliteObjectCatalog {
    /// Opens the file, or makes it (mode 0600) in a directory that exists. Blocking, for a few milliseconds.
    ///
    /// # Errors
    /// [`OpenError`]: no access, a newer schema, another kind of file.
    pub fn open(path: &Path, clock: Clock) -> Result<Self, OpenError> {
        let database = Database::open(path, &SCHEMA)?;
        let no_thread = |source| OpenError::Io { name: SCHEMA.name, path: path.to_owned(), source };
        Ok(Self {
            pool: Pool::open(&database, READERS)?,
            writer: Writer::start(database.connect()?, SCHEMA.name).map_err(no_thread)?,
            clock,
        })
    }
}

impl ObjectCatalog for SqliteObjectCatalog {
    fn open<'a>(&'a self, incarnation: Incarnation) -> BoxFuture<'a, Result<(), CatalogError>> {
        let now = self.clock.now();
        Box::pin(self.writer.run(move |connection| {
            make_known(connection, incarnation, now)?;
            beat(connection, incarnation, now)?;
            Ok(())
        }))
    }

    fn heartbeat<'a>(&'a self, incarnation: Incarnation) -> BoxFuture<'a, Result<(), AppendError>> {
        let now = self.clock.now();
        Box::pin(self.writer.run(move |connection| match end(connection, incarnation)? {
            End::Closed(_) => Err(AppendError::Closed(incarnation)),
            End::Open(_) if beat(connection, incarnation, now)? => Ok(()),
            End::Open(_) => Err(incarnation.never_opened().into()),
        }))
    }

    fn append<'a>(&'a self, row: &'a ObjectRow) -> BoxFuture<'a, Result<(), AppendError>> {
        Box::pin(async move {
            row.check()?;
            let row = row.clone();
            self.writer.run(move |connection| append(connection, &row)).await
        })
    }

    fn close<'a>(&'a self, incarnation: Incarnation) -> BoxFuture<'a, Result<u64, CatalogError>> {
        let now = self.clock.now();
        Box::pin(self.writer.run(move |connection| {
            make_known(connection, incarnation, now)?;
            let last = match end(connection, incarnation)? {
                End::Closed(last) => return Ok(last),
                End::Open(last) => last,
            };
            let sql = "INSERT INTO objects (incarnation, n, closing, bytes, crc, received_at, wide) \
                       VALUES (?1, ?2, 1, 0, 0, 0, 0)";
            connection.prepare_cached(sql)?.execute(params![incarnation.0, last + 1])?;
            Ok(last)
        }))
    }

    fn incarnations(&self) -> BoxFuture<'_, Result<Vec<IncarnationState>, CatalogError>> {
        let clock = self.clock.clone();
        Box::pin(self.pool.run(move |connection| {
            let sql = "SELECT incarnation, heartbeat_at FROM incarnations ORDER BY incarnation";
            let mut select = connection.prepare_cached(sql)?;
            let known = select.query_map([], |row| Ok((Incarnation(row.get(0)?), row.get(1)?)))?;
            let known = known.collect::<Result<Vec<(Incarnation, Micros)>, _>>()?;
            let state = |(incarnation, heartbeat_at)| {
                let (last, closed) = match end(connection, incarnation)? {
                    End::Open(last) => (last, false),
                    End::Closed(last) => (last, true),
                };
                Ok(IncarnationState { incarnation, heartbeat_at, now: clock.now(), last, closed })
            };
            known.into_iter().map(state).collect()
        }))
    }

    fn spans<'a>(&'a self, query: &'a SpanQuery) -> BoxFuture<'a, Result<Vec<Found>, CatalogError>> {
        let query = query.clone();
        Box::pin(self.pool.run(move |connection| spans::find(connection, &query)))
    }

    fn rows<'a>(
        &'a self,
        incarnation: Incarnation,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectRow>, CatalogError>> {
        Box::pin(self.pool.run(move |connection| {
            let sql = format!(
                "{SELECT_ROW} WHERE incarnation = ?1 AND n > ?2 AND NOT closing AND NOT removed \
                 ORDER BY n LIMIT ?3"
            );
            let mut select = connection.prepare_cached(&sql)?;
            let page = params![incarnation.0, after.min(INT_MAX), limit.min(ROWS_MAX)];
            let stored = select.query_map(page, Stored::read)?.collect::<Result<Vec<_>, _>>()?;
            stored.into_iter().map(|stored| stored.into_row(connection)).collect()
        }))
    }

    fn remove_through(&self, through: Through, limit: usize) -> BoxFuture<'_, Result<u64, CatalogError>> {
        Box::pin(
            self.writer
                .run(move |connection| object_removal::remove(connection, through, limit.min(ROWS_MAX))),
        )
    }

    fn restore<'a>(&'a self, life: &'a LostLife) -> BoxFuture<'a, Result<bool, CatalogError>> {
        Box::pin(async move {
            life.check()?;
            let life = life.clone();
            self.writer.run(move |connection| restore(connection, &life)).await
        })
    }

    fn note_heads<'a>(&'a self, heads: &'a [DeviceHead]) -> BoxFuture<'a, Result<(), CatalogError>> {
        Box::pin(async move {
            heads.iter().try_for_each(DeviceHead::check)?;
            let heads = heads.to_vec();
            self.writer.run(move |connection| note(connection, &heads)).await
        })
    }

    fn heads<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Vec<DeviceHead>, CatalogError>> {
        let device = device.clone();
        Box::pin(self.pool.run(move |connection| {
            let sql = "SELECT device, epoch, head, received_at FROM heads WHERE device = ?1 ORDER BY epoch";
            let mut select = connection.prepare_cached(sql)?;
            Ok(select.query_map([device.as_str()], read_head)?.collect::<Result<_, _>>()?)
        }))
    }

    fn device_heads(
        &self,
        after: Option<DeviceId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeviceHead>, CatalogError>> {
        Box::pin(self.pool.run(move |connection| {
            // Beside max() the other columns come from the row that has it (SQLite, "Bare columns in an aggregate
            // query").
            let sql = "SELECT device, max(epoch), head, received_at FROM heads WHERE device > ?1 \
                       GROUP BY device ORDER BY device LIMIT ?2";
            let after = after.as_ref().map_or("", DeviceId::as_str);
            let mut select = connection.prepare_cached(sql)?;
            let page = select.query_map(params![after, limit.min(HEADS_MAX)], read_head)?;
            Ok(page.collect::<Result<_, _>>()?)
        }))
    }
}

/// The number of an incarnation's last object, and whether anything may follow it.
enum End {
    Open(u64),
    Closed(u64),
}

fn end(connection: &Connection, incarnation: Incarnation) -> rusqlite::Result<End> {
    let sql = "SELECT n, closing FROM objects WHERE incarnation = ?1 ORDER BY n DESC LIMIT 1";
    let read = |row: &Row<'_>| Ok((row.get::<_, u64>(0)?, row.get(1)?));
    let last = connection.prepare_cached(sql)?.query_row([incarnation.0], read).optional()?;
    Ok(match last {
        None => End::Open(0),
        Some((n, false)) => End::Open(n),
        Some((n, true)) => End::Closed(n - 1),
    })
}

fn make_known(connection: &Connection, incarnation: Incarnation, now: Micros) -> rusqlite::Result<()> {
    let sql = "INSERT INTO incarnations (incarnation, heartbeat_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![incarnation.0, now])?;
    Ok(())
}

/// Whether it is known.
fn beat(connection: &Connection, incarnation: Incarnation, now: Micros) -> rusqlite::Result<bool> {
    let sql = "UPDATE incarnations SET heartbeat_at = ?2 WHERE incarnation = ?1";
    Ok(connection.prepare_cached(sql)?.execute(params![incarnation.0, now])? == 1)
}

/// In a write transaction, so that nobody enters or closes anything meanwhile.
fn append(connection: &Connection, row: &ObjectRow) -> Result<(), AppendError> {
    let ObjectId { incarnation, n } = row.id;
    match end(connection, incarnation)? {
        End::Closed(last) | End::Open(last) if n <= last => {
            let sql = format!("{SELECT_ROW} WHERE incarnation = ?1 AND n = ?2");
            let mut select = connection.prepare_cached(&sql)?;
            let stored = select.query_row(params![incarnation.0, n], Stored::read).optional()?;
            let stored = stored.ok_or(AppendError::Removed(row.id))?;
            if stored.is(connection, row)? { Ok(()) } else { Err(AppendError::Taken(row.id)) }
        }
        End::Closed(_) => Err(AppendError::Closed(incarnation)),
        End::Open(last) if n > last + 1 => Err(row.id.out_of_turn(last).into()),
        End::Open(_) if !is_known(connection, incarnation)? => Err(incarnation.never_opened().into()),
        End::Open(_) => Ok(insert(connection, row)?),
    }
}

/// In a write transaction. It was heard last in 1970: what it has left beside its rows is for a person to look at.
fn restore(connection: &Connection, life: &LostLife) -> Result<bool, CatalogError> {
    let LostLife { incarnation, removed, rows } = life;
    if is_known(connection, *incarnation)? {
        return Ok(false);
    }
    make_known(connection, *incarnation, 0)?;
    let sql = "INSERT INTO objects (incarnation, n, closing, bytes, crc, received_at, wide, removed) \
               VALUES (?1, ?2, ?3, 0, 0, 0, 0, ?4)";
    let mut insert_empty = connection.prepare_cached(sql)?;
    if *removed > 0 {
        insert_empty.execute(params![incarnation.0, removed, false, true])?;
    }
    for row in rows {
        insert(connection, row)?;
    }
    insert_empty.execute(params![incarnation.0, life.last() + 1, true, false])?;
    Ok(true)
}

fn is_known(connection: &Connection, incarnation: Incarnation) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM incarnations WHERE incarnation = ?1";
    connection.prepare_cached(sql)?.exists([incarnation.0])
}

fn insert(connection: &Connection, row: &ObjectRow) -> rusqlite::Result<()> {
    let ObjectRow { id: ObjectId { incarnation, n }, bytes, crc, received_at, wide, .. } = *row;
    let sql = "INSERT INTO objects (incarnation, n, closing, bytes, crc, received_at, wide) \
               VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6)";
    let row_of = params![incarnation.0, n, bytes, crc, received_at, wide];
    connection.prepare_cached(sql)?.execute(row_of)?;
    spans::insert(connection, connection.last_insert_rowid(), &row.spans)
}

const SELECT_ROW: &str = "SELECT object, incarnation, n, bytes, crc, received_at, wide, removed FROM objects";

/// A row without its spans, and where those are.
struct Stored {
    object: i64,
    row: ObjectRow,
    /// It is a stub.
    removed: bool,
}

impl Stored {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let id = ObjectId { incarnation: Incarnation(row.get(1)?), n: row.get(2)? };
        let (bytes, crc, received_at, wide) = (row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?);
        let row_of = ObjectRow { id, bytes, crc, received_at, spans: Vec::new(), wide };
        Ok(Self { object: row.get(0)?, row: row_of, removed: row.get(7)? })
    }

    /// Whether it is this row's, which was entered before. A stub tells by what it has kept.
    fn is(self, connection: &Connection, row: &ObjectRow) -> Result<bool, CatalogError> {
        let marks = |row: &ObjectRow| (row.bytes, row.crc, row.received_at);
        Ok(marks(&self.row) == marks(row) && (self.removed || self.into_row(connection)? == *row))
    }

    fn into_row(self, connection: &Connection) -> Result<ObjectRow, CatalogError> {
        Ok(ObjectRow { spans: spans::of_object(connection, self.object)?, ..self.row })
    }
}

fn note(connection: &Connection, heads: &[DeviceHead]) -> Result<(), CatalogError> {
    let sql = "INSERT INTO heads (device, epoch, head, received_at) VALUES (?1, ?2, ?3, ?4) \
               ON CONFLICT (device, epoch) DO UPDATE SET head = excluded.head, received_at = excluded.received_at \
               WHERE (excluded.head, excluded.received_at) > (head, received_at)";
    let mut insert = connection.prepare_cached(sql)?;
    for DeviceHead { device, epoch, head, received_at } in heads {
        insert.execute(params![device.as_str(), epoch.0, head.0, received_at])?;
    }
    Ok(())
}

fn read_head(row: &Row<'_>) -> rusqlite::Result<DeviceHead> {
    Ok(DeviceHead {
        device: parsed(row, 0)?,
        epoch: Epoch(row.get(1)?),
        head: Seq(row.get(2)?),
        received_at: row.get(3)?,
    })
}
