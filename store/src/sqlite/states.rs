//! What rules know of devices.

use rusqlite::{Connection, Row, params};

use super::devices::parsed;
use crate::names::RuleName;
use crate::outbox::{OutboxError, Shard, WatchState};
use trough_protocol::DeviceId;

fn read(row: &Row<'_>) -> rusqlite::Result<WatchState> {
    Ok(WatchState {
        device: parsed(row, 0)?,
        rule: parsed(row, 1)?,
        version: row.get(2)?,
        state: row.get(3)?,
    })
}

/// Those of a part, by device and rule.
pub(super) fn list(
    connection: &Connection,
    shard: Shard,
    after: Option<&(DeviceId, RuleName)>,
    limit: usize,
) -> Result<Vec<WatchState>, OutboxError> {
    let sql = "SELECT device, rule, version, state FROM states WHERE duty = ?1 AND shard = ?2 \
               AND (device, rule) > (?3, ?4) ORDER BY device, rule LIMIT ?5";
    // Neither a device nor a rule has an empty name.
    let (device, rule) = after.map_or(("", ""), |(device, rule)| (device.as_str(), rule.as_str()));
    let values = params![shard.duty.as_str(), shard.number, device, rule, limit];
    Ok(connection.prepare_cached(sql)?.query_map(values, read)?.collect::<Result<_, _>>()?)
}

/// Notes states; empty ones are forgotten.
pub(super) fn set(connection: &Connection, shard: Shard, states: &[WatchState]) -> Result<(), OutboxError> {
    let remove = "DELETE FROM states WHERE duty = ?1 AND shard = ?2 AND device = ?3 AND rule = ?4";
    let put = "INSERT OR REPLACE INTO states (duty, shard, device, rule, version, state) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let (duty, number) = (shard.duty.as_str(), shard.number);
    for WatchState { device, rule, version, state } in states {
        let (device, rule) = (device.as_str(), rule.as_str());
        if state.is_empty() {
            connection.prepare_cached(remove)?.execute(params![duty, number, device, rule])?;
        } else {
            let values = params![duty, number, device, rule, version, state];
            connection.prepare_cached(put)?.execute(values)?;
        }
    }
    Ok(())
}
