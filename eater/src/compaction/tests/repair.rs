//! Journal objects that are damaged or gone: nothing is compacted, until an operator gives up what is lost of them.

use super::objects::Eater;
use super::*;
use crate::journal::testing::TestRun;
use crate::objects::tests::world::{Line, World};

/// Keys of journal objects, in the order of their numbers.
fn journals(world: &World) -> Vec<String> {
    world.objects.lock().unwrap().keys().filter(|key| key.starts_with("journal/")).cloned().collect()
}

fn flip(world: &World, key: &str, find: impl FnOnce(&[u8]) -> usize) {
    let mut objects = world.objects.lock().unwrap();
    let mut bytes = objects[key].to_vec();
    let at = find(&bytes);
    bytes[at] ^= 0x10;
    objects.insert(key.to_owned(), bytes.into());
}

#[test]
fn what_is_lost_of_journal_objects_is_given_up_when_somebody_says_so() {
    let ground = Ground::new(1);
    let world = Arc::new(World::default());
    let mut eater = Eater::open(&ground, &world, 1);
    for first in (1..=41).step_by(10) {
        eater.send(&TestRun::Frames { device: "a", epoch: 1, first, count: 10 });
        eater.acknowledged();
    }
    ground.clock.advance(Duration::from_secs(1));
    let keys = journals(&world);
    assert_eq!(keys.len(), 5);
    // The second is gone; of the third a frame is damaged; of the last all that says where they are.
    world.objects.lock().unwrap().remove(&keys[1]);
    let wanted = frame("a", 1, 25);
    flip(&world, &keys[2], |bytes| bytes.windows(wanted.len()).position(|some| some == wanted).unwrap() + 5);
    flip(&world, &keys[4], |bytes| bytes.len() - 1);
    let line = Line::new(&world, 1, (0, 0));
    let mut compactor = ground.compactor(line.clone(), Journals::Objects(line.clone()));
    for _ in 0..2 {
        let error = compactor.pass().unwrap_err();
        assert!(matches!(&error, CompactError::JournalObject { .. }), "{error}");
        assert!(error.to_string().contains("trough journal repair --store"), "{error}");
    }
    assert_eq!(journals(&world).len(), 4, "by itself nothing is given up");

    let mut told = Vec::new();
    let mut repairing = ground.compactor(line.clone(), Journals::Objects(line.clone()));
    assert!(repairing.repair(&mut |given_up| told.push(given_up)).unwrap() > 0);
    told.sort_by_key(|given_up| given_up.object.to_string());
    assert_eq!(
        told.iter().map(|given_up| given_up.object.to_string()).collect::<Vec<_>>(),
        [keys[1].clone(), keys[2].clone(), keys[4].clone()]
    );
    let lost: Vec<_> =
        told.iter().flat_map(|given_up| &given_up.lost).map(|lost| (lost.first.0, lost.last.0)).collect();
    assert_eq!(lost, [(11, 20), (21, 30), (41, 50)]);

    let device = DeviceId::new("a").unwrap();
    for _ in 0..2 {
        // It removes the objects, too, by which readers would meet the damage.
        compactor.pass().unwrap();
        assert!(journals(&world).is_empty(), "compaction goes on");
        let history = ground.history(line.clone(), eater.journal.clone());
        let numbers: Vec<u64> =
            read(&history, "a", ScanRange::default()).into_iter().map(|at| at.1).collect();
        assert_eq!(numbers, (1..=10).chain(31..=40).collect::<Vec<_>>());
        let gaps = history.gaps(&device, None, 100).unwrap();
        let gaps: Vec<_> = gaps.iter().map(|gap| (gap.kind, gap.first.0, gap.last.0)).collect();
        let damaged = |first, last| (GapKind::Damaged, first, last);
        assert_eq!(gaps, [damaged(11, 20), damaged(21, 30), damaged(41, 50)]);
        assert_eq!(ground.runtime.block_on(history.head(&device, Epoch(1))), Some(Seq(50)));
    }
}
