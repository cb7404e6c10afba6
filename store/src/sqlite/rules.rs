//! The registry's rules.

use rusqlite::{Connection, OptionalExtension, Row, params};
use trough_protocol::Micros;

use super::json::{from_json, to_json};
use crate::checks::{no_rule, rule_changed, too_many_rules};
use crate::error::RegistryError;
use crate::names::RuleName;
use crate::rule::{NewRule, RULES_MAX, Rule};

fn read(row: &Row<'_>) -> rusqlite::Result<Rule> {
    Ok(Rule { rule: from_json(row, 0)?, version: row.get(1)?, set_at: row.get(2)? })
}

fn find(connection: &Connection, name: &RuleName) -> Result<Option<Rule>, RegistryError> {
    let sql = "SELECT rule, version, set_at FROM rules WHERE name = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([name.as_str()], read).optional()?)
}

/// The rule of this name.
pub(super) fn get(connection: &Connection, name: &RuleName) -> Result<Rule, RegistryError> {
    find(connection, name)?.ok_or_else(|| no_rule(name))
}

/// Sets a rule if the one of its name has this version now; whether that changed anything.
pub(super) fn replace(
    connection: &Connection,
    rule: NewRule,
    version: Option<u64>,
    now: Micros,
) -> Result<(Rule, bool), RegistryError> {
    match find(connection, &rule.name)?.map(|found| found.version) == version {
        true => set(connection, rule, now),
        false => Err(rule_changed(&rule.name)),
    }
}

/// Sets a rule; whether that changed anything.
pub(super) fn set(
    connection: &Connection,
    rule: NewRule,
    now: Micros,
) -> Result<(Rule, bool), RegistryError> {
    let found = find(connection, &rule.name)?;
    let name = rule.name.as_str();
    if let Some(found) = found
        && found.rule == rule
    {
        return Ok((found, false));
    }
    let sql = "SELECT count(*) FROM rules WHERE name <> ?1";
    let others: usize = connection.prepare_cached(sql)?.query_row([name], |row| row.get(0))?;
    if others >= RULES_MAX {
        return Err(too_many_rules());
    }
    let sql = "UPDATE meta SET rule_version = rule_version + 1 RETURNING rule_version";
    let version: u64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    let sql = "INSERT OR REPLACE INTO rules (name, version, set_at, rule) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![name, version, now, to_json(&rule)?])?;
    Ok((Rule { rule, version, set_at: now }, true))
}

/// All of them, by name.
pub(super) fn list(connection: &Connection) -> Result<Vec<Rule>, RegistryError> {
    let sql = "SELECT rule, version, set_at FROM rules ORDER BY name";
    Ok(connection.prepare_cached(sql)?.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// Removes one, or only this version of it.
pub(super) fn remove(
    connection: &Connection,
    name: &RuleName,
    version: Option<u64>,
) -> Result<(), RegistryError> {
    let sql = "DELETE FROM rules WHERE name = ?1 AND version = coalesce(?2, version)";
    let removed = connection.prepare_cached(sql)?.execute(params![name.as_str(), version])?;
    if removed == 0 { Err(no_rule(name)) } else { Ok(()) }
}
