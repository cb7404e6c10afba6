//! Commands to the devices that have a session here.
//!
//! The store says what is to be sent; everything else is a reason to look there:
//!
//! - a session of a device that takes commands has opened. Openings of the same moment are one question, so that
//!   10,000 devices that come back at once are not 10,000;
//! - the doorbell names a device: somebody has made a command;
//! - a device has answered, so there is room for its next one;
//! - half a minute has passed, the bus may have lost something, or the store tells that there is something new: all
//!   devices with commands are looked through, by the state of the commands, not by the sessions.
//!
//! What is looked up is noted in the store as sent, and then handed to the session: so a command that is `queued` is known
//! to no device. It is sent again when a session opens and after half a minute to a minute in the same session, until
//! the store has an answer or its time is over. A few are with a device at a time; one that it has left unanswered for half
//! a minute makes room for those behind it. What a device answers is stored, and only then forgotten here; an answer
//! that is lost on the way to the store is given again, as the command is sent again.
//!
//! All of this is one task beside the shards, and waits for nobody but the store. A session that no command is sent to has
//! two flags for it.

mod held;
mod look;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use trough_bus::devices::{self, TOPIC_COMMANDS};
use trough_bus::{Deployment, Event, Subscription};
use trough_protocol::DeviceId;
use trough_protocol::device::CommandResult;
use trough_runtime::shutdown::Shutdown;
use trough_store::commands::{CommandAnswer, CommandError, CommandPayload, CommandPlace, CommandRecord};
use trough_store::{CommandState, Commands};

use crate::metrics::Metrics;
use crate::presence::Presence;
use held::Held;

/// From one look to the next: what comes meanwhile is one question.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After a store that did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// From one look through all devices with commands to the next.
const SCAN_EVERY: Duration = Duration::from_secs(30);
/// The same, if there is a reason.
const SCAN_SOON: Duration = Duration::from_secs(5);
/// Answers that wait for the store, of at most 4 KiB each. One more is dropped, and given again when the command is sent
/// again.
const ANSWERS_MAX: usize = 1024;
/// Answers that are stored side by side.
const ANSWERS_AT_ONCE: usize = 32;

/// Where commands are, and who rings when there is a new one.
#[derive(Clone)]
pub struct CommandParts {
    /// What is to be sent.
    pub store: Arc<dyn Commands>,
    /// Without it new commands are found a little later.
    pub bus: Option<Deployment>,
}

impl std::fmt::Debug for CommandParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandParts").field("bus", &self.bus).finish_non_exhaustive()
    }
}

/// Where sessions say what happens to them.
#[derive(Debug)]
pub struct Desk {
    opened: Mutex<HashSet<DeviceId>>,
    some: Notify,
    answers: mpsc::Sender<(CommandPlace, CommandAnswer)>,
    metrics: Metrics,
}

impl Desk {
    /// A session has opened whose device takes commands.
    pub fn opened(&self, device: DeviceId) {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(device);
        self.some.notify_one();
    }

    /// A device has answered.
    pub fn answered(&self, device: &DeviceId, result: &CommandResult<'_>) {
        let payload = CommandPayload {
            content_type: result.content_type.as_str().to_owned(),
            bytes: result.payload.to_vec(),
        };
        let place = CommandPlace { device: device.clone(), id: result.id };
        let answer = CommandAnswer { status: result.status, payload };
        if self.answers.try_send((place, answer)).is_err() {
            self.metrics.command_results_dropped.inc();
        }
    }

    fn take_opened(&self) -> HashSet<DeviceId> {
        std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Begins to send commands, until the feeder is killed.
pub fn start(
    parts: CommandParts,
    presence: Arc<Presence>,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Arc<Desk> {
    let (desk, errands) = Errands::new(parts, presence, metrics);
    tokio::spawn(async move { shutdown.killed.run_until_cancelled(errands.run()).await });
    desk
}

/// What the task knows.
struct Errands {
    store: Arc<dyn Commands>,
    bell: Option<Subscription>,
    added: watch::Receiver<u64>,
    presence: Arc<Presence>,
    desk: Arc<Desk>,
    answers: mpsc::Receiver<(CommandPlace, CommandAnswer)>,
    metrics: Metrics,
    /// Devices to be looked up.
    due: HashSet<DeviceId>,
    /// What devices here were sent.
    held: HashMap<DeviceId, Held>,
    look_at: Instant,
    scan_at: Instant,
    /// When to tidy up more, if there is more.
    sweep_at: Option<Instant>,
    scanned_at: Option<Instant>,
}

/// What there is to do.
enum Errand {
    Opened,
    Heard(Event),
    Added,
    Answered(CommandPlace, CommandAnswer),
    Look,
    Scan,
    Sweep,
}

impl Errands {
    fn new(parts: CommandParts, presence: Arc<Presence>, metrics: Metrics) -> (Arc<Desk>, Self) {
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        let desk = Arc::new(Desk {
            opened: Mutex::default(),
            some: Notify::new(),
            answers: sender,
            metrics: metrics.clone(),
        });
        let bell = parts.bus.map(|bus| bus.bus().subscribe(&bus.topic(TOPIC_COMMANDS)));
        let added = parts.store.commands_added();
        let now = Instant::now();
        let errands = Self {
            store: parts.store,
            bell,
            added,
            presence,
            desk: desk.clone(),
            answers,
            metrics,
            due: HashSet::new(),
            held: HashMap::new(),
            look_at: now,
            scan_at: now + SCAN_EVERY,
            sweep_at: None,
            scanned_at: None,
        };
        (desk, errands)
    }

    async fn run(mut self) {
        loop {
            match self.next().await {
                Errand::Opened => {
                    for device in self.desk.take_opened() {
                        // The new session knows nothing of what the one before was sent.
                        self.held.remove(&device);
                        self.due.insert(device);
                    }
                }
                Errand::Heard(Event::Message(message)) => {
                    let here = |device: &DeviceId| self.takes_commands(device);
                    let named: Vec<_> = devices::read(&message).into_iter().filter(here).collect();
                    self.due.extend(named);
                }
                Errand::Heard(Event::Rescan(_)) | Errand::Added => self.scan_soon(),
                Errand::Answered(place, answer) => self.take_answers(place, answer).await,
                Errand::Look => self.look().await,
                Errand::Scan => self.scan().await,
                Errand::Sweep => {
                    if let Err(error) = self.sweep().await {
                        tracing::debug!(%error, "commands are swept later");
                    }
                }
            }
        }
    }

    /// Cancel-safe, and so are all of its branches: nothing is taken that is not returned.
    async fn next(&mut self) -> Errand {
        let heard = async {
            match &mut self.bell {
                Some(bell) => bell.next().await,
                None => std::future::pending().await,
            }
        };
        let added = async {
            if self.added.changed().await.is_err() {
                // Nobody will tell.
                std::future::pending().await
            }
        };
        tokio::select! {
            () = self.desk.some.notified() => Errand::Opened,
            event = heard => Errand::Heard(event),
            () = added => Errand::Added,
            Some((place, answer)) = self.answers.recv() => Errand::Answered(place, answer),
            () = sleep_until(self.look_at), if !self.due.is_empty() => Errand::Look,
            () = sleep_until(self.scan_at) => Errand::Scan,
            () = sleep_until(self.sweep_at.unwrap_or(self.scan_at)), if self.sweep_at.is_some() => Errand::Sweep,
        }
    }

    fn takes_commands(&self, device: &DeviceId) -> bool {
        self.presence.session(device).is_some_and(|control| control.takes_commands())
    }

    fn scan_soon(&mut self) {
        let now = Instant::now();
        let earliest = self.scanned_at.map_or(now, |at| at + SCAN_SOON);
        self.scan_at = self.scan_at.min(earliest.max(now));
    }

    /// Stores an answer, together with those that wait behind it.
    async fn take_answers(&mut self, place: CommandPlace, answer: CommandAnswer) {
        let mut answers = vec![(place, answer)];
        while answers.len() < ANSWERS_AT_ONCE
            && let Ok(next) = self.answers.try_recv()
        {
            answers.push(next);
        }
        // Whatever a device says of what it was not sent costs nobody a write.
        answers.retain(|(place, _)| {
            let known = self.held.get(&place.device).is_some_and(|held| held.was_sent(place.id));
            if !known {
                tracing::debug!(device = %place.device, command = %place.id, "an answer to what was not sent here");
            }
            known
        });
        let store = &self.store;
        let stored = join_all(answers.into_iter().map(async |(place, answer)| {
            let done = store.finish_command(&place, answer).await;
            (place, done)
        }));
        for (place, done) in stored.await {
            self.answered(place, done);
        }
    }

    fn answered(&mut self, place: CommandPlace, done: Result<Option<CommandRecord>, CommandError>) {
        match done {
            Ok(Some(record)) => {
                self.metrics.command_finished(record.state);
                log_end(&record);
            }
            // It has said so before, or nobody remembers.
            Ok(None) | Err(CommandError::NotFound(_)) => {}
            Err(error) => {
                tracing::debug!(%error, command = %place.id, "an answer is not stored; the command is sent again");
                return;
            }
        }
        if let Some(held) = self.held.get_mut(&place.device) {
            held.forget(place.id);
        }
        self.due.insert(place.device);
    }
}

/// The one line of a command that its device has answered.
fn log_end(record: &CommandRecord) {
    let took = record.finished_at.unwrap_or(record.created_at).saturating_sub(record.created_at);
    tracing::info!(
        command = %record.id,
        device = %record.device,
        made_by = %record.made_by,
        state = record.state.as_str(),
        sends = record.sends,
        bytes = record.payload.bytes.len(),
        took_ms = took / 1000,
        "command ended"
    );
}
