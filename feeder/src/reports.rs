//! What a feeder says of its sessions where presence is kept, so that somebody can decide which devices are offline.
//!
//! Once a second, as long as a rule wants to know: which sessions have begun, which have ended, and whose device has fallen
//! silent. Sessions do nothing for it but to note the time when they have read something.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use trough_protocol::{DeviceId, LinkId};
use trough_store::Subscriptions;
use trough_store::outbox::OutboxError;
use trough_store::presence::{NOTES_MAX, Presence, SessionNote, SessionState};
use trough_store::rule::Condition;

use crate::context::Context;
use crate::presence::Control;

/// From one report to the next: a device counts as heard for as long as its feeder lives.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A device that was not heard for so long has left a ping unanswered for a while.
const QUIET_AFTER: Duration = Duration::from_secs(24);
/// Most sessions that have ended and of which that could not be said.
const ENDED_MAX: usize = 200_000;
/// How long the last report may take.
const LAST_REPORT_MAX: Duration = Duration::from_secs(2);
/// How often is looked whether a rule wants to know, whether anything seems to have changed or not.
const RULES_EVERY: Duration = Duration::from_secs(30);

/// Where presence is kept, and who wants to know.
pub struct Watched {
    /// Where it is kept.
    pub presence: Arc<dyn Presence>,
    /// The rules.
    pub subscriptions: Arc<dyn Subscriptions>,
}

/// What was said of a session.
#[derive(Debug, Default)]
pub struct Told {
    state: AtomicU8,
    is_over: AtomicBool,
}

impl Told {
    const NOTHING: u8 = 0;

    /// Whether it is another thing than was said last.
    fn is_news(&self, state: SessionState) -> bool {
        self.state.load(Ordering::Relaxed) != Self::code(state)
    }

    fn set(&self, state: SessionState) {
        self.state.store(Self::code(state), Ordering::Relaxed);
    }

    fn forget(&self) {
        self.state.store(Self::NOTHING, Ordering::Relaxed);
    }

    fn code(state: SessionState) -> u8 {
        match state {
            SessionState::Open => 1,
            SessionState::Quiet => 2,
            SessionState::Closed => 3,
        }
    }
}

/// Sessions that have ended and of which that was not said yet.
#[derive(Debug, Default)]
pub struct Reports {
    is_wanted: AtomicBool,
    ended: Mutex<Vec<Ended>>,
}

#[derive(Debug)]
struct Ended {
    device: DeviceId,
    control: Arc<Control>,
    /// When the device was heard last.
    heard_at: Instant,
}

impl Reports {
    /// A session is over. Twice is once.
    pub fn ended(&self, device: &DeviceId, control: &Arc<Control>) {
        if control.told.is_over.swap(true, Ordering::Relaxed) || !self.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        let (device, control) = (device.clone(), control.clone());
        let heard_at = Instant::now() - control.heard_ago();
        self.lock().push(Ended { device, control, heard_at });
    }

    /// In front of those that have ended meanwhile. While presence cannot be told for long, the oldest are forgotten: their
    /// feeder counts as one that lives, and the alarm comes when it is given up.
    fn put_back(&self, ended: Vec<Ended>) {
        let mut all = self.lock();
        all.splice(0..0, ended);
        let surplus = all.len().saturating_sub(ENDED_MAX);
        all.drain(..surplus);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Ended>> {
        // A list cannot be half changed.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports until the feeder has closed its last session, or is killed.
pub async fn report(watched: Watched, feeder: LinkId, context: Arc<Context>) {
    let killed = context.shutdown.killed.clone();
    let reporter = Reporter { watched, feeder, is_known: false, has_failed: false, context };
    killed.run_until_cancelled(reporter.run()).await;
}

struct Reporter {
    watched: Watched,
    feeder: LinkId,
    context: Arc<Context>,
    /// Presence has all that was said of sessions.
    is_known: bool,
    has_failed: bool,
}

impl Reporter {
    async fn run(mut self) {
        let mut changes = self.context.registry.changes();
        let draining = self.context.shutdown.draining.clone();
        let mut wanted = false;
        let mut look_at = Instant::now();
        let mut next = Instant::now();
        loop {
            if draining.is_cancelled() && self.context.presence.is_empty() {
                break;
            }
            if has_changed(&mut changes) || Instant::now() >= look_at {
                // A registry that does not answer now leaves it as it was.
                let before = wanted;
                wanted = self.is_wanted().await.unwrap_or(wanted);
                if before && !wanted {
                    // What ends from here on is said to nobody: should a rule come again, everything is said anew.
                    self.forget().await;
                }
                self.context.reports.is_wanted.store(wanted, Ordering::Relaxed);
                look_at = Instant::now() + RULES_EVERY;
            }
            if wanted {
                self.tell().await;
            } else {
                self.is_known = false;
                self.context.reports.lock().clear();
            }
            next = (next + REPORT_EVERY).max(Instant::now());
            sleep_until(next).await;
        }
        if wanted {
            // Sessions have ended in order; nobody need wait for more.
            let last = async {
                self.tell().await;
                self.watched.presence.bury(self.feeder.0, Duration::ZERO).await
            };
            if !matches!(tokio::time::timeout(LAST_REPORT_MAX, last).await, Ok(Ok(()))) {
                tracing::debug!("the end of the last sessions was not reported");
            }
        }
    }

    /// Presence is to forget this feeder; if it cannot now, others do.
    async fn forget(&self) {
        if let Err(error) = self.watched.presence.bury(self.feeder.0, Duration::ZERO).await {
            tracing::debug!(%error, "presence was not told that nothing more is reported");
        }
    }

    async fn is_wanted(&self) -> Option<bool> {
        let rules = self.watched.subscriptions.list_rules().await.ok()?;
        Some(rules.iter().any(|rule| matches!(rule.rule.condition, Condition::Presence { .. })))
    }

    /// Says what is new.
    async fn tell(&mut self) {
        let ended = mem::take(&mut *self.context.reports.lock());
        match self.try_tell(&ended).await {
            Ok(()) => self.has_failed = false,
            Err(error) => {
                self.is_known = false;
                self.context.reports.put_back(ended);
                if !mem::replace(&mut self.has_failed, true) {
                    tracing::warn!(%error, "which devices are connected cannot be reported: alarms are late until it can");
                }
            }
        }
    }

    async fn try_tell(&mut self, ended: &[Ended]) -> Result<(), OutboxError> {
        let sessions = self.context.presence.entries();
        if !self.is_known {
            self.watched.presence.report(self.feeder.0, Vec::new()).await?;
            sessions.iter().for_each(|(_, control)| control.told.forget());
            self.is_known = true;
        }
        let mut notes: Vec<SessionNote> = Vec::new();
        for Ended { device, control, heard_at } in ended {
            notes.push(note(device, control, heard_at.elapsed(), SessionState::Closed));
        }
        for (device, control) in &sessions {
            let heard_ago = control.heard_ago();
            let state = if heard_ago < QUIET_AFTER { SessionState::Open } else { SessionState::Quiet };
            if control.told.is_news(state) && !control.told.is_over.load(Ordering::Relaxed) {
                notes.push(note(device, control, heard_ago, state));
                control.told.set(state);
            }
        }
        let mut parts = notes.chunks(NOTES_MAX).map(<[_]>::to_vec).collect::<Vec<_>>();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        for part in parts {
            // Presence was made anew meanwhile: with the next report it is told everything.
            self.is_known &= self.watched.presence.report(self.feeder.0, part).await?;
        }
        Ok(())
    }
}

fn note(device: &DeviceId, control: &Control, heard_ago: Duration, state: SessionState) -> SessionNote {
    let session = control.session.0;
    SessionNote { device: device.clone(), session, opened_ago: control.age(), heard_ago, state }
}

fn has_changed(changes: &mut watch::Receiver<u64>) -> bool {
    let changed = changes.has_changed().unwrap_or(false);
    changes.mark_unchanged();
    changed
}
