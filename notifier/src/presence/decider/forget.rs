//! Forgetting what no rule asks for any more.

use std::collections::HashMap;

use trough_protocol::DeviceId;
use trough_store::outbox::{WatchState, WatchStep};
use trough_store::presence::NOTES_MAX;

use super::{LookError, Task, in_scope, shard};

impl Task {
    /// Forgets what was decided by rules that there are no more, and of devices that are none of their rule's any more: who
    /// comes back later begins anew.
    pub(super) async fn forget(&mut self) -> Result<(), LookError> {
        let known = self.shards.values().flat_map(|known| known.states.keys().cloned());
        let devices: Vec<DeviceId> = known.collect();
        for part in devices.chunks(NOTES_MAX) {
            let groups = self.groups(part).await?;
            let mut steps: HashMap<u16, WatchStep> = HashMap::new();
            for device in part {
                let number = shard(device).number;
                let states = self.shards.get(&number).and_then(|known| known.states.get(device));
                for (name, (version, _)) in states.into_iter().flatten() {
                    let rule = self.rules.iter().find(|(rule, _)| rule.rule.name == *name);
                    let counts = rule.is_some_and(|(rule, _)| rule.version == *version);
                    if !(counts && rule.is_some_and(|(rule, _)| in_scope(rule, device, &groups))) {
                        let (device, rule, version) = (device.clone(), name.clone(), *version);
                        let nothing = WatchState { device, rule, version, state: Vec::new() };
                        steps.entry(number).or_default().states.push(nothing);
                    }
                }
            }
            for (number, step) in steps {
                self.enter(number, step).await?;
            }
        }
        Ok(())
    }
}
