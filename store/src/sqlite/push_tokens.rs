//! The registry's push tokens.

use rusqlite::{Connection, Row, params};
use trough_protocol::Micros;

use super::json::{from_json, to_json};
use super::readers;
use crate::error::RegistryError;
use crate::names::ReaderName;
use crate::subscription::{PUSH_TOKENS_MAX, PushToken, PushTokenId};

/// Registers a phone; the oldest others of its owner give way.
pub(super) fn set(connection: &Connection, token: &PushToken) -> Result<(), RegistryError> {
    // It is its reader's, whatever the clock showed then.
    let registered_at = token.registered_at.max(readers::since(connection, &token.owner)?);
    let token = &PushToken { registered_at, ..token.clone() };
    let sql = "INSERT OR REPLACE INTO push_tokens (id, owner, registered_at, token) VALUES (?1, ?2, ?3, ?4)";
    let (id, owner) = (token.id.0, token.owner.as_str());
    connection.prepare_cached(sql)?.execute(params![id, owner, token.registered_at, to_json(token)?])?;
    let sql = "DELETE FROM push_tokens WHERE id IN (SELECT id FROM push_tokens WHERE owner = ?1 AND id <> ?2 \
               ORDER BY registered_at DESC, id DESC LIMIT -1 OFFSET ?3)";
    connection.prepare_cached(sql)?.execute(params![owner, id, PUSH_TOKENS_MAX - 1])?;
    Ok(())
}

/// Those of an owner, or all, by id.
pub(super) fn list(
    connection: &Connection,
    owner: Option<&ReaderName>,
) -> Result<Vec<PushToken>, RegistryError> {
    let read = |row: &Row<'_>| from_json(row, 0);
    let tokens = match owner {
        Some(owner) => connection
            .prepare_cached("SELECT token FROM push_tokens WHERE owner = ?1 ORDER BY id")?
            .query_map([owner.as_str()], read)?
            .collect::<Result<_, _>>(),
        None => connection
            .prepare_cached("SELECT token FROM push_tokens ORDER BY id")?
            .query_map([], read)?
            .collect::<Result<_, _>>(),
    };
    Ok(tokens?)
}

/// Forgets one, unless it has registered since; whether it was there.
pub(super) fn remove(
    connection: &Connection,
    id: PushTokenId,
    registered_at: Option<Micros>,
) -> Result<bool, RegistryError> {
    let sql = "DELETE FROM push_tokens WHERE id = ?1 AND (?2 IS NULL OR registered_at = ?2)";
    Ok(connection.prepare_cached(sql)?.execute(params![id.0, registered_at])? == 1)
}
