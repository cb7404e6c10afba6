//! The registry's readers.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, params};
use trough_protocol::Micros;

use super::devices::{parse_groups, parsed};
use super::tokens;
use crate::checks::no_reader;
use crate::error::{AuthError, RegistryError};
use crate::names::ReaderName;
use crate::registry::{GroupAccess, NewReader, ReaderGrant, ReaderRecord, Scope};
use crate::token::{PresentedToken, Token, TokenKind};

const COLUMNS: &str = "name, scopes, all_groups, created_at, revoked_at, \
    (SELECT group_concat(g.name, ' ') FROM reader_groups g WHERE g.reader = readers.name)";

fn read_record(row: &Row<'_>) -> rusqlite::Result<ReaderRecord> {
    let scopes = row.get_ref(1)?.as_str()?;
    Ok(ReaderRecord {
        name: parsed(row, 0)?,
        // A scope that a newer release gave is passed over: an older one does not know what it would allow.
        scopes: scopes.split_ascii_whitespace().filter_map(|scope| scope.parse().ok()).collect(),
        groups: if row.get(2)? { GroupAccess::All } else { GroupAccess::Only(parse_groups(row, 5)?) },
        created_at: row.get(3)?,
        revoked_at: row.get(4)?,
    })
}

fn get(connection: &Connection, name: &str) -> rusqlite::Result<Option<ReaderRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM readers WHERE name = ?1");
    connection.prepare_cached(&sql)?.query_row([name], read_record).optional()
}

fn join(scopes: &BTreeSet<Scope>) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
}

/// When a reader was added, and what it makes is later, also by a clock that was ahead then and was set back since.
pub(super) fn since(connection: &Connection, name: &ReaderName) -> rusqlite::Result<Micros> {
    let sql = "SELECT created_at FROM readers WHERE name = ?1";
    let since = connection.prepare_cached(sql)?.query_row([name.as_str()], |row| row.get(0));
    Ok(since.optional()?.unwrap_or(0))
}

/// The first moment after everything that was made by whoever had this name.
fn after_all_of(connection: &Connection, name: &str) -> rusqlite::Result<Micros> {
    let sql = "SELECT 1 + max(coalesce((SELECT max(created_at) FROM subscriptions WHERE owner = ?1), 0), \
               coalesce((SELECT max(registered_at) FROM push_tokens WHERE owner = ?1), 0))";
    connection.prepare_cached(sql)?.query_row([name], |row| row.get(0))
}

/// Adds a reader, or one that was revoked again, with a new token.
pub(super) fn add(connection: &Connection, reader: &NewReader, now: Micros) -> Result<Token, RegistryError> {
    let name = reader.name.as_str();
    let created_at = now.max(after_all_of(connection, name)?);
    let sql = "INSERT INTO readers (name, scopes, all_groups, created_at) VALUES (?1, ?2, ?3, ?4) \
               ON CONFLICT (name) DO UPDATE SET scopes = excluded.scopes, all_groups = excluded.all_groups, \
               created_at = excluded.created_at, revoked_at = NULL WHERE revoked_at IS NOT NULL";
    let all = reader.groups == GroupAccess::All;
    let inserted =
        connection.prepare_cached(sql)?.execute(params![name, join(&reader.scopes), all, created_at])?;
    if inserted == 0 {
        return Err(RegistryError::AlreadyExists { what: "reader", name: name.to_owned() });
    }
    connection.prepare_cached("DELETE FROM reader_groups WHERE reader = ?1")?.execute([name])?;
    if let GroupAccess::Only(groups) = &reader.groups {
        let mut insert =
            connection.prepare_cached("INSERT INTO reader_groups (reader, name) VALUES (?1, ?2)")?;
        for group in groups {
            insert.execute([name, group.as_str()])?;
        }
    }
    tokens::issue(connection, TokenKind::Reader, name, now)
}

/// All readers.
pub(super) fn list(connection: &Connection) -> Result<Vec<ReaderRecord>, RegistryError> {
    let sql = format!("SELECT {COLUMNS} FROM readers ORDER BY name");
    Ok(connection.prepare_cached(&sql)?.query_map([], read_record)?.collect::<Result<_, _>>()?)
}

/// One of them.
pub(super) fn find(connection: &Connection, name: &ReaderName) -> Result<ReaderRecord, RegistryError> {
    get(connection, name.as_str())?.ok_or_else(|| no_reader(name.as_str()))
}

/// Ends a reader's tokens.
pub(super) fn revoke(connection: &Connection, name: &ReaderName, now: Micros) -> Result<(), RegistryError> {
    let name = name.as_str();
    let sql = "UPDATE readers SET revoked_at = coalesce(revoked_at, ?2) WHERE name = ?1";
    if connection.prepare_cached(sql)?.execute(params![name, now])? == 0 {
        return Err(no_reader(name));
    }
    tokens::revoke_all(connection, TokenKind::Reader, name, now)
}

/// Whose token this is.
pub(super) fn authenticate(
    connection: &Connection,
    token: &PresentedToken,
    now: Micros,
) -> Result<ReaderGrant, AuthError> {
    let (owner, _) = tokens::recognise(connection, TokenKind::Reader, token, now)?;
    let reader = get(connection, &owner)?.ok_or_else(|| no_reader(&owner))?;
    Ok(ReaderGrant { name: reader.name, token_id: token.id, scopes: reader.scopes, groups: reader.groups })
}
