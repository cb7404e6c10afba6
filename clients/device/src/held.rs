//! What a device holds until it is acknowledged: frames and declared losses with consecutive numbers.

use std::collections::VecDeque;
use std::ops::Range;

use trough_protocol::Seq;
use trough_protocol::device::SkipReason;

/// What a declared loss costs of the buffer, so that the number of them is bounded as well.
pub(crate) const SKIP_COST_BYTES: usize = 64;

/// A run of one kind.
#[derive(Debug, Clone, Copy)]
enum Span {
    Frames { count: u64 },
    Skip { count: u64, reason: SkipReason },
}

impl Span {
    fn count(self) -> u64 {
        match self {
            Self::Frames { count } | Self::Skip { count, .. } => count,
        }
    }
}

/// A place between two held items: the number of the item after it, and how many frames and bytes lie before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub seq: Seq,
    pub frames: usize,
    pub offset: usize,
}

impl Cursor {
    /// Before `seq`, with no frame before it.
    pub fn front(seq: Seq) -> Self {
        Self { seq, frames: 0, offset: 0 }
    }
}

/// What begins at a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    /// This many frames in a row.
    Frames { count: u64 },
    /// A loss up to and with this number.
    Skip { last: Seq, reason: SkipReason },
}

/// What [`Held::pop_to`] let go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Popped {
    pub frames: usize,
    pub bytes: usize,
}

/// The items, oldest first. Frames lie in one ring of bytes: pushing and popping moves nothing and, once the ring
/// has grown to what the device needs, allocates nothing. Their lengths lie beside them, so that finding a frame
/// does not fetch every other frame into the cache.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: VecDeque<u8>,
    lengths: VecDeque<u32>,
    spans: VecDeque<Span>,
    skips: usize,
    first: Seq,
    next: Seq,
}

impl Held {
    /// Nothing held; the first item will get `first`.
    pub fn new(first: Seq) -> Self {
        Self {
            bytes: VecDeque::new(),
            lengths: VecDeque::new(),
            spans: VecDeque::new(),
            skips: 0,
            first,
            next: first,
        }
    }

    /// The number of the oldest item, or of the next one if nothing is held.
    pub fn first(&self) -> Seq {
        self.first
    }

    /// The number that the next item gets.
    pub fn next(&self) -> Seq {
        self.next
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// What is counted against the buffer's limit.
    pub fn cost(&self) -> usize {
        self.bytes.len() + self.skips * SKIP_COST_BYTES
    }

    /// Where everything held lies before.
    pub fn end(&self) -> Cursor {
        Cursor { seq: self.next, frames: self.lengths.len(), offset: self.bytes.len() }
    }

    /// Adds encoded frames of these lengths.
    pub fn push_frames(&mut self, lengths: &[u32], encoded: &[u8]) {
        let count = lengths.len() as u64;
        self.bytes.extend(encoded);
        self.lengths.extend(lengths);
        self.next.0 += count;
        match self.spans.back_mut() {
            Some(Span::Frames { count: held }) => *held += count,
            _ => self.spans.push_back(Span::Frames { count }),
        }
    }

    /// Adds a loss of `count` numbers.
    pub fn push_skip(&mut self, count: u64, reason: SkipReason) {
        self.next.0 += count;
        match self.spans.back_mut() {
            Some(Span::Skip { count: held, reason: same }) if *same == reason => *held += count,
            _ => {
                self.spans.push_back(Span::Skip { count, reason });
                self.skips += 1;
            }
        }
    }

    /// Lets go of everything up to and with `seq`.
    pub fn pop_to(&mut self, seq: Seq) -> Popped {
        let mut popped = Popped::default();
        while self.first <= seq
            && let Some(&span) = self.spans.front()
        {
            let count = span.count().min(seq.0 - self.first.0 + 1);
            let left = span.count() - count;
            let rest = match span {
                Span::Frames { .. } => {
                    popped.frames += count as usize;
                    Span::Frames { count: left }
                }
                Span::Skip { reason, .. } => {
                    self.skips -= usize::from(left == 0);
                    Span::Skip { count: left, reason }
                }
            };
            if left == 0 {
                self.spans.pop_front();
            } else {
                self.spans[0] = rest;
            }
            self.first.0 += count;
        }
        popped.bytes = self.lengths.drain(..popped.frames).map(|length| length as usize).sum();
        self.bytes.drain(..popped.bytes);
        popped
    }

    /// The cursor before `seq`, which must be from `first` to `next`.
    pub fn seek(&self, seq: Seq) -> Cursor {
        debug_assert!(self.first <= seq && seq <= self.next, "{seq} is not held");
        if seq == self.next {
            return self.end();
        }
        let mut cursor = Cursor::front(self.first);
        for span in &self.spans {
            let count = span.count().min(seq.0 - cursor.seq.0);
            if let Span::Frames { .. } = span {
                cursor.frames += count as usize;
            }
            cursor.seq.0 += count;
        }
        cursor.offset = self.lengths.range(..cursor.frames).map(|length| *length as usize).sum();
        cursor
    }

    /// What begins at the cursor; `None` at (or after) the end.
    pub fn item(&self, cursor: Cursor) -> Option<Item> {
        let mut end = self.first.0;
        for span in &self.spans {
            end += span.count();
            if cursor.seq.0 < end {
                return Some(match *span {
                    Span::Frames { .. } => Item::Frames { count: end - cursor.seq.0 },
                    Span::Skip { reason, .. } => Item::Skip { last: Seq(end - 1), reason },
                });
            }
        }
        None
    }

    /// Bytes of the frame at the cursor, its length field included.
    pub fn frame_len(&self, cursor: Cursor) -> usize {
        self.lengths[cursor.frames] as usize
    }

    /// The encoded frames in a range of offsets, in at most two pieces.
    pub fn frames(&self, range: Range<usize>) -> (&[u8], &[u8]) {
        let (front, back) = self.bytes.as_slices();
        let split = front.len();
        if range.end <= split {
            (&front[range], &[])
        } else if range.start >= split {
            (&back[range.start - split..range.end - split], &[])
        } else {
            (&front[range.start..], &back[..range.end - split])
        }
    }

    /// Every frame held, with its number.
    pub fn each_frame(&self, mut visit: impl FnMut(Seq, &[u8])) {
        let mut contiguous = Vec::new();
        let mut cursor = Cursor::front(self.first);
        while let Some(item) = self.item(cursor) {
            match item {
                Item::Skip { last, .. } => cursor.seq = last.next(),
                Item::Frames { .. } => {
                    let end = cursor.offset + self.frame_len(cursor);
                    let (front, back) = self.frames(cursor.offset..end);
                    contiguous.clear();
                    contiguous.extend_from_slice(front);
                    contiguous.extend_from_slice(back);
                    visit(cursor.seq, &contiguous);
                    cursor = Cursor { seq: cursor.seq.next(), frames: cursor.frames + 1, offset: end };
                }
            }
        }
    }

    /// Numbers what is held from 1 on, in the same order.
    pub fn renumber(&mut self) {
        self.next.0 -= self.first.0 - 1;
        self.first = Seq::FIRST;
    }

    /// Gives memory back when nothing is held.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.bytes = VecDeque::new();
            self.lengths = VecDeque::new();
            self.spans = VecDeque::new();
        }
    }
}
