//! What every registry refuses before it asks its storage.

use std::collections::BTreeSet;

use trough_protocol::DeviceId;

use crate::error::RegistryError;
use crate::names::Group;
use crate::registry::{
    GROUPS_MAX, GroupAccess, IMPORT_DEVICES_MAX, NewDevice, NewReader, Scope, TOKENS_CHECKED_MAX,
};
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
