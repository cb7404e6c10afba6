//! The registry's subscriptions.

use rusqlite::{Connection, OptionalExtension, Row, params};
use trough_protocol::Micros;

use super::json::{from_json, to_json};
use super::registry::SqliteRegistry;
use super::{push_tokens, readers, rules};
use crate::BoxFuture;
use crate::checks::{self, no_subscription, subscription_exists, too_many_subscriptions};
use crate::error::RegistryError;
use crate::names::{ReaderName, RuleName};
use crate::rule::{NewRule, Rule};
use crate::subscription::{
    Disabled, NewSubscription, PushToken, PushTokenId, SUBSCRIPTIONS_MAX, Subscription, SubscriptionId,
    Subscriptions,
};

const COLUMNS: &str = "wanted, created_at, disabled_at, disabled_reason";

fn read(row: &Row<'_>) -> rusqlite::Result<Subscription> {
    let at: Option<Micros> = row.get(2)?;
    let reason: Option<String> = row.get(3)?;
    let disabled = at.map(|at| Disabled { at, reason: reason.unwrap_or_default() });
    Ok(Subscription { wanted: from_json(row, 0)?, created_at: row.get(1)?, disabled })
}

fn find(connection: &Connection, id: SubscriptionId) -> Result<Option<Subscription>, RegistryError> {
    let sql = format!("SELECT {COLUMNS} FROM subscriptions WHERE id = ?1");
    Ok(connection.prepare_cached(&sql)?.query_row([id.0], read).optional()?)
}

fn get(connection: &Connection, id: SubscriptionId) -> Result<Subscription, RegistryError> {
    find(connection, id)?.ok_or_else(|| no_subscription(id))
}

/// Adds one; whether it was not there.
fn add(
    connection: &Connection,
    wanted: NewSubscription,
    now: Micros,
) -> Result<(Subscription, bool), RegistryError> {
    if let Some(found) = find(connection, wanted.id)? {
        return if found.wanted == wanted { Ok((found, false)) } else { Err(subscription_exists(wanted.id)) };
    }
    let sql = "SELECT count(*) FROM subscriptions";
    let count: usize = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    if count >= SUBSCRIPTIONS_MAX {
        return Err(too_many_subscriptions());
    }
    // It is its reader's, whatever the clock showed then.
    let now = now.max(readers::since(connection, &wanted.owner)?);
    let sql = "INSERT INTO subscriptions (id, owner, created_at, wanted) VALUES (?1, ?2, ?3, ?4)";
    let values = params![wanted.id.0, wanted.owner.as_str(), now, to_json(&wanted)?];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok((Subscription { wanted, created_at: now, disabled: None }, true))
}

/// Puts other wishes in the place of one's, if they are as they were before; whether they are other ones.
fn replace(
    connection: &Connection,
    before: &NewSubscription,
    wanted: NewSubscription,
) -> Result<(Option<Subscription>, bool), RegistryError> {
    let found = get(connection, wanted.id)?;
    if found.wanted.owner != wanted.owner {
        return Err(no_subscription(wanted.id));
    }
    if found.wanted == wanted {
        return Ok((Some(found), false));
    }
    if found.wanted != *before {
        return Ok((None, false));
    }
    let sql = "UPDATE subscriptions SET wanted = ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![wanted.id.0, to_json(&wanted)?])?;
    Ok((Some(Subscription { wanted, ..found }), true))
}

fn list(connection: &Connection, owner: Option<&ReaderName>) -> Result<Vec<Subscription>, RegistryError> {
    let subscriptions = match owner {
        Some(owner) => connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM subscriptions WHERE owner = ?1 ORDER BY id"))?
            .query_map([owner.as_str()], read)?
            .collect::<Result<_, _>>(),
        None => connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM subscriptions ORDER BY id"))?
            .query_map([], read)?
            .collect::<Result<_, _>>(),
    };
    Ok(subscriptions?)
}

fn remove(connection: &Connection, id: SubscriptionId) -> Result<(), RegistryError> {
    let removed = connection.prepare_cached("DELETE FROM subscriptions WHERE id = ?1")?.execute([id.0])?;
    if removed == 0 { Err(no_subscription(id)) } else { Ok(()) }
}

/// Disables one, unless it is, or enables it; whether that changed anything.
fn disable(
    connection: &Connection,
    id: SubscriptionId,
    reason: Option<&str>,
    now: Micros,
) -> Result<bool, RegistryError> {
    let found = get(connection, id)?;
    if found.disabled.is_some() == reason.is_some() {
        return Ok(false);
    }
    let sql = "UPDATE subscriptions SET disabled_at = ?2, disabled_reason = ?3 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id.0, reason.map(|_| now), reason])?;
    Ok(true)
}

impl Subscriptions for SqliteRegistry {
    fn set_rule(&self, rule: NewRule) -> BoxFuture<'_, Result<Rule, RegistryError>> {
        Box::pin(async move {
            rule.check()?;
            self.change_if(move |connection, now| rules::set(connection, rule, now)).await
        })
    }

    fn replace_rule(
        &self,
        rule: NewRule,
        version: Option<u64>,
    ) -> BoxFuture<'_, Result<Rule, RegistryError>> {
        Box::pin(async move {
            rule.check()?;
            self.change_if(move |connection, now| rules::replace(connection, rule, version, now)).await
        })
    }

    fn list_rules(&self) -> BoxFuture<'_, Result<Vec<Rule>, RegistryError>> {
        Box::pin(self.read(rules::list))
    }

    fn get_rule<'a>(&'a self, name: &'a RuleName) -> BoxFuture<'a, Result<Rule, RegistryError>> {
        let name = name.clone();
        Box::pin(self.read(move |connection| rules::get(connection, &name)))
    }

    fn remove_rule<'a>(
        &'a self,
        name: &'a RuleName,
        version: Option<u64>,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        let name = name.clone();
        Box::pin(self.change(move |connection, _| rules::remove(connection, &name, version)))
    }

    fn add_subscription(
        &self,
        wanted: NewSubscription,
    ) -> BoxFuture<'_, Result<Subscription, RegistryError>> {
        Box::pin(async move {
            wanted.check()?;
            self.change_if(move |connection, now| add(connection, wanted, now)).await
        })
    }

    fn replace_subscription(
        &self,
        before: NewSubscription,
        wanted: NewSubscription,
    ) -> BoxFuture<'_, Result<Option<Subscription>, RegistryError>> {
        Box::pin(async move {
            wanted.check()?;
            self.change_if(move |connection, _| replace(connection, &before, wanted)).await
        })
    }

    fn list_subscriptions<'a>(
        &'a self,
        owner: Option<&'a ReaderName>,
    ) -> BoxFuture<'a, Result<Vec<Subscription>, RegistryError>> {
        let owner = owner.cloned();
        Box::pin(self.read(move |connection| list(connection, owner.as_ref())))
    }

    fn get_subscription(&self, id: SubscriptionId) -> BoxFuture<'_, Result<Subscription, RegistryError>> {
        Box::pin(self.read(move |connection| get(connection, id)))
    }

    fn remove_subscription(&self, id: SubscriptionId) -> BoxFuture<'_, Result<(), RegistryError>> {
        Box::pin(self.change(move |connection, _| remove(connection, id)))
    }

    fn disable_subscription<'a>(
        &'a self,
        id: SubscriptionId,
        reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        let reason = reason.map(|reason| checks::reason(reason).to_owned());
        Box::pin(self.change_if(move |connection, now| {
            disable(connection, id, reason.as_deref(), now).map(|changed| ((), changed))
        }))
    }

    fn set_push_token(&self, token: PushToken) -> BoxFuture<'_, Result<(), RegistryError>> {
        Box::pin(async move {
            checks::push_token(&token)?;
            self.change(move |connection, _| push_tokens::set(connection, &token)).await
        })
    }

    fn list_push_tokens<'a>(
        &'a self,
        owner: Option<&'a ReaderName>,
    ) -> BoxFuture<'a, Result<Vec<PushToken>, RegistryError>> {
        let owner = owner.cloned();
        Box::pin(self.read(move |connection| push_tokens::list(connection, owner.as_ref())))
    }

    fn remove_push_token(
        &self,
        id: PushTokenId,
        registered_at: Option<Micros>,
    ) -> BoxFuture<'_, Result<(), RegistryError>> {
        Box::pin(self.change_if(move |connection, _| {
            push_tokens::remove(connection, id, registered_at).map(|removed| ((), removed))
        }))
    }
}
