//! Segments, and how far journals are in them, as rows of an SQLite file.

use rusqlite::{Connection, OptionalExtension, Row, params};
use trough_protocol::Micros;

use super::devices::parsed;
use crate::error::CatalogError;
use crate::object_catalog::Incarnation;
use crate::segment_catalog::{Removed, Segment, SegmentId, Through};

const COLUMNS: &str = "segment, level, date, bytes, index_bytes, index_crc, frames, first_device, last_device, \
                       min_ts, max_ts, min_received, max_received";

/// The live segments.
pub(super) fn live(connection: &Connection) -> Result<Vec<Segment>, CatalogError> {
    let sql =
        format!("SELECT {COLUMNS} FROM segments WHERE removed_in IS NULL ORDER BY date, level, segment");
    let mut select = connection.prepare_cached(&sql)?;
    Ok(select.query_map([], read)?.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Segment> {
    Ok(Segment {
        id: SegmentId(row.get(0)?),
        level: row.get(1)?,
        date: row.get(2)?,
        bytes: row.get(3)?,
        index_bytes: row.get(4)?,
        index_crc: row.get(5)?,
        frames: row.get(6)?,
        devices: (parsed(row, 7)?, parsed(row, 8)?),
        ts: (row.get(9)?, row.get(10)?),
        received: (row.get(11)?, row.get(12)?),
    })
}

/// Whether there is a segment, live or not.
pub(super) fn has_any(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM segments LIMIT 1")?.exists([])
}

/// How far every journal is.
pub(super) fn through(connection: &Connection) -> Result<Vec<Through>, CatalogError> {
    let mut select = connection.prepare_cached("SELECT incarnation, n FROM journals ORDER BY incarnation")?;
    let read = |row: &Row<'_>| Ok(Through { incarnation: Incarnation(row.get(0)?), n: row.get(1)? });
    Ok(select.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// Adds a segment; `false` if it is known.
pub(super) fn add(connection: &Connection, segment: &Segment) -> rusqlite::Result<bool> {
    let Segment { id, level, date, bytes, index_bytes, index_crc, frames, devices, ts, received } = segment;
    let sql = format!(
        "INSERT INTO segments ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) \
         ON CONFLICT DO NOTHING"
    );
    let (low, high) = (devices.0.as_str(), devices.1.as_str());
    let values = params![
        id.0,
        level,
        date,
        bytes,
        index_bytes,
        index_crc,
        frames,
        low,
        high,
        ts.0,
        ts.1,
        received.0,
        received.1
    ];
    Ok(connection.prepare_cached(&sql)?.execute(values)? == 1)
}

/// Takes a segment out of the manifest; `false` if it is not in it.
pub(super) fn remove(
    connection: &Connection,
    id: SegmentId,
    number: u64,
    now: Micros,
) -> rusqlite::Result<bool> {
    let sql =
        "UPDATE segments SET removed_in = ?2, removed_at = ?3 WHERE segment = ?1 AND removed_in IS NULL";
    Ok(connection.prepare_cached(sql)?.execute(params![id.0, number, now])? == 1)
}

/// Moves a journal on; where it is, if that is further.
pub(super) fn go_on(connection: &Connection, through: Through) -> rusqlite::Result<Option<u64>> {
    let Through { incarnation, n } = through;
    let sql = "SELECT n FROM journals WHERE incarnation = ?1 AND n > ?2";
    let further = connection.prepare_cached(sql)?.query_row(params![incarnation.0, n], |row| row.get(0));
    if let Some(further) = further.optional()? {
        return Ok(Some(further));
    }
    let sql =
        "INSERT INTO journals (incarnation, n) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET n = excluded.n";
    connection.prepare_cached(sql)?.execute(params![incarnation.0, n])?;
    Ok(None)
}

/// Segments that are live no more.
pub(super) fn removed(
    connection: &Connection,
    limit: usize,
    now: Micros,
) -> Result<Vec<Removed>, CatalogError> {
    let sql = "SELECT segment, date, removed_at FROM segments WHERE removed_in IS NOT NULL \
               ORDER BY removed_in, segment LIMIT ?1";
    let mut select = connection.prepare_cached(sql)?;
    let read =
        |row: &Row<'_>| Ok(Removed { id: SegmentId(row.get(0)?), date: row.get(1)?, at: row.get(2)?, now });
    Ok(select.query_map([limit], read)?.collect::<Result<_, _>>()?)
}

/// Forgets those that are live no more.
pub(super) fn forget(connection: &Connection, ids: &[SegmentId]) -> Result<(), CatalogError> {
    let sql = "DELETE FROM segments WHERE segment = ?1 AND removed_in IS NOT NULL";
    let mut delete = connection.prepare_cached(sql)?;
    for id in ids {
        delete.execute([id.0])?;
    }
    Ok(())
}
