//! The devices of a query, one after another.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::watch;
use trough_protocol::DeviceId;
use trough_store::{DeviceFilter, Group, GroupAccess};

use super::auth::{Authenticator, Caller};
use super::frames_query::{FramesQuery, Place, Whose};
use super::refusal::Refusal;
use super::watch::{Watched, still_allowed};
use crate::journal::Order;

/// Devices that are listed at a time.
const LISTED_AT_ONCE: usize = 256;
/// Devices that are looked up at a time.
const LOOKED_UP_AT_ONCE: usize = 16;

/// Devices in the order of their ids' bytes; memory holds some of them.
pub(super) struct Roster {
    auth: Arc<Authenticator>,
    caller: Caller,
    /// Where it waits for the registry, whatever thread it is asked on.
    handle: Handle,
    ready: VecDeque<DeviceId>,
    /// More are to be listed.
    rest: Option<Rest>,
    /// Who is told which device is being read, if rights are watched.
    reading: Option<watch::Sender<Option<DeviceId>>>,
}

struct Rest {
    groups: Option<BTreeSet<Group>>,
    after: Option<DeviceId>,
}

impl Roster {
    /// Finds the first ones, from where the query goes on. One device alone was found already.
    ///
    /// # Errors
    /// [`Refusal::NoSuchDevice`] of the first that was named and that the caller does not see; [`Refusal::Busy`].
    pub(super) async fn begin(
        auth: Arc<Authenticator>,
        caller: Caller,
        query: &FramesQuery,
    ) -> Result<Self, Refusal> {
        let handle = Handle::current();
        let mut roster = Self { auth, caller, handle, ready: VecDeque::new(), rest: None, reading: None };
        match &query.whose {
            Whose::Device(device) => roster.ready.push_back(device.clone()),
            Whose::Devices { named, group } if named.is_empty() => {
                roster.list(group.as_ref(), query).await?;
            }
            Whose::Devices { named, group } => {
                let mut seen = roster.look_up(named, group.as_ref()).await?;
                seen.retain(|device| query.after.as_ref().is_none_or(|after| *device >= after.device));
                roster.ready = seen.into();
            }
        }
        if let Some(after) =
            query.after.as_ref().filter(|after| query.is_of_many() && is_done(after, query.order))
        {
            roster.ready.retain(|device| *device != after.device);
        }
        Ok(roster)
    }

    /// Those of the named ones that are in the group; all must be seen.
    async fn look_up(&self, named: &[DeviceId], group: Option<&Group>) -> Result<Vec<DeviceId>, Refusal> {
        let group_is_seen = group.is_none_or(|group| self.sees(group));
        let mut found = Vec::new();
        for some in named.chunks(LOOKED_UP_AT_ONCE) {
            let asking = some.iter().map(|device| self.auth.device(&self.caller, device.as_str()));
            for record in join_all(asking).await {
                let record = record?;
                if group_is_seen && group.is_none_or(|group| record.groups.contains(group)) {
                    found.push(record.id);
                }
            }
        }
        Ok(found)
    }

    fn sees(&self, group: &Group) -> bool {
        match &self.caller.grant.groups {
            GroupAccess::All => true,
            GroupAccess::Only(mine) => mine.contains(group),
        }
    }

    async fn list(&mut self, group: Option<&Group>, query: &FramesQuery) -> Result<(), Refusal> {
        // A group that the reader has no access to is as empty as one that does not exist.
        let groups = match group {
            None => self.caller.grant.groups.as_filter(),
            Some(group) if self.sees(group) => Some(BTreeSet::from([group.clone()])),
            Some(_) => Some(BTreeSet::new()),
        };
        if groups.as_ref().is_some_and(BTreeSet::is_empty) {
            return Ok(());
        }
        let mut after = None;
        if let Some(Place { device, .. }) = &query.after {
            match self.auth.device(&self.caller, device.as_str()).await {
                Ok(record) if groups.as_ref().is_none_or(|groups| !groups.is_disjoint(&record.groups)) => {
                    self.ready.push_back(record.id);
                }
                Ok(_) | Err(Refusal::NoSuchDevice(_)) => {}
                Err(refusal) => return Err(refusal),
            }
            after = Some(device.clone());
        }
        self.rest = Some(Rest { groups, after });
        self.load().await
    }

    /// Lists the next ones.
    async fn load(&mut self) -> Result<(), Refusal> {
        let Some(rest) = &mut self.rest else { return Ok(()) };
        let filter =
            DeviceFilter { groups: rest.groups.clone(), after: rest.after.clone(), limit: LISTED_AT_ONCE };
        let found = self.auth.devices(filter).await?;
        match found.last().filter(|_| found.len() == LISTED_AT_ONCE) {
            Some(last) => rest.after = Some(last.id.clone()),
            None => self.rest = None,
        }
        self.ready.extend(found.into_iter().map(|record| record.id));
        Ok(())
    }

    /// All that are still to come, if they are known and no more than `max`.
    pub(super) fn all(&self, max: usize) -> Option<impl Iterator<Item = &DeviceId>> {
        (self.rest.is_none() && self.ready.len() <= max).then(|| self.ready.iter())
    }

    /// From now on each device is looked at again before it is read, as that may be hours later, and `reading` is told
    /// which one it is.
    pub(super) fn watched(&mut self, reading: watch::Sender<Option<DeviceId>>) {
        self.reading = Some(reading);
    }

    /// The next device. Blocks.
    ///
    /// # Errors
    /// [`Refusal`], if the registry cannot tell.
    pub(super) fn next(&mut self) -> Result<Option<DeviceId>, Refusal> {
        loop {
            let Some(device) = self.ready.pop_front() else {
                if self.rest.is_none() {
                    return Ok(None);
                }
                let handle = self.handle.clone();
                handle.block_on(self.load())?;
                continue;
            };
            let Some(reading) = &self.reading else { return Ok(Some(device)) };
            // Told first: what changes from now on is noticed by the one who is told.
            reading.send_replace(Some(device.clone()));
            let watched = Watched::Device(device.clone());
            if self.handle.block_on(still_allowed(&self.auth, &self.caller, &watched)) {
                return Ok(Some(device));
            }
            reading.send_replace(None);
        }
    }
}

fn is_done(after: &Place, order: Order) -> bool {
    *after == Place::behind_all(after.device.clone(), order)
}
