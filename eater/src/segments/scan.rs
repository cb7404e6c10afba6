//! A device's frames out of a segment, as a journal gives them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Row;
use super::loaded::Rows;
use super::steps::{Step, Steps};
use crate::journal::{Chunk, Order, ReadError};

/// The frames of a scan, chunk by chunk. After a [`ReadError::DamagedSegment`] it goes on behind the damage; any other
/// error ends it.
pub struct SegmentScan {
    steps: Steps,
    order: Order,
    ready: VecDeque<Chunk>,
    ended: bool,
}

impl SegmentScan {
    pub(super) fn new(steps: Steps, order: Order) -> Self {
        Self { steps, order, ready: VecDeque::new(), ended: false }
    }

    /// The next chunk. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Chunk, ReadError>> {
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

/// The rows as chunks, rising. They share one piece of memory, which has the frames of one step.
fn chunks(rows: &Rows) -> VecDeque<Chunk> {
    let mut frames = Vec::new();
    let mut found: Vec<(Chunk, usize)> = Vec::new();
    for row in rows.iter() {
        let start = frames.len();
        row.frame.encode(&mut frames).expect("the words and numbers of rows were checked");
        let Row { epoch, seq, received_at, source, .. } = row;
        match found.last_mut() {
            Some((chunk, _))
                if (chunk.epoch, chunk.last().next()) == (epoch, seq)
                    && (chunk.received_at, chunk.source) == (received_at, source) =>
            {
                chunk.count += 1;
            }
            _ => {
                let bytes = Bytes::new();
                found.push((Chunk { epoch, first: seq, count: 1, received_at, source, bytes }, start));
            }
        }
    }
    let frames = Bytes::from(frames);
    let mut end = frames.len();
    let mut chunks = VecDeque::with_capacity(found.len());
    for (chunk, start) in found.into_iter().rev() {
        chunks.push_front(Chunk { bytes: frames.slice(start..end), ..chunk });
        end = start;
    }
    chunks
}
