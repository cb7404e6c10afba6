//! The journal: how fast batches become durable, and how fast frames come back.
//!
//! `cargo bench -p trough-eater --bench journal`. It writes to the directory for temporary files; set TMPDIR to
//! measure another disk.

#![allow(missing_docs, reason = "a benchmark; criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use trough_eater::journal::{
    CommitSink, Journal, JournalConfig, JournalMetrics, JournalParts, ScanRange, Submission,
};
use trough_protocol::batch::BatchBuilder;
use trough_protocol::frame::{FrameRef, check_frames};
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_protocol::link::LinkCode;
use trough_protocol::{ContentType, DeviceId, Epoch, Seq};
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::metrics::Registry;
use trough_store::{BoxFuture, Catalog, CatalogError, ChannelLast, DeviceState, DeviceSummary, SealedFile};

const PAYLOAD_BYTES: usize = 256;

/// Remembers the last number, for whoever waits.
#[derive(Default)]
struct Waiter {
    durable: Mutex<u64>,
    moved: Condvar,
}

impl CommitSink for Waiter {
    fn committed(&self, number: u64) {
        *self.durable.lock().unwrap() = number;
        self.moved.notify_all();
    }

    fn rejected(&self, number: u64, _: LinkCode, text: &str) {
        panic!("batch {number} was refused: {text}");
    }
}

impl Waiter {
    fn wait_for(&self, number: u64) {
        let durable = self.durable.lock().unwrap();
        drop(self.moved.wait_while(durable, |durable| *durable < number).unwrap());
    }
}

/// A catalog that takes everything and knows nothing.
struct NoCatalog;

impl Catalog for NoCatalog {
    fn record_sealed(&self, _: SealedFile, _: Vec<DeviceSummary>) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(async { Ok(()) })
    }
    fn files(&self) -> BoxFuture<'_, Result<Vec<SealedFile>, CatalogError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn remove_files<'a>(&'a self, _: &'a [u64]) -> BoxFuture<'a, Result<(), CatalogError>> {
        Box::pin(async { Ok(()) })
    }
    fn device_states(
        &self,
        _: Option<DeviceId>,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<DeviceState>, CatalogError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn device_channels<'a>(
        &'a self,
        _: &'a DeviceId,
    ) -> BoxFuture<'a, Result<Vec<ChannelLast>, CatalogError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn clear(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(async { Ok(()) })
    }
}

struct Fixture {
    journal: Journal,
    sink: Arc<Waiter>,
    next_batch: u64,
    next_seq: u64,
    devices: Vec<DeviceId>,
    frames: Vec<u8>,
    frames_per_run: u64,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new(devices: usize, frames_per_run: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let parts = JournalParts {
            clock: Clock::system(),
            catalog: Arc::new(NoCatalog),
            health: Health::new(),
            metrics: JournalMetrics::register(&mut Registry::default()),
            doorbell: None,
        };
        let (journal, _) = Journal::open(JournalConfig::new(dir.path()), parts).unwrap();
        let mut frames = Vec::new();
        for at in 0..frames_per_run {
            let payload = [at as u8; PAYLOAD_BYTES];
            let content_type = ContentType::Bytes;
            FrameRef { ts: 1_700_000_000_000_000 + at, channel: "pos", content_type, payload: &payload }
                .encode(&mut frames)
                .unwrap();
        }
        let devices = (0..devices).map(|n| DeviceId::new(&format!("device-{n:04}")).unwrap()).collect();
        Self {
            journal,
            sink: Arc::default(),
            next_batch: 1,
            next_seq: 1,
            devices,
            frames,
            frames_per_run,
            _dir: dir,
        }
    }

    /// One run of every device.
    fn batch(&mut self) -> Bytes {
        let mut builder = BatchBuilder::new();
        let summary = check_frames(&self.frames, FRAME_BYTES_MAX).unwrap();
        for device in &self.devices {
            builder.push_frames(device, Epoch(1), Seq(self.next_seq), summary, &self.frames);
        }
        self.next_seq += self.frames_per_run;
        let (head, data) = builder.finish();
        [head, data].concat().into()
    }

    fn submit(&mut self, batch: Bytes) {
        let sink = self.sink.clone();
        self.journal.submit(Submission { batch, number: self.next_batch, sink }).unwrap();
        self.next_batch += 1;
    }

    fn settle(&self) {
        self.sink.wait_for(self.next_batch - 1);
    }
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    // What links keep on their way: 16 batches.
    for (name, devices, frames) in
        [("200 devices, 16 frames a run", 200, 16), ("200 devices, 1 frame a run", 200, 1)]
    {
        let mut fixture = Fixture::new(devices, frames);
        group.throughput(Throughput::Elements(64 * devices as u64 * frames));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut spent = std::time::Duration::ZERO;
                for _ in 0..iterations {
                    let batches: Vec<Bytes> = (0..64).map(|_| fixture.batch()).collect();
                    let begin = std::time::Instant::now();
                    for batch in batches {
                        fixture.submit(batch);
                        if fixture.next_batch.is_multiple_of(16) {
                            fixture.sink.wait_for(fixture.next_batch.saturating_sub(16));
                        }
                    }
                    fixture.settle();
                    spent += begin.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

fn latency(criterion: &mut Criterion) {
    let mut fixture = Fixture::new(1, 1);
    criterion.bench_function("one frame until it is durable", |bencher| {
        bencher.iter(|| {
            let batch = fixture.batch();
            fixture.submit(batch);
            fixture.settle();
        });
    });
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for (name, devices, frames, batches) in [
        ("one device fills the journal, 16 frames a run", 1, 16, 40_000),
        ("one device fills the journal, 1 frame a run", 1, 1, 400_000),
        ("one of 200 interleaved, 16 frames a run", 200, 16, 200),
        ("one of 200 interleaved, 1 frame a run", 200, 1, 3_000),
    ] {
        let mut fixture = Fixture::new(devices, frames);
        for _ in 0..batches {
            let batch = fixture.batch();
            fixture.submit(batch);
        }
        fixture.settle();
        group.throughput(Throughput::Elements(batches * frames));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut count = 0;
                for chunk in fixture.journal.scan("device-0000", ScanRange::default()) {
                    count += chunk.unwrap().count;
                }
                assert_eq!(count, batches * frames);
            });
        });
    }
    group.finish();
}

criterion_group!(journal, commit, latency, read);
criterion_main!(journal);
