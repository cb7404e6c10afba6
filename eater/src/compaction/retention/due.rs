//! Which days of which devices have expired, and by which policy.

use std::collections::{BTreeMap, HashMap};

use trough_protocol::DeviceId;
use trough_store::RetentionRecord;

/// What policies say of the devices in their groups.
///
/// Days are days since 1970-01-01 (UTC), those on which frames were received. A policy is named by where it stands among
/// all.
pub(super) struct Due {
    devices: HashMap<DeviceId, Vec<Share>>,
}

/// One policy of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    policy: usize,
    /// What has expired by it: that day, and all before.
    through: Option<u32>,
}

/// Bytes of a policy's group, by day.
pub(super) type Usage = BTreeMap<u32, u64>;

impl Due {
    /// `members` are the devices of each policy's group.
    pub(super) fn new(records: &[RetentionRecord], members: Vec<Vec<DeviceId>>, today: u32) -> Self {
        let mut devices: HashMap<DeviceId, Vec<Share>> = HashMap::new();
        for (policy, members) in members.into_iter().enumerate() {
            for device in members {
                devices.entry(device).or_default().push(Share { policy, through: None });
            }
        }
        for shares in devices.values_mut() {
            // Of several ages the longest counts, and is the one that has its frames removed; of equal ones one that is
            // enforced.
            let days = |share: &&mut Share| {
                let record = &records[share.policy];
                (record.policy.days, record.enforced)
            };
            let longest = shares.iter_mut().filter(|share| days(share).0.is_some()).max_by_key(days);
            if let Some(share) = longest {
                // Of the last day that has ended it is so many days ago today, if that is 0.
                let kept = records[share.policy].policy.days.unwrap_or(0);
                share.through = today.checked_sub(kept.saturating_add(1));
            }
        }
        Self { devices }
    }

    /// The policies of a device's groups.
    pub(super) fn policies_of(&self, device: &str) -> impl Iterator<Item = usize> {
        self.shares(device).iter().map(|share| share.policy)
    }

    /// Takes note that what a policy's group has stored may not be more than `limit` bytes. What was received today and
    /// yesterday stays whatever it is: some of it may be in a journal still.
    pub(super) fn limit(&mut self, policy: usize, limit: u64, usage: &Usage, today: u32) {
        let mut bytes = 0_u64;
        let surplus = usage.iter().rev().find(|(_, day)| {
            bytes = bytes.saturating_add(**day);
            bytes > limit
        });
        let Some(through) =
            surplus.map(|(day, _)| *day).and_then(|day| today.checked_sub(2).map(|last| day.min(last)))
        else {
            return;
        };
        for shares in self.devices.values_mut() {
            for share in shares.iter_mut().filter(|share| share.policy == policy) {
                share.through = share.through.max(Some(through));
            }
        }
    }

    /// The policies by which a device's frames of a day have expired.
    pub(super) fn expired(&self, device: &str, day: u32) -> impl Iterator<Item = usize> {
        let expired = move |share: &&Share| share.through.is_some_and(|through| day <= through);
        self.shares(device).iter().filter(expired).map(|share| share.policy)
    }

    /// The last day of which anything has expired.
    pub(super) fn last_day(&self) -> Option<u32> {
        self.devices.values().flatten().filter_map(|share| share.through).max()
    }

    fn shares(&self, device: &str) -> &[Share] {
        let Ok(device) = DeviceId::new(device) else { return &[] };
        self.devices.get(&device).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use trough_store::{Group, RetentionPolicy};

    use super::*;

    fn policy(name: &str, days: Option<u32>, bytes: Option<u64>) -> RetentionRecord {
        let policy = RetentionPolicy { group: Group::new(name).unwrap(), days, bytes };
        let (counted, removed_frames, removed_bytes) = (None, 0, 0);
        RetentionRecord { policy, set_at: 1, enforced: false, counted, removed_frames, removed_bytes }
    }

    fn devices(names: &[&str]) -> Vec<DeviceId> {
        names.iter().map(|name| DeviceId::new(name).unwrap()).collect()
    }

    fn expired(due: &Due, device: &str, day: u32) -> Vec<usize> {
        due.expired(device, day).collect()
    }

    #[test]
    fn a_day_expires_when_it_ended_so_many_days_ago() {
        let policies = [policy("a", Some(1), None)];
        let due = Due::new(&policies, vec![devices(&["x"])], 100);
        // Yesterday ended today: not yet a day ago, all of it.
        assert_eq!((expired(&due, "x", 99), expired(&due, "x", 98)), (vec![], vec![0]));
        assert_eq!(due.last_day(), Some(98));
        assert!(expired(&due, "y", 1).is_empty(), "it is in no such group");
        // Before 1970 there was nothing.
        assert_eq!(Due::new(&[policy("a", Some(36_500), None)], vec![devices(&["x"])], 100).last_day(), None);
    }

    #[test]
    fn the_longest_age_counts() {
        let policies = [policy("a", Some(10), None), policy("b", Some(30), None), policy("c", None, Some(9))];
        let members = vec![devices(&["x", "y"]), devices(&["x"]), devices(&["x"])];
        let due = Due::new(&policies, members, 100);
        assert_eq!((expired(&due, "y", 89), expired(&due, "y", 90)), (vec![0], vec![]));
        assert_eq!((expired(&due, "x", 69), expired(&due, "x", 70)), (vec![1], vec![]));
        assert_eq!(due.policies_of("x").collect::<Vec<_>>(), [0, 1, 2]);
        // Of equal ones the one that is enforced, wherever it stands.
        let enforced = RetentionRecord { enforced: true, ..policy("a", Some(10), None) };
        let policies = [enforced, policy("b", Some(10), None)];
        let due = Due::new(&policies, vec![devices(&["x"]), devices(&["x"])], 100);
        assert_eq!(expired(&due, "x", 89), [0]);
    }

    #[test]
    fn the_oldest_days_make_room() {
        let policies = [policy("a", None, Some(100)), policy("b", Some(30), None)];
        let usage = Usage::from([(50, 40), (97, 30), (98, 30), (99, 40), (100, 20)]);
        let with = |limit| {
            let mut due = Due::new(&policies, vec![devices(&["x"]), devices(&["x", "y"])], 100);
            due.limit(0, limit, &usage, 100);
            due
        };
        // The age of another group does not keep what is too much.
        let due = with(100);
        assert_eq!((expired(&due, "x", 97), expired(&due, "x", 98)), (vec![0], vec![]));
        assert_eq!(expired(&due, "x", 69), [0, 1]);
        assert_eq!((expired(&due, "y", 97), expired(&due, "y", 69)), (vec![], vec![1]));
        assert_eq!(with(160).last_day(), Some(69), "that of the age: all bytes fit");
        assert_eq!(with(159).last_day(), Some(69).max(Some(50)));
        assert_eq!(with(1).last_day(), Some(98), "those of today and yesterday stay");
    }
}
