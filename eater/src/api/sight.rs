//! Which devices a caller sees, remembered for the length of a request.

use std::collections::HashMap;

use futures_util::future::join_all;
use trough_protocol::DeviceId;
use trough_store::rule::Scope;
use trough_store::{Event, EventKind, Group, GroupAccess};

use super::auth::{Authenticator, Caller};
use super::refusal::Refusal;

/// Devices that are looked up at a time.
const AT_ONCE: usize = 16;

/// What a caller sees.
pub(super) struct Sight<'a> {
    auth: &'a Authenticator,
    caller: &'a Caller,
    known: HashMap<DeviceId, bool>,
}

impl<'a> Sight<'a> {
    /// Of nothing yet.
    pub(super) fn new(auth: &'a Authenticator, caller: &'a Caller) -> Self {
        Self { auth, caller, known: HashMap::new() }
    }

    /// How many devices were looked up: whoever does this for a list ends it early.
    pub(super) fn looked_up(&self) -> usize {
        self.known.len()
    }

    /// Whether it sees every device there is.
    pub(super) fn is_whole(&self) -> bool {
        self.caller.grant.groups == GroupAccess::All
    }

    /// Whether it has access to a group.
    pub(super) fn has(&self, group: &Group) -> bool {
        match &self.caller.grant.groups {
            GroupAccess::All => true,
            GroupAccess::Only(mine) => mine.contains(group),
        }
    }

    /// The first of these devices that it does not see, which may be one that does not exist.
    ///
    /// # Errors
    /// [`Refusal::Busy`].
    pub(super) async fn first_unseen(
        &mut self,
        devices: impl IntoIterator<Item = &DeviceId>,
    ) -> Result<Option<DeviceId>, Refusal> {
        let devices: Vec<&DeviceId> = devices.into_iter().collect();
        for some in devices.chunks(AT_ONCE) {
            self.look_up(some.iter().copied()).await?;
            if let Some(unseen) = some.iter().find(|device| self.known.get(**device) != Some(&true)) {
                return Ok(Some((*unseen).clone()));
            }
        }
        Ok(None)
    }

    async fn look_up(&mut self, devices: impl IntoIterator<Item = &DeviceId>) -> Result<(), Refusal> {
        let new: Vec<_> = devices.into_iter().filter(|device| !self.known.contains_key(*device)).collect();
        let asking = new.iter().map(|device| self.auth.device(self.caller, device.as_str()));
        let found = join_all(asking).await;
        for (device, found) in new.into_iter().zip(found) {
            let seen = match found {
                Ok(_) => true,
                Err(Refusal::NoSuchDevice(_)) => false,
                Err(refusal) => return Err(refusal),
            };
            self.known.insert(device.clone(), seen);
        }
        Ok(())
    }

    /// Whether what each of these events is about is seen. An event of a device that the registry has lost, or of nothing in
    /// particular, is for those who see everything.
    ///
    /// # Errors
    /// [`Refusal::Busy`].
    pub(super) async fn of_events<'e>(
        &mut self,
        events: impl IntoIterator<Item = &'e Event>,
    ) -> Result<Vec<bool>, Refusal> {
        let events: Vec<&Event> = events.into_iter().collect();
        if self.is_whole() {
            return Ok(vec![true; events.len()]);
        }
        for some in events.chunks(AT_ONCE) {
            self.look_up(some.iter().filter_map(|event| event.device.as_ref())).await?;
        }
        let seen = |event: &&Event| match (&event.device, &event.group) {
            (Some(device), _) => self.known.get(device) == Some(&true),
            (None, Some(group)) => self.has(group),
            // Somebody's own test is about nothing that must be seen.
            (None, None) => event.kind == EventKind::Test,
        };
        Ok(events.iter().map(seen).collect())
    }

    /// Whether all that a rule is about is the caller's to manage: devices that it sees, groups that it has access to, and
    /// every device only for those who see every one.
    ///
    /// # Errors
    /// [`Refusal::Busy`].
    pub(super) async fn manages(&mut self, scope: &Scope) -> Result<bool, Refusal> {
        Ok(match scope {
            _ if self.is_whole() => true,
            Scope::All => false,
            Scope::Groups(groups) => groups.iter().all(|group| self.has(group)),
            Scope::Devices(devices) => self.first_unseen(devices).await?.is_none(),
        })
    }

    /// That each device and group which is named is seen.
    ///
    /// # Errors
    /// [`Refusal::NoSuchDevice`], [`Refusal::BadBody`], [`Refusal::Busy`].
    pub(super) async fn check_named(&mut self, scope: &Scope) -> Result<(), Refusal> {
        match scope {
            Scope::All => Ok(()),
            Scope::Devices(devices) => match self.first_unseen(devices).await? {
                Some(unseen) => Err(Refusal::NoSuchDevice(unseen.to_string())),
                None => Ok(()),
            },
            Scope::Groups(groups) => match groups.iter().find(|group| !self.has(group)) {
                Some(other) => Err(super::body::bad(format_args!("scope: group {other} is none of yours"))),
                None => Ok(()),
            },
        }
    }
}
