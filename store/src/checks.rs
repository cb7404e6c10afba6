//! What every registry refuses before it asks its storage.

use std::collections::BTreeSet;

use trough_protocol::limits::INT_MAX;
use trough_protocol::{Channel, DeviceId};

use crate::error::RegistryError;
use crate::names::{Group, RuleName};
use crate::position_schema::POSITION_SCHEMAS_MAX;
use crate::registry::{
    GROUPS_MAX, GroupAccess, IMPORT_DEVICES_MAX, NewDevice, NewReader, Scope, TOKENS_CHECKED_MAX,
};
use crate::retention::{RETENTION_DAYS_MAX, RETENTION_POLICIES_MAX, RetentionPolicy};
use crate::rule::RULES_MAX;
use crate::subscription::{PushToken, REASON_BYTES_MAX, SUBSCRIPTIONS_MAX, SubscriptionId, TOPIC_BYTES_MAX};
use crate::token::TokenId;

/// Too many groups.
pub fn groups(groups: &BTreeSet<Group>) -> Result<(), RegistryError> {
    if groups.len() <= GROUPS_MAX {
        return Ok(());
    }
    Err(RegistryError::Invalid(format!("{} groups are too many: use {GROUPS_MAX} at most", groups.len())))
}

/// Too many devices at once, or one in too many groups.
pub fn new_devices(devices: &[NewDevice]) -> Result<(), RegistryError> {
    let count = devices.len();
    if count > IMPORT_DEVICES_MAX {
        let reason = format!("{count} devices are too many at once: import {IMPORT_DEVICES_MAX} at most");
        return Err(RegistryError::Invalid(reason));
    }
    devices.iter().try_for_each(|device| groups(&device.groups))
}

/// A reader that could do or see nothing, or is given too many groups.
pub fn new_reader(reader: &NewReader) -> Result<(), RegistryError> {
    if reader.scopes.is_empty() {
        let known = Scope::ALL.map(Scope::as_str).join(", ");
        let reason =
            format!("reader {:?} has no scope, so it could do nothing: give one of {known}", reader.name);
        return Err(RegistryError::Invalid(reason));
    }
    match &reader.groups {
        GroupAccess::Only(only) if only.is_empty() => Err(RegistryError::Invalid(format!(
            "reader {:?} has no group, so it would see no device: name one, or allow all",
            reader.name
        ))),
        GroupAccess::Only(only) => groups(only),
        GroupAccess::All => Ok(()),
    }
}

/// A question about too many tokens.
pub fn token_count(ids: &[TokenId]) -> Result<(), RegistryError> {
    if ids.len() <= TOKENS_CHECKED_MAX {
        return Ok(());
    }
    let count = ids.len();
    Err(RegistryError::Invalid(format!(
        "{count} tokens are too many to check: ask about {TOKENS_CHECKED_MAX} at most"
    )))
}

/// There is no such device.
pub fn no_device(id: &DeviceId) -> RegistryError {
    RegistryError::NotFound { what: "device", name: id.to_string() }
}

/// There is no such reader.
pub fn no_reader(name: &str) -> RegistryError {
    RegistryError::NotFound { what: "reader", name: name.to_owned() }
}

/// A policy without a limit, or with one that is out of range.
pub fn retention(policy: &RetentionPolicy) -> Result<(), RegistryError> {
    let group = &policy.group;
    if policy.days.is_none() && policy.bytes.is_none() {
        let reason = format!("the policy of group {group} has no limit: give days, bytes or both");
        return Err(RegistryError::Invalid(reason));
    }
    if let Some(days) = policy.days
        && !(1..=RETENTION_DAYS_MAX).contains(&days)
    {
        let reason = format!("group {group} keeps frames for {days} days: use 1 to {RETENTION_DAYS_MAX}");
        return Err(RegistryError::Invalid(reason));
    }
    if let Some(bytes) = policy.bytes
        && !(1..=INT_MAX).contains(&bytes)
    {
        let reason = format!("group {group} keeps {bytes} bytes: use 1 to {INT_MAX}");
        return Err(RegistryError::Invalid(reason));
    }
    Ok(())
}

/// There is no such policy.
pub fn no_retention(group: &Group) -> RegistryError {
    RegistryError::NotFound { what: "retention policy of group", name: group.to_string() }
}

/// Nobody has said what it would remove.
pub fn not_counted(group: &Group) -> RegistryError {
    RegistryError::Invalid(format!(
        "nobody has counted yet what the policy of group {group} would remove: an eater does it within a minute of its \
         start or of the change; look at it, then enforce it"
    ))
}

/// There are as many as there may be.
pub fn too_many_policies() -> RegistryError {
    RegistryError::Invalid(format!(
        "there are {RETENTION_POLICIES_MAX} retention policies, which is the most: remove one"
    ))
}

/// The channel carries no positions.
pub fn no_position_schema(channel: &Channel) -> RegistryError {
    RegistryError::NotFound { what: "position schema of channel", name: channel.to_string() }
}

/// There are as many as there may be.
pub fn too_many_position_schemas() -> RegistryError {
    RegistryError::Invalid(format!(
        "{POSITION_SCHEMAS_MAX} channels carry positions, which is the most: remove one"
    ))
}

/// A phone of an app that has no name, or too long a one.
pub fn push_token(token: &PushToken) -> Result<(), RegistryError> {
    let (bytes, id) = (token.topic.len(), token.id);
    if (1..=TOPIC_BYTES_MAX).contains(&bytes) {
        return Ok(());
    }
    Err(RegistryError::Invalid(format!(
        "the topic of push token {id} has {bytes} bytes: give the app's bundle id, 1 to {TOPIC_BYTES_MAX} bytes"
    )))
}

/// What is kept of a reason.
pub fn reason(reason: &str) -> &str {
    cut(reason, REASON_BYTES_MAX)
}

/// The beginning of a text, in whole characters of at most so many bytes.
pub fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// There is no such rule.
pub fn no_rule(name: &RuleName) -> RegistryError {
    RegistryError::NotFound { what: "rule", name: name.to_string() }
}

/// The rule is not the one that somebody has looked at.
pub fn rule_changed(name: &RuleName) -> RegistryError {
    RegistryError::AlreadyExists { what: "rule", name: name.to_string() }
}

/// There are as many as there may be.
pub fn too_many_rules() -> RegistryError {
    RegistryError::Invalid(format!("there are {RULES_MAX} rules, which is the most: remove one"))
}

/// There is no such subscription.
pub fn no_subscription(id: SubscriptionId) -> RegistryError {
    RegistryError::NotFound { what: "subscription", name: id.to_string() }
}

/// There is another one with this id.
pub fn subscription_exists(id: SubscriptionId) -> RegistryError {
    RegistryError::AlreadyExists { what: "subscription", name: id.to_string() }
}

/// There are as many as there may be.
pub fn too_many_subscriptions() -> RegistryError {
    RegistryError::Invalid(format!(
        "there are {SUBSCRIPTIONS_MAX} subscriptions, which is the most: remove one"
    ))
}
