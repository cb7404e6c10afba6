//! Segments: how fast frames become Parquet, and how fast they come back.
//!
//! `cargo bench -p trough-eater --bench segments`. Everything but the writing reads from a directory for temporary
//! files.

#![allow(missing_docs, reason = "a benchmark; criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::fmt::Write;
use std::sync::Arc;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use trough_eater::journal::ScanRange;
use trough_eater::segments::{
    NewSegment, OpenSegment, Row, SegmentCache, SegmentCacheLimits, SegmentMetrics, SegmentWriter, Written,
    index_key, parquet_key,
};
use trough_protocol::frame::FrameRef;
use trough_protocol::{ContentType, Epoch, Seq};
use trough_runtime::clock::Clock;
use trough_store::ObjectStore;
use trough_store::object_catalog::{Incarnation, ObjectId};
use trough_store::objects::files::FileStore;
use trough_store::segment_catalog::SegmentId;

const PAYLOAD_BYTES: usize = 256;
const DEVICES: u64 = 50;
const FRAMES: u64 = 4000;

/// Telemetry as devices send it: the names stay, the numbers change.
fn payloads() -> Vec<Vec<u8>> {
    let mut noise: u64 = 88_172_645_463_325_252;
    (0..FRAMES)
        .map(|seq| {
            let mut payload = String::new();
            let mut sensor = 0;
            while payload.len() < PAYLOAD_BYTES {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                write!(payload, "{{\"n\":{seq},\"sensor\":{sensor},\"value\":{}}}", noise % 10_000).unwrap();
                sensor += 1;
            }
            payload.truncate(PAYLOAD_BYTES);
            payload.into_bytes()
        })
        .collect()
}

fn write(payloads: &[Vec<u8>]) -> Written {
    let new = NewSegment { id: SegmentId([1; 16]), date: 20_000, level: 1 };
    let source = ObjectId { incarnation: Incarnation([2; 16]), n: 7 };
    let mut writer = SegmentWriter::new(new).unwrap();
    for device in 0..DEVICES {
        let device = format!("device-{device:04}");
        for (seq, payload) in (1..).zip(payloads) {
            let received_at = 1_700_000_000_000_000 + seq / 16 * 1_000_000;
            let frame = FrameRef {
                ts: 1_700_000_000_000_000 + seq * 62_500,
                channel: if seq % 8 == 0 { "status" } else { "telemetry" },
                content_type: ContentType::Json,
                payload,
            };
            let row = Row { device: &device, epoch: Epoch(1), seq: Seq(seq), received_at, source, frame };
            writer.push(&row).unwrap();
        }
    }
    writer.finish().unwrap()
}

fn writing(criterion: &mut Criterion) {
    let payloads = payloads();
    let written = write(&payloads);
    println!(
        "{} frames of {PAYLOAD_BYTES} bytes: {} bytes of Parquet, {} of index",
        written.segment.frames, written.segment.bytes, written.segment.index_bytes
    );
    let mut group = criterion.benchmark_group("segment");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.throughput(Throughput::Elements(DEVICES * FRAMES));
    group.bench_function("write", |bencher| bencher.iter(|| write(&payloads)));
    group.finish();
}

struct Stored {
    runtime: Runtime,
    store: Arc<dyn ObjectStore>,
    written: Written,
    _dir: TempDir,
}

impl Stored {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(FileStore::open(dir.path(), &Clock::system()).unwrap());
        let written = write(&payloads());
        let (date, id) = (written.segment.date, written.segment.id);
        runtime.block_on(async {
            store.put(&parquet_key(date, id), written.parquet.clone()).await.unwrap();
            store.put(&index_key(date, id), written.index.clone()).await.unwrap();
        });
        Self { runtime, store, written, _dir: dir }
    }

    fn open(&self) -> OpenSegment {
        let cache =
            SegmentCache::new(self.store.clone(), SegmentCacheLimits::default(), SegmentMetrics::default());
        self.runtime.block_on(OpenSegment::open(&cache, &self.written.segment)).unwrap()
    }
}

fn reading(criterion: &mut Criterion) {
    let stored = Stored::new();
    let mut group = criterion.benchmark_group("segment");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.throughput(Throughput::Elements(DEVICES * FRAMES));
    group.bench_function("all rows", |bencher| {
        bencher.iter(|| {
            let (mut rows, mut count) = (stored.open().rows(), 0);
            while let Some(piece) = stored.runtime.block_on(rows.next()) {
                count += piece.unwrap().iter().map(|row| row.frame.payload.len()).sum::<usize>();
            }
            assert_eq!(count as u64, DEVICES * FRAMES * PAYLOAD_BYTES as u64);
        });
    });
    group.throughput(Throughput::Elements(FRAMES));
    group.bench_function("one device, not opened yet", |bencher| {
        bencher.iter(|| {
            let (mut scan, mut count) = (stored.open().scan("device-0025", ScanRange::default()), 0);
            while let Some(chunk) = stored.runtime.block_on(scan.next()) {
                count += chunk.unwrap().count;
            }
            assert_eq!(count, FRAMES);
        });
    });
    group.finish();
}

criterion_group!(segments, writing, reading);
criterion_main!(segments);
