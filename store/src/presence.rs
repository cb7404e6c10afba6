//! Which devices are connected: what feeders say of their sessions, so that somebody can decide who is offline.
//!
//! A feeder reports once a second that it lives, and with that whose sessions began, ended, or have fallen silent since. Of
//! all other sessions of a feeder that lives it is known that their devices were heard within the last ping's interval, so
//! nothing has to be said of them. All times are those of the storage's own clock (the database's, if there is one):
//! feeders say how long ago something was.

use std::time::Duration;

use trough_protocol::{DeviceId, Micros};
use trough_runtime::clock::micros;

use crate::BoxFuture;
use crate::outbox::OutboxError;

/// Most notes that one report has, and most rows that are returned at a time.
pub const NOTES_MAX: usize = 250;
/// When no feeder has reported for so long, nobody was there to be heard by.
pub const LAPSE: Duration = Duration::from_secs(5);

/// One life of one feeder: random.
pub type FeederId = [u8; 16];
/// A session's id.
pub type SessionId = [u8; 16];

/// How a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// The device answers.
    Open,
    /// It has left a ping unanswered for a while; nothing was heard since.
    Quiet,
    /// The session is over.
    Closed,
}

/// What a feeder says of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionNote {
    /// Whose.
    pub device: DeviceId,
    /// Which.
    pub session: SessionId,
    /// How long ago it began.
    pub opened_ago: Duration,
    /// How long ago the last byte came, or a pong.
    pub heard_ago: Duration,
    /// How it stands.
    pub state: SessionState,
}

/// What is known of a device's newest session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Whose.
    pub device: DeviceId,
    /// Which.
    pub session: SessionId,
    /// At which feeder.
    pub feeder: FeederId,
    /// When it began.
    pub opened_at: Micros,
    /// When the device was heard last, as far as was said: of an open session it was heard later, too.
    pub heard_at: Micros,
    /// How it stands.
    pub state: SessionState,
    /// When this was entered.
    pub changed_at: Micros,
}

impl SessionRow {
    /// What is known of a device after a note of it; `None` if the note is of an older session.
    pub(crate) fn noted(
        known: Option<&Self>,
        feeder: FeederId,
        note: &SessionNote,
        now: Micros,
    ) -> Option<Self> {
        let ago = |ago: Duration| now.saturating_sub(micros(ago));
        let opened_at = match known {
            // Said again, it began at the same time.
            Some(known) if known.session == note.session => known.opened_at,
            // What is said of a session that lives counts more than one that is over, whatever their clocks: reports may take
            // their time.
            Some(known)
                if known.opened_at >= ago(note.opened_ago)
                    && (known.state != SessionState::Closed || note.state == SessionState::Closed) =>
            {
                return None;
            }
            _ => ago(note.opened_ago),
        };
        Some(Self {
            device: note.device.clone(),
            session: note.session,
            feeder,
            opened_at,
            heard_at: known.map_or(0, |known| known.heard_at).max(ago(note.heard_ago)),
            state: note.state,
            changed_at: now,
        })
    }

    /// The same once its feeder is given up, which reported last at a time.
    pub(crate) fn buried(self, reported_at: Micros, now: Micros) -> Self {
        let heard_at = match self.state {
            SessionState::Open => self.heard_at.max(reported_at),
            SessionState::Quiet | SessionState::Closed => self.heard_at,
        };
        Self { heard_at, state: SessionState::Closed, changed_at: now, ..self }
    }
}

/// Who reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feeders {
    /// The clock at the time of the answer.
    pub now: Micros,
    /// Since when there was always a feeder that reported, but for pauses of [`LAPSE`]; `None` before the first.
    pub since: Option<Micros>,
    /// When any feeder reported last; never later than `since` knows.
    pub last: Option<Micros>,
    /// The feeders, and when each reported last.
    pub reported: Vec<(FeederId, Micros)>,
}

impl Feeders {
    /// When a feeder reported last.
    pub fn reported_at(&self, feeder: &FeederId) -> Option<Micros> {
        self.reported.iter().find(|(known, _)| known == feeder).map(|(_, at)| *at)
    }
}

/// What is known of the sessions of all feeders.
///
/// Nothing of it is needed for what was acknowledged, so it may lag behind after a power cut; feeders say it again.
pub trait Presence: Send + Sync + 'static {
    /// A feeder lives, and says what is new of its sessions, at most [`NOTES_MAX`], in order. `false` if it was not known
    /// before: it is to say how all of its sessions stand.
    ///
    /// A note of a session that began before the one that is known of its device changes nothing. Saying something again
    /// is harmless.
    fn report(&self, feeder: FeederId, notes: Vec<SessionNote>) -> BoxFuture<'_, Result<bool, OutboxError>>;

    /// Who reports.
    fn feeders(&self) -> BoxFuture<'_, Result<Feeders, OutboxError>>;

    /// Sessions in the order in which they have changed, behind the one that is given.
    fn changed(
        &self,
        after: Option<(Micros, DeviceId)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SessionRow>, OutboxError>>;

    /// The newest sessions of these devices, at most [`NOTES_MAX`], in any order, and who reports. The sessions are as they
    /// were at that time or later.
    fn sessions(
        &self,
        devices: Vec<DeviceId>,
    ) -> BoxFuture<'_, Result<(Vec<SessionRow>, Feeders), OutboxError>>;

    /// Forgets a feeder that has not reported for `silent`: its sessions that are open count as closed, and their devices
    /// as heard when it reported last. One that has reported since stays.
    fn bury(&self, feeder: FeederId, silent: Duration) -> BoxFuture<'_, Result<(), OutboxError>>;
}

/// Refuses what is too much at once.
pub(crate) fn check_count(count: usize, what: &str) -> Result<(), OutboxError> {
    if count <= NOTES_MAX {
        return Ok(());
    }
    Err(OutboxError::Invalid(format!("{count} {what} are too many at once: {NOTES_MAX} at most")))
}
