//! The cases of a catalog of segments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trough_protocol::DeviceId;
use trough_protocol::limits::INT_MAX;

use super::Fixture;
use crate::error::CatalogError;
use crate::format_level::{FORMAT_LEVEL, FormatLevel};
use crate::object_catalog::Incarnation;
use crate::segment_catalog::{
    CHANGE_JOURNALS_MAX, CHANGE_SEGMENTS_MAX, CHANGES_KNOWN, CLAIM_TTL, Change, CommitError, Manifest,
    REMOVED_MAX, Removed, Segment, SegmentCatalog, SegmentId, Through,
};

mod claims;
mod races;
mod restoring;

pub use claims::*;
pub use races::*;
pub use restoring::*;

type On = Fixture<dyn SegmentCatalog>;

const LONG: Duration = Duration::from_secs(3600);

/// The id of a segment.
fn id(number: u32) -> SegmentId {
    SegmentId((u128::from(number) << 64).to_be_bytes())
}

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn segment(number: u32) -> Segment {
    let at = u64::from(number);
    Segment {
        id: id(number),
        level: 1,
        date: 20_000,
        bytes: 1_000_000 + at,
        index_bytes: 1000 + at,
        index_crc: u32::MAX - number,
        frames: 10 * at,
        devices: (device("bus-1"), device("bus-9")),
        ts: (at, at + 5),
        received: (at + 1, at + 7),
    }
}

fn segments(numbers: impl IntoIterator<Item = u32>) -> Vec<Segment> {
    numbers.into_iter().map(segment).collect()
}

fn ids(numbers: impl IntoIterator<Item = u32>) -> Vec<SegmentId> {
    numbers.into_iter().map(id).collect()
}

fn through(incarnation: u8, n: u64) -> Through {
    Through { incarnation: Incarnation([incarnation; 16]), n }
}

/// A change of nothing, with a name of its own.
fn change(name: u32, token: u64, after: u64) -> Change {
    let id = (u128::from(name) | 1 << 127).to_be_bytes();
    Change { id, token, after, add: vec![], remove: vec![], through: vec![], expires: false }
}

async fn manifest(catalog: &dyn SegmentCatalog) -> Manifest {
    catalog.manifest(None).await.unwrap().expect("whoever knows none is given one")
}

async fn live(catalog: &dyn SegmentCatalog) -> Vec<SegmentId> {
    manifest(catalog).await.segments.iter().map(|segment| segment.id).collect()
}

async fn removed(catalog: &dyn SegmentCatalog) -> Vec<SegmentId> {
    catalog.removed(REMOVED_MAX).await.unwrap().iter().map(|removed| removed.id).collect()
}

async fn claimed(catalog: &dyn SegmentCatalog) -> u64 {
    catalog.claim(LONG).await.unwrap().expect("nobody has claimed it")
}

/// Nothing is said of a change that could not be made just now: it is tried again.
async fn decided(catalog: &dyn SegmentCatalog, change: &Change) -> Result<u64, CommitError> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match catalog.commit(change).await {
            Err(CommitError::Catalog(CatalogError::Unavailable { .. })) if Instant::now() < deadline => {}
            decided => return decided,
        }
    }
}

fn is_invalid<T>(result: &Result<T, CommitError>) -> bool {
    matches!(result, Err(CommitError::Catalog(CatalogError::Invalid(_))))
}

pub async fn a_change_makes_the_next_manifest_whole(on: &On) {
    let (catalog, other) = ((on.open)(), (on.open)());
    let empty = Manifest { number: 0, through: vec![], segments: vec![], expired: 0 };
    assert_eq!(manifest(&*catalog).await, empty);
    assert_eq!(catalog.manifest(Some(0)).await, Ok(None));
    assert_eq!(catalog.manifest(Some(1)).await, Ok(Some(empty)), "a number that is not there is not known");
    let token = claimed(&*catalog).await;
    let first = Change {
        add: segments([1, 2, 3]),
        through: vec![through(0, 4), through(7, 20)],
        ..change(1, token, 0)
    };
    assert_eq!(catalog.commit(&first).await, Ok(1));
    let second = Change {
        add: segments([4]),
        remove: ids([3, 1]),
        through: vec![through(3, 1), through(7, 20)],
        ..change(2, token, 1)
    };
    assert_eq!(other.commit(&second).await, Ok(2), "the claim is a number, whoever has it");
    let expected = Manifest {
        number: 2,
        through: vec![through(0, 4), through(3, 1), through(7, 20)],
        segments: segments([2, 4]),
        expired: 0,
    };
    for catalog in [&catalog, &other, &(on.open)()] {
        assert_eq!(manifest(&**catalog).await, expected);
        assert_eq!(catalog.manifest(Some(2)).await, Ok(None));
        assert_eq!(catalog.manifest(Some(1)).await, Ok(Some(expected.clone())));
        assert_eq!(removed(&**catalog).await, ids([1, 3]));
    }
    // One of nothing is a manifest all the same.
    assert_eq!(catalog.commit(&change(3, token, 2)).await, Ok(3));
    assert_eq!(other.manifest(Some(2)).await, Ok(Some(Manifest { number: 3, ..expected })));
}

pub async fn segments_are_listed_by_date_level_and_id(on: &On) {
    let catalog = (on.open)();
    let token = claimed(&*catalog).await;
    let at = |number, date, level| Segment { date, level, ..segment(number) };
    let add = vec![at(5, 3, 1), at(1, 3, 10), at(4, 3, 2), at(3, 3, 2), at(2, 20, 1), at(9, 2, 3)];
    catalog.commit(&Change { add, ..change(1, token, 0) }).await.unwrap();
    assert_eq!(live(&*catalog).await, ids([9, 5, 3, 4, 1, 2]));
}

pub async fn a_change_for_another_manifest_is_outdated(on: &On) {
    let (catalog, other) = ((on.open)(), (on.open)());
    let token = claimed(&*catalog).await;
    let of = |name, after| Change { add: segments([name]), ..change(name, token, after) };
    assert_eq!(catalog.commit(&of(1, 1)).await, Err(CommitError::Outdated { after: 1, found: 0 }));
    assert_eq!(catalog.commit(&of(1, 0)).await, Ok(1));
    assert_eq!(other.commit(&of(2, 0)).await, Err(CommitError::Outdated { after: 0, found: 1 }));
    let far = INT_MAX - 1;
    assert_eq!(other.commit(&of(2, far)).await, Err(CommitError::Outdated { after: far, found: 1 }));
    assert_eq!(live(&*catalog).await, ids([1]));
    assert_eq!(other.commit(&of(2, 1)).await, Ok(2));
}

pub async fn the_same_change_again_is_made_once(on: &On) {
    let (catalog, other) = ((on.open)(), (on.open)());
    let token = claimed(&*catalog).await;
    let first = Change { add: segments([1, 2]), through: vec![through(1, 5)], ..change(1, token, 0) };
    for catalog in [&catalog, &catalog, &other, &(on.open)()] {
        assert_eq!(catalog.commit(&first).await, Ok(1));
    }
    assert_eq!(live(&*catalog).await, ids([1, 2]));
    // Others were made since, and somebody else has claimed: it was made all the same, and nobody may drop what is live.
    let second = Change { add: segments([3]), remove: ids([1]), ..change(2, token, 1) };
    assert_eq!(catalog.commit(&second).await, Ok(2));
    catalog.release(token).await.unwrap();
    let next = claimed(&*other).await;
    let last = CHANGES_KNOWN + 1;
    for number in 3..=last {
        assert_eq!(other.commit(&change(number as u32, next, number - 1)).await, Ok(number));
    }
    assert_eq!(catalog.commit(&second).await, Ok(2));
    assert_eq!(live(&*catalog).await, ids([2, 3]));
    // What is too long ago is told from what was not made.
    let forgotten = catalog.commit(&first).await;
    assert!(is_invalid(&forgotten), "{forgotten:?}");
    let another = change(999, token, 1);
    assert_eq!(catalog.commit(&another).await, Err(CommitError::Fenced { token }));
    let another = Change { token: next, ..another };
    assert_eq!(catalog.commit(&another).await, Err(CommitError::Outdated { after: 1, found: last }));
    assert_eq!(manifest(&*catalog).await.number, last);
}

pub async fn a_refused_change_changes_nothing(on: &On) {
    let catalog = (on.open)();
    let token = claimed(&*catalog).await;
    let first = Change {
        add: segments([1, 2, 3]),
        remove: vec![],
        through: vec![through(5, 5)],
        ..change(1, token, 0)
    };
    catalog.commit(&first).await.unwrap();
    let second = Change { remove: ids([3]), ..change(2, token, 1) };
    catalog.commit(&second).await.unwrap();
    let before = manifest(&*catalog).await;
    let good = Change {
        add: segments([4]),
        remove: ids([1]),
        through: vec![through(1, 1), through(5, 6)],
        ..change(3, token, 2)
    };
    let with = |bad: Segment| Change { add: vec![segment(4), bad], ..good.clone() };
    let six = segment(6);
    let many = |count: usize| (0..count as u32).map(|number| number + 100);
    let bad = [
        ("known", with(segment(2))),
        ("known, though removed", with(segment(3))),
        ("twice", with(segment(4))),
        ("added and removed", with(segment(1))),
        ("removed and not known", Change { remove: ids([1, 6]), ..good.clone() }),
        ("removed and not live", Change { remove: ids([1, 3]), ..good.clone() }),
        ("removed twice", Change { remove: ids([1, 1]), ..good.clone() }),
        ("goes back", Change { through: vec![through(1, 1), through(5, 4)], ..good.clone() }),
        ("do not rise", Change { through: vec![through(5, 6), through(1, 1)], ..good.clone() }),
        ("stands twice", Change { through: vec![through(5, 6), through(5, 7)], ..good.clone() }),
        ("n", Change { through: vec![through(1, INT_MAX + 1)], ..good.clone() }),
        ("after", Change { after: u64::MAX, ..good.clone() }),
        ("level", with(Segment { level: 0, ..six.clone() })),
        ("bytes", with(Segment { bytes: INT_MAX + 1, ..six.clone() })),
        ("index bytes", with(Segment { index_bytes: u64::MAX, ..six.clone() })),
        ("frames", with(Segment { frames: INT_MAX + 1, ..six.clone() })),
        ("devices", with(Segment { devices: (device("b"), device("a")), ..six.clone() })),
        ("ts", with(Segment { ts: (2, 1), ..six.clone() })),
        ("ts", with(Segment { ts: (1, u64::MAX), ..six.clone() })),
        ("received", with(Segment { received: (2, 1), ..six.clone() })),
        ("too many to add", Change { add: segments(many(CHANGE_SEGMENTS_MAX + 1)), ..good.clone() }),
        ("too many to remove", Change { remove: ids(many(CHANGE_SEGMENTS_MAX + 1)), ..good.clone() }),
    ];
    for (why, bad) in bad {
        let refused = catalog.commit(&bad).await;
        assert!(is_invalid(&refused), "{why}: {refused:?}");
        assert_eq!(manifest(&*catalog).await, before, "{why}");
        assert_eq!(removed(&*catalog).await, ids([3]), "{why}");
    }
    assert_eq!(catalog.commit(&good).await, Ok(3));
    assert_eq!(live(&*catalog).await, ids([2, 4]));
}

pub async fn removed_segments_are_listed_until_they_are_forgotten(on: &On) {
    let (catalog, other) = ((on.open)(), (on.open)());
    let token = claimed(&*catalog).await;
    let add = (1..=9).map(|number| Segment { date: 100 + number, ..segment(number) }).collect();
    catalog.commit(&Change { add, ..change(1, token, 0) }).await.unwrap();
    assert!(catalog.removed(10).await.unwrap().is_empty());
    // The clock does not decide which is first: it may be set back.
    for (after, numbers) in [(1, [9, 5]), (2, [7, 1]), (3, [6, 2])] {
        let remove = Change { remove: ids(numbers), ..change(after as u32 + 1, token, after) };
        catalog.commit(&remove).await.unwrap();
        on.clock.set(super::START - after);
    }
    let all = other.removed(REMOVED_MAX).await.unwrap();
    let seen: Vec<_> = all.iter().map(|one| (one.id, one.date)).collect();
    assert_eq!(seen, [5, 9, 1, 7, 2, 6].map(|number| (id(number), 100 + number)));
    for Removed { at, now, .. } in &all {
        assert!(*at > super::START / 2 && *now > super::START / 2, "{all:?}");
    }
    for limit in 0..=6 {
        let page = other.removed(limit).await.unwrap();
        assert_eq!(page.iter().map(|one| one.id).collect::<Vec<_>>(), removed(&*catalog).await[..limit]);
    }
    assert_eq!(other.removed(usize::MAX).await.unwrap().len(), 6);
    // Live ones and unknown ones are passed over.
    other.forget(&[]).await.unwrap();
    for _ in 0..2 {
        other.forget(&ids([9, 3, 77, 2])).await.unwrap();
        assert_eq!(removed(&*catalog).await, ids([5, 1, 7, 6]));
        assert_eq!(live(&*catalog).await, ids([3, 4, 8]));
    }
    catalog.forget(&ids(1..=5000)).await.unwrap();
    assert!(catalog.removed(10).await.unwrap().is_empty());
    assert_eq!(live(&*other).await, ids([3, 4, 8]));
    assert_eq!(manifest(&*other).await.number, 4, "nothing of what is live has changed");
}

pub async fn a_change_has_as_much_as_it_may(on: &On) {
    let (catalog, other) = ((on.open)(), (on.open)());
    let token = claimed(&*catalog).await;
    let most = CHANGE_SEGMENTS_MAX as u32;
    let journal = |at: usize, n| {
        let incarnation = Incarnation((at as u128 * 0x1234_5678_9abc).to_be_bytes());
        Through { incarnation, n }
    };
    let longest = (device(&"a".repeat(64)), device(&"b".repeat(64)));
    let long = |number| Segment { devices: longest.clone(), ..segment(number) };
    // All journals stand in the second and the third, and in the third a few of them move.
    let journals = |moved: usize| -> Vec<_> {
        (0..CHANGE_JOURNALS_MAX).map(|at| journal(at, if at < moved { 2 } else { 1 })).collect()
    };
    let parts = (0..3).zip([vec![], journals(0), journals(20)]);
    for (part, through) in parts {
        let of = move |part: u32| part * most..(part + 1) * most;
        let add = of(part).map(long).collect();
        let remove = if part == 2 { ids(of(0)) } else { vec![] };
        let all = Change { add, remove, through, ..change(part, token, u64::from(part)) };
        assert_eq!(decided(&*catalog, &all).await, Ok(u64::from(part) + 1));
    }
    let Manifest { number, through, segments, .. } = manifest(&*other).await;
    assert_eq!(number, 3);
    assert!(segments == (most..3 * most).map(long).collect::<Vec<_>>());
    assert!(through == journals(20));
    assert_eq!(removed(&*other).await, ids(0..most));
    for part in ids(0..most).chunks(100) {
        other.forget(part).await.unwrap();
    }
    assert!(other.removed(1).await.unwrap().is_empty());
}

pub async fn what_was_returned_survives_a_restart(on: &On) {
    let catalog = (on.open)();
    let token = claimed(&*catalog).await;
    let most = Segment {
        level: u8::MAX,
        date: u32::MAX,
        bytes: INT_MAX,
        index_bytes: INT_MAX,
        index_crc: u32::MAX,
        frames: INT_MAX,
        devices: (device("a"), device("a")),
        ts: (0, INT_MAX),
        received: (INT_MAX, INT_MAX),
        id: SegmentId([0xff; 16]),
    };
    let add = vec![segment(1), segment(2), most];
    let first = Change {
        add: add.clone(),
        through: vec![through(0, 0), through(0xff, INT_MAX)],
        ..change(1, token, 0)
    };
    catalog.commit(&first).await.unwrap();
    let second = Change { remove: ids([2]), expires: true, ..change(2, token, 1) };
    catalog.commit(&second).await.unwrap();
    drop(catalog);
    let catalog = (on.open)();
    let expected = Manifest {
        number: 2,
        through: vec![through(0, 0), through(0xff, INT_MAX)],
        segments: vec![add[0].clone(), add[2].clone()],
        expired: 2,
    };
    assert_eq!(manifest(&*catalog).await, expected);
    assert_eq!(removed(&*catalog).await, ids([2]));
    assert_eq!(catalog.claim(LONG).await, Ok(None), "the claim is there");
    assert_eq!(catalog.renew(token, LONG).await, Ok(true));
    assert_eq!(catalog.commit(&second).await, Ok(2));
    assert_eq!(catalog.commit(&change(3, token, 2)).await, Ok(3));
    assert_eq!(manifest(&*catalog).await.expired, 2, "the last one that removed frames for good");
}

pub async fn the_format_level_only_rises(on: &On) {
    let (catalog, other) = ((on.open)(), (on.open)());
    let first = catalog.format_level().await.unwrap();
    assert_eq!(first, FormatLevel::newest());
    let later = |level| FormatLevel { level, release: format!("{level}.0.0") };
    for same in [later(0), later(FORMAT_LEVEL)] {
        assert_eq!(catalog.raise_format_level(same).await, Ok(first.clone()));
    }
    let next = later(FORMAT_LEVEL + 1);
    assert_eq!(catalog.raise_format_level(next.clone()).await, Ok(next.clone()));
    // One that was not used before may refuse by now.
    if let Ok(level) = other.raise_format_level(later(FORMAT_LEVEL)).await {
        assert_eq!(level, next);
    }
    assert_eq!(catalog.format_level().await, Ok(next));
}
