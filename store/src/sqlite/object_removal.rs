//! Removing rows of journal objects whose frames are in segments, in an SQLite file.

use rusqlite::{Connection, OptionalExtension, params};
use trough_protocol::limits::INT_MAX;

use crate::error::CatalogError;
use crate::segment_catalog::Through;

/// Spans that are removed in one go, and those of one more row: whoever enters a row waits for so long.
const SPANS_MAX: usize = 10_000;

/// What [`ObjectCatalog::remove_through`](crate::ObjectCatalog::remove_through) does, in a write transaction.
pub(super) fn remove(connection: &Connection, through: Through, limit: usize) -> Result<u64, CatalogError> {
    let Through { incarnation, n } = through;
    let sql = "SELECT n FROM objects WHERE incarnation = ?1 AND NOT closing ORDER BY n DESC LIMIT 1";
    let last: Option<u64> =
        connection.prepare_cached(sql)?.query_row([incarnation.0], |row| row.get(0)).optional()?;
    let Some(last) = last else { return Ok(0) };
    let sql = "SELECT object, n FROM objects WHERE incarnation = ?1 AND n <= ?2 AND NOT closing AND NOT removed \
               ORDER BY n LIMIT ?3";
    let mut select = connection.prepare_cached(sql)?;
    let rows = select.query_map(params![incarnation.0, n.min(INT_MAX), limit], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, u64>(1)?))
    })?;
    let (mut removed, mut spans) = (0, 0);
    for (object, n) in rows.collect::<Result<Vec<_>, _>>()? {
        spans += connection.prepare_cached("DELETE FROM spans WHERE object = ?1")?.execute([object])?;
        let sql = match n == last {
            true => "UPDATE objects SET removed = 1, wide = 0 WHERE object = ?1",
            false => "DELETE FROM objects WHERE object = ?1",
        };
        connection.prepare_cached(sql)?.execute([object])?;
        removed += 1;
        if spans > SPANS_MAX {
            break;
        }
    }
    // The stub of a row that was the last one once. Everything below it was removed before it.
    let sql = "DELETE FROM objects WHERE incarnation = ?1 AND n < ?2 AND removed \
               AND n = (SELECT min(n) FROM objects WHERE incarnation = ?1)";
    connection.prepare_cached(sql)?.execute(params![incarnation.0, last])?;
    Ok(removed)
}
