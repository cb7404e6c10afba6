//! The registry's rules.

use rusqlite::{Connection, OptionalExtension, Row, params};
use trough_protocol::Micros;

use super::json::{from_json, to_json};
use crate::checks::{no_rule, too_many_rules};
use crate::error::RegistryError;
use crate::names::RuleName;
use crate::rule::{NewRule, RULES_MAX, Rule};

fn read(row: &Row<'_>) -> rusqlite::Result<Rule> {
    Ok(Rule { rule: from_json(row, 0)?, version: row.get(1)?, set_at: row.get(2)? })
}

/// Sets a rule; whether that changed anything.
pub(super) fn set(
    connection: &Connection,
    rule: NewRule,
    now: Micros,
) -> Result<(Rule, bool), RegistryError> {
    let name = rule.name.as_str();
    let sql = "SELECT rule, version, set_at FROM rules WHERE name = ?1";
    let found = connection.prepare_cached(sql)?.query_row([name], read).optional()?;
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

/// Removes one.
pub(super) fn remove(connection: &Connection, name: &RuleName) -> Result<(), RegistryError> {
    let removed = connection.prepare_cached("DELETE FROM rules WHERE name = ?1")?.execute([name.as_str()])?;
    if removed == 0 { Err(no_rule(name)) } else { Ok(()) }
}
