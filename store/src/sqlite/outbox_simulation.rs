//! A seeded simulation of all who work on an outbox: two watchers, two routers and two deliverers, which forget what they
//! were about, whose calls fail before or after their effect, and whose claims run out meanwhile.
//!
//! 1. Each event has one delivery for each subscription that wants it, or is told of together with another one.
//! 2. Per subscription, positions rise without a hole, and in the order of a device's frames.
//! 3. Nothing joins a delivery behind the back of who delivers it, and nothing is finished that was not tried.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_runtime::clock::Clock;

use super::SqliteOutbox;
use crate::conformance::START;
use crate::event::{Event, EventId, EventKind, FrameNumber};
use crate::names::RuleName;
use crate::outbox::{
    Attempt, Claim, Delivery, DeliveryFilter, DeliveryId, DeliveryState, Duty, EnteredEvent, EventFilter,
    NewDelivery, Outbox, OutboxError, Outcome, PAGE_MAX, Shard, WatchState, WatchStep,
};
use crate::subscription::SubscriptionId;

const SEEDS: u64 = 80;
const DEVICES: [&str; 2] = ["bus-1", "bus-2"];
const FRAMES: u64 = 6;
const STEPS_MAX: usize = 20_000;
const EVERY: Duration = Duration::from_millis(40);

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Each wants something else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Wants {
    All,
    Odd,
    Together,
}

impl Wants {
    const EACH: [Self; 3] = [Self::All, Self::Odd, Self::Together];

    fn id(self) -> SubscriptionId {
        SubscriptionId::of(&[&[self as u8]])
    }

    fn wants(self, event: &Event) -> bool {
        self != Self::Odd || event.at % 2 == 1
    }

    fn delivery(self, event: &Event) -> NewDelivery {
        let together = self == Self::Together;
        NewDelivery {
            subscription: self.id(),
            phone: None,
            event: event.clone(),
            not_before: 0,
            key: together.then(|| event.device.as_ref().map(DeviceId::to_string)).flatten(),
            every: if together { EVERY } else { Duration::ZERO },
            dropped: None,
        }
    }
}

fn event(device: &str, number: u64) -> Event {
    Event {
        id: EventId::of(&[device.as_bytes(), &number.to_le_bytes()]),
        kind: EventKind::RuleMatched,
        at: number,
        rule: None,
        device: Some(DeviceId::new(device).unwrap()),
        group: None,
        frame: Some(FrameNumber { epoch: Epoch(1), seq: Seq(number) }),
        trace: None,
        data: RawValue::from_string("{}".into()).unwrap(),
    }
}

/// What an actor has in its head. It may be old.
#[derive(Default)]
struct Head {
    claim: Option<Claim>,
    place: Option<u64>,
    events: Vec<EnteredEvent>,
    pending: Vec<Delivery>,
}

struct World {
    rng: Rng,
    clock: Clock,
    outbox: Arc<SqliteOutbox>,
    heads: BTreeMap<(u8, Shard), Head>,
    /// What was sent of each delivery, the last time.
    sent: BTreeMap<DeliveryId, (EventId, u32)>,
    /// How often each was tried.
    tries: BTreeMap<DeliveryId, u32>,
}

enum Done<T> {
    So(T),
    NobodyKnows,
    Fenced,
}

impl World {
    fn new(seed: u64, path: &Path) -> Self {
        let clock = Clock::manual(START);
        let outbox = Arc::new(SqliteOutbox::open(path, clock.clone()).unwrap());
        let (heads, sent, tries) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { rng: Rng(seed), clock, outbox, heads, sent, tries }
    }

    /// A call that may fail, with or without its effect.
    async fn call<T>(&mut self, call: impl Future<Output = Result<T, OutboxError>>) -> Done<T> {
        if self.rng.one_in(8) {
            return Done::NobodyKnows;
        }
        let done = call.await;
        if self.rng.one_in(8) {
            return Done::NobodyKnows;
        }
        match done {
            Ok(done) => Done::So(done),
            Err(OutboxError::Fenced(_)) => Done::Fenced,
            Err(error) => panic!("{error}"),
        }
    }

    async fn step(&mut self) {
        if self.rng.one_in(2) {
            self.clock.advance(Duration::from_millis(self.rng.below(12)));
        }
        let owner = u8::try_from(self.rng.below(2)).unwrap();
        let device = DEVICES[usize::try_from(self.rng.below(2)).unwrap()];
        let wants = Wants::EACH[usize::try_from(self.rng.below(3)).unwrap()];
        let shard = match self.rng.below(3) {
            0 => Shard::of(Duty::Watch, device),
            1 => Shard::of_event(&event(device, 1)),
            _ => Shard::of_subscription(wants.id()),
        };
        let mut head = self.heads.remove(&(owner, shard)).unwrap_or_default();
        // A claim is believed in until somebody says that it is gone, and sometimes everything is forgotten.
        if head.claim.is_none() || self.rng.one_in(6) {
            head.claim = self.claim(shard, owner).await;
        }
        if self.rng.one_in(20) {
            head = Head { claim: head.claim, ..Head::default() };
        }
        if let Some(claim) = head.claim {
            match shard.duty {
                Duty::Watch => self.watch(&mut head, claim, device).await,
                Duty::Route => self.route(&mut head, claim).await,
                _ => self.deliver(&mut head, claim, wants).await,
            }
        }
        self.heads.insert((owner, shard), head);
    }

    async fn claim(&mut self, shard: Shard, owner: u8) -> Option<Claim> {
        let ttl = Duration::from_millis(1 + self.rng.below(30));
        let outbox = self.outbox.clone();
        match self.call(outbox.claim(shard, [owner; 16], ttl)).await {
            Done::So(claim) => claim,
            _ => None,
        }
    }

    async fn watch(&mut self, head: &mut Head, claim: Claim, device: &str) {
        let outbox = self.outbox.clone();
        let Some(place) = head.place else {
            if let Done::So(place) = self.call(outbox.place(claim.shard)).await {
                let place = place.map_or(0, |place| u64::from_le_bytes(place.try_into().unwrap()));
                head.place = Some(place);
            }
            return;
        };
        let end = (place + 1 + self.rng.below(3)).min(FRAMES);
        let step = WatchStep {
            place: end.to_le_bytes().to_vec(),
            states: vec![WatchState {
                device: DeviceId::new(device).unwrap(),
                rule: RuleName::new("count").unwrap(),
                version: 1,
                state: end.to_le_bytes().to_vec(),
            }],
            events: (place + 1..=end).map(|n| event(device, n)).collect(),
        };
        match self.call(outbox.watched(claim, step)).await {
            Done::So(()) => head.place = Some(end),
            Done::NobodyKnows => head.place = None,
            Done::Fenced => *head = Head::default(),
        }
    }

    async fn route(&mut self, head: &mut Head, claim: Claim) {
        let outbox = self.outbox.clone();
        if head.events.is_empty() {
            if let Done::So(events) = self.call(outbox.unrouted(claim.shard, 3)).await {
                head.events = events;
            }
            return;
        }
        let events: Vec<_> = head.events.iter().map(|entered| entered.event.clone()).collect();
        let wanted = events.iter().flat_map(|event| Wants::EACH.map(|wants| (wants, event)));
        let wanted = wanted.filter(|(wants, event)| wants.wants(event));
        let mut deliveries: Vec<_> = wanted.map(|(wants, event)| wants.delivery(event)).collect();
        let in_parts = self.rng.one_in(3);
        let mut ids = events.iter().map(|event| event.id).collect();
        if in_parts {
            // The first part only; whoever goes on does not know of it.
            deliveries.truncate(usize::try_from(self.rng.below(4)).unwrap());
            ids = vec![];
        }
        let done = self.call(outbox.route(claim, ids, deliveries)).await;
        if matches!(done, Done::Fenced) {
            *head = Head::default();
        } else if !in_parts {
            head.events.clear();
        }
    }

    async fn deliver(&mut self, head: &mut Head, claim: Claim, wants: Wants) {
        let outbox = self.outbox.clone();
        if head.pending.is_empty() {
            let now = self.clock.now();
            if let Done::So(mut pending) = self.call(outbox.pending(wants.id(), vec![], 3)).await {
                // What is tried was due when it was read, and what stands behind it waits for it.
                let due = pending.iter().take_while(|delivery| delivery.next_at <= now).count();
                pending.truncate(due);
                head.pending = pending;
            }
            return;
        }
        let mut attempts = Vec::new();
        for delivery in head.pending.drain(..) {
            self.sent.insert(delivery.id, (delivery.event.id, delivery.events));
            *self.tries.entry(delivery.id).or_default() += 1;
            let (outcome, said) = match self.rng.below(8) {
                0 => (Outcome::Retry(self.clock.now() + self.rng.below(20_000)), "503"),
                1 => (Outcome::Dead, "400"),
                _ => (Outcome::Delivered, "200"),
            };
            let ends = !matches!(outcome, Outcome::Retry(_));
            let (delivery, before) = (delivery.id, delivery.attempts);
            attempts.push(Attempt { delivery, before, outcome, said: said.into() });
            if !ends {
                break;
            }
        }
        // Until somebody says that it was heard.
        loop {
            match self.call(outbox.attempted(claim, attempts.clone())).await {
                Done::So(()) => return,
                Done::NobodyKnows => {}
                Done::Fenced => return *head = Head::default(),
            }
        }
    }

    async fn is_over(&self) -> bool {
        for device in DEVICES {
            let place = self.outbox.place(Shard::of(Duty::Watch, device)).await.unwrap();
            if place != Some(FRAMES.to_le_bytes().to_vec()) {
                return false;
            }
            if !self.outbox.unrouted(Shard::of_event(&event(device, 1)), 1).await.unwrap().is_empty() {
                return false;
            }
        }
        for wants in Wants::EACH {
            if !self.outbox.queues(Shard::of_subscription(wants.id())).await.unwrap().is_empty() {
                return false;
            }
        }
        true
    }

    async fn check(&self) {
        let all = EventFilter { limit: PAGE_MAX, ..EventFilter::default() };
        let events = self.outbox.list_events(all).await.unwrap();
        assert_eq!(events.len() as u64, FRAMES * DEVICES.len() as u64, "each event is entered once");
        for device in DEVICES {
            let states = self.outbox.states(Shard::of(Duty::Watch, device), None, PAGE_MAX).await.unwrap();
            let own = states.iter().find(|state| state.device.as_str() == device).unwrap();
            assert_eq!(own.state, FRAMES.to_le_bytes(), "the state is that of the last frame");
        }
        for wants in Wants::EACH {
            let filter = DeliveryFilter {
                subscriptions: Some(vec![wants.id()]),
                limit: PAGE_MAX,
                ..DeliveryFilter::default()
            };
            let mut made = self.outbox.list_deliveries(filter).await.unwrap();
            made.sort_by_key(|delivery| delivery.position);
            let positions: Vec<_> = made.iter().map(|delivery| delivery.position).collect();
            assert_eq!(positions, (1..=made.len() as u64).collect::<Vec<_>>(), "{wants:?}");
            let wanted = events.iter().filter(|entered| wants.wants(&entered.event)).count();
            let told: u32 = made.iter().map(|delivery| delivery.events).sum();
            assert_eq!(usize::try_from(told).unwrap(), wanted, "{wants:?}: each event is told of once");
            let mut last: BTreeMap<DeviceId, Micros> = BTreeMap::new();
            for delivery in &made {
                let before = last.insert(delivery.event.device.clone().unwrap(), delivery.event.at);
                assert!(before.is_none_or(|before| before < delivery.event.at), "{wants:?}: out of order");
                let sent = self.sent.get(&delivery.id).copied();
                assert_eq!(sent, Some((delivery.event.id, delivery.events)), "{wants:?}: not what was sent");
                assert!(matches!(delivery.state, DeliveryState::Delivered | DeliveryState::Dead));
                assert!(delivery.attempts >= 1 && delivery.finished_at.is_some(), "{delivery:?}");
                assert!(
                    delivery.attempts <= self.tries[&delivery.id],
                    "{delivery:?}: a try was counted twice"
                );
            }
        }
    }
}

#[test]
fn whatever_happens_each_event_is_told_of_once() {
    // Where memory is a disk nothing is waited for.
    let memory = Path::new("/dev/shm");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for seed in 0..SEEDS {
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let directory = directory.unwrap();
        let mut world = World::new(seed, &directory.path().join("outbox.sqlite"));
        println!("seed {seed}");
        runtime.block_on(async {
            let mut steps = 0;
            while steps % 20 != 0 || steps == 0 || !world.is_over().await {
                world.step().await;
                steps += 1;
                assert!(steps < STEPS_MAX, "it does not come to an end");
            }
            world.check().await;
        });
    }
}
