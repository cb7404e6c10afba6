//! The frames of one chunk of the journal, in either order.

use trough_protocol::frame::FrameRef;
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_protocol::wire::WireError;
use trough_protocol::{Epoch, Seq};

use crate::journal::{Chunk, Order};

/// The chunk's bytes are not the frames that it says it has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seq {first} to {last} of epoch {epoch}: {reason}")]
pub struct BadRun {
    /// Their epoch.
    pub epoch: Epoch,
    /// The first one.
    pub first: Seq,
    /// The last one.
    pub last: Seq,
    reason: String,
}

impl BadRun {
    /// One frame that cannot be decoded.
    pub fn one(epoch: Epoch, seq: Seq, reason: String) -> Self {
        Self { epoch, first: seq, last: seq, reason }
    }
}

/// Goes through the frames of a run; frames carry no numbers of their own. Keeps its allocation from run to run.
#[derive(Debug, Default)]
pub(super) struct RunReader {
    /// Where each frame begins; filled only for going backwards.
    starts: Vec<usize>,
}

impl RunReader {
    /// Calls `each` for every frame in `order` until it answers `false`. Answers whether it came to the end.
    ///
    /// # Errors
    /// [`BadRun`]: frames that cannot be read, or not as many as announced. The numbers of those behind would be
    /// wrong, so nothing is guessed.
    pub(super) fn for_each<'a>(
        &mut self,
        chunk: &'a Chunk,
        order: Order,
        each: impl FnMut(Seq, &FrameRef<'a>) -> bool,
    ) -> Result<bool, BadRun> {
        let Chunk { epoch, first, count, ref bytes, .. } = *chunk;
        let bad = |reason: String| BadRun { epoch, first, last: chunk.last(), reason };
        let unreadable = |error: WireError| bad(error.to_string());
        let found = match order {
            Order::Asc => return forwards(first, count, bytes, each, bad),
            Order::Desc => self.find_starts(bytes).map_err(unreadable)?,
        };
        if found != count {
            return Err(bad(format!("{count} frames are announced, {found} are there")));
        }
        self.backwards(first, bytes, each).map_err(unreadable)
    }

    fn find_starts(&mut self, bytes: &[u8]) -> Result<u64, WireError> {
        self.starts.clear();
        let mut rest = bytes;
        while !rest.is_empty() {
            self.starts.push(bytes.len() - rest.len());
            let mut reader = trough_protocol::wire::Reader::new(rest);
            let len = reader.u32("frame length")? as usize;
            reader.bytes("frame", len)?;
            rest = reader.rest();
        }
        Ok(self.starts.len() as u64)
    }

    fn backwards<'a>(
        &mut self,
        first: Seq,
        bytes: &'a [u8],
        mut each: impl FnMut(Seq, &FrameRef<'a>) -> bool,
    ) -> Result<bool, WireError> {
        while let Some(start) = self.starts.pop() {
            let seq = Seq(first.0 + self.starts.len() as u64);
            let frame = FrameRef::decode(&mut &bytes[start..], FRAME_BYTES_MAX)?;
            if !each(seq, &frame) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn forwards<'a>(
    first: Seq,
    count: u64,
    bytes: &'a [u8],
    mut each: impl FnMut(Seq, &FrameRef<'a>) -> bool,
    bad: impl Fn(String) -> BadRun,
) -> Result<bool, BadRun> {
    let (mut rest, mut seq) = (bytes, first);
    let end = Seq(first.0 + count);
    while !rest.is_empty() && seq < end {
        let frame = FrameRef::decode(&mut rest, FRAME_BYTES_MAX).map_err(|error| bad(error.to_string()))?;
        if !each(seq, &frame) {
            return Ok(false);
        }
        seq = seq.next();
    }
    if rest.is_empty() && seq == end {
        return Ok(true);
    }
    let found = seq.0 - first.0;
    Err(bad(format!("{count} frames are announced, {found} are there, {} bytes are left", rest.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trough_protocol::ContentType;

    use crate::journal::local;

    fn run(count: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        for n in 1..=count {
            let payload = vec![n; usize::from(n)];
            let frame =
                FrameRef { ts: n.into(), channel: "c", content_type: ContentType::Bytes, payload: &payload };
            frame.encode(&mut bytes).unwrap();
        }
        bytes
    }

    fn collect(
        bytes: &[u8],
        count: u64,
        order: Order,
        stop_at: u64,
    ) -> Result<(Vec<(u64, u64)>, bool), BadRun> {
        let mut seen = Vec::new();
        let bytes = bytes.to_vec().into();
        let chunk = Chunk { epoch: Epoch(1), first: Seq(11), count, received_at: 1, source: local(1), bytes };
        let end = RunReader::default().for_each(&chunk, order, |seq, frame| {
            assert_eq!(frame.payload, vec![frame.ts as u8; frame.ts as usize]);
            seen.push((seq.0, frame.ts));
            frame.ts != stop_at
        })?;
        Ok((seen, end))
    }

    #[test]
    fn numbers_frames_in_both_orders_and_stops_when_told() {
        let bytes = run(3);
        let all = vec![(11, 1), (12, 2), (13, 3)];
        let back: Vec<_> = all.iter().rev().copied().collect();
        assert_eq!(collect(&bytes, 3, Order::Asc, 0), Ok((all.clone(), true)));
        assert_eq!(collect(&bytes, 3, Order::Desc, 0), Ok((back.clone(), true)));
        assert_eq!(collect(&bytes, 3, Order::Asc, 2), Ok((all[..2].to_vec(), false)));
        assert_eq!(collect(&bytes, 3, Order::Desc, 2), Ok((back[..2].to_vec(), false)));
        assert_eq!(collect(&[], 0, Order::Desc, 0), Ok((vec![], true)));
    }

    #[test]
    fn a_run_that_is_not_as_announced_is_an_error() {
        let bytes = run(3);
        for order in [Order::Asc, Order::Desc] {
            assert!(collect(&bytes, 2, order, 0).is_err());
            assert!(collect(&bytes, 4, order, 0).is_err());
            assert!(collect(&bytes[..bytes.len() - 1], 3, order, 0).is_err());
            let mut damaged = bytes.clone();
            damaged[13] = 77; // no content type
            assert!(collect(&damaged, 3, order, 0).is_err());
        }
    }
}
