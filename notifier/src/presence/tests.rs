//! Feeders that live and die, devices that come, fall silent and go, deciders that are replaced: at each moment what was
//! told is what a simple model says. Time is manual; seeds are printed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;
use trough_protocol::{DeviceId, Micros};
use trough_runtime::clock::{Clock, micros};
use trough_store::outbox::{Duty, EventFilter, Shard};
use trough_store::presence::{FeederId, LAPSE, Presence, SessionId, SessionNote, SessionState};
use trough_store::rule::NewRule;
use trough_store::sqlite::{SqliteOutbox, SqlitePresence, SqliteRegistry};
use trough_store::{EventKind, Group, NewDevice, Outbox, Registry, Subscriptions};

use super::decider::{Decider, Task};
use crate::book::Books;
use crate::claims::Held;

const AFTER: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(500);
/// Half a second for a report, half a second for a look, and as much for both to meet.
const TOLERANCE: Duration = Duration::from_millis(1500);
const DEVICES: usize = 6;

struct Stores {
    registry: Arc<SqliteRegistry>,
    outbox: Arc<SqliteOutbox>,
    presence: Arc<SqlitePresence>,
    clock: Clock,
    _directory: tempfile::TempDir,
}

impl Stores {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_700_000_000_000_000);
        let path = |name| directory.path().join(name);
        Self {
            registry: Arc::new(SqliteRegistry::open(&path("registry"), clock.clone()).unwrap()),
            outbox: Arc::new(SqliteOutbox::open(&path("outbox"), clock.clone()).unwrap()),
            presence: Arc::new(SqlitePresence::open(&path("presence"), clock.clone()).unwrap()),
            clock,
            _directory: directory,
        }
    }

    /// A process that decides, in the place of the one before.
    async fn decider(&self, owner: u8) -> Task {
        let decider = Arc::<Decider>::default();
        for shard in Shard::all(Duty::Presence) {
            let claim = self.outbox.claim(shard, [owner; 16], Duration::from_secs(1)).await.unwrap();
            let far = Instant::now() + Duration::from_secs(3600);
            decider.add(Held::new(claim.unwrap(), far));
        }
        let registry: Arc<dyn Registry> = self.registry.clone();
        let subscriptions: Arc<dyn Subscriptions> = self.registry.clone();
        Task::new(decider, self.presence.clone(), self.outbox.clone(), Books::new(registry, subscriptions))
    }
}

#[derive(Debug, Clone)]
struct Session {
    id: SessionId,
    feeder: FeederId,
    opened: Micros,
    /// When the device fell silent, if it did.
    silent: Option<Micros>,
    was_told: bool,
    is_told_silent: bool,
}

/// What is true of a device.
#[derive(Debug, Clone, Default)]
struct Device {
    session: Option<Session>,
    /// When it was heard last as far as anybody could know, once it has no session.
    heard: Option<Micros>,
    offline: Option<bool>,
}

struct Model {
    random: StdRng,
    devices: Vec<Device>,
    /// What each living feeder has still to report: sessions that have ended, and when their devices were heard last.
    feeders: BTreeMap<FeederId, Vec<(usize, Session, Micros)>>,
    reported: BTreeMap<FeederId, Micros>,
    last_report: Micros,
    since: Micros,
    sessions: u64,
}

fn device(number: usize) -> DeviceId {
    DeviceId::new(&format!("bus-{number}")).unwrap()
}

impl Model {
    fn ago(now: Micros, then: Micros) -> Duration {
        Duration::from_micros(now - then)
    }

    fn connect(&mut self, number: usize, now: Micros) {
        let living: Vec<_> = self.feeders.keys().copied().collect();
        if living.is_empty() {
            return;
        }
        self.leave(number, now);
        let feeder = living[self.random.random_range(0..living.len())];
        self.sessions += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.sessions.to_le_bytes());
        self.devices[number].session =
            Some(Session { id, feeder, opened: now, silent: None, was_told: false, is_told_silent: false });
    }

    /// A session ends, and its feeder knows.
    fn leave(&mut self, number: usize, now: Micros) {
        let Some(session) = self.devices[number].session.take() else { return };
        let heard = session.silent.unwrap_or(now);
        self.devices[number].heard = Some(heard);
        if let Some(notes) = self.feeders.get_mut(&session.feeder) {
            notes.push((number, session, heard));
        }
    }

    fn kill(&mut self, feeder: FeederId) {
        self.feeders.remove(&feeder);
        for device in &mut self.devices {
            if let Some(session) = device.session.take_if(|session| session.feeder == feeder) {
                // A session that nobody was told of is one that nobody knows.
                // And silence that nobody was told of was heard as long as the feeder lived.
                let silent = session.silent.filter(|_| session.is_told_silent);
                let known = session.was_told.then(|| silent.unwrap_or(self.reported[&feeder]));
                device.heard = known.or(device.heard);
            }
        }
    }

    async fn report(&mut self, presence: &dyn Presence, now: Micros) {
        for (feeder, ended) in &mut self.feeders {
            let note = |number, session: &Session, heard, state| SessionNote {
                device: device(number),
                session: session.id,
                opened_ago: Self::ago(now, session.opened),
                heard_ago: Self::ago(now, heard),
                state,
            };
            let ended = std::mem::take(ended).into_iter();
            let ended =
                ended.map(|(number, session, heard)| note(number, &session, heard, SessionState::Closed));
            let mut notes: Vec<_> = ended.collect();
            for (number, known) in self.devices.iter_mut().enumerate() {
                let Some(session) = known.session.as_mut().filter(|session| session.feeder == *feeder) else {
                    continue;
                };
                if !session.was_told {
                    notes.push(note(number, session, now, SessionState::Open));
                    session.was_told = true;
                }
                let silent =
                    session.silent.filter(|silent| Self::ago(now, *silent) >= Duration::from_secs(24));
                if let Some(silent) = silent.filter(|_| !session.is_told_silent) {
                    notes.push(note(number, session, silent, SessionState::Quiet));
                    session.is_told_silent = true;
                }
            }
            presence.report(*feeder, notes).await.unwrap();
            if Self::ago(now, self.last_report) > LAPSE {
                self.since = now;
            }
            self.last_report = now;
            self.reported.insert(*feeder, now);
        }
    }

    /// When a device is due; `None` if it is heard.
    fn due(&self, number: usize) -> Option<Micros> {
        let device = &self.devices[number];
        let heard = match &device.session {
            Some(session) => session.silent?,
            None => device.heard?,
        };
        Some(heard.max(self.since) + micros(AFTER))
    }
}

async fn simulate(seed: u64) {
    let stores = Stores::new();
    let rule = r#"{"name":"gone","scope":"all","condition":{"kind":"presence","after_s":30}}"#;
    stores.registry.set_rule(serde_json::from_str(rule).unwrap()).await.unwrap();
    let start = stores.clock.now();
    let mut model = Model {
        random: StdRng::seed_from_u64(seed),
        devices: vec![Device::default(); DEVICES],
        feeders: BTreeMap::from([([1; 16], vec![]), ([2; 16], vec![])]),
        reported: BTreeMap::new(),
        last_report: 0,
        since: start,
        sessions: 0,
    };
    let mut owner = 1;
    let mut task = stores.decider(owner).await;
    let (mut told, mut next_feeder) = (0, 3);
    for step in 0..500 {
        stores.clock.advance(STEP);
        let now = stores.clock.now();
        for number in 0..DEVICES {
            match (&mut model.devices[number].session, model.random.random_range(0..100)) {
                (None, 0..6) | (Some(_), 0) => model.connect(number, now),
                (Some(session), 1) => {
                    session.silent.get_or_insert(now);
                }
                (Some(_), 2) => model.leave(number, now),
                _ => {}
            }
            // The feeder gives a silent session up.
            let silent = model.devices[number].session.as_ref().and_then(|session| session.silent);
            if silent.is_some_and(|silent| now >= silent + 28_000_000) {
                model.leave(number, now);
            }
        }
        match model.random.random_range(0..100) {
            0 => {
                let first = model.feeders.keys().next().copied();
                first.into_iter().for_each(|feeder| model.kill(feeder));
            }
            1..6 if model.feeders.len() < 2 => {
                model.feeders.insert([next_feeder; 16], vec![]);
                next_feeder += 1;
            }
            6 => {
                owner += 1;
                stores.clock.advance(Duration::from_secs(1));
                task = stores.decider(owner).await;
            }
            _ => {}
        }
        let now = stores.clock.now();
        model.report(&*stores.presence, now).await;
        task.look().await.unwrap();

        let mut events =
            stores.outbox.list_events(EventFilter { limit: 1000, ..EventFilter::default() }).await.unwrap();
        events.reverse();
        for entered in &events[told..] {
            let event = &entered.event;
            let number: usize = event.device.as_ref().unwrap().as_str()[4..].parse().unwrap();
            let offline = event.kind == EventKind::DeviceOffline;
            let context = format!("seed {seed}, step {step}, bus-{number}, {:?}", model.devices[number]);
            assert_ne!(model.devices[number].offline, Some(offline), "told twice: {context}");
            model.devices[number].offline = Some(offline);
            if offline {
                let due = model.due(number).unwrap_or_else(|| panic!("an alarm was invented: {context}"));
                assert!(due <= now, "{} s too early: {context}", Model::ago(due, now).as_secs_f64());
            } else {
                let known = &model.devices[number];
                let heard = known.heard.is_some_and(|heard| Model::ago(now, heard) <= TOLERANCE);
                assert!(heard || known.session.is_some(), "it is not back: {context}");
            }
        }
        told = events.len();
        if Model::ago(now, model.last_report) > LAPSE {
            // Nobody listens.
            continue;
        }
        for number in 0..DEVICES {
            let late = model.due(number).filter(|due| *due + micros(TOLERANCE) < now);
            let known = &model.devices[number];
            assert!(
                late.is_none() || known.offline == Some(true),
                "seed {seed}, step {step}, bus-{number}: no alarm, {known:?}"
            );
            let back = known
                .session
                .as_ref()
                .is_some_and(|session| session.silent.is_none() && session.opened + micros(TOLERANCE) < now);
            assert!(
                !back || known.offline != Some(true),
                "seed {seed}, step {step}, bus-{number}: it is back, {known:?}"
            );
        }
    }
    assert!(told > 4, "seed {seed}: only {told} events");
}

fn presence_rule(name: &str, scope: &str) -> NewRule {
    let condition = r#"{"kind":"presence","after_s":30}"#;
    serde_json::from_str(&format!(r#"{{"name":"{name}","scope":{scope},"condition":{condition}}}"#)).unwrap()
}

/// Which device is known by which rule, as it is stored.
async fn known(outbox: &SqliteOutbox) -> Vec<(String, String)> {
    let mut known = Vec::new();
    for shard in Shard::all(Duty::Presence) {
        for state in outbox.states(shard, None, 1000).await.unwrap() {
            known.push((state.device.to_string(), state.rule.to_string()));
        }
    }
    known.sort_unstable();
    known
}

#[tokio::test]
async fn what_a_rule_does_not_look_at_any_more_is_forgotten_and_not_told() {
    let stores = Stores::new();
    let north = [Group::new("north").unwrap()];
    for number in 0..2 {
        let groups = north.iter().cloned().collect();
        stores.registry.add_device(NewDevice { groups, ..NewDevice::new(device(number)) }).await.unwrap();
    }
    stores.registry.set_rule(presence_rule("all", r#""all""#)).await.unwrap();
    stores.registry.set_rule(presence_rule("of-north", r#"{"groups":["north"]}"#)).await.unwrap();
    let mut task = stores.decider(1).await;
    let note = |number: u8, state| SessionNote {
        device: device(number.into()),
        session: [number; 16],
        opened_ago: Duration::from_secs(1),
        heard_ago: Duration::ZERO,
        state,
    };
    let open = vec![note(0, SessionState::Open), note(1, SessionState::Open)];
    stores.presence.report([1; 16], open).await.unwrap();
    task.look().await.unwrap();
    let both = |number: usize| ["all", "of-north"].map(|rule| (format!("bus-{number}"), rule.to_owned()));
    assert_eq!(known(&stores.outbox).await, [both(0), both(1)].concat());
    // One leaves the group, and then its time is over for all rules.
    stores.registry.set_groups(&device(0), Default::default()).await.unwrap();
    stores
        .presence
        .report([1; 16], vec![note(0, SessionState::Closed), note(1, SessionState::Closed)])
        .await
        .unwrap();
    for _ in 0..32 {
        stores.clock.advance(Duration::from_secs(1));
        stores.presence.report([1; 16], vec![]).await.unwrap();
        task.look_anew().await;
    }
    assert_eq!(known(&stores.outbox).await, [vec![both(0)[0].clone()], both(1).to_vec()].concat());
    let told =
        stores.outbox.list_events(EventFilter { limit: 1000, ..EventFilter::default() }).await.unwrap();
    let offline = told.iter().filter(|entered| entered.event.kind == EventKind::DeviceOffline);
    let mut offline: Vec<_> = offline
        .map(|entered| {
            let event = &entered.event;
            (event.device.as_ref().unwrap().to_string(), event.rule.as_ref().unwrap().to_string())
        })
        .collect();
    offline.sort_unstable();
    assert_eq!(offline, [vec![both(0)[0].clone()], both(1).to_vec()].concat());
    // A rule is removed while nobody decides, and then the last one: whoever comes next forgets what was known by them.
    stores.registry.remove_rule(&"all".parse().unwrap(), None).await.unwrap();
    stores.clock.advance(Duration::from_secs(1));
    let mut task = stores.decider(2).await;
    task.look().await.unwrap();
    assert_eq!(known(&stores.outbox).await, [both(1)[1].clone()]);
    stores.registry.remove_rule(&"of-north".parse().unwrap(), None).await.unwrap();
    task.look_anew().await;
    assert_eq!(known(&stores.outbox).await, []);
}

#[tokio::test]
async fn what_is_told_is_what_a_model_says() {
    #[expect(clippy::disallowed_methods, reason = "a test: more seeds")]
    let seeds = std::env::var("TROUGH_TEST_SEEDS");
    let seeds: u64 = seeds.ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(12);
    for seed in 0..seeds {
        simulate(seed).await;
    }
}
