//! The task that decides.

mod forget;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use trough_protocol::{DeviceId, Micros};
use trough_store::outbox::{Claim, Duty, OutboxError, PAGE_MAX, STEP_MAX, Shard, WatchStep};
use trough_store::presence::{NOTES_MAX, Presence};
use trough_store::rule::{Condition, Rule, Scope};
use trough_store::{Group, Outbox, RegistryError, RuleName};

use super::roster::{Due, Roster, due};
use super::state::{Decision, Standing, State, decide};
use crate::book::Books;
use crate::claims::Held;

/// How often is looked what feeders have said.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// After a database that did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A feeder that was silent for so long is given up.
const BURY_AFTER: Duration = Duration::from_secs(60);
/// Rules are read anew so often, whether anything seems to have changed or not.
const RULES_EVERY: Duration = Duration::from_secs(30);

/// The shards that this process holds.
#[derive(Default)]
pub struct Decider {
    held: Mutex<HashMap<u16, Held>>,
}

impl Decider {
    /// Decides for a shard until the claim ends.
    pub async fn hold(&self, held: Held) {
        let number = held.claim.shard.number;
        self.lock().insert(number, held.clone());
        held.ends().await;
        self.lock().remove(&number);
    }

    #[cfg(test)]
    pub(super) fn add(&self, held: Held) {
        self.lock().insert(held.claim.shard.number, held);
    }

    fn claims(&self) -> Vec<Claim> {
        self.lock().values().filter(|held| held.may_begin()).map(|held| held.claim).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u16, Held>> {
        // An entry is whole or not there.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look could not be finished: it is begun anew.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Decides, until the process stops.
pub async fn run(
    stopped: CancellationToken,
    decider: Arc<Decider>,
    presence: Arc<dyn Presence>,
    outbox: Arc<dyn Outbox>,
    books: Books,
) {
    let task = Task::new(decider, presence, outbox, books);
    stopped.run_until_cancelled(task.run()).await;
}

/// A shard that is held, and what was decided in it last.
struct Known {
    claim: Claim,
    states: HashMap<DeviceId, HashMap<RuleName, (u64, State)>>,
}

pub(super) struct Task {
    decider: Arc<Decider>,
    presence: Arc<dyn Presence>,
    outbox: Arc<dyn Outbox>,
    books: Books,
    changes: watch::Receiver<u64>,
    /// Those that want to know.
    rules: Vec<(Arc<Rule>, Duration)>,
    rules_at: Option<Instant>,
    shards: HashMap<u16, Known>,
    roster: Roster,
    /// When devices are to be looked at again, each once; and by device.
    due: BTreeSet<(Micros, DeviceId)>,
    next: HashMap<DeviceId, Micros>,
}

/// What was decided of a device.
struct Verdict {
    rule: Arc<Rule>,
    after: Duration,
    device: DeviceId,
    decision: Decision,
}

impl Task {
    pub(super) fn new(
        decider: Arc<Decider>,
        presence: Arc<dyn Presence>,
        outbox: Arc<dyn Outbox>,
        books: Books,
    ) -> Self {
        let changes = books.changes();
        let (rules, rules_at, shards) = (Vec::new(), None, HashMap::new());
        let (roster, due, next) = (Roster::default(), BTreeSet::new(), HashMap::new());
        Self { decider, presence, outbox, books, changes, rules, rules_at, shards, roster, due, next }
    }

    async fn run(mut self) {
        loop {
            let began = Instant::now();
            let pause = match self.look().await {
                Ok(()) => LOOK_EVERY,
                Err(LookError::Outbox(OutboxError::Fenced(shard))) => {
                    // Its claims notice, too. What was found and could not be entered, of any shard, is found again.
                    tracing::debug!(%shard, "somebody else decides which of its devices are offline");
                    self.shards.clear();
                    LOOK_EVERY
                }
                Err(error) => {
                    tracing::debug!(%error, "which devices are offline cannot be decided just now");
                    // What was found and could not be entered is found again.
                    self.shards.clear();
                    RETRY_AFTER
                }
            };
            sleep_until(began + pause).await;
        }
    }

    pub(super) async fn look(&mut self) -> Result<(), LookError> {
        let mut of_all = self.read_rules().await?;
        if self.take_shards().await? {
            // Those of whoever had them before, who may have known a newer rule.
            self.rules_at = None;
            self.read_rules().await?;
            of_all = true;
        }
        if of_all {
            self.forget().await?;
        }
        if self.rules.is_empty() {
            self.roster = Roster::default();
            self.due.clear();
            self.next.clear();
            return Ok(());
        }
        if self.shards.is_empty() {
            return Ok(());
        }
        let news = self.roster.refresh(&*self.presence).await?;
        let Some(now) = self.roster.feeders().map(|feeders| feeders.now) else { return Ok(()) };
        let mut devices = news.devices;
        if of_all || news.of_all {
            devices = self.roster.devices().cloned().collect();
        }
        while self.due.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, device)) = self.due.pop_first()
        {
            self.next.remove(&device);
            devices.insert(device);
        }
        let devices: Vec<DeviceId> =
            devices.into_iter().filter(|device| self.shards.contains_key(&shard(device).number)).collect();
        for part in devices.chunks(NOTES_MAX) {
            self.decide(part).await?;
        }
        self.bury().await
    }

    /// Looks at rules and groups, too, whether anything seems to have changed or not.
    #[cfg(test)]
    pub(super) async fn look_anew(&mut self) {
        self.rules_at = None;
        self.look().await.unwrap();
    }

    /// Reads the rules if they may have changed; whether they have.
    async fn read_rules(&mut self) -> Result<bool, LookError> {
        let old = self.rules_at.is_none_or(|at| at.elapsed() >= RULES_EVERY);
        if !old && !self.changes.has_changed().unwrap_or(false) {
            return Ok(false);
        }
        self.changes.mark_unchanged();
        self.rules_at = None;
        let all = self.books.subscriptions().list_rules().await?;
        let rules: Vec<_> = all
            .into_iter()
            .filter_map(|rule| match rule.rule.condition {
                Condition::Presence { after } => Some((Arc::new(rule), after)),
                _ => None,
            })
            .collect();
        self.rules_at = Some(Instant::now());
        // Groups may have changed though the rules have not.
        let in_groups = rules.iter().any(|(rule, _)| matches!(rule.rule.scope, Scope::Groups(_)));
        let changed = in_groups || rules != self.rules;
        self.rules = rules;
        Ok(changed)
    }

    /// Looks which shards are held; whether there is one that was not.
    async fn take_shards(&mut self) -> Result<bool, LookError> {
        let claims = self.decider.claims();
        self.shards.retain(|_, known| claims.contains(&known.claim));
        let mut new = false;
        for claim in claims {
            if self.shards.contains_key(&claim.shard.number) {
                continue;
            }
            let mut states = HashMap::<_, HashMap<_, _>>::new();
            let mut after = None;
            loop {
                let page = self.outbox.states(claim.shard, after.clone(), PAGE_MAX).await?;
                let Some(last) = page.last() else { break };
                after = Some((last.device.clone(), last.rule.clone()));
                for found in page {
                    if let Some(state) = State::decode(&found.state) {
                        states.entry(found.device).or_default().insert(found.rule, (found.version, state));
                    }
                }
            }
            self.shards.insert(claim.shard.number, Known { claim, states });
            new = true;
        }
        Ok(new)
    }

    /// Decides of devices, at most [`NOTES_MAX`].
    async fn decide(&mut self, devices: &[DeviceId]) -> Result<(), LookError> {
        let groups = self.groups(devices).await?;
        let offline: HashSet<DeviceId> = self
            .verdicts(devices, &groups)
            .into_iter()
            .filter(|verdict| verdict.decision.state.offline)
            .map(|verdict| verdict.device)
            .collect();
        if !offline.is_empty() {
            // It may have been heard a moment ago.
            let asked = self.presence.sessions(offline.into_iter().collect()).await?;
            self.roster.take(asked.0, asked.1);
        }
        let Some(now) = self.roster.feeders().map(|feeders| feeders.now) else { return Ok(()) };
        let mut steps: HashMap<u16, WatchStep> = HashMap::new();
        for verdict in self.verdicts(devices, &groups) {
            let step = steps.entry(shard(&verdict.device).number).or_default();
            step.states.push(verdict.decision.stored(&verdict.rule, &verdict.device));
            let after_s = verdict.after.as_secs();
            step.events.extend(verdict.decision.event(&verdict.rule, &verdict.device, after_s, now));
        }
        for (number, step) in steps {
            self.enter(number, step).await?;
        }
        self.remember_due(devices, &groups, now);
        Ok(())
    }

    /// Enters what was decided in a shard.
    async fn enter(&mut self, number: u16, step: WatchStep) -> Result<(), LookError> {
        let Some(known) = self.shards.get_mut(&number) else { return Ok(()) };
        let WatchStep { place, states, events } = step;
        let mut events = events.into_iter().peekable();
        for states in states.chunks(STEP_MAX) {
            // An event goes with the state that it was brought about by.
            let mut of_part = Vec::new();
            for state in states {
                let is_of = |event: &trough_store::Event| {
                    event.device.as_ref() == Some(&state.device) && event.rule.as_ref() == Some(&state.rule)
                };
                of_part.extend(events.next_if(is_of));
            }
            let step = WatchStep { place: place.clone(), states: states.to_vec(), events: of_part };
            self.outbox.watched(known.claim, step).await?;
            for entered in states {
                match State::decode(&entered.state) {
                    Some(state) => {
                        let of_device = known.states.entry(entered.device.clone()).or_default();
                        of_device.insert(entered.rule.clone(), (entered.version, state));
                    }
                    None => {
                        known.states.get_mut(&entered.device).map(|states| states.remove(&entered.rule));
                    }
                }
            }
            known.states.retain(|_, states| !states.is_empty());
        }
        Ok(())
    }

    /// What is to be decided of devices as things stand.
    fn verdicts(&self, devices: &[DeviceId], groups: &Groups) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for device in devices {
            for (rule, after, due) in self.dues(device, groups) {
                let Some(session) = self.roster.session(device) else { continue };
                let now = self.roster.feeders().map_or(0, |feeders| feeders.now);
                let known = self.known(device, &rule);
                let standing = match due {
                    Due::Unknown => continue,
                    Due::At(at, heard_at) if at <= now => Standing::Offline { heard_at },
                    // That its time began anew, as nobody had listened, is no sign of life.
                    Due::At(_, heard_at)
                        if known.is_some_and(|known| known.offline && heard_at <= known.heard_at) =>
                    {
                        continue;
                    }
                    Due::At(..) | Due::Never => Standing::Online { since: session.opened_at },
                };
                if let Some(decision) = decide(known, standing, &rule) {
                    verdicts.push(Verdict { rule, after, device: device.clone(), decision });
                }
            }
        }
        verdicts
    }

    /// By which rules a device counts as offline, and when.
    fn dues(&self, device: &DeviceId, groups: &Groups) -> Vec<(Arc<Rule>, Duration, Due)> {
        let looked_at = self.roster.session(device).zip(self.roster.feeders());
        let Some((session, feeders)) = looked_at else { return Vec::new() };
        let in_scope = self.rules.iter().filter(|(rule, _)| in_scope(rule, device, groups));
        in_scope.map(|(rule, after)| (rule.clone(), *after, due(session, feeders, *after))).collect()
    }

    fn known(&self, device: &DeviceId, rule: &Rule) -> Option<State> {
        let known = self.shards.get(&shard(device).number)?.states.get(device)?.get(&rule.rule.name)?;
        Some(known.1).filter(|_| known.0 == rule.version)
    }

    /// Notes when to look again at devices that are not offline yet.
    fn remember_due(&mut self, devices: &[DeviceId], groups: &Groups, now: Micros) {
        for device in devices {
            let dues = self.dues(device, groups).into_iter().filter_map(|(_, _, due)| match due {
                Due::At(at, _) if at > now => Some(at),
                _ => None,
            });
            let next = dues.min();
            let before = match next {
                Some(at) => self.next.insert(device.clone(), at),
                None => self.next.remove(device),
            };
            if let Some(before) = before.filter(|before| Some(*before) != next) {
                self.due.remove(&(before, device.clone()));
            }
            self.due.extend(next.map(|at| (at, device.clone())));
        }
    }

    /// The groups of devices, if a rule asks for groups.
    async fn groups(&self, devices: &[DeviceId]) -> Result<Groups, LookError> {
        let mut groups = Groups::new();
        if self.rules.iter().all(|(rule, _)| !matches!(rule.rule.scope, Scope::Groups(_))) {
            return Ok(groups);
        }
        let book = self.books.current().await?;
        for device in devices {
            groups.insert(device.clone(), book.groups(device).await?);
        }
        Ok(groups)
    }

    /// Whoever holds the first shard gives up feeders that are gone.
    async fn bury(&self) -> Result<(), LookError> {
        if self.shards.contains_key(&0) {
            for feeder in self.roster.silent(BURY_AFTER) {
                self.presence.bury(feeder, BURY_AFTER).await?;
            }
        }
        Ok(())
    }
}

type Groups = HashMap<DeviceId, Arc<BTreeSet<Group>>>;

fn in_scope(rule: &Rule, device: &DeviceId, groups: &Groups) -> bool {
    let nobody = BTreeSet::new();
    rule.rule.scope.contains(device, groups.get(device).map_or(&nobody, |groups| &**groups))
}

fn shard(device: &DeviceId) -> Shard {
    Shard::of(Duty::Presence, device.as_str())
}
