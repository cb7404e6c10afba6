//! Events of the outbox.

use rusqlite::{Connection, OptionalExtension, Row, params};
use trough_protocol::{DeviceId, Micros};

use super::json::{from_json, to_json};
use crate::event::{Event, EventId};
use crate::outbox::{Claim, Duty, EnteredEvent, EventFilter, OutboxError, PAGE_MAX, Shard, check};

fn read(row: &Row<'_>) -> rusqlite::Result<EnteredEvent> {
    Ok(EnteredEvent { event: from_json(row, 0)?, entered_at: row.get(1)? })
}

/// Enters those that are not there.
pub(super) fn enter(connection: &Connection, events: &[Event], now: Micros) -> Result<(), OutboxError> {
    let sql = "INSERT INTO events (id, shard, entered_at, kind, device, event) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
               ON CONFLICT (id) DO NOTHING";
    let mut insert = connection.prepare_cached(sql)?;
    for event in events {
        let device = event.device.as_ref().map(DeviceId::as_str);
        let shard = Shard::of_event(event).number;
        insert.execute(params![event.id.0, shard, now, event.kind.as_str(), device, to_json(event)?])?;
    }
    Ok(())
}

/// Those of a part that are not routed, in order.
pub(super) fn unrouted(
    connection: &Connection,
    shard: u16,
    limit: usize,
) -> Result<Vec<EnteredEvent>, OutboxError> {
    let sql = "SELECT event, entered_at FROM events WHERE shard = ?1 AND NOT routed ORDER BY n LIMIT ?2";
    let mut select = connection.prepare_cached(sql)?;
    Ok(select.query_map(params![shard, limit], read)?.collect::<Result<_, _>>()?)
}

/// Notes that these are routed. Those that are forgotten were.
pub(super) fn set_routed(
    connection: &Connection,
    claim: Claim,
    events: &[EventId],
) -> Result<(), OutboxError> {
    let mut update =
        connection.prepare_cached("UPDATE events SET routed = 1 WHERE id = ?1 RETURNING shard")?;
    for id in events {
        let number: Option<u16> = update.query_row([id.0], |row| row.get(0)).optional()?;
        let shard = number.map_or(claim.shard, |number| Shard { duty: Duty::Route, number });
        check::belongs(claim, shard, format_args!("event {id}"))?;
    }
    Ok(())
}

/// A page of them, newest first.
pub(super) fn list(connection: &Connection, filter: &EventFilter) -> Result<Vec<EnteredEvent>, OutboxError> {
    let limit = filter.limit.min(PAGE_MAX);
    let Some(devices) = &filter.devices else {
        return Ok(newest_of(connection, None, filter, limit)?.into_iter().map(|(_, event)| event).collect());
    };
    let mut newest = Vec::new();
    // Each in the order of its index, so that nothing is read that cannot be on the page.
    for device in devices {
        newest.extend(newest_of(connection, Some(device), filter, limit)?);
        if newest.len() > 4 * PAGE_MAX {
            cut(&mut newest, limit);
        }
    }
    cut(&mut newest, limit);
    Ok(newest.into_iter().map(|(_, event)| event).collect())
}

/// Events with their places among all.
type Newest = Vec<((Micros, [u8; 16]), EnteredEvent)>;

fn cut(newest: &mut Newest, limit: usize) {
    newest.sort_by(|(a, _), (b, _)| b.cmp(a));
    // Of a device that is named twice.
    newest.dedup_by(|(a, _), (b, _)| a == b);
    newest.truncate(limit);
}

fn newest_of(
    connection: &Connection,
    device: Option<&DeviceId>,
    filter: &EventFilter,
    limit: usize,
) -> Result<Newest, OutboxError> {
    // Each has an index of its own, and devices have few events of other kinds.
    let condition = match (device, filter.kind) {
        (Some(_), _) => "device = ?1 AND kind = coalesce(?2, kind)",
        (None, Some(_)) => "kind = ?2 AND ?1 IS NULL",
        (None, None) => "?1 IS NULL AND ?2 IS NULL",
    };
    let (at, id) =
        filter.before.map_or((i64::MAX, [0; 16]), |(at, id)| (at.try_into().unwrap_or(i64::MAX), id.0));
    let sql = format!(
        "SELECT event, entered_at FROM events WHERE {condition} AND (entered_at, id) < (?3, ?4) \
         ORDER BY entered_at DESC, id DESC LIMIT ?5"
    );
    let values = params![device.map(DeviceId::as_str), filter.kind.map(|kind| kind.as_str()), at, id, limit];
    let placed = |row: &Row<'_>| {
        let event = read(row)?;
        Ok(((event.entered_at, event.event.id.0), event))
    };
    Ok(connection.prepare_cached(&sql)?.query_map(values, placed)?.collect::<Result<_, _>>()?)
}

/// Forgets some that were entered before, and are routed.
pub(super) fn forget(connection: &Connection, before: Micros, limit: usize) -> Result<usize, OutboxError> {
    let sql = "DELETE FROM events WHERE n IN (SELECT n FROM events WHERE entered_at < ?1 AND routed \
               ORDER BY entered_at LIMIT ?2)";
    Ok(connection.prepare_cached(sql)?.execute(params![before, limit])?)
}
