//! The registry's devices.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use trough_protocol::{DeviceId, Epoch, Micros};
use trough_runtime::clock::micros;

use super::tokens;
use crate::checks::no_device;
use crate::error::{AuthError, RegistryError};
use crate::names::Group;
use crate::registry::{DeviceFilter, DeviceGrant, DeviceRecord, LIST_DEVICES_MAX, NewDevice};
use crate::token::{PresentedToken, Token, TokenKind};

const COLUMNS: &str = "id, query_token, created_at, revoked_at, epoch, \
    (SELECT group_concat(name, ' ') FROM device_groups WHERE device = devices.id)";

/// Parses what a column holds; what we did not write is corruption.
pub(super) fn parsed<T>(row: &Row<'_>, index: usize) -> rusqlite::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text = row.get_ref(index)?.as_str()?;
    text.parse()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error)))
}

/// Parses group names separated by spaces.
pub(super) fn parse_groups(row: &Row<'_>, index: usize) -> rusqlite::Result<BTreeSet<Group>> {
    let text: Option<String> = row.get(index)?;
    let parse = |name: &str| {
        Group::new(name)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error)))
    };
    text.as_deref().unwrap_or_default().split_ascii_whitespace().map(parse).collect()
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<DeviceRecord> {
    Ok(DeviceRecord {
        id: parsed(row, 0)?,
        query_token: row.get(1)?,
        created_at: row.get(2)?,
        revoked_at: row.get(3)?,
        epoch: Epoch(row.get(4)?),
        groups: parse_groups(row, 5)?,
    })
}

/// That a device exists and was not revoked.
fn require_active(connection: &Connection, id: &DeviceId) -> Result<(), RegistryError> {
    let mut select = connection.prepare_cached("SELECT revoked_at FROM devices WHERE id = ?1")?;
    let revoked: Option<Option<Micros>> = select.query_row([id.as_str()], |row| row.get(0)).optional()?;
    match revoked {
        None => Err(no_device(id)),
        Some(Some(_)) => Err(RegistryError::Revoked(id.clone())),
        Some(None) => Ok(()),
    }
}

fn insert_groups(
    connection: &Connection,
    id: &DeviceId,
    groups: &BTreeSet<Group>,
) -> Result<(), RegistryError> {
    let mut insert = connection.prepare_cached("INSERT INTO device_groups (device, name) VALUES (?1, ?2)")?;
    for group in groups {
        insert.execute([id.as_str(), group.as_str()])?;
    }
    Ok(())
}

/// Adds devices, each with its first token; fails at the first one whose id is taken.
pub(super) fn add(
    connection: &Connection,
    devices: Vec<NewDevice>,
    now: Micros,
) -> Result<Vec<(DeviceId, Token)>, RegistryError> {
    let sql =
        "INSERT INTO devices (id, query_token, created_at) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING";
    let mut insert = connection.prepare_cached(sql)?;
    let mut added = Vec::with_capacity(devices.len());
    for NewDevice { id, groups, query_token } in devices {
        if insert.execute(params![id.as_str(), query_token, now])? == 0 {
            return Err(RegistryError::AlreadyExists { what: "device", name: id.to_string() });
        }
        insert_groups(connection, &id, &groups)?;
        let token = tokens::issue(connection, TokenKind::Device, id.as_str(), now)?;
        added.push((id, token));
    }
    Ok(added)
}

/// A page of devices.
pub(super) fn list(
    connection: &Connection,
    filter: &DeviceFilter,
) -> Result<Vec<DeviceRecord>, RegistryError> {
    // Every id is greater than the empty string.
    let after = filter.after.as_ref().map_or("", DeviceId::as_str);
    let limit = filter.limit.min(LIST_DEVICES_MAX);
    let Some(groups) = &filter.groups else {
        let sql = format!("SELECT {COLUMNS} FROM devices WHERE id > ?1 ORDER BY id LIMIT ?2");
        let mut select = connection.prepare_cached(&sql)?;
        return Ok(select.query_map(params![after, limit], read_record)?.collect::<Result<_, _>>()?);
    };
    let names = groups.iter().map(Group::as_str).collect::<Vec<_>>();
    let names = serde_json::to_string(&names).expect("strings always serialise");
    let sql = format!(
        "SELECT {COLUMNS} FROM devices WHERE id IN (SELECT device FROM device_groups \
         WHERE device > ?1 AND name IN (SELECT value FROM json_each(?3))) ORDER BY id LIMIT ?2"
    );
    let mut select = connection.prepare_cached(&sql)?;
    Ok(select.query_map(params![after, limit, names], read_record)?.collect::<Result<_, _>>()?)
}

/// One device.
pub(super) fn get(connection: &Connection, id: &DeviceId) -> Result<DeviceRecord, RegistryError> {
    let sql = format!("SELECT {COLUMNS} FROM devices WHERE id = ?1");
    let record = connection.prepare_cached(&sql)?.query_row([id.as_str()], read_record).optional()?;
    record.ok_or_else(|| no_device(id))
}

/// A new token; the older ones end now or after `keep_old`.
pub(super) fn rotate(
    connection: &Connection,
    id: &DeviceId,
    keep_old: Option<Duration>,
    now: Micros,
) -> Result<Token, RegistryError> {
    require_active(connection, id)?;
    match keep_old {
        None => tokens::revoke_all(connection, TokenKind::Device, id.as_str(), now)?,
        Some(keep) => {
            let at = now.saturating_add(micros(keep)).min(trough_protocol::limits::INT_MAX);
            tokens::expire_all(connection, id.as_str(), at)?;
        }
    }
    tokens::forget_ended(connection, id.as_str(), now)?;
    tokens::issue(connection, TokenKind::Device, id.as_str(), now)
}

/// Ends a device's tokens for good.
pub(super) fn revoke(connection: &Connection, id: &DeviceId, now: Micros) -> Result<(), RegistryError> {
    match require_active(connection, id) {
        Err(RegistryError::Revoked(_)) => return Ok(()),
        other => other?,
    }
    connection
        .prepare_cached("UPDATE devices SET revoked_at = ?2 WHERE id = ?1")?
        .execute(params![id.as_str(), now])?;
    tokens::revoke_all(connection, TokenKind::Device, id.as_str(), now)
}

/// Puts a device, revoked or not, in these groups only: readers still see a revoked one's frames.
pub(super) fn set_groups(
    connection: &Connection,
    id: &DeviceId,
    groups: &BTreeSet<Group>,
) -> Result<(), RegistryError> {
    match require_active(connection, id) {
        Err(RegistryError::Revoked(_)) => {}
        other => other?,
    }
    connection.prepare_cached("DELETE FROM device_groups WHERE device = ?1")?.execute([id.as_str()])?;
    insert_groups(connection, id, groups)
}

/// Whose token this is.
pub(super) fn authenticate(
    connection: &Connection,
    token: &PresentedToken,
    now: Micros,
) -> Result<DeviceGrant, AuthError> {
    let (owner, expires_at) = tokens::recognise(connection, TokenKind::Device, token, now)?;
    let device = DeviceId::new(&owner).map_err(|error| RegistryError::Corrupt(error.to_string()))?;
    let sql = "SELECT query_token FROM devices WHERE id = ?1";
    let query_token = connection.prepare_cached(sql)?.query_row([&owner], |row| row.get(0))?;
    Ok(DeviceGrant { device, token_id: token.id, query_token, expires_at })
}

/// The next epoch.
pub(super) fn grant_epoch(connection: &Connection, id: &DeviceId) -> Result<Epoch, RegistryError> {
    let sql = "UPDATE devices SET epoch = epoch + 1 WHERE id = ?1 AND revoked_at IS NULL RETURNING epoch";
    let granted = connection.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0)).optional()?;
    match granted {
        Some(epoch) => Ok(Epoch(epoch)),
        None => Err(require_active(connection, id).err().unwrap_or_else(|| no_device(id))),
    }
}

/// The last epoch granted.
pub(super) fn current_epoch(connection: &Connection, id: &DeviceId) -> Result<Epoch, RegistryError> {
    let sql = "SELECT epoch FROM devices WHERE id = ?1";
    let epoch = connection.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0)).optional()?;
    epoch.map(Epoch).ok_or_else(|| no_device(id))
}
