//! What journal objects hold of each device, in an SQLite file.

use rusqlite::{Connection, Row, params};
use trough_protocol::limits::INT_MAX;
use trough_protocol::{Epoch, Seq};

use super::devices::parsed;
use crate::error::CatalogError;
use crate::object_catalog::{DeviceSpan, Found, Incarnation, ObjectId, SPANS_MAX, SpanQuery};

/// Enters the spans of an object's row.
pub(super) fn insert(connection: &Connection, object: i64, spans: &[DeviceSpan]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO spans (object, device, epoch, first, last, frames, min_ts, max_ts) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let mut insert = connection.prepare_cached(sql)?;
    for DeviceSpan { device, epoch, first, last, frames, ts } in spans {
        insert.execute(params![object, device.as_str(), epoch.0, first.0, last.0, frames, ts.0, ts.1])?;
    }
    Ok(())
}

/// The spans of an object's row.
pub(super) fn of_object(connection: &Connection, object: i64) -> rusqlite::Result<Vec<DeviceSpan>> {
    let sql = format!("SELECT {COLUMNS} FROM spans s WHERE s.object = ?1 ORDER BY s.device, s.epoch");
    let mut select = connection.prepare_cached(&sql)?;
    select.query_map([object], |row| read(row, 0))?.collect()
}

/// What [`ObjectCatalog::spans`](crate::ObjectCatalog::spans) answers.
pub(super) fn find(connection: &Connection, query: &SpanQuery) -> Result<Vec<Found>, CatalogError> {
    let limit = query.limit.min(SPANS_MAX);
    let mut select = connection.prepare_cached(
        "SELECT incarnation, n, bytes, received_at FROM objects WHERE wide = 1 \
         ORDER BY received_at, incarnation, n LIMIT ?1",
    )?;
    let wide = select.query_map([limit], |row| read_found(row, None))?;
    let mut found = wide.collect::<Result<Vec<_>, _>>()?;

    let sql = format!(
        "SELECT o.incarnation, o.n, o.bytes, o.received_at, {COLUMNS} \
         FROM spans s JOIN objects o ON o.object = s.object \
         WHERE s.device = ?1 AND (s.epoch, s.last) > (?2, ?3) AND (s.epoch, s.first) < (?4, ?5) AND o.wide = 0 \
         ORDER BY s.epoch, s.first, o.received_at, o.incarnation, o.n LIMIT ?6"
    );
    let fits = |(epoch, seq): (Epoch, Seq)| (epoch.0.min(INT_MAX + 1), seq.0.min(INT_MAX + 1));
    let after = query.after.map_or((0, 0), fits);
    let before = query.before.map_or((INT_MAX + 1, 0), fits);
    let mut select = connection.prepare_cached(&sql)?;
    let (device, rest) = (query.device.as_str(), limit - found.len());
    let bounds = params![device, after.0, after.1, before.0, before.1, rest];
    let listed = select.query_map(bounds, |row| read_found(row, Some(read(row, 4)?)))?;
    found.extend(listed.collect::<Result<Vec<_>, _>>()?);
    Ok(found)
}

const COLUMNS: &str = "s.device, s.epoch, s.first, s.last, s.frames, s.min_ts, s.max_ts";

/// [`COLUMNS`], from this one on.
fn read(row: &Row<'_>, at: usize) -> rusqlite::Result<DeviceSpan> {
    Ok(DeviceSpan {
        device: parsed(row, at)?,
        epoch: Epoch(row.get(at + 1)?),
        first: Seq(row.get(at + 2)?),
        last: Seq(row.get(at + 3)?),
        frames: row.get(at + 4)?,
        ts: (row.get(at + 5)?, row.get(at + 6)?),
    })
}

fn read_found(row: &Row<'_>, span: Option<DeviceSpan>) -> rusqlite::Result<Found> {
    let id = ObjectId { incarnation: Incarnation(row.get(0)?), n: row.get(1)? };
    Ok(Found { id, bytes: row.get(2)?, received_at: row.get(3)?, span })
}
