//! Compaction against a model, with stores that fail:
//!
//! 1. Of the local journal, with restarts: at any moment all that was acknowledged is read, each frame once, in either
//!    order and from any place; declared losses and last frames, too.
//! 2. The same of two eaters' objects, of which frames were sent to both.
//! 3. Of the local journal with policies of retention: what has expired is gone and said to be, and nothing else is.
//! 4. Whatever is in the store in the end belongs to something.
//! 5. A catalog of segments that was lost costs nothing that is stored.
//! 6. What is lost of journal objects keeps compaction waiting until somebody gives it up.
//! 7. The claim outlives steps that take long, and cleaning up does not wait for the last of them.

pub(crate) mod local;
mod lost;
pub(crate) mod objects;
mod pace;
mod repair;
mod retention;
mod seeds;
pub(crate) mod store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use trough_protocol::frame::FrameRef;
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_protocol::{DeviceId, Epoch, Seq};
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::sqlite::{SqliteRegistry, SqliteSegmentCatalog};
use trough_store::{ObjectStore, Outbox, Registry, SegmentCatalog};

use super::{CompactError, CompactionConfig, CompactionMetrics, CompactionParts, Compactor, Journals};
use crate::frames::{AnyJournal, Frames};
use crate::history::{History, Segments};
use crate::journal::testing::{Rng, frame};
use crate::journal::{GapKind, Order, ScanRange};
use crate::segments::{SegmentCache, SegmentCacheLimits, SegmentMetrics};
pub(crate) use seeds::{directory, each_seed, each_seed_paused, seeds};
use store::FlakyStore;

pub(crate) const DEVICES: [&str; 3] = ["a", "bus-17", "z"];

/// What devices have sent and been told is durable: of each number a frame, or a loss.
#[derive(Default)]
pub(crate) struct Model(BTreeMap<(&'static str, u64, u64), bool>);

impl Model {
    pub(crate) fn sent(
        &mut self,
        device: &'static str,
        epoch: u64,
        (first, count): (u64, u64),
        frames: bool,
    ) {
        for seq in first..first + count {
            let known = self.0.entry((device, epoch, seq)).or_insert(frames);
            *known |= frames;
        }
    }

    pub(crate) fn heads(&self, device: &str) -> BTreeMap<u64, u64> {
        self.0.keys().filter(|(of, ..)| *of == device).map(|(_, epoch, seq)| (*epoch, *seq)).collect()
    }

    pub(crate) fn numbers(&self, device: &str, frames: bool) -> Vec<(u64, u64)> {
        let of = self.0.iter().filter(|((of, ..), is)| *of == device && **is == frames);
        of.map(|((_, epoch, seq), _)| (*epoch, *seq)).collect()
    }
}

/// What history stands on, over all restarts.
pub(crate) struct Ground {
    pub runtime: Runtime,
    pub dir: TempDir,
    pub store: Arc<FlakyStore>,
    pub segments: Arc<dyn SegmentCatalog>,
    pub registry: Arc<dyn Registry>,
    pub outbox: Option<Arc<dyn Outbox>>,
    pub clock: Clock,
}

impl Ground {
    pub(crate) fn new(seed: u64) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let dir = directory();
        // Late in a day: what comes later is of the next.
        let clock = Clock::manual(1_700_006_399_000_000);
        let catalog = SqliteSegmentCatalog::open(&dir.path().join("segments.sqlite"), clock.clone());
        let registry = SqliteRegistry::open(&dir.path().join("registry.sqlite"), clock.clone());
        let (segments, registry) = (Arc::new(catalog.unwrap()), Arc::new(registry.unwrap()));
        let store = FlakyStore::new(seed);
        Self { runtime, dir, store, segments, registry, outbox: None, clock }
    }

    pub(crate) fn compactor(&self, store: Arc<dyn ObjectStore>, journals: Journals) -> Compactor {
        let config = CompactionConfig {
            gather: Duration::ZERO,
            settle: Duration::ZERO,
            input_bytes: 16 * 1024,
            segment_bytes: 24 * 1024,
            grace: Duration::ZERO,
            claim_ttl: Duration::from_secs(1),
            ..CompactionConfig::default()
        };
        let parts = CompactionParts {
            journals,
            cache: cache(store.clone()),
            store,
            segments: self.segments.clone(),
            registry: self.registry.clone(),
            outbox: self.outbox.clone(),
            clock: self.clock.clone(),
            health: Health::new(),
            metrics: CompactionMetrics::default(),
        };
        Compactor::new(config, parts, self.runtime.handle().clone(), CancellationToken::new())
    }

    pub(crate) fn history(&self, store: Arc<dyn ObjectStore>, journal: AnyJournal) -> History {
        let segments = Segments::new(self.segments.clone(), cache(store), self.runtime.handle().clone());
        History::new(journal, segments)
    }

    /// Compacts, now and then interrupted: an error is the end of a compactor, as a kill would be.
    pub(crate) fn compact(&self, journals: Journals, rng: &mut Rng) {
        self.store.fail(if rng.percent(40) { rng.below(30) } else { u64::MAX });
        match self.compactor(self.store.clone(), journals).pass() {
            Ok(_) => {}
            Err(CompactError::Store(_) | CompactError::Read(_)) => {
                // Nobody gives the claim back then; the next waits until it has run out.
                self.clock.advance(Duration::from_secs(2));
            }
            Err(error) => panic!("{error}"),
        }
        self.store.fail(u64::MAX);
    }

    /// Compacts until there is nothing left to do, and all that is old is gone.
    pub(crate) fn settle(&self, store: Arc<dyn ObjectStore>, journals: Journals) {
        let mut compactor = self.compactor(store, journals);
        self.clock.advance(Duration::from_secs(2));
        for _ in 0..3 {
            compactor.pass().unwrap();
        }
    }

    fn live(&self) -> Vec<String> {
        let manifest = self.runtime.block_on(self.segments.manifest(None)).unwrap().unwrap();
        manifest.segments.iter().map(|segment| segment.id.to_string()).collect()
    }

    /// An object that belongs to no live segment, and is no manifest.
    fn stray<'a>(&self, keys: &'a [String]) -> Option<&'a String> {
        let live = self.live();
        let known = |key: &&String| {
            let named = live.iter().any(|id| key.contains(id));
            named || key.starts_with("journal/") || key.starts_with("manifests/")
        };
        keys.iter().find(|key| !known(key))
    }

    fn assert_clean(&self, keys: &[String]) {
        assert_eq!(self.stray(keys), None, "it belongs to nothing");
        for id in self.live() {
            assert_eq!(keys.iter().filter(|key| key.contains(&id)).count(), 2, "{id}");
        }
    }
}

pub(crate) fn cache(store: Arc<dyn ObjectStore>) -> Arc<SegmentCache> {
    let limits = SegmentCacheLimits { opened_bytes_max: 64 * 1024, blocks_bytes_max: 256 * 1024 };
    SegmentCache::new(store, limits, SegmentMetrics::default())
}

/// Compares all that is read with the model.
pub(crate) fn compare(history: &History, model: &Model, rng: &mut Rng, seed: u64) {
    compare_but_old_heads(history, model, rng, seed);
    for device in DEVICES {
        assert_eq!(heads(history, device), model.heads(device), "seed {seed}, {device}");
    }
}

fn heads(history: &History, device: &str) -> BTreeMap<u64, u64> {
    let state = history.device_states(&[DeviceId::new(device).unwrap()]).unwrap().remove(0);
    state.map(|state| state.heads.iter().map(|(epoch, head)| (epoch.0, head.0)).collect()).unwrap_or_default()
}

/// The same, while several eaters note heads, each in its own time: of epochs before the newest, those of one may be missing
/// until they are noted or compacted.
pub(crate) fn compare_but_old_heads(history: &History, model: &Model, rng: &mut Rng, seed: u64) {
    for device in DEVICES {
        let wanted = model.numbers(device, true);
        let mut falling = wanted.clone();
        falling.reverse();
        assert_eq!(read(history, device, ScanRange::default()), wanted, "seed {seed}, {device}");
        let range = ScanRange { order: Order::Desc, ..ScanRange::default() };
        assert_eq!(read(history, device, range), falling, "seed {seed}, {device}, falling");
        if let Some((epoch, seq)) = wanted.get(rng.below(wanted.len() as u64) as usize).copied() {
            let after = Some((Epoch(epoch), Seq(seq)));
            let range = ScanRange { after, ..ScanRange::default() };
            let behind: Vec<_> = wanted.iter().filter(|at| **at > (epoch, seq)).copied().collect();
            assert_eq!(read(history, device, range), behind, "seed {seed}, {device} after {after:?}");
            let range = ScanRange { after, order: Order::Desc, ..ScanRange::default() };
            let before: Vec<_> = falling.iter().filter(|at| **at < (epoch, seq)).copied().collect();
            assert_eq!(read(history, device, range), before, "seed {seed}, {device} before {after:?}");
        }
        let id = DeviceId::new(device).unwrap();
        let gaps = history.gaps(&id, None, 1000).unwrap();
        assert!(gaps.iter().all(|gap| gap.kind == GapKind::Skipped { reason: 2 }), "{gaps:?}");
        let numbers = gaps.iter().flat_map(|gap| (gap.first.0..=gap.last.0).map(|seq| (gap.epoch.0, seq)));
        assert_eq!(
            numbers.collect::<Vec<_>>(),
            model.numbers(device, false),
            "seed {seed}, gaps of {device}"
        );
        let state = history.device_states(std::slice::from_ref(&id)).unwrap().remove(0);
        let newest = heads(history, device).pop_last();
        assert_eq!(newest, model.heads(device).pop_last(), "seed {seed}, {device}");
        let last_ts = state.as_ref().map(|state| state.last_ts);
        assert!(wanted.is_empty() || last_ts > Some(1_000_000), "seed {seed}, {device}: {state:?}");
        let lasts = history.last_per_channel(&id).unwrap();
        for last in &lasts {
            let odd = last.channel.as_str() == "odd";
            let newest = wanted.iter().rev().find(|(_, seq)| seq.is_multiple_of(3) == odd);
            assert_eq!(Some(&(last.epoch.0, last.seq.0)), newest, "seed {seed}, last of {device}");
            assert_eq!(last.bytes, frame(device, last.epoch.0, last.seq.0));
        }
        let channels = [true, false].map(|odd| wanted.iter().any(|(_, seq)| seq.is_multiple_of(3) == odd));
        assert_eq!(lasts.len(), channels.iter().filter(|has| **has).count(), "seed {seed}, {device}");
    }
}

/// The numbers of a scan, whose frames must be those that belong there.
fn read(history: &History, device: &str, range: ScanRange) -> Vec<(u64, u64)> {
    let (order, mut all) = (range.order, Vec::new());
    for chunk in history.scan(&DeviceId::new(device).unwrap(), range) {
        let chunk = chunk.unwrap();
        let (mut rest, mut numbers) = (&chunk.bytes[..], Vec::new());
        for seq in chunk.first.0..=chunk.last().0 {
            let before = rest;
            FrameRef::decode(&mut rest, FRAME_BYTES_MAX).unwrap();
            let own = &before[..before.len() - rest.len()];
            assert_eq!(own, frame(device, chunk.epoch.0, seq), "{device} {} {seq}", chunk.epoch);
            numbers.push((chunk.epoch.0, seq));
        }
        assert!(rest.is_empty());
        if order == Order::Desc {
            numbers.reverse();
        }
        all.extend(numbers);
    }
    all
}
