//! Looking at the store: what is to be sent to the devices here.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;
use trough_protocol::DeviceId;
use trough_protocol::device::{Command, CommandId};
use trough_runtime::random::random_below;
use trough_store::RegistryError;
use trough_store::commands::{COMMAND_DEVICES_MAX, CommandPlace, CommandRecord, SEND_COMMANDS_MAX};

use super::{CommandState, Errands, Held, LOOK_EVERY, RETRY_AFTER, SCAN_EVERY};
use crate::presence::Control;

impl Errands {
    /// Looks up some of the devices that are due, and sends what there is.
    pub(super) async fn look(&mut self) {
        let some: Vec<DeviceId> = self.due.iter().take(COMMAND_DEVICES_MAX).cloned().collect();
        for device in &some {
            self.due.remove(device);
        }
        self.look_at = Instant::now() + LOOK_EVERY;
        let here: HashMap<DeviceId, Arc<Control>> = some
            .into_iter()
            .filter_map(|device| {
                let control = self.presence.session(&device).filter(|control| control.takes_commands())?;
                Some((device, control))
            })
            .collect();
        if let Err(error) = self.look_up(&here).await {
            tracing::debug!(%error, "commands are looked for later");
            self.due.extend(here.into_keys());
            self.look_at = Instant::now() + RETRY_AFTER;
        }
    }

    async fn look_up(&mut self, here: &HashMap<DeviceId, Arc<Control>>) -> Result<(), RegistryError> {
        if here.is_empty() {
            return Ok(());
        }
        let places = self.store.pending_commands(here.keys().cloned().collect()).await?;
        let mut pending: HashMap<DeviceId, Vec<CommandId>> = HashMap::new();
        for CommandPlace { device, id } in places {
            pending.entry(device).or_default().push(id);
        }
        let mut chosen = Vec::new();
        for (device, ids) in pending {
            let Some(control) = here.get(&device) else { continue };
            let held = self.held.entry(device.clone()).or_insert_with(|| Held::new(control.clone()));
            if !Arc::ptr_eq(held.control(), control) {
                *held = Held::new(control.clone());
            }
            let ids = held.choose(&ids, Instant::now());
            chosen.extend(ids.into_iter().map(|id| CommandPlace { device: device.clone(), id }));
        }
        for part in chosen.chunks(SEND_COMMANDS_MAX) {
            for record in self.store.send_commands(part.to_vec()).await? {
                self.hand_over(record);
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, record: CommandRecord) {
        let Some(held) = self.held.get_mut(&record.device) else { return };
        held.note(record.id, Instant::now());
        self.metrics.commands_sent.inc();
        let CommandRecord { id, expires_at, payload, .. } = record;
        let (content_type, payload) = (payload.content_type, payload.bytes);
        held.control().give(Command { id, expires: expires_at, content_type, payload });
    }

    /// Looks through all devices with commands for those that are here, and tidies up. Without a session that takes
    /// commands there is nothing to look for, and nothing connects.
    pub(super) async fn scan(&mut self) {
        let spread = std::time::Duration::from_millis(random_below(SCAN_EVERY.as_millis() as u64 / 10));
        self.scan_at = Instant::now() + SCAN_EVERY + spread;
        self.scanned_at = Some(Instant::now());
        let entries = self.presence.entries().into_iter();
        let here: HashMap<DeviceId, Arc<Control>> =
            entries.filter(|(_, control)| control.takes_commands()).collect();
        self.held.retain(|device, held| {
            here.get(device).is_some_and(|control| Arc::ptr_eq(control, held.control()))
        });
        if here.is_empty() {
            return;
        }
        if let Err(error) = self.scan_store(&here).await {
            tracing::debug!(%error, "commands are looked for later");
        }
    }

    async fn scan_store(&mut self, here: &HashMap<DeviceId, Arc<Control>>) -> Result<(), RegistryError> {
        let mut after = None;
        loop {
            let page = self.store.devices_with_commands(after).await?;
            let is_last = page.len() < COMMAND_DEVICES_MAX;
            after = page.last().cloned();
            self.due.extend(page.into_iter().filter(|device| here.contains_key(device)));
            if is_last {
                break;
            }
        }
        self.sweep().await
    }

    /// Tidies up a little, and comes back soon while there is more: sending does not wait for all of it.
    pub(super) async fn sweep(&mut self) -> Result<(), RegistryError> {
        self.sweep_at = None;
        let swept = self.store.sweep_commands().await?;
        self.sweep_at = swept.more.then(|| Instant::now() + LOOK_EVERY);
        for expired in swept.expired {
            self.metrics.command_finished(CommandState::Expired);
            tracing::info!(
                command = %expired.place.id,
                device = %expired.place.device,
                state = CommandState::Expired.as_str(),
                sends = expired.sends,
                "command ended"
            );
        }
        Ok(())
    }
}
