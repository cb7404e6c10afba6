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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::encode::FrameFormat;
    use crate::api::tests::support::{chunk, damaged, device};

    fn page(
        chunks: Vec<Result<Chunk, ReadError>>,
        query: &str,
        bounds: PageBounds,
    ) -> Result<Page, ReadFault> {
        let query = FramesQuery::parse(device("bus-1"), Some(query)).unwrap();
        read_page(chunks.into_iter(), &query, &mut FrameEncoder::new(FrameFormat::NdJson, 0), bounds)
    }

    const BOUNDS: PageBounds =
        PageBounds { frames: 3, page_bytes: 1 << 20, read_bytes: 1 << 20, peek_bytes: 1 << 20 };

    #[test]
    fn a_full_page_knows_whether_another_frame_matches() {
        let place = |seq| Some((Epoch(1), Seq(seq)));
        let two = || vec![Ok(chunk(1, 1, 3, "c")), Ok(chunk(1, 4, 2, "d"))];
        assert_eq!(page(two(), "", BOUNDS).unwrap(), Page { frames: 3, end: place(3), more: true });
        assert_eq!(page(two(), "channel=c", BOUNDS).unwrap(), Page { frames: 3, end: place(5), more: false });
        assert_eq!(page(two(), "channel=e", BOUNDS).unwrap(), Page { frames: 0, end: place(5), more: false });
        assert_eq!(page(vec![], "", BOUNDS).unwrap(), Page { frames: 0, end: None, more: false });
        assert_eq!(
            page(vec![], "after=1:7", BOUNDS).unwrap(),
            Page { frames: 0, end: place(7), more: false }
        );
        let costly = PageBounds { peek_bytes: 1, ..BOUNDS };
        assert!(page(two(), "channel=c", costly).unwrap().more, "not looked at, so there may be");
        let costly = PageBounds { read_bytes: 1, ..BOUNDS };
        assert_eq!(page(two(), "channel=d", costly).unwrap(), Page { frames: 0, end: place(3), more: true });
    }

    #[test]
    fn damage_ends_a_page_and_fails_the_next() {
        let chunks = || vec![Ok(chunk(1, 1, 2, "c")), Err(damaged(3, 4)), Ok(chunk(1, 5, 1, "c"))];
        let first = page(chunks(), "", BOUNDS).unwrap();
        assert_eq!(first, Page { frames: 2, end: Some((Epoch(1), Seq(2))), more: true });
        let fault = page(chunks().split_off(1), "after=1:2", BOUNDS).unwrap_err();
        assert!(fault.refusal(crate::journal::Order::Asc).to_string().contains("after=1:4"));
        assert!(fault.refusal(crate::journal::Order::Desc).to_string().contains("after=1:3"));
    }
}
