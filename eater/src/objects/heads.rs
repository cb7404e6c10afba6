//! Heads on their way to the catalog: written behind the rows, so that a stale one is too low, which is safe.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use trough_protocol::{DeviceId, Epoch};
use trough_store::ObjectCatalog;
use trough_store::object_catalog::DeviceHead;

/// Most heads that wait; of further devices none is noted until there is room. Finding a head then takes reading
/// more rows, and nothing else.
const WAITING_MAX: usize = 100_000;
/// Heads written at once.
const WRITE_MAX: usize = 1000;

/// What is not in the catalog yet.
#[derive(Default)]
pub(super) struct HeadNotes(Mutex<HashMap<(DeviceId, Epoch), DeviceHead>>);

impl HeadNotes {
    /// Takes note of heads whose rows are entered.
    pub(super) fn note(&self, heads: Vec<DeviceHead>) {
        let mut waiting = self.lock();
        for head in heads {
            let key = (head.device.clone(), head.epoch);
            let has_room = waiting.len() < WAITING_MAX;
            match waiting.get_mut(&key) {
                Some(known) if known.head >= head.head => {}
                Some(known) => *known = head,
                None if has_room => drop(waiting.insert(key, head)),
                None => {}
            }
        }
    }

    /// Writes what waits. What could not be written waits again.
    pub(super) async fn write(&self, catalog: &dyn ObjectCatalog) {
        let heads: Vec<DeviceHead> = std::mem::take(&mut *self.lock()).into_values().collect();
        let mut parts = heads.chunks(WRITE_MAX);
        while let Some(part) = parts.next() {
            if let Err(error) = catalog.note_heads(part).await {
                tracing::debug!(%error, "heads are noted later");
                let rest = part.iter().chain(parts.flatten()).cloned().collect();
                self.note(rest);
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(DeviceId, Epoch), DeviceHead>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
