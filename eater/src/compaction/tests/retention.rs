//! Retention.

use std::collections::BTreeSet;

use trough_store::outbox::EventFilter;
use trough_store::segment_catalog::Segment;
use trough_store::sqlite::SqliteOutbox;
use trough_store::{EventKind, Group, NewDevice, RetentionPolicy, RetentionRecord};

use super::local::Eater;
use super::*;
use crate::journal::testing::{MemoryCatalog, TestRun, wait_until};
use crate::segments::index_key;

const DAY: Duration = Duration::from_secs(86_400);

/// A number of a device, and the day on which it was received.
type Number = (&'static str, u64, u64);

struct World {
    ground: Ground,
    catalog: Arc<MemoryCatalog>,
    eater: Eater,
    sent: BTreeMap<Number, u64>,
    /// The newest number of each device, and the one with which the day began.
    next: BTreeMap<&'static str, (u64, u64)>,
    /// What may have been removed by now.
    due: BTreeSet<Number>,
}

impl World {
    /// The first two devices are in the group `buses`.
    fn new(seed: u64) -> Self {
        let ground = Ground::new(seed);
        for (at, device) in DEVICES.into_iter().enumerate() {
            let mut device = NewDevice::new(DeviceId::new(device).unwrap());
            if at < 2 {
                device.groups.insert(buses());
            }
            ground.runtime.block_on(ground.registry.add_device(device)).unwrap();
        }
        let catalog = Arc::new(MemoryCatalog::default());
        let eater = Eater::open(&ground, &catalog);
        Self { ground, catalog, eater, sent: BTreeMap::new(), next: BTreeMap::new(), due: BTreeSet::new() }
    }

    fn today(&self) -> u64 {
        self.ground.clock.now() / 86_400_000_000
    }

    fn send(&mut self, rng: &mut Rng) {
        let (device, today) = (DEVICES[rng.below(3) as usize], self.today());
        let (first, began) = self.next.entry(device).or_insert((1, 1));
        // Some of what came today comes again.
        let from = if rng.percent(20) { first.saturating_sub(rng.below(20)).max(*began) } else { *first };
        let count = 1 + rng.below(40);
        self.eater.send(&TestRun::Frames { device, epoch: 1, first: from, count });
        for seq in from..from + count {
            self.sent.entry((device, 1, seq)).or_insert(today);
        }
        *first = (*first).max(from + count);
    }

    fn next_day(&mut self) {
        self.ground.clock.advance(DAY);
        self.begin_day();
    }

    /// A number that came on two days would go with the later one, and is not what this is about.
    fn begin_day(&mut self) {
        for (next, began) in self.next.values_mut() {
            *began = *next;
        }
    }

    /// Compacts what there is, or a part of it. It may be midnight meanwhile.
    fn compact(&mut self, rng: &mut Rng) {
        let day = self.today();
        self.ground.compact(self.journals(), rng);
        if self.today() != day {
            self.begin_day();
        }
    }

    /// Compacts all that was sent so far.
    fn settle(&mut self) {
        self.ground.clock.advance(Duration::from_millis(1));
        let (now, today) = (self.ground.clock.now(), self.today());
        // So much that its own file is sealed, with all before it.
        for _ in 0..2 {
            let (first, _) = self.next.entry("z").or_insert((1, 1));
            self.eater.send(&TestRun::Frames { device: "z", epoch: 1, first: *first, count: 200 });
            self.sent.extend((*first..*first + 200).map(|seq| (("z", 1, seq), today)));
            *first += 200;
        }
        wait_until("what was sent is compacted", || {
            self.ground.settle(self.ground.store.clone(), self.journals());
            let manifest = self.ground.runtime.block_on(self.ground.segments.manifest(None)).unwrap();
            manifest.unwrap().segments.iter().any(|segment| segment.received.1 >= now)
        });
        // A compactor looks what has expired once in a while: the last one may have done so before the last file was sealed.
        self.ground.settle(self.ground.store.clone(), self.journals());
    }

    fn restart(&mut self) {
        self.ground.runtime.block_on(self.eater.journal.clone().close()).unwrap();
        self.eater = Eater::open(&self.ground, &self.catalog);
    }

    fn journals(&self) -> Journals {
        Journals::Local(self.eater.journal.clone())
    }

    fn policy(&self) -> Option<RetentionRecord> {
        self.ground.runtime.block_on(self.ground.registry.list_retention()).unwrap().pop()
    }

    fn set(&self, days: Option<u32>, bytes: Option<u64>) {
        // Two that are set at the same time are the same.
        self.ground.clock.advance(Duration::from_millis(1));
        let policy = RetentionPolicy { group: buses(), days, bytes };
        self.ground.runtime.block_on(self.ground.registry.set_retention(policy)).unwrap();
    }

    fn enforce(&self) {
        let Some(record) = self.policy().filter(|record| record.counted.is_some()) else { return };
        let group = buses();
        let enforced = self.ground.registry.enforce_retention(&group, record.set_at);
        self.ground.runtime.block_on(enforced).unwrap();
    }

    /// What a compactor may remove from now on.
    fn note_due(&mut self) {
        let Some(record) = self.policy().filter(|record| record.enforced) else { return };
        let today = self.today();
        let old = |day: u64| match record.policy {
            RetentionPolicy { bytes: Some(_), .. } => day < today,
            RetentionPolicy { days, .. } => days.is_some_and(|days| day + u64::from(days) < today),
        };
        let due = self.sent.iter().filter(|((device, ..), day)| *device != DEVICES[2] && old(**day));
        self.due.extend(due.map(|(number, _)| *number));
    }

    /// The numbers that have expired. All else is there.
    fn check(&self, seed: u64) -> BTreeSet<Number> {
        let history = self.ground.history(self.ground.store.clone(), Arc::new(self.eater.journal.clone()));
        let mut gone = BTreeSet::new();
        for device in DEVICES {
            let there = read(&history, device, ScanRange::default());
            let mut falling =
                read(&history, device, ScanRange { order: Order::Desc, ..ScanRange::default() });
            falling.reverse();
            assert_eq!(falling, there, "seed {seed}, {device}");
            let id = DeviceId::new(device).unwrap();
            let gaps = history.gaps(&id, None, 10_000).unwrap();
            assert!(gaps.iter().all(|gap| gap.kind == GapKind::Expired), "seed {seed}: {gaps:?}");
            let expired: Vec<_> = gaps
                .iter()
                .flat_map(|gap| (gap.first.0..=gap.last.0).map(|seq| (gap.epoch.0, seq)))
                .collect();
            let mut all = [there, expired.clone()].concat();
            all.sort_unstable();
            let sent: Vec<_> = self
                .sent
                .keys()
                .filter(|(of, ..)| *of == device)
                .map(|(_, epoch, seq)| (*epoch, *seq))
                .collect();
            assert_eq!(all, sent, "seed {seed}, {device}: each number is there or has expired");
            let state = history.device_states(std::slice::from_ref(&id)).unwrap().remove(0);
            let head = state.and_then(|state| state.heads.last().map(|(_, head)| head.0));
            assert_eq!(head, sent.last().map(|(_, seq)| *seq), "seed {seed}, {device}");
            gone.extend(expired.into_iter().map(|(epoch, seq)| (device, epoch, seq)));
        }
        let early: Vec<_> = gone.difference(&self.due).collect();
        assert!(early.is_empty(), "seed {seed}: these were not to be removed: {early:?}");
        gone
    }
}

fn buses() -> Group {
    Group::new("buses").unwrap()
}

#[test]
fn what_has_expired_is_gone_and_nothing_else() {
    each_seed(210, |seed| {
        let mut rng = Rng::new(seed);
        let mut world = World::new(seed);
        for _ in 0..60 + rng.below(60) {
            match rng.below(12) {
                0..=5 => world.send(&mut rng),
                6 => world.next_day(),
                7 => match rng.below(4) {
                    0 => world.set(None, Some(1 + rng.below(3000))),
                    _ => world.set(Some(1 + rng.below(3) as u32), None),
                },
                8 => world.enforce(),
                9 => world.restart(),
                10 => {
                    world.note_due();
                    world.compact(&mut rng);
                }
                _ => drop(world.check(seed)),
            }
        }
        world.check(seed);
        // In the end all that has expired is gone. What a limit in bytes may have removed of yesterday is old by now for one
        // in days, too.
        world.next_day();
        world.set(Some(1), None);
        world.settle();
        let counted = world.policy().unwrap().counted.unwrap();
        let before = world.check(seed).len();
        world.enforce();
        world.note_due();
        world.settle();
        let gone = world.check(seed);
        assert_eq!(gone, world.due, "seed {seed}: all that was due");
        let record = world.policy().unwrap();
        assert_eq!(counted.frames, record.removed_frames, "seed {seed}: as was counted");
        // Copies count, too.
        assert!(counted.frames >= (gone.len() - before) as u64, "seed {seed}");
        assert_eq!(record.counted.unwrap().frames, 0, "seed {seed}");
        world.ground.assert_clean(&world.ground.store.keys());
    });
}

#[test]
fn no_more_bytes_than_allowed_are_kept_and_the_oldest_days_go_first() {
    let mut world = World::new(1);
    let mut rng = Rng::new(1);
    for _ in 0..12 {
        (0..6).for_each(|_| world.send(&mut rng));
        world.settle();
        world.next_day();
    }
    world.set(None, Some(1));
    world.settle();
    let all = world.policy().unwrap().counted.unwrap();
    world.set(None, Some(all.bytes / 3));
    world.settle();
    let counted = world.policy().unwrap().counted.unwrap();
    assert!(
        counted.frames > 0 && counted.frames < all.frames && counted.devices == 2,
        "{counted:?} of {all:?}"
    );
    assert!(world.check(1).is_empty(), "it is only counted");
    world.enforce();
    world.note_due();
    world.settle();
    let gone = world.check(1);
    assert_eq!(gone.len() as u64, counted.frames);
    let kept = world.sent.iter().filter(|(number, _)| number.0 != DEVICES[2] && !gone.contains(number));
    let oldest_kept = kept.map(|(_, day)| *day).min().unwrap();
    assert!(gone.iter().all(|number| world.sent[number] < oldest_kept), "whole days, the oldest first");
    // Days that only have losses become few.
    let manifest = world.ground.runtime.block_on(world.ground.segments.manifest(None)).unwrap().unwrap();
    assert!(manifest.expired > 0);
    let empty = manifest.segments.iter().filter(|segment| segment.frames == 0).count();
    assert!(empty < 8, "{empty} segments without frames");
}

#[test]
fn entity_tags_change_when_something_has_expired() {
    let mut world = World::new(2);
    world.eater.send(&TestRun::Frames { device: "a", epoch: 1, first: 1, count: 10 });
    world.sent.extend((1..=10).map(|seq| (("a", 1, seq), world.ground.clock.now() / 86_400_000_000)));
    world.settle();
    (0..3).for_each(|_| world.next_day());
    let history = world.ground.history(world.ground.store.clone(), Arc::new(world.eater.journal.clone()));
    let device = DeviceId::new("a").unwrap();
    let generation = |world: &World| world.ground.runtime.block_on(history.generation(&device)).unwrap();
    let before = generation(&world);
    world.set(Some(1), None);
    world.settle();
    assert_eq!(generation(&world), before, "it was only counted");
    world.enforce();
    world.settle();
    assert_eq!(history.gaps(&device, None, 10).unwrap().len(), 1, "{:?}", world.policy());
    assert_ne!(generation(&world), before);
}

#[test]
fn what_is_removed_is_an_event_of_its_group() {
    let mut world = World::new(4);
    let path = world.ground.dir.path().join("outbox.sqlite");
    let outbox = Arc::new(SqliteOutbox::open(&path, world.ground.clock.clone()).unwrap());
    world.ground.outbox = Some(outbox.clone());
    let all = EventFilter { limit: 9, ..EventFilter::default() };
    let events = |world: &World| world.ground.runtime.block_on(outbox.list_events(all.clone())).unwrap();
    world.eater.send(&TestRun::Frames { device: "a", epoch: 1, first: 1, count: 10 });
    let (today, date) = (world.today(), world.ground.clock.now());
    world.sent.extend((1..=10).map(|seq| (("a", 1, seq), today)));
    world.settle();
    (0..3).for_each(|_| world.next_day());
    world.set(Some(1), None);
    world.settle();
    assert!(events(&world).is_empty(), "it was only counted");
    world.enforce();
    for _ in 0..2 {
        world.settle();
        let events = events(&world);
        assert_eq!(events.len(), 1, "{events:?}");
        let event = &events[0].event;
        assert_eq!((event.kind, event.group.as_ref()), (EventKind::RetentionRun, Some(&buses())));
        assert!(event.device.is_none() && event.at > date, "{event:?}");
        let data: serde_json::Value = serde_json::from_str(event.data.get()).unwrap();
        assert_eq!((&data["frames"], &data["date"]), (&10.into(), &today.into()), "{data}");
    }
}

#[test]
fn a_damaged_segment_keeps_nothing_else_from_expiring() {
    let mut world = World::new(3);
    for day in 0..3 {
        world.eater.send(&TestRun::Frames { device: "a", epoch: 1, first: 1 + day * 10, count: 10 });
        let today = world.today();
        world.sent.extend((1 + day * 10..11 + day * 10).map(|seq| (("a", 1, seq), today)));
        world.settle();
        world.next_day();
    }
    (0..3).for_each(|_| world.next_day());
    let manifest = || world.ground.runtime.block_on(world.ground.segments.manifest(None)).unwrap().unwrap();
    let has_a = |segment: &&Segment| segment.devices.0.as_str() == "a" && segment.frames > 0;
    let [damaged, gone] = [0, 1].map(|at| manifest().segments.iter().filter(has_a).nth(at).unwrap().clone());
    let key = |segment: &Segment| index_key(segment.date, segment.id).to_string();
    world.ground.store.change(&key(&damaged), |bytes| bytes[100] ^= 1);
    world.ground.store.take(&key(&gone));
    world.set(Some(1), None);
    world.ground.settle(world.ground.store.clone(), world.journals());
    world.enforce();
    world.ground.settle(world.ground.store.clone(), world.journals());
    assert!(world.policy().unwrap().removed_frames >= 10, "{:?}", world.policy());
    let live: Vec<_> = manifest().segments.iter().map(|segment| segment.id).collect();
    assert!(live.contains(&damaged.id) && live.contains(&gone.id), "what cannot be read is left as it is");
    // It is written down and cleaned up as ever.
    let newest = format!("manifests/{:020}.json", manifest().number);
    assert!(world.ground.store.keys().contains(&newest), "{newest}");
}
