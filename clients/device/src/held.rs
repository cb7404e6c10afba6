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

/// A place between two held items: the number of the item after it, and how many bytes of frames lie before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub seq: Seq,
    pub offset: usize,
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
    pub frames: u64,
    pub bytes: usize,
}

/// The items, oldest first. Frames lie in one ring of bytes: pushing and popping moves nothing and, once the ring
/// has grown to what the device needs, allocates nothing.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: VecDeque<u8>,
    spans: VecDeque<Span>,
    skips: usize,
    first: Seq,
    next: Seq,
}

impl Held {
    /// Nothing held; the first item will get `first`.
    pub fn new(first: Seq) -> Self {
        Self { bytes: VecDeque::new(), spans: VecDeque::new(), skips: 0, first, next: first }
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
        Cursor { seq: self.next, offset: self.bytes.len() }
    }

    /// Adds `count` encoded frames.
    pub fn push_frames(&mut self, count: u64, encoded: &[u8]) {
        self.bytes.extend(encoded);
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
                    popped.frames += count;
                    popped.bytes = self.skip_frames(popped.bytes, count);
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
        self.bytes.drain(..popped.bytes);
        popped
    }

    /// The cursor before `seq`, which must be from `first` to `next`.
    pub fn seek(&self, seq: Seq) -> Cursor {
        debug_assert!(self.first <= seq && seq <= self.next, "{seq} is not held");
        if seq == self.next {
            return self.end();
        }
        let mut cursor = Cursor { seq: self.first, offset: 0 };
        for span in &self.spans {
            let count = span.count().min(seq.0 - cursor.seq.0);
            if let Span::Frames { .. } = span {
                cursor.offset = self.skip_frames(cursor.offset, count);
            }
            cursor.seq.0 += count;
        }
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

    /// Bytes of the frame that begins at `offset`, its length field included.
    pub fn frame_len(&self, offset: usize) -> usize {
        let (front, back) = self.bytes.as_slices();
        let mut prefix = [0; 4];
        if let Some(bytes) = front.get(offset..offset + 4) {
            prefix.copy_from_slice(bytes);
        } else if let Some(start) = offset.checked_sub(front.len()) {
            prefix.copy_from_slice(&back[start..start + 4]);
        } else {
            for (index, byte) in prefix.iter_mut().enumerate() {
                *byte = self.bytes[offset + index];
            }
        }
        4 + u32::from_le_bytes(prefix) as usize
    }

    /// The offset after `count` frames from `offset` on.
    fn skip_frames(&self, mut offset: usize, count: u64) -> usize {
        for _ in 0..count {
            offset += self.frame_len(offset);
        }
        offset
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
        let (mut seq, mut offset) = (self.first, 0);
        for span in &self.spans {
            if let Span::Frames { count } = *span {
                for index in 0..count {
                    let end = offset + self.frame_len(offset);
                    let (front, back) = self.frames(offset..end);
                    contiguous.clear();
                    contiguous.extend_from_slice(front);
                    contiguous.extend_from_slice(back);
                    visit(Seq(seq.0 + index), &contiguous);
                    offset = end;
                }
            }
            seq.0 += span.count();
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
            self.spans = VecDeque::new();
        }
    }
}
