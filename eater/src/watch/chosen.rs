//! Which devices are looked at, as rules and groups stand.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as AsyncMutex;
use trough_protocol::DeviceId;
use trough_store::object_catalog::ObjectId;
use trough_store::outbox::{Duty, SHARDS, Shard};

use super::compiled::{Concerned, Rules};
use crate::directory::Directory;
use crate::live::{Commit, Place};

/// Most devices of which it is remembered whether rules concern them: more are looked up anew.
const DEVICES_MAX: usize = 256 * 1024;
/// Commits of which it is remembered whose frames are looked at: shards come to them one soon after another.
const COMMITS_MAX: usize = 64;

/// The rules, and the devices that they concern. Made anew when either may have changed.
pub(super) struct Chooser {
    pub rules: Arc<Rules>,
    directory: Arc<Directory>,
    devices: Mutex<HashMap<DeviceId, Option<Concerned>>>,
    commits: AsyncMutex<VecDeque<(Key, Arc<Chosen>)>>,
}

/// What tells a commit from others.
type Key = (ObjectId, Place);

/// The devices of a commit that are looked at, by shard, each list sorted.
type Chosen = Vec<Vec<DeviceId>>;

impl Chooser {
    pub fn new(rules: Arc<Rules>, directory: Arc<Directory>) -> Self {
        Self { rules, directory, devices: Mutex::default(), commits: AsyncMutex::default() }
    }

    /// The devices of a commit that are looked at for a shard.
    ///
    /// # Errors
    /// Why nobody can tell just now: try again.
    pub async fn of(&self, commit: &Commit, shard: Shard) -> Result<Vec<DeviceId>, String> {
        if commit.is_part {
            return Ok(self.choose(commit).await?[usize::from(shard.number)].clone());
        }
        let key = (commit.id, commit.through);
        let mut commits = self.commits.lock().await;
        let found = commits.iter().find(|(known, _)| *known == key).map(|(_, chosen)| chosen.clone());
        let chosen = match found {
            Some(chosen) => chosen,
            None => {
                let chosen = Arc::new(self.choose(commit).await?);
                commits.push_back((key, chosen.clone()));
                if commits.len() > COMMITS_MAX {
                    commits.pop_front();
                }
                chosen
            }
        };
        Ok(chosen[usize::from(shard.number)].clone())
    }

    async fn choose(&self, commit: &Commit) -> Result<Chosen, String> {
        let mut chosen: Vec<BTreeSet<DeviceId>> = vec![BTreeSet::new(); usize::from(SHARDS)];
        for device in commit.devices() {
            if self.concerned(device).await?.is_some() {
                let shard = Shard::of(Duty::Watch, device.as_str());
                chosen[usize::from(shard.number)].insert(device.clone());
            }
        }
        Ok(chosen.into_iter().map(|devices| devices.into_iter().collect()).collect())
    }

    /// The rules that concern a device, if any do.
    ///
    /// # Errors
    /// As [`Chooser::of`].
    pub async fn concerned(&self, device: &DeviceId) -> Result<Option<Concerned>, String> {
        if let Some(known) = self.known(|devices| devices.get(device).cloned()) {
            return Ok(known);
        }
        let groups = match self.rules.want_groups() {
            true => self.directory.groups_of(device).await?.unwrap_or_default(),
            false => Arc::default(),
        };
        let concerned = self.rules.concerning(device, &groups);
        self.known(|devices| {
            if devices.len() >= DEVICES_MAX {
                devices.clear();
            }
            devices.insert(device.clone(), concerned.clone());
        });
        Ok(concerned)
    }

    fn known<T>(&self, with: impl FnOnce(&mut HashMap<DeviceId, Option<Concerned>>) -> T) -> T {
        // One entry is read or added.
        with(&mut self.devices.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
