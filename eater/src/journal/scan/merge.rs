//! The runs of one device from all files, in one order.

use std::collections::VecDeque;
use std::sync::Arc;

use trough_protocol::{DeviceId, Epoch, Seq};

use crate::journal::error::ReadError;
use crate::journal::index::{Extent, Way};
use crate::journal::run::{Key, Located, Run};
use crate::journal::shared::Shared;
use crate::journal::view::Order;

/// Runs taken from a file's index at first, and later.
const PAGE_RUNS_FIRST: usize = 64;
const PAGE_RUNS: usize = 1024;

/// A merge of the files' runs by key. A file's index is read only when its turn comes, so that a device with
/// years of files costs no more memory than one with a day's.
pub(in crate::journal) struct Merge {
    shared: Arc<Shared>,
    device: DeviceId,
    order: Order,
    of: Of,
    /// Runs at or behind this position are not given: they came after the scan began.
    end: (u64, u64),
    /// Not begun; the next one last.
    waiting: Vec<Extent>,
    /// Begun: each has a run at hand.
    active: Vec<Feed>,
    /// Where each file's first page begins.
    start: Start,
}

/// Which runs are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::journal) enum Of {
    Frames,
    /// Numbers without frames; rising only.
    Gaps,
}

/// The scan's cursor: go on behind this number, or from the beginning.
#[derive(Debug, Clone, Copy)]
struct Start(Option<(Epoch, Seq)>);

struct Feed {
    file: u64,
    page: VecDeque<Run>,
    /// Where the next page begins; `None` if there is none.
    next: Option<Key>,
    page_runs: usize,
}

impl Start {
    /// The first key of a file that the scan can need.
    fn key(self, order: Order, span: u64) -> Key {
        match (self.0, order) {
            (None, Order::Asc) => Key::MIN,
            (None, Order::Desc) => Key::MAX,
            // A run that has the number after the cursor may begin up to a span before it.
            (Some((epoch, seq)), Order::Asc) => {
                Key::before(epoch, Seq((seq.0 + 2).saturating_sub(span.max(1))))
            }
            (Some((epoch, seq)), Order::Desc) => Key::before(epoch, seq),
        }
    }
}

impl Merge {
    pub(in crate::journal) fn new(
        shared: Arc<Shared>,
        device: DeviceId,
        (of, order): (Of, Order),
        after: Option<(Epoch, Seq)>,
        (mut extents, end): (Vec<Extent>, (u64, u64)),
    ) -> Self {
        let start = Start(after);
        extents.retain(|extent| {
            let key = start.key(order, extent.span);
            match order {
                Order::Asc => extent.high >= key,
                Order::Desc => extent.low < key,
            }
        });
        match order {
            Order::Asc => extents.sort_unstable_by_key(|extent| std::cmp::Reverse(extent.low)),
            Order::Desc => extents.sort_unstable_by_key(|extent| extent.high),
        }
        Self { shared, device, order, of, end, waiting: extents, active: Vec::new(), start }
    }

    /// The next run, left where it is.
    pub(in crate::journal) fn peek(&mut self) -> Result<Option<Located>, ReadError> {
        loop {
            let best = self.best().map(|at| &self.active[at]);
            let best = best.map(|feed| Located { file: feed.file, run: feed.page[0] });
            let due = match (self.waiting.last(), &best) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(extent), Some(best)) => match self.order {
                    Order::Asc => extent.low <= best.run.key(),
                    Order::Desc => extent.high >= best.run.key(),
                },
            };
            if !due {
                return Ok(best);
            }
            let extent = self.waiting.pop().expect("one is due");
            let next = Some(self.start.key(self.order, extent.span));
            let feed = Feed { file: extent.file, page: VecDeque::new(), next, page_runs: PAGE_RUNS_FIRST };
            self.active.push(feed);
            self.fill(self.active.len() - 1)?;
        }
    }

    /// Takes the run that [`Merge::peek`] gave.
    pub(in crate::journal) fn advance(&mut self) -> Result<(), ReadError> {
        let Some(at) = self.best() else { return Ok(()) };
        self.active[at].page.pop_front();
        if self.active[at].page.is_empty() { self.fill(at) } else { Ok(()) }
    }

    fn best(&self) -> Option<usize> {
        let keys = self.active.iter().enumerate().map(|(at, feed)| ((feed.page[0].key(), feed.file), at));
        let best = match self.order {
            Order::Asc => keys.min(),
            Order::Desc => keys.max(),
        };
        best.map(|(_, at)| at)
    }

    /// Reads a feed's next page; removes the feed if there is none.
    fn fill(&mut self, at: usize) -> Result<(), ReadError> {
        let feed = &mut self.active[at];
        while feed.page.is_empty() {
            let Some(key) = feed.next else {
                self.active.swap_remove(at);
                return Ok(());
            };
            let way = match (self.of, self.order) {
                (Of::Gaps, _) => Way::Gaps(key),
                (Of::Frames, Order::Asc) => Way::Rising(key),
                (Of::Frames, Order::Desc) => Way::Falling(key),
            };
            let page = self.shared.page(feed.file, self.device.as_str(), way, feed.page_runs)?;
            let more = page.last().filter(|_| page.len() == feed.page_runs);
            feed.next = more.map(|run| match self.order {
                Order::Asc => run.key().behind(),
                Order::Desc => run.key(),
            });
            feed.page_runs = PAGE_RUNS;
            let (file, end) = (feed.file, self.end);
            feed.page.extend(page.into_iter().filter(|run| (file, u64::from(run.offset)) < end));
        }
        Ok(())
    }
}
