//! The registry's rules: one document for each.

use mongodb::bson::{Document, doc};
use mongodb::error::Result;
use mongodb::{ClientSession, Collection, Database};
use serde::{Deserialize, Serialize};
use trough_protocol::Micros;

use super::failure::Failure;
use super::json::{from_json, to_json};
use super::transaction::refuse;
use super::{integer, meta};
use crate::checks::{no_rule, rule_changed, too_many_rules};
use crate::error::RegistryError;
use crate::names::RuleName;
use crate::rule::{NewRule, RULES_MAX, Rule};

/// A rule. The time is in µs since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct RuleDocument {
    #[serde(rename = "_id")]
    name: String,
    version: u64,
    set_at: Micros,
    /// What was set, as JSON.
    rule: String,
}

fn rules<T: Send + Sync>(database: &Database) -> Collection<T> {
    database.collection("rules")
}

impl TryFrom<RuleDocument> for Rule {
    type Error = Failure;
    fn try_from(document: RuleDocument) -> std::result::Result<Self, Failure> {
        Ok(Self { rule: from_json(&document.rule)?, version: document.version, set_at: document.set_at })
    }
}

/// The rule of this name.
pub(super) async fn find(database: &Database, name: &RuleName) -> std::result::Result<Option<Rule>, Failure> {
    let found = rules::<RuleDocument>(database).find_one(doc! { "_id": name.as_str() }).await?;
    found.map(Rule::try_from).transpose()
}

/// Which rule a new one may replace.
#[derive(Debug, Clone, Copy)]
pub(super) enum Over {
    /// Whatever has its name.
    Any,
    /// Only this version, or none.
    Version(Option<u64>),
}

/// Sets a rule, in a transaction.
pub(super) async fn set(
    database: &Database,
    session: &mut ClientSession,
    rule: &NewRule,
    over: Over,
    now: Micros,
) -> Result<Rule> {
    let refused = |failure: Failure| refuse(RegistryError::from(failure));
    let this = doc! { "_id": rule.name.as_str() };
    let found = rules::<RuleDocument>(database).find_one(this.clone()).session(&mut *session).await?;
    let found = found.map(Rule::try_from).transpose().map_err(refused)?;
    if let Over::Version(version) = over
        && found.as_ref().map(|found| found.version) != version
    {
        return Err(refuse(rule_changed(&rule.name)));
    }
    // Another process was as quick.
    if let Some(found) = found.filter(|found| found.rule == *rule) {
        return Ok(found);
    }
    let others = doc! { "_id": { "$ne": rule.name.as_str() } };
    let others = rules::<Document>(database).count_documents(others).session(&mut *session).await?;
    if others >= RULES_MAX as u64 {
        return Err(refuse(too_many_rules()));
    }
    let version = meta::next_rule_version(database, &mut *session).await?;
    let name = rule.name.to_string();
    let document = RuleDocument { name, version, set_at: now, rule: to_json(rule).map_err(refused)? };
    rules(database).replace_one(this, document).upsert(true).session(session).await?;
    Ok(Rule { rule: rule.clone(), version, set_at: now })
}

/// All of them, by name.
pub(super) async fn list(database: &Database) -> std::result::Result<Vec<Rule>, Failure> {
    let mut found = rules::<RuleDocument>(database).find(doc! {}).sort(doc! { "_id": 1 }).await?;
    let mut all = Vec::new();
    while found.advance().await? {
        all.push(found.deserialize_current()?.try_into()?);
    }
    Ok(all)
}

/// Removes one, or only this version of it, in a transaction.
pub(super) async fn remove(
    database: &Database,
    session: &mut ClientSession,
    name: &RuleName,
    version: Option<u64>,
) -> Result<()> {
    let mut this = doc! { "_id": name.as_str() };
    if let Some(version) = version {
        this.insert("version", integer(version));
    }
    let done = rules::<Document>(database).delete_one(this).session(session).await?;
    if done.deleted_count == 0 { Err(refuse(no_rule(name))) } else { Ok(()) }
}
