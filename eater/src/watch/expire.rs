//! Channels that have become silent.

use trough_protocol::DeviceId;
use trough_runtime::clock::micros;
use trough_store::event::FrameNumber;

use super::catch_up::blocking;
use super::compiled::Concerned;
use super::retry::{Stop, again};
use super::shard::ShardWatch;
use super::states::Due;
use super::vigil::latest;

/// How long it is put off from one look at a device to the next, in µs.
const LOOK_AGAIN: u64 = 1_000_000;
/// Silences that are looked at before anything else has its turn.
const AT_A_TIME: usize = 100;

impl ShardWatch {
    /// Waits for the silences of a device whose frames were looked at.
    pub fn wait_for_silences(&mut self, device: &DeviceId, concerned: &Concerned) {
        for due in self.states.dues_of(&self.chooser.rules, device, concerned) {
            self.silences.push(due);
        }
    }

    /// Tells of the channels that are silent by now.
    pub async fn expire(&mut self) -> Result<(), Stop> {
        for _ in 0..AT_A_TIME {
            let Some(due) = self.silences.pop(self.now()) else { return Ok(()) };
            let rules = self.chooser.rules.clone();
            match self.states.due(&rules, &due.device, &due.rule, due.version) {
                // It is silent already, or the rule is gone.
                None => {}
                // A frame has come since.
                Some(later) if later.at > self.now() => self.silences.push(later),
                Some(due) if self.put_off(&due) => {}
                Some(due) => self.look_and_tell(due).await?,
            }
        }
        Ok(())
    }

    /// Waits on if it was not silent for long enough by this process's own clock, whatever others say: whether it does.
    fn put_off(&mut self, due: &Due) -> bool {
        let left = self.states.left(&self.chooser.rules, due, &self.vigil);
        if left.is_zero() {
            return false;
        }
        let at = self.now().saturating_add(micros(left)).saturating_add(1);
        self.silences.push(Due { at, ..due.clone() });
        true
    }

    /// Everything that is stored is looked at after the time has come: what this task has not come to yet, and what no
    /// doorbell has told of, counts. So an alarm may come late, and none is wrong.
    async fn look_and_tell(&mut self, due: Due) -> Result<(), Stop> {
        if self.ask_clock().await? < due.at {
            self.silences.push(due);
            return Ok(());
        }
        // That clocks were set may have been found just now.
        if self.put_off(&due) {
            return Ok(());
        }
        let rules = self.chooser.rules.clone();
        let silence = rules.get(&due.rule, due.version).and_then(|rule| rule.silence());
        let (Some(silence), Some(heard)) = (silence, self.states.heard(&due)) else { return Ok(()) };
        let journal = self.shared.parts.journal.clone();
        let lasts = again!(self.retry, "the last frames of a device cannot be read", {
            let (journal, device) = (journal.clone(), due.device.clone());
            blocking(move || journal.last_per_channel(&device))
        });
        let last = lasts.into_iter().find(|last| last.channel == silence.channel);
        let later = last.filter(|last| (last.epoch, last.seq) > (heard.epoch, heard.seq));
        match later {
            // It is not looked at yet; or it was, by somebody who did not store that, as it would have been stored too often.
            Some(last) => {
                let number = FrameNumber { epoch: last.epoch, seq: last.seq };
                self.states.hear(&due, number, last.received_at.min(latest(self.now())));
                let later = self.states.due(&rules, &due.device, &due.rule, due.version);
                let soonest = self.now() + LOOK_AGAIN;
                if let Some(later) = later {
                    self.silences.push(Due { at: later.at.max(soonest), ..later });
                }
            }
            None => self.states.expire(&rules, &due),
        }
        Ok(())
    }
}
