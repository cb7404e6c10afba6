//! Looking where the sessions of this feeder's devices are: for messages that were missed.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use trough_bus::{BusError, KEYS_MAX, Key};
use trough_protocol::DeviceId;

use super::record::{Feeder, read_place};
use super::{Control, Neighbours, UNTOLD};

/// What a value asks for.
enum Finding {
    /// It is as it should be.
    Fine,
    /// It is not there, or older than ours.
    Write,
    /// This feeder has a newer session, if it lives.
    Newer(Feeder),
}

impl Neighbours {
    /// Looks at the values of all sessions: ends those that have a newer one elsewhere, and writes the others' where
    /// they are missing. Breaks off if the bus does not answer; the next time comes within a minute.
    pub(super) async fn scan(&self) {
        let sessions = self.presence.entries();
        let stays = |control: &Control| control.order() != UNTOLD && !control.is_elsewhere();
        let told: Vec<_> = sessions.into_iter().filter(|(_, control)| stays(control)).collect();
        let mut alive = HashMap::new();
        for part in told.chunks(KEYS_MAX) {
            if let Err(error) = self.scan_part(part, &mut alive).await {
                tracing::debug!(%error, "sessions on other feeders are looked for later");
                return;
            }
        }
    }

    async fn scan_part(
        &self,
        part: &[(DeviceId, Arc<Control>)],
        alive: &mut HashMap<Feeder, bool>,
    ) -> Result<(), BusError> {
        let keys: Vec<Key> = part.iter().map(|(device, _)| self.key(device)).collect();
        let found = self.deployment.bus().get_many(&keys).await?;
        let mut unwritten = Vec::new();
        for ((device, control), value) in part.iter().zip(&found) {
            match self.judge(control.order(), value.as_ref()) {
                Finding::Fine => {}
                Finding::Newer(feeder) if self.is_alive(&feeder, alive).await? => self.end(device, control),
                Finding::Newer(_) | Finding::Write => unwritten.push((device.clone(), control.clone())),
            }
        }
        // Those that have ended meanwhile are not written again.
        unwritten.retain(|(device, control)| {
            self.presence.session(device).is_some_and(|known| Arc::ptr_eq(&known, control))
        });
        if !unwritten.is_empty() {
            self.write(&unwritten).await;
        }
        Ok(())
    }

    fn judge(&self, order: u64, value: Option<&Bytes>) -> Finding {
        match value.and_then(|value| read_place(value)) {
            Some((feeder, known)) if feeder == self.feeder && known == order => Finding::Fine,
            Some((feeder, known)) if feeder != self.feeder && known > order => Finding::Newer(feeder),
            // Which of the two is the newer one, nobody knows any more: both stay.
            Some((feeder, known)) if feeder != self.feeder && known == order => Finding::Fine,
            _ => Finding::Write,
        }
    }

    async fn is_alive(&self, feeder: &Feeder, alive: &mut HashMap<Feeder, bool>) -> Result<bool, BusError> {
        if let Some(known) = alive.get(feeder) {
            return Ok(*known);
        }
        let lease = self.deployment.key(&feeder.lease());
        let answer = self.deployment.bus().is_leased(&lease).await?;
        alive.insert(feeder.clone(), answer);
        Ok(answer)
    }
}
