//! The cases of an object store.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::Fixture;
use crate::objects::{LIST_MAX, ObjectEntry, ObjectError, ObjectKey, ObjectStore};

type On = Fixture<dyn ObjectStore>;

/// Most calls at once that a test makes.
const AT_ONCE: usize = 16;

fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}

/// Bytes that differ from place to place, so that a wrong part shows.
fn pattern(len: usize) -> Bytes {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

async fn keys(store: &dyn ObjectStore, prefix: &str, page: usize) -> Vec<String> {
    entries(store, prefix, page).await.iter().map(|entry| entry.key.to_string()).collect()
}

async fn entries(store: &dyn ObjectStore, prefix: &str, page: usize) -> Vec<ObjectEntry> {
    let mut entries: Vec<ObjectEntry> = Vec::new();
    loop {
        let after = entries.last().map(|entry| entry.key.clone());
        let more = store.list(prefix, after.as_ref(), page).await.unwrap();
        assert!(more.len() <= page.min(LIST_MAX), "{} entries of a page of {page}", more.len());
        if more.is_empty() {
            return entries;
        }
        entries.extend(more);
    }
}

async fn put_all(on: &On, keys: impl Iterator<Item = String>, bytes: &Bytes) {
    let mut puts = JoinSet::new();
    for text in keys {
        if puts.len() >= AT_ONCE {
            puts.join_next().await.unwrap().unwrap();
        }
        let (store, bytes) = ((on.open)(), bytes.clone());
        puts.spawn(async move { store.put(&key(&text), bytes).await.unwrap() });
    }
    while let Some(put) = puts.join_next().await {
        put.unwrap();
    }
}

pub async fn what_is_put_is_got_by_anybody(on: &On) {
    let (here, there) = ((on.open)(), (on.open)());
    let (key, bytes) = (key("journal/a/1.tro"), pattern(10_000));
    here.put(&key, bytes.clone()).await.unwrap();
    assert_eq!(there.get(&key).await.unwrap(), bytes);
    assert_eq!((on.open)().get(&key).await.unwrap(), bytes);
}

pub async fn ranges_are_exact(on: &On) {
    let store = (on.open)();
    let (key, bytes) = (key("r"), pattern(1000));
    store.put(&key, bytes.clone()).await.unwrap();
    for (start, end) in [(0, 0), (0, 1), (0, 1000), (999, 1000), (1000, 1000), (17, 640), (5, 5)] {
        let part = store.get_range(&key, start as u64..end as u64).await.unwrap();
        assert_eq!(part, bytes[start..end], "{start}..{end}");
    }
}

pub async fn ranges_that_make_no_sense_are_invalid(on: &On) {
    let store = (on.open)();
    let key = key("r");
    store.put(&key, pattern(1000)).await.unwrap();
    #[allow(clippy::reversed_empty_ranges, reason = "that is the case")]
    for range in [0..1001, 999..1001, 1000..1001, 5000..5001, 0..1 << 40, 6..5, 2000..0] {
        let answer = store.get_range(&key, range.clone()).await;
        assert!(matches!(answer, Err(ObjectError::Invalid(_))), "{range:?}: {answer:?}");
    }
}

pub async fn an_object_may_be_empty(on: &On) {
    let store = (on.open)();
    let key = key("e/mpty");
    store.put(&key, Bytes::new()).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), Bytes::new());
    assert_eq!(store.get_range(&key, 0..0).await.unwrap(), Bytes::new());
    let range = store.get_range(&key, 0..1).await;
    assert!(matches!(range, Err(ObjectError::Invalid(_))), "{range:?}");
    assert_eq!(store.list("e", None, 10).await.unwrap(), [ObjectEntry { key, bytes: 0 }]);
}

pub async fn an_object_of_8_mib(on: &On) {
    let store = (on.open)();
    let (key, bytes) = (key("big"), pattern(8 << 20));
    store.put(&key, bytes.clone()).await.unwrap();
    assert!(store.get(&key).await.unwrap() == bytes);
    let middle = (4 << 20) - 7..(4 << 20) + 7;
    let part = store.get_range(&key, middle.start as u64..middle.end as u64).await.unwrap();
    assert_eq!(part, bytes[middle]);
    assert_eq!(store.list("", None, 10).await.unwrap(), [ObjectEntry { key, bytes: 8 << 20 }]);
}

pub async fn the_same_bytes_may_be_put_again(on: &On) {
    let store = (on.open)();
    let (key, bytes) = (key("again/1"), pattern(5000));
    for _ in 0..3 {
        store.put(&key, bytes.clone()).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap(), bytes);
    }
    assert_eq!(keys(&*store, "", 10).await, ["again/1"]);
}

pub async fn what_is_not_there_is_not_found(on: &On) {
    let store = (on.open)();
    store.put(&key("a/b/c"), pattern(3)).await.unwrap();
    for missing in ["a/b/d", "a/b", "a", "x", "a/b/c/d"] {
        let missing = key(missing);
        assert_eq!(store.get(&missing).await, Err(ObjectError::NotFound(missing.clone())));
        assert_eq!(store.get_range(&missing, 0..1).await, Err(ObjectError::NotFound(missing.clone())));
    }
}

pub async fn what_is_deleted_is_gone(on: &On) {
    let (here, there) = ((on.open)(), (on.open)());
    for name in ["a/b/1", "a/b/2"] {
        here.put(&key(name), pattern(3)).await.unwrap();
    }
    for _ in 0..2 {
        there.delete(&key("a/b/1")).await.unwrap();
        assert_eq!(here.get(&key("a/b/1")).await, Err(ObjectError::NotFound(key("a/b/1"))));
        assert_eq!(keys(&*here, "", 10).await, ["a/b/2"]);
    }
    here.delete(&key("never/there")).await.unwrap();
    here.delete(&key("a/b/2")).await.unwrap();
    assert!(keys(&*here, "", 10).await.is_empty());
    here.put(&key("a/b/1"), pattern(4)).await.unwrap();
    assert_eq!(there.get(&key("a/b/1")).await.unwrap(), pattern(4));
}

pub async fn listings_begin_with_a_prefix_and_go_on_behind_a_key(on: &On) {
    let store = (on.open)();
    let all = ["a/1", "a/10", "a/2", "ab/1", "b/x/1", "b/x/2", "b/y/1", "c"];
    put_all(on, all.iter().rev().map(ToString::to_string), &pattern(7)).await;
    for page in [1, 2, 3, 8, 1000, usize::MAX] {
        assert_eq!(keys(&*store, "", page).await, all, "pages of {page}");
    }
    assert!(store.list("", None, 0).await.unwrap().is_empty());
    for (prefix, wanted) in [
        ("a", &all[0..4]),
        ("a/", &all[0..3]),
        ("a/1", &all[0..2]),
        ("b/", &all[4..7]),
        ("b/x", &all[4..6]),
        ("b/x/", &all[4..6]),
        ("b/x/2", &all[5..6]),
        ("c", &all[7..8]),
        ("c/", &[]),
        ("d", &[]),
        ("b/z/", &[]),
    ] {
        assert_eq!(keys(&*store, prefix, 2).await, wanted, "{prefix:?}");
    }
    // Behind a key that is there, one that was never there, and one outside of the prefix.
    for (prefix, after, wanted) in [
        ("a/", "a/10", &all[2..3]),
        ("a/", "a/15", &all[2..3]),
        ("b/", "b/x/15", &all[5..7]),
        ("b/", "a/1", &all[4..7]),
        ("a/", "b", &[]),
        ("", "ab/0", &all[3..8]),
        ("", "c", &[]),
    ] {
        let page = store.list(prefix, Some(&key(after)), 100).await.unwrap();
        let page: Vec<_> = page.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(page, wanted, "{prefix:?} after {after}");
    }
}

pub async fn names_beside_a_directorys_are_listed_once_in_any_order(on: &On) {
    let store = (on.open)();
    let all = ["d-1", "d.1", "d/1", "d/2", "d0"];
    put_all(on, all.iter().map(ToString::to_string), &pattern(1)).await;
    for page in [1, 2, 3, 1000] {
        let mut listed = keys(&*store, "", page).await;
        listed.sort_unstable();
        assert_eq!(listed, all, "pages of {page}");
    }
}

pub async fn a_listing_longer_than_a_page_is_complete(on: &On) {
    let store = (on.open)();
    let all: Vec<String> = (0..LIST_MAX + 30).map(|n| format!("journal/{}/{n:020}.tro", n % 3)).collect();
    put_all(on, all.iter().cloned(), &pattern(2)).await;
    let mut sorted = all.clone();
    sorted.sort_unstable();
    assert_eq!(store.list("journal/", None, usize::MAX).await.unwrap().len(), LIST_MAX);
    assert_eq!(keys(&*store, "journal/", usize::MAX).await, sorted);
    assert!(entries(&*store, "journal/1", 100).await.iter().all(|entry| entry.bytes == 2));
}

pub async fn odd_keys_are_ordinary_ones(on: &On) {
    let store = (on.open)();
    let long = "k".repeat(255);
    let longest = format!("{}/{}", "l".repeat(255), "m".repeat(200));
    let deep = ["d"; 30].join("/");
    let date = "date=2026-11-25/h=07/x_1-2.parquet";
    let mut odd: [&str; 12] =
        ["...", ".hidden/..x", "-", "=", date, "_", "A/b", "a/B", "x..y", &long, &longest, &deep];
    odd.sort_unstable();
    for text in &odd {
        store.put(&key(text), Bytes::copy_from_slice(text.as_bytes())).await.unwrap();
    }
    for text in &odd {
        assert_eq!(store.get(&key(text)).await.unwrap(), text.as_bytes());
    }
    assert_eq!(keys(&*store, "", 2).await, odd);
    for text in &odd {
        store.delete(&key(text)).await.unwrap();
    }
    assert!(keys(&*store, "", 100).await.is_empty());
}

pub async fn many_puts_at_once_all_arrive(on: &On) {
    let names = |n: usize| format!("many/{}/{n:04}", n % 7);
    let mut puts = JoinSet::new();
    for n in 0..200 {
        let store = (on.open)();
        puts.spawn(async move { store.put(&key(&names(n)), pattern(100 + n)).await.unwrap() });
    }
    while let Some(put) = puts.join_next().await {
        put.unwrap();
    }
    let store = (on.open)();
    assert_eq!(entries(&*store, "many/", 1000).await.len(), 200);
    for n in 0..200 {
        assert_eq!(store.get(&key(&names(n))).await.unwrap(), pattern(100 + n));
    }
}

pub async fn a_put_that_is_dropped_is_whole_or_nothing(on: &On) {
    let store = (on.open)();
    let bytes = pattern(4 << 20);
    let began = Instant::now();
    store.put(&key("whole"), bytes.clone()).await.unwrap();
    let took = began.elapsed();
    for step in 0..16_u32 {
        let key = key(&format!("dropped/{step}"));
        let after = took.mul_f64(f64::from(step) / 12.0) + Duration::from_micros(1);
        let dropped = timeout(after, store.put(&key, bytes.clone())).await;
        // It may still be on its way: what counts is that no part of it is ever seen.
        match store.get(&key).await {
            Ok(got) => assert!(got == bytes, "{} bytes of {} at step {step}", got.len(), bytes.len()),
            Err(error) => {
                assert_eq!(error, ObjectError::NotFound(key.clone()));
                assert!(dropped.is_err(), "{key} was stored, and is not there");
            }
        }
    }
    for entry in entries(&*store, "", 100).await {
        assert_eq!(entry.bytes, bytes.len() as u64, "{}", entry.key);
        assert!(store.get(&entry.key).await.unwrap() == bytes);
    }
}
