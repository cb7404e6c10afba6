//! Positions and numbers of what waits, by subscription, while deliveries are made or finished.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use rusqlite::{Connection, OptionalExtension, params};
use trough_protocol::Micros;

use crate::outbox::{OutboxError, PENDING_MAX, Shard, check};
use crate::subscription::{PushTokenId, SubscriptionId};

/// The queues that a transaction touches: read with the first touch, written at its end.
#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: BTreeMap<SubscriptionId, Queue>,
    /// How many wait for a phone.
    phones: BTreeMap<(SubscriptionId, PushTokenId), u64>,
}

/// One of them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    position: u64,
    pub pending: u64,
    resumed_at: Micros,
}

impl Queue {
    /// The next position.
    pub fn next(&mut self) -> u64 {
        self.position += 1;
        self.position
    }

    /// Whether no more may wait.
    pub fn is_full(&self) -> bool {
        self.pending > PENDING_MAX
    }

    /// Whether it is to be disabled for that.
    pub fn is_over(&self, now: Micros) -> bool {
        self.is_full() && !check::is_resumed(self.resumed_at, now)
    }
}

impl Queues {
    /// That of a subscription.
    pub fn of(&mut self, connection: &Connection, id: SubscriptionId) -> Result<&mut Queue, OutboxError> {
        match self.queues.entry(id) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let sql = "SELECT position, pending, resumed_at FROM queues WHERE subscription = ?1";
                let read = |row: &rusqlite::Row<'_>| {
                    Ok(Queue { position: row.get(0)?, pending: row.get(1)?, resumed_at: row.get(2)? })
                };
                let queue = connection.prepare_cached(sql)?.query_row([id.0], read).optional()?;
                Ok(new.insert(queue.unwrap_or_default()))
            }
        }
    }

    /// How many of a subscription wait for a phone.
    pub fn of_phone(
        &mut self,
        connection: &Connection,
        id: SubscriptionId,
        phone: PushTokenId,
    ) -> Result<&mut u64, OutboxError> {
        match self.phones.entry((id, phone)) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let sql =
                    "SELECT count(*) FROM deliveries WHERE subscription = ?1 AND phone = ?2 AND state = 0";
                let values = params![id.0, phone.0];
                Ok(new.insert(connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))?))
            }
        }
    }

    /// Writes them; those that are to be disabled, as too many wait.
    pub fn save(self, connection: &Connection, now: Micros) -> Result<Vec<SubscriptionId>, OutboxError> {
        let sql = "INSERT INTO queues (subscription, shard, position, pending) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT DO UPDATE SET position = ?3, pending = ?4";
        let mut put = connection.prepare_cached(sql)?;
        for (id, queue) in &self.queues {
            let shard = Shard::of_subscription(*id).number;
            put.execute(params![id.0, shard, queue.position, queue.pending])?;
        }
        Ok(self.queues.into_iter().filter(|(_, queue)| queue.is_over(now)).map(|(id, _)| id).collect())
    }
}
