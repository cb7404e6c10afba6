//! How long the registry says that frames are kept.

use rusqlite::{Connection, Row, params};
use trough_protocol::Micros;

use super::devices::parsed;
use crate::checks::{no_retention, not_counted, too_many_policies};
use crate::error::RegistryError;
use crate::names::Group;
use crate::retention::{
    RETENTION_POLICIES_MAX, RetentionCount, RetentionNote, RetentionPolicy, RetentionRecord,
};

const COLUMNS: &str = "name, days, bytes, set_at, enforced, counted_at, counted_devices, counted_frames, \
    counted_bytes, removed_frames, removed_bytes";

fn read_record(row: &Row<'_>) -> rusqlite::Result<RetentionRecord> {
    let counted_at: Option<Micros> = row.get(5)?;
    let counted = match counted_at {
        None => None,
        Some(at) => {
            Some(RetentionCount { at, devices: row.get(6)?, frames: row.get(7)?, bytes: row.get(8)? })
        }
    };
    Ok(RetentionRecord {
        policy: RetentionPolicy { group: parsed(row, 0)?, days: row.get(1)?, bytes: row.get(2)? },
        set_at: row.get(3)?,
        enforced: row.get(4)?,
        counted,
        removed_frames: row.get(9)?,
        removed_bytes: row.get(10)?,
    })
}

/// Sets a policy, in place of the one that the group had.
pub(super) fn set(
    connection: &Connection,
    policy: &RetentionPolicy,
    now: Micros,
) -> Result<(), RegistryError> {
    let sql = "SELECT count(*) FROM retention WHERE name <> ?1";
    let others: usize =
        connection.prepare_cached(sql)?.query_row([policy.group.as_str()], |row| row.get(0))?;
    if others >= RETENTION_POLICIES_MAX {
        return Err(too_many_policies());
    }
    loosen_neighbours(connection, &policy.group)?;
    let sql = "INSERT OR REPLACE INTO retention (name, days, bytes, set_at) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![
        policy.group.as_str(),
        policy.days,
        policy.bytes,
        now
    ])?;
    Ok(())
}

/// All policies, by group.
pub(super) fn list(connection: &Connection) -> Result<Vec<RetentionRecord>, RegistryError> {
    let sql = format!("SELECT {COLUMNS} FROM retention ORDER BY name");
    Ok(connection.prepare_cached(&sql)?.query_map([], read_record)?.collect::<Result<_, _>>()?)
}

/// Enforces a policy that was counted.
pub(super) fn enforce(connection: &Connection, group: &Group, set_at: Micros) -> Result<(), RegistryError> {
    let sql = "UPDATE retention SET enforced = 1 WHERE name = ?1 AND set_at = ?2 AND counted_at IS NOT NULL";
    if connection.prepare_cached(sql)?.execute(params![group.as_str(), set_at])? == 1 {
        return Ok(());
    }
    let sql = "SELECT count(*) FROM retention WHERE name = ?1 AND set_at = ?2";
    let known: u64 =
        connection.prepare_cached(sql)?.query_row(params![group.as_str(), set_at], |row| row.get(0))?;
    Err(if known == 0 { no_retention(group) } else { not_counted(group) })
}

/// If the group has a policy with days, it may be all that keeps frames which a shorter one of another group would remove:
/// other groups that share devices with it are counted and enforced anew.
fn loosen_neighbours(connection: &Connection, group: &Group) -> rusqlite::Result<()> {
    let sql = "UPDATE retention SET enforced = 0, counted_at = NULL WHERE name <> ?1 \
               AND EXISTS (SELECT 1 FROM retention WHERE name = ?1 AND days IS NOT NULL) \
               AND name IN (SELECT o.name FROM device_groups o JOIN device_groups g ON g.device = o.device \
                            WHERE g.name = ?1)";
    connection.prepare_cached(sql)?.execute([group.as_str()])?;
    Ok(())
}

/// Removes a policy.
pub(super) fn remove(connection: &Connection, group: &Group) -> Result<(), RegistryError> {
    loosen_neighbours(connection, group)?;
    let removed =
        connection.prepare_cached("DELETE FROM retention WHERE name = ?1")?.execute([group.as_str()])?;
    if removed == 0 { Err(no_retention(group)) } else { Ok(()) }
}

/// Notes what was found. Of a policy that is not there any more nothing is noted.
pub(super) fn note(
    connection: &Connection,
    group: &Group,
    set_at: Micros,
    note: &RetentionNote,
) -> Result<(), RegistryError> {
    let sql = "UPDATE retention SET counted_at = ?3, counted_devices = ?4, counted_frames = ?5, \
               counted_bytes = ?6, removed_frames = removed_frames + ?7, removed_bytes = removed_bytes + ?8 \
               WHERE name = ?1 AND set_at = ?2";
    let RetentionCount { at, devices, frames, bytes } = note.counted;
    connection.prepare_cached(sql)?.execute(params![
        group.as_str(),
        set_at,
        at,
        devices,
        frames,
        bytes,
        note.removed_frames,
        note.removed_bytes
    ])?;
    Ok(())
}
