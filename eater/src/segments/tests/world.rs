//! What the tests of segments share.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use trough_protocol::frame::{FrameRef, skim};
use trough_protocol::{ContentType, DeviceId, Epoch, Micros, Seq};
use trough_store::object_catalog::{Incarnation, ObjectId};
use trough_store::objects::{ObjectEntry, ObjectError};
use trough_store::segment_catalog::{Segment, SegmentId};
use trough_store::{BoxFuture, ObjectKey, ObjectStore};

use crate::journal::testing::Rng;
use crate::journal::{ReadError, ScanRange};
use crate::segments::format::Loss;
use crate::segments::{
    NewSegment, OpenSegment, Rank, Row, SegmentCache, SegmentCacheLimits, SegmentMetrics, SegmentWriter,
    Written, index_key, parquet_key,
};

/// Objects in memory.
#[derive(Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// The largest answer that was given.
    pub largest: AtomicU64,
}

impl Memory {
    pub fn set(&self, key: &ObjectKey, bytes: Bytes) {
        self.objects.lock().unwrap().insert(key.to_string(), bytes);
    }
}

impl ObjectStore for Memory {
    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> BoxFuture<'a, Result<(), ObjectError>> {
        self.set(key, bytes);
        Box::pin(std::future::ready(Ok(())))
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        let found = self.objects.lock().unwrap().get(key.as_str()).cloned();
        Box::pin(std::future::ready(found.ok_or_else(|| ObjectError::NotFound(key.clone()))))
    }

    fn get_range<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        Box::pin(async move {
            let bytes = self.get(key).await?;
            if range.end > bytes.len() as u64 {
                return Err(ObjectError::Invalid(format!("{key} has {} bytes", bytes.len())));
            }
            self.largest.fetch_max(range.end - range.start, Ordering::Relaxed);
            Ok(bytes.slice(range.start as usize..range.end as usize))
        })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), ObjectError>> {
        self.objects.lock().unwrap().remove(key.as_str());
        Box::pin(std::future::ready(Ok(())))
    }

    fn list<'a>(
        &'a self,
        _: &'a str,
        _: Option<&'a ObjectKey>,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectEntry>, ObjectError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// A row that owns everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    pub device: String,
    pub epoch: u64,
    pub seq: u64,
    pub received_at: Micros,
    pub source: ObjectId,
    pub ts: Micros,
    pub channel: String,
    pub content_type: String,
    pub payload: Vec<u8>,
}

impl Owned {
    pub fn row(&self) -> Row<'_> {
        Row {
            device: &self.device,
            epoch: Epoch(self.epoch),
            seq: Seq(self.seq),
            received_at: self.received_at,
            source: self.source,
            frame: FrameRef {
                ts: self.ts,
                channel: &self.channel,
                content_type: ContentType::parse(&self.content_type).unwrap(),
                payload: &self.payload,
            },
        }
    }

    pub fn of(row: &Row<'_>) -> Self {
        Self {
            device: row.device.into(),
            epoch: row.epoch.0,
            seq: row.seq.0,
            received_at: row.received_at,
            source: row.source,
            ts: row.frame.ts,
            channel: row.frame.channel.into(),
            content_type: row.frame.content_type.as_str().into(),
            payload: row.frame.payload.into(),
        }
    }

    /// What a scan gives of it.
    pub fn frame(&self) -> Frame {
        let mut bytes = Vec::new();
        self.row().frame.encode(&mut bytes).unwrap();
        ((self.epoch, self.seq), self.row().rank(), self.received_at, bytes)
    }
}

/// Key, rank, received at, and the encoded frame.
pub type Frame = ((u64, u64), Rank, Micros, Vec<u8>);

/// How much is made.
pub struct Shape {
    pub devices: u64,
    /// Runs of consecutive frames of each device, and frames of each.
    pub runs: u64,
    pub frames: u64,
    /// Bytes of most payloads, and of a few.
    pub payload: u64,
    pub large: u64,
}

pub fn random_rows(rng: &mut Rng, shape: &Shape) -> Vec<Owned> {
    let mut rows = Vec::new();
    for device in 0..shape.devices {
        let (mut epoch, mut seq) = (1 + rng.below(3), 0);
        let mut source = random_source(rng);
        let mut received_at = 1_700_000_000_000_000 + rng.below(1_000_000);
        for _ in 0..shape.runs {
            match rng.below(3) {
                0 => (epoch, seq) = (epoch + 1 + rng.below(3), rng.below(5)),
                1 => seq += 1 + rng.below(9),
                _ => {}
            }
            let ts = 1_000_000 * (1 + rng.below(50));
            for _ in 0..1 + rng.below(shape.frames) {
                seq += 1;
                if rng.percent(10) {
                    source = random_source(rng);
                    received_at = received_at + 500 - rng.below(700);
                }
                let most = if rng.percent(1) { shape.large } else { shape.payload };
                let bytes = rng.below(most);
                rows.push(Owned {
                    device: format!("bus-{device:02}"),
                    epoch,
                    seq,
                    received_at,
                    source,
                    ts: ts + 1000 * seq - rng.below(900),
                    channel: ["gps", "engine/rpm", "a", "door"][rng.below(4) as usize].into(),
                    content_type: ["application/json", "text/csv", "application/octet-stream"]
                        [rng.below(3) as usize]
                        .into(),
                    payload: (0..bytes).map(|_| rng.next() as u8).collect(),
                });
            }
        }
    }
    rows
}

fn random_source(rng: &mut Rng) -> ObjectId {
    let incarnation =
        if rng.percent(50) { Incarnation::LOCAL } else { Incarnation([rng.below(3) as u8 + 1; 16]) };
    ObjectId { incarnation, n: 1 + rng.below(20) }
}

pub const NEW: NewSegment = NewSegment { id: SegmentId([7; 16]), date: 19_675, level: 1 };

pub fn written(rows: &[Owned], losses: &[(DeviceId, Loss)]) -> Written {
    let mut writer = SegmentWriter::new(NEW).unwrap();
    rows.iter().for_each(|row| writer.push(&row.row()).unwrap());
    losses.iter().for_each(|(device, loss)| writer.lose(device, *loss).unwrap());
    writer.finish().unwrap()
}

/// A segment in a store.
pub struct World {
    pub store: Arc<Memory>,
    pub segment: Segment,
    pub limits: SegmentCacheLimits,
}

impl World {
    pub fn new(written: &Written) -> Self {
        let store = Arc::new(Memory::default());
        let segment = written.segment.clone();
        store.set(&parquet_key(segment.date, segment.id), written.parquet.clone());
        store.set(&index_key(segment.date, segment.id), written.index.clone());
        Self { store, segment, limits: SegmentCacheLimits::default() }
    }

    /// With nothing in it.
    pub fn cache(&self) -> Arc<SegmentCache> {
        SegmentCache::new(self.store.clone(), self.limits, SegmentMetrics::default())
    }

    pub fn open(&self) -> Result<OpenSegment, ReadError> {
        block_on(OpenSegment::open(&self.cache(), &self.segment))
    }
}

/// The memory store never waits, and no test needs a runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("something waits"),
    }
}

/// What a scan gives: its frames in its order, and the errors between them.
pub fn scan(segment: &OpenSegment, device: &str, range: ScanRange) -> (Vec<Frame>, Vec<ReadError>) {
    let falling = range.order == crate::journal::Order::Desc;
    let mut scan = segment.scan(device, range);
    let (mut frames, mut errors) = (Vec::new(), Vec::new());
    while let Some(next) = block_on(scan.next()) {
        match next {
            Ok(chunk) => {
                let (mut rest, mut of_chunk) = (&chunk.bytes[..], Vec::new());
                for seq in chunk.first.0..=chunk.last().0 {
                    let (_, _, len) = skim(rest).unwrap();
                    let key = (chunk.epoch.0, seq);
                    of_chunk.push((key, chunk.rank(), chunk.received_at, rest[..len].to_vec()));
                    rest = &rest[len..];
                }
                assert!(rest.is_empty(), "a chunk has as many frames as it says");
                if falling {
                    of_chunk.reverse();
                }
                frames.append(&mut of_chunk);
            }
            Err(error) => errors.push(error),
        }
    }
    (frames, errors)
}
