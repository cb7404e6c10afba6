//! Deliveries of the outbox as rows.

use rusqlite::{Connection, OptionalExtension, Row, params};
use trough_protocol::Micros;

use super::json::from_json;
use crate::outbox::{Delivery, DeliveryFilter, DeliveryId, DeliveryState, OutboxError, PAGE_MAX};
use crate::subscription::{PushTokenId, SubscriptionId};

const COLUMNS: &str = "id, subscription, phone, position, event, events, state, attempts, next_at, last, created_at, \
                       finished_at, attempts_before_replay";

/// As it is stored.
pub(super) fn number(state: DeliveryState) -> i64 {
    match state {
        DeliveryState::Pending => 0,
        DeliveryState::Delivered => 1,
        DeliveryState::Dead => 2,
        DeliveryState::Dropped => 3,
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    let stored: i64 = row.get(6)?;
    let state = DeliveryState::ALL.into_iter().find(|state| number(*state) == stored);
    Ok(Delivery {
        id: DeliveryId(row.get(0)?),
        subscription: SubscriptionId(row.get(1)?),
        phone: row.get::<_, Option<[u8; 16]>>(2)?.map(PushTokenId),
        position: row.get(3)?,
        event: from_json(row, 4)?,
        events: row.get(5)?,
        state: state.ok_or(rusqlite::Error::IntegralValueOutOfRange(6, stored))?,
        attempts: row.get(7)?,
        next_at: row.get(8)?,
        last: row.get(9)?,
        created_at: row.get(10)?,
        finished_at: row.get(11)?,
        attempts_before_replay: row.get(12)?,
    })
}

/// One of them.
pub(super) fn find(connection: &Connection, id: DeliveryId) -> Result<Option<Delivery>, OutboxError> {
    let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE id = ?1");
    Ok(connection.prepare_cached(&sql)?.query_row([id.0], read).optional()?)
}

/// The first of a subscription that wait, but for those to some phones.
pub(super) fn pending(
    connection: &Connection,
    subscription: SubscriptionId,
    without: &[PushTokenId],
    limit: usize,
    now: Micros,
) -> Result<Vec<Delivery>, OutboxError> {
    let without: Vec<String> = without.iter().map(|phone| hex(&phone.0)).collect();
    let without = serde_json::Value::from(without).to_string();
    // Two queries, so that each ends with the last row that it returns.
    let select = |held: bool, limit: usize| {
        let is = if held { "" } else { "NOT" };
        let sql = format!(
            "SELECT {COLUMNS} FROM deliveries WHERE subscription = ?1 AND state = 0 \
             AND {is} (attempts = 0 AND next_at > ?2) \
             AND hex(phone) NOT IN (SELECT value FROM json_each(?4)) ORDER BY position LIMIT ?3"
        );
        let mut select = connection.prepare_cached(&sql)?;
        let values = params![subscription.0, now, limit, without];
        Ok::<Vec<_>, OutboxError>(select.query_map(values, read)?.collect::<Result<_, _>>()?)
    };
    let mut pending = select(false, limit)?;
    let left = limit.saturating_sub(pending.len());
    if left > 0 {
        pending.extend(select(true, left)?);
    }
    Ok(pending)
}

/// As SQLite's function of this name has it.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// A page of them, newest first.
pub(super) fn list(connection: &Connection, filter: &DeliveryFilter) -> Result<Vec<Delivery>, OutboxError> {
    let limit = filter.limit.min(PAGE_MAX);
    let states = filter.state.map_or(DeliveryState::ALL.to_vec(), |state| vec![state]);
    let mut newest = Vec::new();
    // Each in the order of its index, so that nothing is read that cannot be on the page.
    for state in states {
        match &filter.subscriptions {
            None => newest.extend(newest_of(connection, None, state, filter, limit)?),
            Some(subscriptions) => {
                for subscription in subscriptions {
                    newest.extend(newest_of(connection, Some(*subscription), state, filter, limit)?);
                    if newest.len() > 4 * PAGE_MAX {
                        cut(&mut newest, limit);
                    }
                }
            }
        }
    }
    cut(&mut newest, limit);
    let found = newest.into_iter().map(|(_, id)| find(connection, DeliveryId(id)));
    // One that was forgotten since is on no page.
    found.filter_map(Result::transpose).collect()
}

type Newest = Vec<(i64, [u8; 16])>;

fn cut(newest: &mut Newest, limit: usize) {
    newest.sort_unstable_by(|a, b| b.cmp(a));
    newest.dedup();
    newest.truncate(limit);
}

fn newest_of(
    connection: &Connection,
    subscription: Option<SubscriptionId>,
    state: DeliveryState,
    filter: &DeliveryFilter,
    limit: usize,
) -> Result<Newest, OutboxError> {
    let of = if subscription.is_some() { "subscription = ?1 AND" } else { "?1 IS NULL AND" };
    let sql = format!(
        "SELECT created_at, id FROM deliveries WHERE {of} state = ?2 AND (created_at, id) < (?3, ?4) \
         ORDER BY created_at DESC, id DESC LIMIT ?5"
    );
    let end = |(at, id): (Micros, DeliveryId)| (at.try_into().unwrap_or(i64::MAX), id.0);
    let (at, id) = filter.before.map_or((i64::MAX, [0; 16]), end);
    let values = params![subscription.map(|id| id.0), number(state), at, id, limit];
    let mut select = connection.prepare_cached(&sql)?;
    Ok(select.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
}
