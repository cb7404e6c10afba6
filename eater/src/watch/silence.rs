//! A channel without frames for a time.

use std::time::Duration;

use serde::Serialize;
use trough_protocol::{Channel, Micros};
use trough_runtime::clock::micros;
use trough_store::EventKind;
use trough_store::event::FrameNumber;

use super::frame::Seen;
use super::happening::Happening;

/// A condition on a channel.
#[derive(Debug)]
pub(super) struct Silence {
    pub channel: Channel,
    pub after: Duration,
}

/// What is known of the channel; `None` of a device that never had a frame of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    pub frame: FrameNumber,
    /// When an eater received it.
    pub at: Micros,
    /// It has been so long ago that this was told.
    pub silent: bool,
}

/// What subscribers are told.
#[derive(Serialize)]
struct Data<'a> {
    channel: &'a str,
    after_s: u64,
    last_received_at: Micros,
}

impl Silence {
    /// A frame of the channel ends the silence.
    pub fn take(&self, heard: &mut Option<Heard>, seen: &Seen<'_>) -> Option<Happening> {
        if self.channel.as_str() != seen.frame.channel {
            return None;
        }
        // It may have been found when the channel seemed to be silent.
        if heard.is_some_and(|heard| heard.frame >= seen.number) {
            return None;
        }
        // Clocks of eaters differ, and one may have been ahead.
        let at = heard.map_or(seen.received_at, |heard| heard.at.max(seen.received_at)).min(seen.latest);
        let before = heard.replace(Heard { frame: seen.number, at, silent: false });
        let silent = before.filter(|before| before.silent)?;
        Some(self.happening(EventKind::ChannelResumed, seen.frame.ts, seen.number, silent.at))
    }

    /// When it counts as silent if nothing comes.
    pub fn due(&self, heard: &Heard) -> Micros {
        heard.at.saturating_add(micros(self.after))
    }

    /// Nothing has come until [`Silence::due`].
    pub fn expire(&self, heard: &mut Heard) -> Option<Happening> {
        if std::mem::replace(&mut heard.silent, true) {
            return None;
        }
        Some(self.happening(EventKind::ChannelSilent, self.due(heard), heard.frame, heard.at))
    }

    fn happening(
        &self,
        kind: EventKind,
        at: Micros,
        frame: FrameNumber,
        last_received_at: Micros,
    ) -> Happening {
        let data = Data { channel: self.channel.as_str(), after_s: self.after.as_secs(), last_received_at };
        Happening::new(kind, at, frame, &data)
    }

    /// Whether it was heard so much later than what is stored says that this is to be stored again: else a watcher that
    /// begins anew would look at each device at once.
    pub fn is_much_later(&self, stored: Option<Heard>, now: Option<Heard>) -> bool {
        let at = |heard: Option<Heard>| heard.map_or(0, |heard| heard.at);
        at(now).saturating_sub(at(stored)) >= micros(self.after) / 2
    }
}
