//! Who does which part of the outbox's duties, and how far watching has come.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use trough_protocol::Micros;
use trough_protocol::limits::INT_MAX;
use trough_runtime::clock::micros;

use crate::outbox::{Claim, OutboxError, Shard, check};

/// What [`Outbox::claim`](crate::Outbox::claim) does, in a write transaction.
pub(super) fn claim(
    connection: &Connection,
    shard: Shard,
    owner: [u8; 16],
    ttl: Duration,
    now: Micros,
) -> Result<Option<Claim>, OutboxError> {
    let sql = "SELECT token, owner, until FROM shards WHERE duty = ?1 AND shard = ?2";
    let found = connection
        .prepare_cached(sql)?
        .query_row(params![shard.duty.as_str(), shard.number], |row| {
            Ok((row.get(0)?, row.get::<_, Option<[u8; 16]>>(1)?, row.get(2)?))
        })
        .optional()?;
    let (last, holder, until): (u64, _, Micros) = found.unwrap_or_default();
    let mine = holder == Some(owner);
    if holder.is_some() && !mine && check::is_claimed(now, until) {
        return Ok(None);
    }
    let token = if mine { last } else { last + 1 };
    let sql = "INSERT INTO shards (duty, shard, token, owner, until) VALUES (?1, ?2, ?3, ?4, ?5) \
               ON CONFLICT DO UPDATE SET token = ?3, owner = ?4, until = ?5";
    let until = now.saturating_add(micros(ttl));
    let values = params![shard.duty.as_str(), shard.number, token, owner, until];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(Some(Claim { shard, token }))
}

/// Gives a claim back, if it was not taken over.
pub(super) fn release(connection: &Connection, claim: Claim) -> Result<(), OutboxError> {
    let sql = "UPDATE shards SET owner = NULL, until = 0 WHERE duty = ?1 AND shard = ?2 AND token = ?3";
    let Claim { shard, token } = claim;
    let values = params![shard.duty.as_str(), shard.number, token.min(INT_MAX)];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// That a claim was not taken over. Nobody takes it over before this transaction is through.
pub(super) fn require(connection: &Connection, claim: Claim) -> Result<(), OutboxError> {
    let sql = "SELECT 1 FROM shards WHERE duty = ?1 AND shard = ?2 AND token = ?3";
    let Claim { shard, token } = claim;
    let values = params![shard.duty.as_str(), shard.number, token.min(INT_MAX)];
    if connection.prepare_cached(sql)?.exists(values)? { Ok(()) } else { Err(OutboxError::Fenced(shard)) }
}

/// How far watching has come.
pub(super) fn place(connection: &Connection, shard: Shard) -> Result<Option<Vec<u8>>, OutboxError> {
    let sql = "SELECT place FROM shards WHERE duty = ?1 AND shard = ?2";
    let values = params![shard.duty.as_str(), shard.number];
    let found = connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()?;
    Ok(found.flatten())
}

/// Notes how far watching has come.
pub(super) fn set_place(connection: &Connection, shard: Shard, place: &[u8]) -> Result<(), OutboxError> {
    let sql = "UPDATE shards SET place = ?3 WHERE duty = ?1 AND shard = ?2";
    connection.prepare_cached(sql)?.execute(params![shard.duty.as_str(), shard.number, place])?;
    Ok(())
}
