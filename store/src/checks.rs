//! What every registry refuses before it asks its storage.

use std::collections::BTreeSet;

use trough_protocol::limits::INT_MAX;
use trough_protocol::{Channel, DeviceId};

use crate::error::RegistryError;
use crate::names::Group;
use crate::position_schema::POSITION_SCHEMAS_MAX;
use crate::registry::{
    GROUPS_MAX, GroupAccess, IMPORT_DEVICES_MAX, NewDevice, NewReader, Scope, TOKENS_CHECKED_MAX,
};
use crate::retention::{RETENTION_DAYS_MAX, RETENTION_POLICIES_MAX, RetentionPolicy};
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
