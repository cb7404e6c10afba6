//! Making deliveries, and what becomes of them, in write transactions.

use rusqlite::{Connection, OptionalExtension, params};
use trough_protocol::Micros;
use trough_protocol::limits::INT_MAX;

use super::delivery_rows::{find, number};
use super::json::to_json;
use super::queues::Queues;
use crate::outbox::slot::{Slot, is_open};
use crate::outbox::{
    Attempt, Claim, Delivery, DeliveryId, DeliveryState, NewDelivery, OutboxError, Outcome, PENDING_MAX,
    Queue, Shard, check,
};
use crate::subscription::SubscriptionId;

/// Makes those that were not made; the subscriptions of which too many wait.
pub(super) fn make(
    connection: &Connection,
    deliveries: Vec<NewDelivery>,
    now: Micros,
) -> Result<Vec<SubscriptionId>, OutboxError> {
    let mut queues = Queues::default();
    for new in deliveries {
        // Looked at in any case: whoever routes again is told again.
        queues.of(connection, new.subscription)?;
        if is_made(connection, new.id())? {
            continue;
        }
        match &new.key {
            _ if new.dropped.is_some() => insert(connection, &mut queues, &new, now, now)?,
            None => insert(connection, &mut queues, &new, now.max(new.not_before), now)?,
            Some(key) => insert_keyed(connection, &mut queues, &new, key, now)?,
        }
    }
    queues.save(connection, now)
}

/// Makes one without a key, now.
pub(super) fn make_test(
    connection: &Connection,
    new: &NewDelivery,
    now: Micros,
) -> Result<DeliveryId, OutboxError> {
    let id = new.id();
    if is_made(connection, id)? {
        return Ok(id);
    }
    let mut queues = Queues::default();
    let queue = queues.of(connection, new.subscription)?;
    if queue.is_full() {
        return Err(check::full(new.subscription, queue.pending, PENDING_MAX));
    }
    insert(connection, &mut queues, new, now, now)?;
    queues.save(connection, now)?;
    Ok(id)
}

fn is_made(connection: &Connection, id: DeliveryId) -> Result<bool, OutboxError> {
    let sql = "SELECT 1 FROM deliveries WHERE id = ?1 UNION ALL SELECT 1 FROM merged WHERE id = ?1";
    Ok(connection.prepare_cached(sql)?.exists([id.0])?)
}

/// Has a delivery that is held take the event, or makes one that waits until others of its key are long enough ago.
fn insert_keyed(
    connection: &Connection,
    queues: &mut Queues,
    new: &NewDelivery,
    key: &str,
    now: Micros,
) -> Result<(), OutboxError> {
    let phone: &[u8] = new.phone.as_ref().map_or(&[], |phone| &phone.0);
    let sql = "SELECT k.free_at, k.delivery, d.next_at FROM keys k LEFT JOIN deliveries d \
               ON d.id = k.delivery AND d.state = 0 AND d.attempts = 0 \
               WHERE k.subscription = ?1 AND k.phone = ?2 AND k.name = ?3";
    let found: Option<(Micros, [u8; 16], Option<Micros>)> = connection
        .prepare_cached(sql)?
        .query_row(params![new.subscription.0, phone, key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    if let Some((_, held, Some(next_at))) = found
        && is_open(now, next_at, new.every)
    {
        let sql =
            "UPDATE deliveries SET event = ?2, events = events + 1, next_at = max(next_at, ?3) WHERE id = ?1";
        connection.prepare_cached(sql)?.execute(params![held, to_json(&new.event)?, new.not_before])?;
        let sql = "INSERT INTO merged (id, delivery) VALUES (?1, ?2)";
        connection.prepare_cached(sql)?.execute(params![new.id().0, held])?;
        return Ok(());
    }
    if queues.of(connection, new.subscription)?.is_full() {
        return insert(connection, queues, new, now, now);
    }
    let slot = Slot::of(now, found.map(|(free_at, ..)| free_at), new.not_before, new.every);
    insert(connection, queues, new, slot.at, now)?;
    let sql = "INSERT OR REPLACE INTO keys (subscription, phone, name, free_at, delivery) VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![new.subscription.0, phone, key, slot.free_at, new.id().0];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// Enters a delivery at the end of its queue, unless that is full. What is dropped needs no room, and what is made for one that
/// is not to be disabled for being full is dropped.
fn insert(
    connection: &Connection,
    queues: &mut Queues,
    new: &NewDelivery,
    next_at: Micros,
    now: Micros,
) -> Result<(), OutboxError> {
    let mut dropped = new.dropped.clone();
    let queue = queues.of(connection, new.subscription)?;
    if dropped.is_none() && queue.is_full() {
        if queue.is_over(now) {
            return Ok(());
        }
        dropped = Some(check::queue_full(PENDING_MAX));
    }
    if let (None, Some(phone)) = (&dropped, new.phone) {
        let waiting = queues.of_phone(connection, new.subscription, phone)?;
        match check::phone_is_full(*waiting, PENDING_MAX) {
            true => dropped = Some(check::phone_full(PENDING_MAX)),
            false => *waiting += 1,
        }
    }
    let queue = queues.of(connection, new.subscription)?;
    let state = if dropped.is_some() { DeliveryState::Dropped } else { DeliveryState::Pending };
    queue.pending += u64::from(state == DeliveryState::Pending);
    let sql = "INSERT INTO deliveries \
               (id, subscription, phone, position, state, next_at, last, created_at, finished_at, event) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    connection.prepare_cached(sql)?.execute(params![
        new.id().0,
        new.subscription.0,
        new.phone.map(|phone| phone.0),
        queue.next(),
        number(state),
        next_at,
        dropped.as_deref().map(check::said),
        now,
        dropped.as_ref().map(|_| now),
        to_json(&new.event)?
    ])?;
    Ok(())
}

/// The queues of a part in which something waits.
pub(super) fn queues(connection: &Connection, shard: u16) -> Result<Vec<Queue>, OutboxError> {
    let sql = "SELECT subscription, pending, resumed_at FROM queues WHERE shard = ?1 AND pending > 0 ORDER BY subscription";
    let mut select = connection.prepare_cached(sql)?;
    let read = |row: &rusqlite::Row<'_>| {
        let subscription = SubscriptionId(row.get(0)?);
        Ok(Queue { subscription, pending: row.get(1)?, resumed_at: row.get(2)? })
    };
    Ok(select.query_map([shard], read)?.collect::<Result<_, _>>()?)
}

/// Notes what tries came to.
pub(super) fn note(
    connection: &Connection,
    claim: Claim,
    attempts: &[Attempt],
    now: Micros,
) -> Result<(), OutboxError> {
    let mut queues = Queues::default();
    let mut find = connection
        .prepare_cached("SELECT subscription, attempts FROM deliveries WHERE id = ?1 AND state = 0")?;
    let sql = "UPDATE deliveries SET state = ?2, attempts = attempts + ?3, next_at = coalesce(?4, next_at), last = ?5, \
               finished_at = ?6 WHERE id = ?1";
    let mut update = connection.prepare_cached(sql)?;
    for Attempt { delivery, before, outcome, said } in attempts {
        let found =
            find.query_row([delivery.0], |row| Ok((row.get(0)?, row.get::<_, u32>(1)?))).optional()?;
        let Some((subscription, attempts)) = found else { continue };
        let subscription = SubscriptionId(subscription);
        let shard = Shard::of_subscription(subscription);
        check::belongs(claim, shard, format_args!("delivery {delivery}"))?;
        if attempts != *before {
            continue;
        }
        let (state, next_at) = match outcome {
            Outcome::Delivered => (DeliveryState::Delivered, None),
            Outcome::Retry(at) | Outcome::Held(at) => (DeliveryState::Pending, Some((*at).min(INT_MAX))),
            Outcome::Dead => (DeliveryState::Dead, None),
            Outcome::Dropped => (DeliveryState::Dropped, None),
        };
        let tried = u32::from(!matches!(outcome, Outcome::Dropped | Outcome::Held(_)));
        let finished_at = (state != DeliveryState::Pending).then_some(now);
        let said = check::said(said);
        update.execute(params![delivery.0, number(state), tried, next_at, said, finished_at])?;
        if finished_at.is_some() {
            let queue = queues.of(connection, subscription)?;
            queue.pending = queue.pending.saturating_sub(1);
        }
    }
    queues.save(connection, now)?;
    Ok(())
}

/// Has what is tried again later tried now, and notes when that was asked for.
pub(super) fn resume(connection: &Connection, id: SubscriptionId, now: Micros) -> Result<(), OutboxError> {
    let sql = "UPDATE queues SET resumed_at = ?2 WHERE subscription = ?1";
    connection.prepare_cached(sql)?.execute(params![id.0, now])?;
    let sql = "UPDATE deliveries SET next_at = ?2 WHERE subscription = ?1 AND state = 0 AND attempts > 0 AND next_at > ?2";
    connection.prepare_cached(sql)?.execute(params![id.0, now])?;
    Ok(())
}

/// Puts a finished delivery at the end of its queue.
pub(super) fn replay(connection: &Connection, id: DeliveryId, now: Micros) -> Result<Delivery, OutboxError> {
    let found = find(connection, id)?.ok_or_else(|| check::no_delivery(id))?;
    if found.state == DeliveryState::Pending {
        return Ok(found);
    }
    let mut queues = Queues::default();
    let queue = queues.of(connection, found.subscription)?;
    if queue.is_full() {
        return Err(check::full(found.subscription, queue.pending, PENDING_MAX));
    }
    queue.pending += 1;
    let position = queue.next();
    queues.save(connection, now)?;
    let sql = "UPDATE deliveries SET state = 0, position = ?2, attempts_before_replay = attempts, next_at = ?3, \
               finished_at = NULL WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id.0, position, now])?;
    let (state, attempts_before_replay) = (DeliveryState::Pending, found.attempts);
    Ok(Delivery { state, position, attempts_before_replay, next_at: now, finished_at: None, ..found })
}

/// Forgets some that were finished before, and what only concerned them.
pub(super) fn forget(connection: &Connection, before: Micros, limit: usize) -> Result<usize, OutboxError> {
    let sql = "DELETE FROM deliveries WHERE n IN (SELECT n FROM deliveries WHERE finished_at < ?1 \
               ORDER BY finished_at LIMIT ?2) RETURNING id";
    let forgotten: Vec<[u8; 16]> = connection
        .prepare_cached(sql)?
        .query_map(params![before, limit], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut remove = connection.prepare_cached("DELETE FROM merged WHERE delivery = ?1")?;
    for id in &forgotten {
        remove.execute([id])?;
    }
    let sql = "DELETE FROM keys WHERE (subscription, phone, name) IN \
               (SELECT subscription, phone, name FROM keys WHERE free_at < ?1 ORDER BY free_at LIMIT ?2)";
    connection.prepare_cached(sql)?.execute(params![before, limit])?;
    Ok(forgotten.len())
}
