//! Reading the data of runs, in pieces as big as it pays.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::resolve::Segment;
use crate::journal::run::Run;
use crate::journal::shared::Shared;
use crate::journal::view::frames_len;
use crate::journal::window::{WINDOW_BYTES, Window};

/// Bytes between two wanted runs that are read along rather than read around: a system call costs about as
/// much as copying so many.
const GAP_BYTES_MAX: u64 = 16 * 1024;

/// Reads runs' data; keeps the last piece of file.
pub(in crate::journal) struct Fetch {
    shared: Arc<Shared>,
    window: Option<(u64, Window)>,
}

impl Fetch {
    pub(in crate::journal) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, window: None }
    }

    /// The data of a run of `file`, verified; `None` if it is damaged. `soon` are the runs that will be wanted
    /// next and their files, in their order.
    pub(in crate::journal) fn run<'a>(
        &mut self,
        file: u64,
        run: &Run,
        soon: impl Iterator<Item = (u64, &'a Run)>,
    ) -> io::Result<Option<Bytes>> {
        let (offset, len) = (u64::from(run.offset), run.len as usize);
        let mut at_hand = match &self.window {
            Some((open, window)) if *open == file => window.at_hand(offset, len),
            _ => None,
        };
        if at_hand.is_none() {
            let (start, end) = plan(file, run, soon);
            let window = match &mut self.window {
                Some((open, window)) if *open == file => window,
                other => &mut other.insert((file, Window::new(self.shared.handles.journal(file)?))).1,
            };
            window.load(start, usize::try_from(end - start).expect("a window is about 4 MiB at most"))?;
            at_hand = window.at_hand(offset, len);
        }
        Ok(at_hand.filter(|data| crc32c::crc32c(data) == run.crc))
    }
}

/// Which bytes to read for `run`, so that those of the next runs come along.
fn plan<'a>(file: u64, run: &Run, soon: impl Iterator<Item = (u64, &'a Run)>) -> (u64, u64) {
    let (mut start, mut end) = (u64::from(run.offset), run.end());
    for (next_file, next) in soon {
        let (from, to) = (u64::from(next.offset), next.end());
        let near = from <= end + GAP_BYTES_MAX && to + GAP_BYTES_MAX >= start;
        let (wider_start, wider_end) = (start.min(from), end.max(to));
        if next_file != file || !near || wider_end - wider_start > WINDOW_BYTES as u64 {
            break;
        }
        (start, end) = (wider_start, wider_end);
    }
    (start, end)
}

/// The frames of a segment out of its run's data; `None` if the data does not hold them.
pub(crate) fn cut<F>(segment: &Segment<F>, data: &Bytes) -> Option<Bytes> {
    let run = &segment.of.run;
    if (segment.first, segment.last) == (run.first, run.last()) {
        return Some(data.clone());
    }
    let from = frames_len(data, segment.first.0 - run.first.0)?;
    let len = frames_len(&data[from..], segment.last.0 - segment.first.0 + 1)?;
    Some(data.slice(from..from + len))
}
