//! Which channels the registry says carry positions.

use rusqlite::{Connection, Row, params};
use trough_protocol::Channel;

use super::devices::parsed;
use crate::checks::{no_position_schema, too_many_position_schemas};
use crate::error::RegistryError;
use crate::position_schema::{POSITION_SCHEMAS_MAX, PositionSchema};

fn read(row: &Row<'_>) -> rusqlite::Result<Result<PositionSchema, RegistryError>> {
    let (lat, lon): (String, String) = (row.get(1)?, row.get(2)?);
    Ok(PositionSchema::new(parsed(row, 0)?, &lat, &lon))
}

/// Says that a channel carries positions.
pub(super) fn set(connection: &Connection, schema: &PositionSchema) -> Result<(), RegistryError> {
    let channel = schema.channel().as_str();
    let sql = "SELECT count(*) FROM position_schemas WHERE channel <> ?1";
    let others: usize = connection.prepare_cached(sql)?.query_row([channel], |row| row.get(0))?;
    if others >= POSITION_SCHEMAS_MAX {
        return Err(too_many_position_schemas());
    }
    let sql = "INSERT OR REPLACE INTO position_schemas (channel, lat, lon) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute(params![channel, schema.lat(), schema.lon()])?;
    Ok(())
}

/// All of them, by channel.
pub(super) fn list(connection: &Connection) -> Result<Vec<PositionSchema>, RegistryError> {
    let sql = "SELECT channel, lat, lon FROM position_schemas ORDER BY channel";
    let rows: Vec<_> = connection.prepare_cached(sql)?.query_map([], read)?.collect::<Result<_, _>>()?;
    rows.into_iter().collect()
}

/// Says that a channel carries none.
pub(super) fn remove(connection: &Connection, channel: &Channel) -> Result<(), RegistryError> {
    let sql = "DELETE FROM position_schemas WHERE channel = ?1";
    let removed = connection.prepare_cached(sql)?.execute([channel.as_str()])?;
    if removed == 0 { Err(no_position_schema(channel)) } else { Ok(()) }
}
