//! A device's frames out of a segment, as a journal gives them.

use std::collections::VecDeque;

use bytes::Bytes;
use trough_protocol::Micros;
use trough_store::object_catalog::ObjectId;

use super::Rank;
use super::loaded::Rows;
use super::steps::{Step, Steps};
use crate::journal::{Chunk, Order, ReadError};

/// Consecutive frames that came together, and where they stand among the copies of their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankedChunk {
    /// The frames.
    pub chunk: Chunk,
    /// Their rank.
    pub rank: Rank,
}

/// The frames of a scan, chunk by chunk. After a [`ReadError::DamagedSegment`] it goes on behind the damage; any other
/// error ends it.
pub struct SegmentScan {
    steps: Steps,
    order: Order,
    ready: VecDeque<RankedChunk>,
    ended: bool,
}

impl SegmentScan {
    pub(super) fn new(steps: Steps, order: Order) -> Self {
        Self { steps, order, ready: VecDeque::new(), ended: false }
    }

    /// The next chunk. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<RankedChunk, ReadError>> {
        loop {
            let ready = match self.order {
                Order::Asc => self.ready.pop_front(),
                Order::Desc => self.ready.pop_back(),
            };
            if let Some(chunk) = ready {
                return Some(Ok(chunk));
            }
            if self.ended {
                return None;
            }
            match self.steps.next().await {
                Ok(Some(Step::Rows(rows))) => self.ready = chunks(&rows),
                Ok(Some(Step::Lost(error))) => return Some(Err(error)),
                Ok(None) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// What makes frames stand in one chunk, besides their numbers.
type Origin = (Micros, ObjectId);

/// The rows as chunks, rising. They share one piece of memory, which has the frames of one step.
fn chunks(rows: &Rows) -> VecDeque<RankedChunk> {
    let mut frames = Vec::new();
    let mut found: Vec<(Chunk, Origin, usize)> = Vec::new();
    for row in rows.iter() {
        let start = frames.len();
        row.frame.encode(&mut frames).expect("the words and numbers of rows were checked");
        let origin = (row.received_at, row.source);
        match found.last_mut() {
            Some((chunk, of, _))
                if *of == origin && chunk.epoch == row.epoch && chunk.last().next() == row.seq =>
            {
                chunk.count += 1;
            }
            _ => {
                let (epoch, first, received_at) = (row.epoch, row.seq, row.received_at);
                let chunk = Chunk { epoch, first, count: 1, received_at, bytes: Bytes::new() };
                found.push((chunk, origin, start));
            }
        }
    }
    let frames = Bytes::from(frames);
    let mut end = frames.len();
    let mut chunks = VecDeque::with_capacity(found.len());
    for (chunk, (received_at, source), start) in found.into_iter().rev() {
        let chunk = Chunk { bytes: frames.slice(start..end), ..chunk };
        chunks.push_front(RankedChunk { chunk, rank: Rank::new(received_at, source) });
        end = start;
    }
    chunks
}
