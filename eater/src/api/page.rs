//! A page of frames: read whole, before its answer begins.

use trough_protocol::{Epoch, Seq};

use super::encode::FrameEncoder;
use super::fault::ReadFault;
use super::query::FramesQuery;
use super::run::RunReader;
use crate::journal::{Chunk, ReadError};

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
}

/// A page, and where it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// How many frames it has.
    pub frames: u64,
    /// Everything up to this place was looked at; `None` if nothing was there and the query had no place.
    pub end: Option<(Epoch, Seq)>,
    /// Whether more follow; also `true` if this was not found out.
    pub more: bool,
}

/// Reads a page into `encoder`. A fault behind the first frame ends the page early: the next one then begins with it.
///
/// # Errors
/// A fault before any frame was found.
pub(super) fn read_page(
    scan: impl Iterator<Item = Result<Chunk, ReadError>>,
    query: &FramesQuery,
    encoder: &mut FrameEncoder,
    bounds: PageBounds,
) -> Result<Page, ReadFault> {
    let mut reading = Reading { query, bounds, end: query.after, more: false, full: false };
    let mut runs = RunReader::default();
    let (mut read, mut peeked) = (0, 0);
    for chunk in scan {
        match chunk.map_err(ReadFault::from).and_then(|chunk| reading.chunk(&chunk, &mut runs, encoder)) {
            Ok(Some(bytes)) => {
                read += bytes;
                peeked += if reading.full { bytes } else { 0 };
            }
            Ok(None) => break,
            Err(fault) if encoder.frames() == 0 => return Err(fault),
            Err(_) => {
                reading.more = true;
                break;
            }
        }
        if read >= bounds.read_bytes || peeked >= bounds.peek_bytes {
            reading.more = true;
            break;
        }
    }
    Ok(Page { frames: encoder.frames(), end: reading.end, more: reading.more })
}

struct Reading<'q> {
    query: &'q FramesQuery,
    bounds: PageBounds,
    end: Option<(Epoch, Seq)>,
    more: bool,
    full: bool,
}

impl Reading<'_> {
    /// Takes what a chunk has. Answers how many bytes it had, or `None` if the page is over.
    fn chunk(
        &mut self,
        chunk: &Chunk,
        runs: &mut RunReader,
        encoder: &mut FrameEncoder,
    ) -> Result<Option<usize>, ReadFault> {
        encoder.begin_run(chunk.epoch, chunk.received_at);
        let to_the_end = runs.for_each(chunk, self.query.order, |seq, frame| {
            if self.query.wants(frame) {
                if self.full {
                    self.more = true;
                    return false;
                }
                encoder.push(seq, frame);
                self.full =
                    encoder.frames() >= self.bounds.frames as u64 || encoder.len() >= self.bounds.page_bytes;
            }
            self.end = Some((chunk.epoch, seq));
            true
        })?;
        Ok(to_the_end.then_some(chunk.bytes.len()))
    }
}
