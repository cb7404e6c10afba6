//! What rules know of the devices of a shard.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;
use trough_protocol::{DeviceId, Micros};
use trough_runtime::trace::TraceContext;
use trough_store::event::FrameNumber;
use trough_store::outbox::WatchState;
use trough_store::{Event, RuleName};

use super::compiled::{CompiledRule, Concerned, Rules};
use super::frame::{Loss, Seen};
use super::happening::Happening;
use super::silence::Heard;
use super::state::{Known, State};
use super::vigil::{Vigil, latest};

/// What one rule knows of one device.
#[derive(Debug)]
struct Entry {
    version: u64,
    state: State,
    /// As it is in the outbox; `None` if nothing is.
    stored: Option<Known>,
    /// When this watcher saw a frame of it, by a clock that nobody sets; only of a silence.
    heard_here: Option<Instant>,
}

/// What is known, and what of it is not in the outbox yet.
#[derive(Debug, Default)]
pub(super) struct States {
    devices: HashMap<DeviceId, HashMap<RuleName, Entry>>,
    /// What has changed.
    changed: BTreeSet<(DeviceId, RuleName)>,
    /// What rules knew that are not there any more, and is to be forgotten when there is time.
    forgotten: BTreeSet<(DeviceId, RuleName)>,
    /// What happened, in order.
    events: Vec<Event>,
    /// When frames were received that brought something about.
    received: Vec<Micros>,
    entries: usize,
}

/// Whether all rules have looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    All,
    /// There is no room for more events: store them, and look again.
    Some,
}

/// A silence that may be over time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    /// When, by the eaters' clocks.
    pub at: Micros,
    pub device: DeviceId,
    pub rule: RuleName,
    pub version: u64,
}

impl States {
    /// Takes what the outbox has. What is not of a rule that there is is forgotten there.
    pub fn load(&mut self, rules: &Rules, stored: WatchState) {
        let WatchState { device, rule, version, state } = stored;
        let read = State::from_bytes(&state);
        if let Err(error) = &read {
            tracing::error!(%device, %rule, %error, "what a rule knew of a device cannot be read: it begins anew");
        }
        let wanted = rules.get(&rule, version).and(read.ok());
        let Some(state) = wanted else {
            self.forgotten.insert((device, rule));
            return;
        };
        let entry = Entry { version, state, stored: Some(state.known), heard_here: None };
        self.devices.entry(device).or_default().insert(rule, entry);
        self.entries += 1;
    }

    /// Lets go what rules knew that are not there any more.
    pub fn keep(&mut self, rules: &Rules) {
        let Self { devices, changed, forgotten, entries, .. } = self;
        devices.retain(|device, known| {
            known.retain(|name, entry| {
                let stays = rules.get(name, entry.version).is_some();
                if !stays {
                    let key = (device.clone(), name.clone());
                    changed.remove(&key);
                    forgotten.insert(key);
                    *entries -= 1;
                }
                stays
            });
            !known.is_empty()
        });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether a rule of a device wants to know if a frame of this number is its first.
    pub fn wants_first(
        &self,
        rules: &Rules,
        device: &DeviceId,
        concerned: &Concerned,
        number: FrameNumber,
    ) -> bool {
        let known = self.devices.get(device);
        let is_open = |rule: &CompiledRule| {
            let entry =
                known.and_then(|known| known.get(&rule.name)).filter(|entry| entry.version == rule.version);
            entry.is_none_or(|entry| {
                entry.state.known == Known::FirstFrame(false) && entry.state.through < number
            })
        };
        rules.of(device, concerned).any(|rule| rule.wants_first() && is_open(rule))
    }

    /// Has the rules of a device look at a frame, unless they have. Of `since` and `room`: rules that were set before are
    /// not asked, and there is room for so many events.
    pub fn take(
        &mut self,
        rules: &Rules,
        of: (&DeviceId, &Concerned),
        seen: &Seen<'_>,
        limits: (Micros, usize),
    ) -> Looked {
        let at = (seen.number, seen.received_at, seen.trace);
        self.look(rules, of, at, limits, |rule, known| rule.take(known, seen))
    }

    /// Has them look at a declared loss.
    pub fn lose(
        &mut self,
        rules: &Rules,
        of: (&DeviceId, &Concerned),
        loss: &Loss,
        limits: (Micros, usize),
    ) -> Looked {
        let last = FrameNumber { epoch: loss.first.epoch, seq: loss.last };
        self.look(rules, of, (last, loss.received_at, None), limits, |rule, known| rule.lose(known, loss))
    }

    fn look(
        &mut self,
        rules: &Rules,
        (device, concerned): (&DeviceId, &Concerned),
        (number, received_at, trace): (FrameNumber, Micros, Option<TraceContext>),
        (since, room): (Micros, usize),
        find: impl Fn(&CompiledRule, &mut Known) -> Option<Happening>,
    ) -> Looked {
        let Self { devices, changed, events, received, entries, .. } = self;
        if !devices.contains_key(device) {
            devices.insert(device.clone(), HashMap::new());
        }
        let Some(known) = devices.get_mut(device) else { return Looked::All };
        for rule in rules.of(device, concerned).filter(|rule| rule.set_at >= since) {
            if received_at < rule.set_at {
                continue;
            }
            if events.len() >= room || changed.len() >= room {
                return Looked::Some;
            }
            let fresh = || {
                let state = State::new(rule.begin());
                Entry { version: rule.version, state, stored: None, heard_here: None }
            };
            if !known.contains_key(&rule.name) {
                *entries += 1;
                known.insert(rule.name.clone(), fresh());
            }
            let Some(entry) = known.get_mut(&rule.name) else { continue };
            if entry.version != rule.version {
                *entry = fresh();
            }
            if number <= entry.state.through {
                continue;
            }
            entry.state.through = number;
            let before = entry.state.known;
            let happening = find(rule, &mut entry.state.known);
            if rule.silence().is_some() && entry.state.known != before {
                entry.heard_here = Some(Instant::now());
            }
            if happening.is_some() || entry.has_changed(rule) {
                changed.insert((device.clone(), rule.name.clone()));
            }
            if let Some(happening) = happening {
                events.push(happening.into_event((&rule.name, rule.version), device, trace));
                received.push(received_at);
            }
        }
        Looked::All
    }

    /// The silences of a device that may be over time some day.
    pub fn dues_of<'a>(
        &'a self,
        rules: &'a Rules,
        device: &'a DeviceId,
        concerned: &'a Concerned,
    ) -> impl Iterator<Item = Due> + 'a {
        rules.of(device, concerned).filter_map(|rule| self.due(rules, device, &rule.name, rule.version))
    }

    /// All of them.
    pub fn dues<'a>(&'a self, rules: &'a Rules) -> impl Iterator<Item = Due> + 'a {
        let of = |(device, known): (&'a DeviceId, &'a HashMap<RuleName, Entry>)| {
            known.iter().filter_map(|(name, entry)| self.due(rules, device, name, entry.version))
        };
        self.devices.iter().flat_map(of)
    }

    /// When a channel counts as silent, if it does not already, and if nothing comes.
    pub fn due(&self, rules: &Rules, device: &DeviceId, name: &RuleName, version: u64) -> Option<Due> {
        let silence = rules.get(name, version)?.silence()?;
        let entry = self.devices.get(device)?.get(name).filter(|entry| entry.version == version)?;
        let Known::Silence(Some(heard)) = entry.state.known else { return None };
        let (device, rule) = (device.clone(), name.clone());
        (!heard.silent).then(|| Due { at: silence.due(&heard), device, rule, version })
    }

    /// How long a channel must not be silent for yet, whatever clocks say.
    pub fn left(&self, rules: &Rules, due: &Due, vigil: &Vigil) -> Duration {
        let entry = self.devices.get(&due.device).and_then(|known| known.get(&due.rule));
        let silence = rules.get(&due.rule, due.version).and_then(CompiledRule::silence);
        silence.map_or(Duration::ZERO, |silence| {
            vigil.left(silence.after, entry.and_then(|entry| entry.heard_here))
        })
    }

    /// What was heard later than any clock shows that is right was heard now.
    pub fn not_later(&mut self, now: Micros) {
        let Self { devices, changed, .. } = self;
        for (device, known) in devices {
            for (name, entry) in known {
                if let Known::Silence(Some(heard)) = &mut entry.state.known
                    && heard.at > latest(now)
                {
                    heard.at = now;
                    changed.insert((device.clone(), name.clone()));
                }
            }
        }
    }

    /// The last frame of a silence that was looked at.
    pub fn heard(&self, due: &Due) -> Option<FrameNumber> {
        match self.devices.get(&due.device)?.get(&due.rule)?.state.known {
            Known::Silence(Some(heard)) => Some(heard.frame),
            _ => None,
        }
    }

    /// A later frame of a channel that is not silent was found, by whomever it was looked at.
    pub fn hear(&mut self, due: &Due, frame: FrameNumber, at: Micros) {
        let entry = self.devices.get_mut(&due.device).and_then(|known| known.get_mut(&due.rule));
        let Some(entry) = entry else { return };
        let Known::Silence(Some(heard)) = &mut entry.state.known else { return };
        if !heard.silent && heard.frame < frame {
            *heard = Heard { frame, at: heard.at.max(at), silent: false };
            entry.heard_here = Some(Instant::now());
            self.changed.insert((due.device.clone(), due.rule.clone()));
        }
    }

    /// A channel is silent.
    pub fn expire(&mut self, rules: &Rules, due: &Due) {
        let silence = rules.get(&due.rule, due.version).and_then(CompiledRule::silence);
        let entry = self.devices.get_mut(&due.device).and_then(|known| known.get_mut(&due.rule));
        let (Some(silence), Some(entry)) = (silence, entry) else { return };
        let Known::Silence(Some(heard)) = &mut entry.state.known else { return };
        if let Some(happening) = silence.expire(heard) {
            self.events.push(happening.into_event((&due.rule, due.version), &due.device, None));
            self.changed.insert((due.device.clone(), due.rule.clone()));
        }
    }

    /// What happened and is not stored yet.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Whether anything is to be stored.
    pub fn is_changed(&self) -> bool {
        !self.changed.is_empty() || !self.events.is_empty() || !self.forgotten.is_empty()
    }

    /// What is to be stored besides the events: all states that have changed, and some that are to be forgotten, `limit` of
    /// all of them at the most.
    pub fn to_store(&self, limit: usize) -> Vec<WatchState> {
        let state = |(device, rule): &(DeviceId, RuleName)| {
            let entry = self.devices.get(device)?.get(rule)?;
            let (version, state) = (entry.version, entry.state.to_bytes());
            Some(WatchState { device: device.clone(), rule: rule.clone(), version, state })
        };
        let nothing = |(device, rule): &(DeviceId, RuleName)| {
            let (device, rule, state) = (device.clone(), rule.clone(), Vec::new());
            WatchState { device, rule, version: 0, state }
        };
        // One that is there again, in another version, takes the place of what was there.
        let forgotten = self.forgotten.iter().filter(|key| !self.changed.contains(key));
        self.changed.iter().filter_map(state).chain(forgotten.map(nothing)).take(limit).collect()
    }

    /// What [`States::to_store`] gave is stored, and so are the events. When the frames were received that brought them
    /// about.
    pub fn stored(&mut self, states: &[WatchState]) -> Vec<Micros> {
        self.events.clear();
        for state in states {
            // There may have been more than one step takes.
            let key = (state.device.clone(), state.rule.clone());
            self.changed.remove(&key);
            let entry = self.devices.get_mut(&state.device).and_then(|known| known.get_mut(&state.rule));
            if let Some(entry) = entry.filter(|_| !state.state.is_empty()) {
                entry.stored = Some(entry.state.known);
            }
            self.forgotten.remove(&key);
        }
        std::mem::take(&mut self.received)
    }
}

impl Entry {
    /// Whether it knows something that is to be stored. That another frame was looked at is nothing: it would change
    /// nothing again.
    fn has_changed(&self, rule: &CompiledRule) -> bool {
        let stored = self.stored.unwrap_or_else(|| rule.begin());
        match (rule.silence(), stored, self.state.known) {
            (Some(silence), Known::Silence(Some(then)), Known::Silence(Some(now)))
                if then.silent == now.silent =>
            {
                silence.is_much_later(Some(then), Some(now))
            }
            (_, then, now) => then != now,
        }
    }
}
