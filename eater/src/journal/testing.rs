//! What the journal's tests share.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use trough_protocol::batch::BatchBuilder;
use trough_protocol::frame::{FrameRef, check_frames};
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_protocol::link::LinkCode;
use trough_protocol::{Channel, ContentType, DeviceId, Epoch, Seq};
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::metrics::Registry;
use trough_store::{BoxFuture, Catalog, CatalogError, ChannelLast, DeviceState, DeviceSummary, SealedFile};

use super::{CommitSink, JournalConfig, JournalMetrics, JournalParts, Scan};

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, the same everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a run of a test batch holds.
#[derive(Debug, Clone)]
pub enum TestRun {
    /// The frames `first..first + count` of a device, as [`frame`] makes them.
    Frames {
        device: &'static str,
        epoch: u64,
        first: u64,
        count: u64,
    },
    /// Frames with these payloads on this channel.
    Own {
        device: &'static str,
        epoch: u64,
        first: u64,
        channel: &'static str,
        payloads: Vec<Vec<u8>>,
    },
    Skip {
        device: &'static str,
        epoch: u64,
        first: u64,
        count: u64,
    },
}

/// The one frame that a device may send under a number: encoded.
pub fn frame(device: &str, epoch: u64, seq: u64) -> Vec<u8> {
    let mut rng =
        Rng::new(epoch.wrapping_mul(1_000_003) ^ seq ^ u64::from(crc32c::crc32c(device.as_bytes())));
    let payload: Vec<u8> = (0..rng.below(60)).map(|_| rng.next() as u8).collect();
    encode(1_000_000 + seq, if seq.is_multiple_of(3) { "odd" } else { "even" }, &payload)
}

pub fn encode(ts: u64, channel: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    FrameRef { ts, channel, content_type: ContentType::Bytes, payload }.encode(&mut out).unwrap();
    out
}

pub fn batch(runs: &[TestRun]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for run in runs {
        match run {
            TestRun::Frames { device, epoch, first, count } => {
                let data: Vec<u8> =
                    (*first..first + count).flat_map(|seq| frame(device, *epoch, seq)).collect();
                push(&mut builder, device, *epoch, *first, &data);
            }
            TestRun::Own { device, epoch, first, channel, payloads } => {
                let frames = payloads.iter().zip(*first..);
                let data: Vec<u8> = frames.flat_map(|(p, seq)| encode(1_000_000 + seq, channel, p)).collect();
                push(&mut builder, device, *epoch, *first, &data);
            }
            TestRun::Skip { device, epoch, first, count } => {
                builder.push_skip(&DeviceId::new(device).unwrap(), Epoch(*epoch), Seq(*first), *count, 2);
            }
        }
    }
    let (head, data) = builder.finish();
    [head, data].concat().into()
}

fn push(builder: &mut BatchBuilder, device: &str, epoch: u64, first: u64, data: &[u8]) {
    let summary = check_frames(data, FRAME_BYTES_MAX).unwrap();
    builder.push_frames(&DeviceId::new(device).unwrap(), Epoch(epoch), Seq(first), summary, data);
}

/// Remembers what it was told.
#[derive(Default)]
pub struct TestSink {
    pub committed: Mutex<Vec<u64>>,
    pub rejected: Mutex<Vec<u64>>,
}

impl TestSink {
    /// The highest number that is durable.
    pub fn highest(&self) -> u64 {
        self.committed.lock().unwrap().last().copied().unwrap_or(0)
    }

    /// Waits, with a deadline, until `number` is durable.
    pub fn wait_for(&self, number: u64) {
        wait_until("the batch is durable", || self.highest() >= number);
    }
}

/// Waits, with a deadline, until something holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed().as_secs() < 30, "waited 30 s until {what}");
        std::thread::yield_now();
    }
}

impl CommitSink for TestSink {
    fn committed(&self, number: u64) {
        let mut committed = self.committed.lock().unwrap();
        assert!(committed.last().is_none_or(|last| *last < number), "told twice or backwards");
        committed.push(number);
    }

    fn rejected(&self, number: u64, _: LinkCode, _: &str) {
        self.rejected.lock().unwrap().push(number);
    }
}

/// All frames of a scan: (epoch, seq) and the encoded frame, in the scan's order.
pub fn frames_of(scan: Scan, falling: bool) -> Vec<((u64, u64), Vec<u8>)> {
    let mut all = Vec::new();
    for chunk in scan {
        let chunk = chunk.unwrap();
        let mut rest = &chunk.bytes[..];
        let mut frames = Vec::new();
        for seq in chunk.first.0..=chunk.last().0 {
            let before = rest;
            FrameRef::decode(&mut rest, FRAME_BYTES_MAX).unwrap();
            frames.push(((chunk.epoch.0, seq), before[..before.len() - rest.len()].to_vec()));
        }
        assert!(rest.is_empty(), "a chunk has as many frames as it says");
        if falling {
            frames.reverse();
        }
        all.extend(frames);
    }
    all
}

/// A catalog in memory that does what the trait says.
#[derive(Default)]
pub struct MemoryCatalog(Mutex<Known>);

#[derive(Clone, Default)]
struct Known {
    files: BTreeMap<u64, SealedFile>,
    devices: BTreeMap<String, DeviceState>,
    channels: HashMap<String, BTreeMap<Channel, ChannelLast>>,
    refuses: bool,
}

impl MemoryCatalog {
    pub fn refuse(&self, refuses: bool) {
        self.0.lock().unwrap().refuses = refuses;
    }

    pub fn fork(&self) -> Self {
        Self(Mutex::new(self.0.lock().unwrap().clone()))
    }

    pub fn file_ids(&self) -> Vec<u64> {
        self.0.lock().unwrap().files.keys().copied().collect()
    }

    pub fn states(&self) -> Vec<DeviceState> {
        self.0.lock().unwrap().devices.values().cloned().collect()
    }

    fn answer<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&mut Known) -> Result<T, CatalogError>,
    ) -> BoxFuture<'static, Result<T, CatalogError>> {
        let mut known = self.0.lock().unwrap();
        let retry_after = std::time::Duration::from_millis(1);
        let result = if known.refuses {
            Err(CatalogError::Unavailable { reason: "told to refuse".into(), retry_after })
        } else {
            answer(&mut known)
        };
        Box::pin(std::future::ready(result))
    }
}

impl Catalog for MemoryCatalog {
    fn record_sealed(
        &self,
        file: SealedFile,
        devices: Vec<DeviceSummary>,
    ) -> BoxFuture<'_, Result<(), CatalogError>> {
        self.answer(move |known| {
            match known.files.get(&file.file_id) {
                Some(same) if *same == file => return Ok(()),
                Some(_) => return Err(CatalogError::Conflict { file_id: file.file_id }),
                None => known.files.insert(file.file_id, file),
            };
            for summary in devices {
                let id = summary.device.as_str().to_owned();
                let state = known.devices.entry(id.clone()).or_insert_with(|| DeviceState {
                    device: summary.device.clone(),
                    heads: Vec::new(),
                    frames: 0,
                    last_received: 0,
                    last_ts: 0,
                });
                state.frames += summary.frames;
                if summary.last_received > state.last_received {
                    (state.last_received, state.last_ts) = (summary.last_received, summary.last_ts);
                }
                let mut heads: BTreeMap<Epoch, Seq> = state.heads.iter().copied().collect();
                for (epoch, head) in summary.heads {
                    let known = heads.entry(epoch).or_default();
                    *known = head.max(*known);
                }
                state.heads = heads.into_iter().collect();
                let channels = known.channels.entry(id).or_default();
                for last in summary.channels {
                    let held = channels.get(&last.channel);
                    if held.is_none_or(|held| (held.epoch, held.seq) < (last.epoch, last.seq)) {
                        channels.insert(last.channel.clone(), last);
                    }
                }
            }
            Ok(())
        })
    }

    fn files(&self) -> BoxFuture<'_, Result<Vec<SealedFile>, CatalogError>> {
        self.answer(|known| Ok(known.files.values().copied().collect()))
    }

    fn remove_files<'a>(&'a self, file_ids: &'a [u64]) -> BoxFuture<'a, Result<(), CatalogError>> {
        self.answer(|known| {
            known.files.retain(|id, _| !file_ids.contains(id));
            Ok(())
        })
    }

    fn device_states(
        &self,
        after: Option<DeviceId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeviceState>, CatalogError>> {
        self.answer(move |known| {
            let behind = |state: &&DeviceState| after.as_ref().is_none_or(|after| state.device > *after);
            Ok(known.devices.values().filter(behind).take(limit).cloned().collect())
        })
    }

    fn device_channels<'a>(
        &'a self,
        device: &'a DeviceId,
    ) -> BoxFuture<'a, Result<Vec<ChannelLast>, CatalogError>> {
        self.answer(|known| {
            let channels = known.channels.get(device.as_str());
            Ok(channels.map(|channels| channels.values().cloned().collect()).unwrap_or_default())
        })
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        self.answer(|known| {
            *known = Known::default();
            Ok(())
        })
    }
}

pub fn parts(catalog: Arc<MemoryCatalog>, clock: Clock) -> JournalParts {
    let metrics = JournalMetrics::register(&mut Registry::default());
    JournalParts { clock, catalog, health: Health::new(), metrics, doorbell: None }
}

/// Small files, so that a short test has many.
pub fn config(dir: impl Into<std::path::PathBuf>) -> JournalConfig {
    JournalConfig { roll_bytes: 4096, ..JournalConfig::new(dir) }
}
