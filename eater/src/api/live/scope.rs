//! Whose frames a stream shows.

use std::collections::BTreeSet;
use std::sync::Arc;

use trough_protocol::DeviceId;
use trough_store::{Group, GroupAccess};

use crate::directory::Directory;
use crate::live::Commit;

/// Whose frames a stream shows.
pub(super) enum Scope {
    /// One device's.
    Device(DeviceId),
    /// Those of all devices that the reader may see; in the group, if there is one.
    Devices { access: GroupAccess, group: Option<Group>, directory: Arc<Directory> },
}

impl Scope {
    /// The one device, if it is one.
    pub fn device(&self) -> Option<&DeviceId> {
        match self {
            Self::Device(device) => Some(device),
            Self::Devices { .. } => None,
        }
    }

    /// The devices in a commit that are shown, sorted.
    ///
    /// # Errors
    /// Why nobody can tell just now: try again.
    pub async fn of(&self, commit: &Commit) -> Result<Vec<DeviceId>, String> {
        match self {
            Self::Device(device) => {
                let there = commit.devices().any(|has| has == device);
                Ok(there.then(|| device.clone()).into_iter().collect())
            }
            Self::Devices { access, group, directory } => {
                let mut devices: Vec<DeviceId> =
                    commit.devices().collect::<BTreeSet<_>>().into_iter().cloned().collect();
                if let (GroupAccess::All, None) = (access, group) {
                    return Ok(devices);
                }
                // A group that the reader has no access to is as empty as one that does not exist.
                if let (GroupAccess::Only(mine), Some(group)) = (access, group)
                    && !mine.contains(group)
                {
                    return Ok(Vec::new());
                }
                let mut shown = Vec::with_capacity(devices.len());
                for device in devices.drain(..) {
                    let groups = directory.groups_of(&device).await?;
                    let is_shown = groups.is_some_and(|groups| {
                        access.allows(&groups) && group.as_ref().is_none_or(|group| groups.contains(group))
                    });
                    if is_shown {
                        shown.push(device);
                    }
                }
                Ok(shown)
            }
        }
    }
}
