//! What one frame costs in the codecs: `cargo bench -p trough-protocol`. Frames have 256-byte payloads; throughput
//! is in frames.
#![allow(missing_docs, reason = "a benchmark; criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use trough_protocol::batch::{Batch, BatchBuilder};
use trough_protocol::device::{ClientMessage, json};
use trough_protocol::frame::{FrameRef, FramesSummary, check_frames};
use trough_protocol::limits::FRAME_BYTES_DEFAULT;
use trough_protocol::link::feed_header;
use trough_protocol::{ContentType, DeviceId, Epoch, Seq};

const PAYLOAD_BYTES: usize = 256;
const TS: u64 = 1_490_072_402_000_000;

/// A JSON string of 256 bytes: a payload for JSON mode, and as good as any other for the rest.
fn payload() -> Vec<u8> {
    let mut payload = vec![b'x'; PAYLOAD_BYTES];
    (payload[0], payload[PAYLOAD_BYTES - 1]) = (b'"', b'"');
    payload
}

fn frames(count: u64) -> Vec<u8> {
    let payload = payload();
    let mut bytes = Vec::new();
    for index in 0..count {
        let frame = FrameRef {
            ts: TS + index,
            channel: "position",
            content_type: ContentType::Json,
            payload: &payload,
        };
        frame.encode(&mut bytes).unwrap();
    }
    bytes
}

fn frame(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Elements(1));
    let payload = payload();
    let frame = FrameRef { ts: TS, channel: "position", content_type: ContentType::Json, payload: &payload };
    let mut out = Vec::with_capacity(1024);
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            black_box(&frame).encode(&mut out).unwrap();
        });
    });
    for count in [1, 16, 256] {
        let bytes = frames(count);
        group.throughput(Throughput::Elements(count));
        group.bench_with_input(BenchmarkId::new("check_frames", count), &bytes, |b, bytes| {
            b.iter(|| check_frames(black_box(bytes), FRAME_BYTES_DEFAULT).unwrap());
        });
    }
    group.finish();
}

fn fill(builder: &mut BatchBuilder, devices: &[DeviceId], summary: FramesSummary, data: &[u8]) {
    builder.clear(8 * 1024 * 1024);
    for device in devices {
        if builder.fits(device, data.len()) {
            builder.push_frames(device, Epoch(1), Seq(1), summary, data);
        }
    }
}

/// Runs of one frame are what a fleet of sparse devices sends; 64 is a full window.
fn batch(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    let devices: Vec<DeviceId> = (0..200).map(|n| DeviceId::new(&format!("bus-{n:04}")).unwrap()).collect();
    for per_run in [1, 16, 64] {
        let data = frames(per_run);
        let summary = check_frames(&data, FRAME_BYTES_DEFAULT).unwrap();
        let mut builder = BatchBuilder::new();
        fill(&mut builder, &devices, summary, &data);
        let bytes = {
            let (head, body) = builder.finish();
            [head, body].concat()
        };
        group
            .throughput(Throughput::Elements(u64::from(Batch::check(&bytes).unwrap().run_count()) * per_run));
        group.bench_function(BenchmarkId::new("build", per_run), |b| {
            b.iter(|| {
                fill(&mut builder, &devices, summary, &data);
                let len = builder.len();
                let (head, body) = builder.finish();
                black_box((feed_header(1, len), head.len(), body.len()));
            });
        });
        group.bench_with_input(BenchmarkId::new("check", per_run), &bytes, |b, bytes| {
            b.iter(|| Batch::check(black_box(bytes)).unwrap().runs().map(|run| run.count).sum::<u64>());
        });
    }
    group.finish();
}

fn json_mode(c: &mut Criterion) {
    let mut group = c.benchmark_group("json");
    for count in [1, 16] {
        let data = frames(count);
        let message = ClientMessage::Frames { first: Seq(1), data: &data };
        let text = json::encode_client(&message).unwrap();
        let mut scratch = Vec::new();
        group.throughput(Throughput::Elements(count));
        group.bench_with_input(BenchmarkId::new("decode", count), &text, |b, text| {
            b.iter(|| {
                json::decode_client(black_box(text), &mut scratch, FRAME_BYTES_DEFAULT).unwrap();
            });
        });
        group.bench_with_input(BenchmarkId::new("encode", count), &message, |b, message| {
            b.iter(|| json::encode_client(black_box(message)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, frame, batch, json_mode);
criterion_main!(benches);
