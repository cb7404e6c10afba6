//! A page of frames: read whole, before its answer begins.

use tokio::time::Instant;
use trough_protocol::{DeviceId, Epoch, Seq};

use super::encode::FrameWriter;
use super::fault::ReadFault;
use super::frames_query::{FramesQuery, Place};
use super::run::RunReader;
use super::walk::Step;
use crate::journal::Chunk;

/// Devices that are looked through, when the page is full, to see whether another frame follows.
const PEEK_DEVICES: usize = 16;

/// How much one page may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageBounds {
    /// Frames.
    pub frames: usize,
    /// A page that has become this large ends early, in bytes.
    pub page_bytes: usize,
    /// A page for which so much was read ends early, in bytes of the journal: few frames match.
    pub read_bytes: usize,
    /// How much further is read, when the page is full, to see whether another frame follows, in bytes.
    pub peek_bytes: usize,
    /// A page that has got anywhere by then ends early.
    pub deadline: Instant,
}

/// A page, and where it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// How many frames it has.
    pub frames: u64,
    /// Everything up to this place was looked at; `None` if nothing was there and the query had no place.
    pub end: Option<Place>,
    /// Whether more follow; also `true` if this was not found out.
    pub more: bool,
}

/// A fault, and whose frames were being read.
pub(super) type FaultOf = (ReadFault, Option<DeviceId>);

/// Reads a page into `writer`. A fault behind the first frame ends the page early: the next one then begins with it.
///
/// # Errors
/// A fault before any frame was found; [`ReadFault::Deadline`] if the page has not got anywhere by then.
pub(super) fn read_page(
    mut steps: impl Iterator<Item = Result<Step, ReadFault>>,
    query: &FramesQuery,
    writer: &mut FrameWriter,
    bounds: PageBounds,
) -> Result<Page, FaultOf> {
    let mut reading = Reading::new(query, bounds);
    loop {
        if Instant::now() >= bounds.deadline {
            if !reading.has_moved {
                return Err((ReadFault::Deadline, reading.device));
            }
            reading.more = true;
            break;
        }
        let Some(step) = steps.next() else { break };
        match step.and_then(|step| reading.step(step, writer)) {
            Ok(true) => {}
            Ok(false) => break,
            Err(fault) if writer.frames() == 0 => return Err((fault, reading.device)),
            Err(_) => {
                reading.more = true;
                break;
            }
        }
    }
    let (frames, more) = (writer.frames(), reading.more);
    Ok(Page { frames, end: reading.end(), more })
}

struct Reading<'q> {
    query: &'q FramesQuery,
    bounds: PageBounds,
    runs: RunReader,
    device: Option<DeviceId>,
    /// The last frame of this device that was looked at.
    at: Option<(Epoch, Seq)>,
    /// Where it stood before this device.
    before: Option<Place>,
    /// Something was looked at.
    has_moved: bool,
    more: bool,
    full: bool,
    /// Bytes that were read; and of these, when it was full already.
    read: usize,
    peeked: usize,
    peeked_devices: usize,
}

impl<'q> Reading<'q> {
    fn new(query: &'q FramesQuery, bounds: PageBounds) -> Self {
        Self {
            query,
            bounds,
            runs: RunReader::default(),
            device: None,
            at: None,
            before: query.after.clone(),
            has_moved: false,
            more: false,
            full: false,
            read: 0,
            peeked: 0,
            peeked_devices: 0,
        }
    }

    /// Takes one step. Answers whether to go on.
    fn step(&mut self, step: Step, writer: &mut FrameWriter) -> Result<bool, ReadFault> {
        match step {
            Step::Device(device) => {
                writer.begin_device(&device);
                self.device = Some(device);
                Ok(true)
            }
            Step::Chunk(chunk) => {
                if !self.chunk(&chunk, writer)? {
                    return Ok(false);
                }
                self.read += chunk.bytes.len();
                self.peeked += if self.full { chunk.bytes.len() } else { 0 };
                self.more = self.read >= self.bounds.read_bytes || self.peeked >= self.bounds.peek_bytes;
                Ok(!self.more)
            }
            Step::End if self.query.is_of_many() => {
                let device = self.device.take();
                self.before = device.map(|device| Place::behind_all(device, self.query.order));
                self.at = None;
                self.has_moved = true;
                self.peeked_devices += usize::from(self.full);
                self.more = self.peeked_devices >= PEEK_DEVICES;
                Ok(!self.more)
            }
            // Of one device alone the last frame is where to go on when there are more.
            Step::End => Ok(true),
        }
    }

    /// Takes what a chunk has. Answers whether the page goes on.
    fn chunk(&mut self, chunk: &Chunk, writer: &mut FrameWriter) -> Result<bool, ReadFault> {
        writer.begin_run(chunk.epoch, chunk.received_at);
        let Self { query, bounds, runs, at, has_moved, more, full, .. } = self;
        let to_the_end = runs.for_each(chunk, query.order, |seq, frame| {
            if query.wants(frame) {
                if *full {
                    *more = true;
                    return false;
                }
                writer.push(seq, frame);
                *full = writer.frames() >= bounds.frames as u64 || writer.len() >= bounds.page_bytes;
            }
            *at = Some((chunk.epoch, seq));
            *has_moved = true;
            true
        })?;
        Ok(to_the_end)
    }

    fn end(self) -> Option<Place> {
        match (self.device, self.at) {
            (Some(device), Some((epoch, seq))) => Some(Place { device, epoch, seq }),
            _ => self.before,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::encode::FrameFormat;
    use crate::api::tests::support::{chunk, damaged, device, steps};
    use crate::journal::ReadError;

    fn page(
        chunks: Vec<Result<Chunk, ReadError>>,
        query: &str,
        bounds: PageBounds,
    ) -> Result<Page, ReadFault> {
        let query = FramesQuery::parse(device("bus-1"), Some(query)).unwrap();
        let mut writer = FrameWriter::text(FrameFormat::NdJson, 0);
        read_page(steps("bus-1", chunks), &query, &mut writer, bounds).map_err(|(fault, of)| {
            assert_eq!(of, Some(device("bus-1")));
            fault
        })
    }

    fn bounds() -> PageBounds {
        let (page_bytes, read_bytes, peek_bytes) = (1 << 20, 1 << 20, 1 << 20);
        let deadline = Instant::now() + Duration::from_secs(600);
        PageBounds { frames: 3, page_bytes, read_bytes, peek_bytes, deadline }
    }

    fn place(name: &str, seq: u64) -> Option<Place> {
        Some(Place { device: device(name), epoch: Epoch(1), seq: Seq(seq) })
    }

    #[test]
    fn a_full_page_knows_whether_another_frame_matches() {
        let place = |seq| place("bus-1", seq);
        let two = || vec![Ok(chunk(1, 1, 3, "c")), Ok(chunk(1, 4, 2, "d"))];
        let page = |chunks, query, bounds| page(chunks, query, bounds).unwrap();
        assert_eq!(page(two(), "", bounds()), Page { frames: 3, end: place(3), more: true });
        assert_eq!(page(two(), "channel=c", bounds()), Page { frames: 3, end: place(5), more: false });
        assert_eq!(page(two(), "channel=e", bounds()), Page { frames: 0, end: place(5), more: false });
        assert_eq!(page(vec![], "", bounds()), Page { frames: 0, end: None, more: false });
        assert_eq!(page(vec![], "after=1:7", bounds()), Page { frames: 0, end: place(7), more: false });
        let costly = PageBounds { peek_bytes: 1, ..bounds() };
        assert!(page(two(), "channel=c", costly).more, "not looked at, so there may be");
        let costly = PageBounds { read_bytes: 1, ..bounds() };
        assert_eq!(page(two(), "channel=d", costly), Page { frames: 0, end: place(3), more: true });
    }

    #[test]
    fn damage_ends_a_page_and_fails_the_next() {
        let chunks = || vec![Ok(chunk(1, 1, 2, "c")), Err(damaged(3, 4)), Ok(chunk(1, 5, 1, "c"))];
        let first = page(chunks(), "", bounds()).unwrap();
        assert_eq!(first, Page { frames: 2, end: place("bus-1", 2), more: true });
        let fault = page(chunks().split_off(1), "after=1:2", bounds()).unwrap_err();
        assert!(fault.refusal(crate::journal::Order::Asc).to_string().contains("after=1:4"));
        assert!(fault.refusal(crate::journal::Order::Desc).to_string().contains("after=1:3"));
    }

    #[test]
    fn a_page_goes_from_device_to_device() {
        let query = FramesQuery::parse_many(Some("device=a,b,c")).unwrap();
        let read = |devices: Vec<(&'static str, Vec<Chunk>)>, frames| {
            let steps = devices
                .into_iter()
                .flat_map(|(name, chunks)| steps(name, chunks.into_iter().map(Ok).collect()));
            let mut writer = FrameWriter::text(FrameFormat::NdJson, 0);
            read_page(steps, &query, &mut writer, PageBounds { frames, ..bounds() }).unwrap()
        };
        let done = |name| Some(Place::behind_all(device(name), crate::journal::Order::Asc));
        let three =
            || vec![("a", vec![chunk(1, 1, 2, "c")]), ("b", vec![]), ("c", vec![chunk(1, 1, 2, "c")])];
        assert_eq!(read(three(), 1), Page { frames: 1, end: place("a", 1), more: true });
        assert_eq!(read(three(), 2), Page { frames: 2, end: done("b"), more: true });
        assert_eq!(read(three(), 3), Page { frames: 3, end: place("c", 1), more: true });
        assert_eq!(read(three(), 4), Page { frames: 4, end: done("c"), more: false });
        let mut silent: Vec<_> = ["a"; PEEK_DEVICES + 3].map(|name| (name, vec![])).into();
        assert!(!read(silent.clone(), 1).more, "nothing is there");
        silent.insert(0, ("a", vec![chunk(1, 1, 1, "c")]));
        assert!(read(silent, 1).more, "not all were looked through");
    }

    #[test]
    fn a_page_that_takes_too_long_ends_early_or_is_refused() {
        let deadline = Instant::now() + Duration::from_millis(20);
        let late = PageBounds { deadline, frames: 100, ..bounds() };
        let query = FramesQuery::parse(device("bus-1"), Some("channel=none")).unwrap();
        // What is read takes until then.
        let slow = steps("bus-1", vec![Ok(chunk(1, 1, 3, "c")), Ok(chunk(1, 4, 3, "c"))]).map(|step| {
            while matches!(step, Ok(Step::Chunk(_))) && Instant::now() < deadline {
                std::thread::yield_now();
            }
            step
        });
        let mut writer = FrameWriter::text(FrameFormat::NdJson, 0);
        let early = read_page(slow, &query, &mut writer, late).unwrap();
        assert_eq!(early, Page { frames: 0, end: place("bus-1", 3), more: true }, "it got somewhere");
        let fault = page_at(vec![Ok(chunk(1, 1, 3, "c"))], late);
        assert!(matches!(fault, Err((ReadFault::Deadline, None))));
    }

    fn page_at(chunks: Vec<Result<Chunk, ReadError>>, bounds: PageBounds) -> Result<Page, FaultOf> {
        let query = FramesQuery::parse(device("bus-1"), None).unwrap();
        let mut writer = FrameWriter::text(FrameFormat::NdJson, 0);
        read_page(steps("bus-1", chunks), &query, &mut writer, bounds)
    }
}
