//! The sessions of all feeders, as far as one process knows them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use trough_protocol::{DeviceId, Micros};
use trough_runtime::clock::micros;
use trough_store::outbox::OutboxError;
use trough_store::presence::{FeederId, Feeders, LAPSE, NOTES_MAX, Presence, SessionRow, SessionState};

/// A feeder that has not reported for so long may be dead: it reports each second.
const STALE: Duration = Duration::from_secs(3);
/// What was entered in the last seconds is looked at again: a report has the time at which it began, and may take as long as an
/// operation of the database may.
const OVERLAP: Duration = Duration::from_secs(8);

/// When a device counts as offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Not as long as things stand as they do.
    Never,
    /// At this time; it was heard last at the other one.
    At(Micros, Micros),
    /// Nobody can tell.
    Unknown,
}

/// When a device counts as offline that is to be heard within `after`.
pub fn due(row: &SessionRow, feeders: &Feeders, after: Duration) -> Due {
    let age = |at: Micros| Duration::from_micros(feeders.now.saturating_sub(at));
    let (Some(since), Some(reported)) = (feeders.since, feeders.last) else { return Due::Unknown };
    if age(reported) > LAPSE {
        // There is nobody to be heard by.
        return Due::Unknown;
    }
    let heard_at = match (row.state, feeders.reported_at(&row.feeder)) {
        (SessionState::Open, Some(at)) if age(at) <= STALE => return Due::Never,
        // As long as its feeder lived, it was heard.
        (SessionState::Open, Some(at)) => row.heard_at.max(at),
        // It is being buried: its sessions are about to be closed.
        (SessionState::Open, None) => return Due::Unknown,
        (SessionState::Quiet | SessionState::Closed, _) => row.heard_at,
    };
    Due::At(heard_at.max(since).saturating_add(micros(after)), heard_at)
}

/// What is known.
#[derive(Debug, Default)]
pub struct Roster {
    sessions: HashMap<DeviceId, SessionRow>,
    feeders: Option<Feeders>,
    /// Which feeders lived, and since when somebody listened, at the last look.
    listening: (HashSet<FeederId>, Option<Micros>),
    /// The last change that was seen.
    seen: Option<(Micros, DeviceId)>,
}

/// What has become of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Devices whose session has changed.
    pub devices: HashSet<DeviceId>,
    /// Other feeders live than before, or somebody listens again: it may be news of any device.
    pub of_all: bool,
}

impl Roster {
    /// Looks what has changed.
    ///
    /// # Errors
    /// As the storage's; what was seen so far is seen.
    pub async fn refresh(&mut self, presence: &dyn Presence) -> Result<News, OutboxError> {
        let feeders = presence.feeders().await?;
        let listening = (living(&feeders), feeders.since);
        let mut news = News { of_all: self.listening != listening, ..News::default() };
        let mut after = self.seen.clone().map(|(at, device)| {
            // The clock may have been set back.
            (at.min(feeders.now).saturating_sub(micros(OVERLAP)), device)
        });
        loop {
            let rows = presence.changed(after.clone(), NOTES_MAX).await?;
            let full = rows.len() == NOTES_MAX;
            for row in rows {
                after = Some((row.changed_at, row.device.clone()));
                self.seen = self.seen.take().max(after.clone());
                if self.sessions.get(&row.device) != Some(&row) {
                    news.devices.insert(row.device.clone());
                    self.sessions.insert(row.device.clone(), row);
                }
            }
            if !full {
                break;
            }
        }
        (self.listening, self.feeders) = (listening, Some(feeders));
        Ok(news)
    }

    /// Takes what was read anew.
    pub fn take(&mut self, rows: Vec<SessionRow>, feeders: Feeders) {
        self.feeders = Some(feeders);
        self.sessions.extend(rows.into_iter().map(|row| (row.device.clone(), row)));
    }

    /// Who reports; `None` before the first look.
    pub fn feeders(&self) -> Option<&Feeders> {
        self.feeders.as_ref()
    }

    /// All devices that ever had a session.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.sessions.keys()
    }

    /// A device's newest session.
    pub fn session(&self, device: &DeviceId) -> Option<&SessionRow> {
        self.sessions.get(device)
    }

    /// Feeders that have not reported for this long.
    pub fn silent(&self, silent: Duration) -> Vec<FeederId> {
        let Some(feeders) = &self.feeders else { return Vec::new() };
        let before = feeders.now.saturating_sub(micros(silent));
        feeders.reported.iter().filter(|(_, at)| *at < before).map(|(feeder, _)| *feeder).collect()
    }
}

fn living(feeders: &Feeders) -> HashSet<FeederId> {
    let since = feeders.now.saturating_sub(micros(STALE));
    feeders.reported.iter().filter(|(_, at)| *at >= since).map(|(feeder, _)| *feeder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;
    const MINUTE: Duration = Duration::from_secs(60);

    fn row(state: SessionState, heard_s: u64) -> SessionRow {
        SessionRow {
            device: DeviceId::new("bus-1").unwrap(),
            session: [1; 16],
            feeder: [1; 16],
            opened_at: 0,
            heard_at: heard_s * SECOND,
            state,
            changed_at: 0,
        }
    }

    fn feeders(now_s: u64, since_s: u64, reported: &[(u8, u64)]) -> Feeders {
        let reported: Vec<_> = reported.iter().map(|(feeder, at)| ([*feeder; 16], at * SECOND)).collect();
        let last = reported.iter().map(|(_, at)| *at).max();
        Feeders { now: now_s * SECOND, since: Some(since_s * SECOND), last, reported }
    }

    fn at(due_s: u64, heard_s: u64) -> Due {
        Due::At(due_s * SECOND, heard_s * SECOND)
    }

    #[test]
    fn a_device_is_due_when_it_was_not_heard_for_the_time() {
        use SessionState::{Closed, Open, Quiet};
        let both = feeders(1000, 100, &[(1, 999), (2, 999)]);
        assert_eq!(due(&row(Open, 500), &both, MINUTE), Due::Never);
        assert_eq!(due(&row(Quiet, 975), &both, MINUTE), at(1035, 975));
        assert_eq!(due(&row(Closed, 990), &both, MINUTE), at(1050, 990));
    }

    #[test]
    fn a_dead_feeders_devices_were_heard_as_long_as_it_lived() {
        let one_dead = feeders(1000, 100, &[(1, 980), (2, 999)]);
        assert_eq!(due(&row(SessionState::Open, 500), &one_dead, MINUTE), at(1040, 980));
        assert_eq!(due(&row(SessionState::Quiet, 960), &one_dead, MINUTE), at(1020, 960));
        let buried = feeders(1000, 100, &[(2, 999)]);
        assert_eq!(due(&row(SessionState::Open, 500), &buried, MINUTE), Due::Unknown);
    }

    #[test]
    fn when_nobody_listens_nobody_can_tell() {
        let closed = row(SessionState::Closed, 500);
        assert_eq!(due(&closed, &feeders(1000, 100, &[(1, 990)]), MINUTE), Due::Unknown);
        assert_eq!(due(&closed, &feeders(1000, 100, &[]), MINUTE), Due::Unknown);
        // Somebody listens again: the device has the whole time to be heard.
        assert_eq!(due(&closed, &feeders(1000, 998, &[(2, 999)]), MINUTE), at(1058, 500));
    }
}
