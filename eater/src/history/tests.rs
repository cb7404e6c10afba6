//! History:
//!
//! 1. a read of many segments opens those whose turn it is, and the index of each is fetched once for a device;
//! 2. what journals do not remember of devices is looked for where they were heard last, and of many together;
//! 3. gaps are those of a model, in whatever pages, and however few losses are looked at together.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use trough_protocol::frame::FrameRef;
use trough_protocol::{ContentType, DeviceId, Epoch, Micros, Seq};
use trough_store::format_level::FormatLevel;
use trough_store::object_catalog::{Incarnation, ObjectId};
use trough_store::objects::{ObjectEntry, ObjectError};
use trough_store::segment_catalog::*;
use trough_store::{BoxFuture, CatalogError, DeviceState, ObjectKey, ObjectStore, SegmentCatalog};

use super::{History, Segments, gaps};
use crate::frames::{AnyJournal, Chunks, Frames};
use crate::journal::testing::Rng;
use crate::journal::{
    Chunk, Closed, Gap, GapKind, JournalError, LastFrame, Order, ReadError, ScanRange, Submission,
};
use crate::segments::format::Loss;
use crate::segments::tests::world::Memory;
use crate::segments::{
    NewSegment, Row, SegmentCache, SegmentCacheLimits, SegmentMetrics, SegmentWriter, index_key, parquet_key,
};

const DAY: Micros = 86_400_000_000;
const SOURCE: ObjectId = ObjectId { incarnation: Incarnation::LOCAL, n: 1 };

/// A store that remembers what was fetched.
#[derive(Default)]
struct Counted {
    inner: Memory,
    fetched: Mutex<Vec<String>>,
}

impl ObjectStore for Counted {
    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> BoxFuture<'a, Result<(), ObjectError>> {
        self.inner.put(key, bytes)
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        self.inner.get(key)
    }

    fn get_range<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        self.fetched.lock().unwrap().push(key.to_string());
        self.inner.get_range(key, range)
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), ObjectError>> {
        self.inner.delete(key)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a ObjectKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectEntry>, ObjectError>> {
        self.inner.list(prefix, after, limit)
    }
}

/// A catalog that has one manifest.
struct Fixed(Manifest);

impl SegmentCatalog for Fixed {
    fn manifest(&self, known: Option<u64>) -> BoxFuture<'_, Result<Option<Manifest>, CatalogError>> {
        let news = (known != Some(self.0.number)).then(|| self.0.clone());
        Box::pin(std::future::ready(Ok(news)))
    }

    fn format_level(&self) -> BoxFuture<'_, Result<FormatLevel, CatalogError>> {
        unreachable!("nothing is changed")
    }

    fn raise_format_level(&self, _: FormatLevel) -> BoxFuture<'_, Result<FormatLevel, CatalogError>> {
        unreachable!("nothing is changed")
    }

    fn claim(&self, _: Duration) -> BoxFuture<'_, Result<Option<u64>, CatalogError>> {
        unreachable!("nothing is changed")
    }

    fn renew(&self, _: u64, _: Duration) -> BoxFuture<'_, Result<bool, CatalogError>> {
        unreachable!("nothing is changed")
    }

    fn release(&self, _: u64) -> BoxFuture<'_, Result<(), CatalogError>> {
        unreachable!("nothing is changed")
    }

    fn commit<'a>(&'a self, _: &'a Change) -> BoxFuture<'a, Result<u64, CommitError>> {
        unreachable!("nothing is changed")
    }

    fn restore<'a>(&'a self, _: &'a Manifest, _: bool) -> BoxFuture<'a, Result<bool, CatalogError>> {
        unreachable!("nothing is changed")
    }

    fn removed(&self, _: usize) -> BoxFuture<'_, Result<Vec<Removed>, CatalogError>> {
        unreachable!("nothing is changed")
    }

    fn forget<'a>(&'a self, _: &'a [SegmentId]) -> BoxFuture<'a, Result<(), CatalogError>> {
        unreachable!("nothing is changed")
    }
}

/// A journal that most has left already.
#[derive(Default, Clone)]
struct Left {
    states: Vec<DeviceState>,
    knows_all: bool,
    /// Epoch, first and last of what it has of any device; and what it has of losses.
    frames: Vec<(u64, u64, u64)>,
    gaps: Vec<Gap>,
}

impl Frames for Left {
    fn submit(&self, _: Submission) -> Result<(), Closed> {
        Err(Closed)
    }

    fn head<'a>(&'a self, _: &'a DeviceId, _: Epoch) -> BoxFuture<'a, Option<Seq>> {
        Box::pin(std::future::ready(None))
    }

    fn generation<'a>(&'a self, _: &'a DeviceId) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(std::future::ready(Ok(1)))
    }

    fn device_states(&self, devices: &[DeviceId]) -> Result<Vec<Option<DeviceState>>, ReadError> {
        let state = |device: &DeviceId| self.states.iter().find(|state| state.device == *device).cloned();
        Ok(devices.iter().map(state).collect())
    }

    fn knows_all_devices(&self) -> bool {
        self.knows_all
    }

    fn last_per_channel(&self, _: &DeviceId) -> Result<Vec<LastFrame>, ReadError> {
        Ok(Vec::new())
    }

    fn scan(&self, _: &DeviceId, range: ScanRange) -> Chunks {
        assert!(range.order == Order::Asc || self.frames.is_empty());
        let chunks: Vec<_> = self
            .frames
            .iter()
            .filter(|(epoch, _, last)| range.after.is_none_or(|after| (Epoch(*epoch), Seq(*last)) > after))
            .map(|(epoch, first, last)| {
                let (epoch, first, count) = (Epoch(*epoch), Seq(*first), last - first + 1);
                Ok(Chunk { epoch, first, count, received_at: 1, source: SOURCE, bytes: Bytes::new() })
            })
            .collect();
        Box::new(chunks.into_iter())
    }

    fn gaps(&self, _: &DeviceId, after: Option<(Epoch, Seq)>, limit: usize) -> Result<Vec<Gap>, ReadError> {
        let behind = |gap: &&Gap| after.is_none_or(|after| (gap.epoch, gap.first) > after);
        Ok(self.gaps.iter().filter(behind).take(limit).copied().collect())
    }

    fn failed(&self) -> BoxFuture<'_, JournalError> {
        Box::pin(std::future::pending())
    }

    fn close(&self) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What was compacted.
struct Past {
    runtime: Runtime,
    store: Arc<Counted>,
    manifest: Manifest,
}

/// What one segment has: of devices (epoch, seq), and losses.
#[derive(Default)]
struct Part {
    frames: BTreeMap<String, BTreeSet<(u64, u64)>>,
    losses: Vec<(String, Loss)>,
}

impl Part {
    fn frames(mut self, device: &str, epoch: u64, seqs: impl Iterator<Item = u64>) -> Self {
        self.frames.entry(device.to_owned()).or_default().extend(seqs.map(|seq| (epoch, seq)));
        self
    }

    fn loss(mut self, device: &str, epoch: u64, (first, last): (u64, u64), received_at: Micros) -> Self {
        let (epoch, first, last) = (Epoch(epoch), Seq(first), Seq(last));
        let kind = GapKind::Skipped { reason: 1 };
        self.losses.push((device.to_owned(), Loss { epoch, first, last, kind, received_at, source: SOURCE }));
        self
    }
}

impl Past {
    fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let manifest = Manifest { number: 1, through: Vec::new(), segments: Vec::new(), expired: 0 };
        Self { runtime, store: Arc::default(), manifest }
    }

    /// Adds a segment, of a day behind those that are there.
    fn add(&mut self, date: u32, part: Part) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(self.manifest.segments.len() as u64).to_be_bytes());
        let mut writer = SegmentWriter::new(NewSegment { id: SegmentId(id), date, level: 1 }).unwrap();
        for (device, places) in &part.frames {
            for (epoch, seq) in places {
                let (content_type, payload) = (ContentType::Text, &b"x"[..]);
                let frame = FrameRef { ts: epoch * 1_000_000 + seq, channel: "c", content_type, payload };
                let (epoch, seq) = (Epoch(*epoch), Seq(*seq));
                let received_at = received(date, seq.0);
                writer.push(&Row { device, epoch, seq, received_at, source: SOURCE, frame }).unwrap();
            }
        }
        for (device, loss) in part.losses {
            writer.lose(&name(&device), loss).unwrap();
        }
        let written = writer.finish().unwrap();
        self.store.inner.set(&parquet_key(date, SegmentId(id)), written.parquet);
        self.store.inner.set(&index_key(date, SegmentId(id)), written.index);
        self.manifest.segments.push(written.segment);
    }

    fn segments(&self, limit: usize) -> (Arc<Segments>, Arc<SegmentCache>) {
        let limits = SegmentCacheLimits { opened_bytes_max: limit, blocks_bytes_max: 1024 * 1024 };
        let cache = SegmentCache::new(self.store.clone(), limits, SegmentMetrics::default());
        let catalog = Arc::new(Fixed(self.manifest.clone()));
        (Segments::new(catalog, cache.clone(), self.runtime.handle().clone()), cache)
    }

    /// Which segments' objects were fetched since this was asked last, by (kind, place).
    fn fetched(&self, ending: &str) -> Vec<usize> {
        let mut fetched = self.store.fetched.lock().unwrap();
        let place = |key: &String| {
            let of = |segment: &Segment| {
                let (date, id) = (segment.date, segment.id);
                [parquet_key(date, id), index_key(date, id)].iter().any(|known| known.as_str() == key)
            };
            self.manifest.segments.iter().position(of).unwrap()
        };
        let found = fetched.iter().filter(|key| key.ends_with(ending)).map(place).collect();
        fetched.clear();
        found
    }
}

fn name(device: &str) -> DeviceId {
    DeviceId::new(device).unwrap()
}

fn received(date: u32, seq: u64) -> Micros {
    Micros::from(date) * DAY + seq
}

/// Frames of 200 other devices, which make an index that is much larger than what it has of one device.
fn crowd() -> Part {
    (0..200).fold(Part::default(), |part, n| part.frames(&format!("m{n:03}"), 1, 1..=1))
}

#[test]
fn many_segments_are_opened_one_after_another_and_little_is_kept_of_each() {
    let mut past = Past::new();
    for date in 0..60 {
        let first = u64::from(date) * 20;
        past.add(date, crowd().frames("bus", 1, first + 1..=first + 20).frames("zoo", 1, 1..=1));
    }
    let index_bytes = past.manifest.segments.iter().map(|segment| segment.index_bytes).sum::<u64>();
    let limit = 128 * 1024;
    assert!(index_bytes > 4 * limit, "{index_bytes}");
    let (segments, cache) = past.segments(limit as usize);
    let history = History::new(Arc::new(Left::default()), segments);
    for (order, newest) in [(Order::Desc, 1200), (Order::Asc, 1)] {
        let range = ScanRange { order, ..ScanRange::default() };
        let opened = cache.metrics().opened.get();
        let mut scan = history.scan(&name("bus"), range.clone());
        let fetched = past.fetched(".idx");
        let indexes = if order == Order::Desc { 60 } else { 0 };
        assert_eq!(fetched.len(), indexes, "once, and then it is known what they have of the device");
        let chunk = scan.next().unwrap().unwrap();
        assert!((chunk.first.0..=chunk.last().0).contains(&newest));
        let opened = cache.metrics().opened.get() - opened;
        assert!(opened <= 1, "{order:?}: {opened} were opened for the first frames");
        drop(scan);
        let mut seqs: Vec<u64> = history
            .scan(&name("bus"), range)
            .map(Result::unwrap)
            .flat_map(|chunk| chunk.first.0..=chunk.last().0)
            .collect();
        seqs.sort_unstable();
        assert_eq!(seqs, (1..=1200).collect::<Vec<_>>());
        assert!(cache.bytes() <= limit as usize, "{}", cache.bytes());
        past.fetched("");
    }
    let lasts = history.last_per_channel(&name("bus")).unwrap();
    assert_eq!(lasts.iter().map(|last| last.seq.0).collect::<Vec<_>>(), [1200]);
    assert!(past.fetched("").iter().all(|at| *at == 59), "only what has the newest frame");
}

#[test]
fn devices_are_looked_for_where_they_were_heard_last_and_together() {
    let mut past = Past::new();
    for date in 0..60 {
        let first = u64::from(date) * 20;
        let part = crowd().frames("bus", 1, first + 1..=first + 20).frames("zoo", 1, 1..=1);
        past.add(
            date,
            match date {
                5 => part.frames("parked", 2, 1..=7).frames("skips", 1, 1..=8),
                10 => part.loss("skips", 1, (9, 10), received(10, 9)).loss(
                    "skips",
                    1,
                    (11, 12),
                    received(10, 9),
                ),
                20 => part.loss("expired", 3, (1, 4), received(20, 4)),
                _ => part,
            },
        );
    }
    let state = |device: &str, head: (u64, u64), last_received| DeviceState {
        device: name(device),
        heads: vec![(Epoch(head.0), Seq(head.1))],
        frames: 5,
        last_received,
        last_ts: 0,
    };
    let states = vec![
        state("bus", (1, 1200), received(59, 1200)),
        state("parked", (2, 7), received(5, 7)),
        state("expired", (3, 4), received(20, 4)),
        state("skips", (1, 12), received(10, 9)),
        // Heard last by another clock.
        state("m007", (1, 1), received(70, 1)),
    ];
    let asked = |knows_all, devices: &[&str]| {
        let journal = Left { states: states.clone(), knows_all, ..Left::default() };
        let history = History::new(Arc::new(journal), past.segments(0).0);
        let devices: Vec<DeviceId> = devices.iter().map(|device| name(device)).collect();
        let found = history.device_states(&devices).unwrap();
        (found, past.fetched(".idx"))
    };
    let ts = |found: &Option<DeviceState>| found.as_ref().map(|state| (state.frames, state.last_ts));

    let (found, fetched) = asked(true, &["bus", "never", "parked", "expired"]);
    let wanted = [Some((5, 1_001_200)), None, Some((5, 2_000_007)), Some((5, 0))];
    assert_eq!(found.iter().map(ts).collect::<Vec<_>>(), wanted);
    assert_eq!(fetched, [59, 20, 5]);

    let (found, fetched) = asked(true, &["skips", "m007", "never"]);
    assert_eq!(found.iter().map(ts).collect::<Vec<_>>(), [Some((5, 1_000_008)), Some((5, 1_000_001)), None]);
    assert_eq!(fetched.first(), Some(&10));
    assert_eq!(BTreeSet::from_iter(fetched.iter().copied()).len(), fetched.len(), "each once");

    // Without that knowledge everything is looked at, and the rest is known of it.
    let (found, fetched) = asked(false, &["never", "m005", "zoo", "parked"]);
    assert_eq!(
        found.iter().map(ts).collect::<Vec<_>>(),
        [None, Some((60, 1_000_001)), Some((60, 1_000_001)), Some((5, 2_000_007)),]
    );
    assert_eq!(fetched.len(), 1 + 60, "where one was heard last, and everything");
}

/// The numbers of gaps.
fn numbers(gaps: &[Gap]) -> Vec<(u64, u64)> {
    gaps.iter().flat_map(|gap| (gap.first.0..=gap.last.0).map(|seq| (gap.epoch.0, seq))).collect()
}

#[test]
fn gaps_are_those_of_a_model_in_whatever_pages() {
    for seed in 0..150 {
        let mut rng = Rng::new(seed);
        let mut past = Past::new();
        let (mut has, mut lost) = (BTreeSet::new(), BTreeSet::new());
        let span = |rng: &mut Rng| {
            let first = 1 + rng.below(60);
            (1 + rng.below(2), first, first + rng.below(12))
        };
        for date in 0..rng.below(5) as u32 {
            let mut part = Part::default().frames("a", 1, 1..=1).frames("z", 1, 1..=1);
            for _ in 0..rng.below(4) {
                let (epoch, first, last) = span(&mut rng);
                part = part.frames("bus", epoch, first..=last);
                has.extend((first..=last).map(|seq| (epoch, seq)));
            }
            for _ in 0..rng.below(8) {
                let (epoch, first, last) = span(&mut rng);
                part = part.loss("bus", epoch, (first, last), rng.below(9));
                lost.extend((first..=last).map(|seq| (epoch, seq)));
            }
            past.add(date, part);
        }
        let mut journal = Left::default();
        let mut at = 1;
        for _ in 0..rng.below(4) {
            let first = at + rng.below(20);
            let last = first + rng.below(6);
            journal.frames.push((1, first, last));
            has.extend((first..=last).map(|seq| (1, seq)));
            at = last + 1;
        }
        let wanted: Vec<_> = lost.difference(&has).copied().collect();
        let segments = past.segments(1024 * 1024).0;
        let journal: AnyJournal = Arc::new(journal);
        let page = |after, limit, window| {
            gaps::page_of(&journal, &segments, &name("bus"), after, (limit, window)).unwrap()
        };
        let whole = page(None, 1000, 10_000);
        assert_eq!(numbers(&whole), wanted, "seed {seed}");
        assert!(whole.iter().all(|gap| gap.kind == GapKind::Skipped { reason: 1 }));
        for window in [1, 2, 5] {
            assert_eq!(page(None, 1000, window), whole, "seed {seed}, {window} at a time");
            let (mut pages, limit) = (Vec::new(), 1 + rng.below(4) as usize);
            loop {
                let after = pages.last().map(|gap: &Gap| (gap.epoch, gap.first));
                let next = page(after, limit, window);
                pages.extend(&next);
                if next.len() < limit {
                    break;
                }
            }
            assert_eq!(pages, whole, "seed {seed}, pages of {limit}, {window} at a time");
        }
    }
}

#[test]
fn a_device_that_skips_every_second_number_has_pages_like_any_other() {
    let mut past = Past::new();
    let mut journal = Left::default();
    for date in 0..4 {
        let first = u64::from(date) * 20_000;
        let mut part = Part::default().frames("bus", 1, (first + 1..first + 20_000).step_by(2));
        for seq in (first + 2..=first + 20_000).step_by(2) {
            part = part.loss("bus", 1, (seq, seq), received(date, seq));
        }
        past.add(date, part);
    }
    let gap = |seq| Gap {
        epoch: Epoch(1),
        first: Seq(seq),
        last: Seq(seq),
        kind: GapKind::Skipped { reason: 1 },
        received_at: 7,
    };
    journal.gaps = (80_002..=80_100).step_by(2).map(gap).collect();
    let segments = past.segments(1024 * 1024).0;
    let journal: AnyJournal = Arc::new(journal);
    let (mut after, mut seqs) = (None, Vec::new());
    loop {
        let page = gaps::page(&journal, &segments, &name("bus"), after, 10_000).unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.epoch, last.first));
        seqs.extend(numbers(&page).into_iter().map(|(_, seq)| seq));
    }
    assert_eq!(seqs, (2..=80_100).step_by(2).collect::<Vec<_>>());
}
