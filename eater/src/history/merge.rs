//! One device's frames out of several sources, each number once: of copies the one of the lowest rank.

use trough_protocol::{Epoch, Seq};

use crate::journal::{Chunk, Order, Rank, ReadError};

/// A number in the order of everything that a device has.
pub(crate) type Place = (Epoch, Seq);

/// Chunks of one device in one direction, none of which has a number of another.
pub(crate) trait Source: Send {
    /// Nothing that is still to come lies before this place, in the direction of the source: told without reading. `None`
    /// at the end.
    fn bound(&self) -> Option<Place>;

    /// The next chunk. Blocks. What is damaged is an error, behind which it goes on; any other ends it.
    fn next(&mut self) -> Option<Result<Chunk, ReadError>>;
}

/// The merge of sources. It blocks as they do, and holds a chunk of each at the most.
pub(crate) struct Merge {
    order: Order,
    sources: Vec<Lane>,
    ended: bool,
}

struct Lane {
    source: Box<dyn Source>,
    head: Option<Piece>,
}

/// What a source has of some numbers.
enum Piece {
    Frames(Chunk),
    /// Damaged ones: the source has no other copy of them, but another source may.
    Lost(ReadError),
}

/// A place seen in the direction of the merge: what comes first is less.
type Way = (u64, u64);

impl Merge {
    pub(crate) fn new(order: Order, sources: Vec<Box<dyn Source>>) -> Self {
        let lane = |source| Lane { source, head: None };
        Self { order, sources: sources.into_iter().map(lane).collect(), ended: false }
    }

    fn step(&mut self) -> Result<Option<Piece>, ReadError> {
        loop {
            let Some((best, end)) = self.best() else {
                // Nothing is left of what sources have shown, or all are at their end.
                if self.fetch(None)? {
                    continue;
                }
                return Ok(None);
            };
            // Who might have a better copy of any of them must show it first.
            if self.fetch(Some(end))? {
                continue;
            }
            let start = self.span(best).expect("it was chosen by its head").0;
            let end = self.until(best, (start, end));
            let piece = self.part(best, (start, end));
            for at in 0..self.sources.len() {
                self.trim(at, end);
            }
            return Ok(Some(piece));
        }
    }

    /// The source whose numbers are next, and of copies the best; and where its head ends.
    fn best(&self) -> Option<(usize, Way)> {
        let heads = (0..self.sources.len()).filter_map(|at| Some((at, self.span(at)?)));
        let (at, (_, end)) = heads.min_by_key(|(at, (start, _))| (*start, self.rank(*at)))?;
        Some((at, end))
    }

    /// Lets sources show their next chunk that have none to show and may have one up to `end`: those that may be first,
    /// if it is `None`. Whether there was such a source.
    fn fetch(&mut self, end: Option<Way>) -> Result<bool, ReadError> {
        let bounds = self.sources.iter().filter(|lane| lane.head.is_none()).map(|lane| lane.source.bound());
        let first = || bounds.flatten().map(|bound| way(self.order, bound)).min();
        let Some(end) = end.or_else(first) else { return Ok(false) };
        let mut fetched = false;
        for lane in &mut self.sources {
            let Some(bound) = lane.source.bound().filter(|_| lane.head.is_none()) else { continue };
            if way(self.order, bound) > end {
                continue;
            }
            fetched = true;
            lane.head = match lane.source.next() {
                None => None,
                Some(Ok(chunk)) => Some(Piece::Frames(chunk)),
                Some(Err(error)) if error.lost().is_some() => Some(Piece::Lost(error)),
                Some(Err(error)) => return Err(error),
            };
        }
        Ok(fetched)
    }

    /// The first and the last place of a source's head.
    fn span(&self, at: usize) -> Option<(Way, Way)> {
        let (epoch, first, last) = self.sources[at].head.as_ref()?.numbers();
        let (first, last) = (way(self.order, (epoch, first)), way(self.order, (epoch, last)));
        Some((first.min(last), first.max(last)))
    }

    /// What has no bytes is worse than any copy.
    fn rank(&self, at: usize) -> (bool, Option<Rank>) {
        match self.sources[at].head.as_ref() {
            Some(Piece::Frames(chunk)) => (false, Some(chunk.rank())),
            Some(Piece::Lost(_)) | None => (true, None),
        }
    }

    /// How far the head of `best` counts: to its end, or to where a better copy begins, or where another source must show
    /// what it has next.
    fn until(&self, best: usize, (start, end): (Way, Way)) -> Way {
        (0..self.sources.len()).filter(|at| *at != best).fold(end, |end, at| match self.span(at) {
            Some((begin, _)) if begin > start && begin <= end && self.rank(at) < self.rank(best) => {
                (begin.0, begin.1 - 1)
            }
            Some((begin, other)) if begin <= end => end.min(other),
            _ => end,
        })
    }

    /// The part of a source's head between two places.
    fn part(&self, at: usize, (start, end): (Way, Way)) -> Piece {
        let (a, b) = (place(self.order, start).1, place(self.order, end).1);
        self.sources[at].head.as_ref().expect("it was chosen by its head").part(a.min(b), a.max(b))
    }

    /// Takes what is done away from a source's head.
    fn trim(&mut self, at: usize, done: Way) {
        let Some((start, end)) = self.span(at).filter(|(start, _)| *start <= done) else { return };
        debug_assert_eq!(start.0, done.0, "nothing before it was left");
        self.sources[at].head = (end > done).then(|| self.part(at, ((done.0, done.1 + 1), end)));
    }
}

impl Iterator for Merge {
    type Item = Result<Chunk, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.step() {
            Ok(Some(Piece::Frames(chunk))) => Some(Ok(chunk)),
            Ok(Some(Piece::Lost(error))) => Some(Err(error)),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

impl Piece {
    fn numbers(&self) -> (Epoch, Seq, Seq) {
        match self {
            Self::Frames(chunk) => (chunk.epoch, chunk.first, chunk.last()),
            Self::Lost(error) => error.lost().expect("it says what is lost"),
        }
    }

    fn part(&self, first: Seq, last: Seq) -> Self {
        match self {
            // A source's chunks are frames, or its checksums would have told.
            Self::Frames(chunk) => Self::Frames(chunk.part(first, last).expect("verified frames are whole")),
            Self::Lost(error) => Self::Lost(error.of(first, last)),
        }
    }
}

fn way(order: Order, (epoch, seq): Place) -> Way {
    match order {
        Order::Asc => (epoch.0, seq.0),
        Order::Desc => (u64::MAX - epoch.0, u64::MAX - seq.0),
    }
}

fn place(order: Order, (epoch, seq): Way) -> Place {
    match order {
        Order::Asc => (Epoch(epoch), Seq(seq)),
        Order::Desc => (Epoch(u64::MAX - epoch), Seq(u64::MAX - seq)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use trough_protocol::frame::{FrameRef, check_frames};
    use trough_protocol::limits::FRAME_BYTES_MAX;
    use trough_protocol::{ContentType, Micros};
    use trough_store::ObjectKey;
    use trough_store::object_catalog::{Incarnation, ObjectId};

    use super::*;
    use crate::journal::testing::Rng;

    struct Given {
        order: Order,
        chunks: VecDeque<Result<Chunk, ReadError>>,
    }

    impl Source for Given {
        fn bound(&self) -> Option<Place> {
            let (epoch, first, last) = match self.chunks.front()? {
                Ok(chunk) => (chunk.epoch, chunk.first, chunk.last()),
                Err(error) => error.lost()?,
            };
            Some((epoch, if self.order == Order::Asc { first } else { last }))
        }

        fn next(&mut self) -> Option<Result<Chunk, ReadError>> {
            self.chunks.pop_front()
        }
    }

    fn chunk(epoch: u64, (first, last): (u64, u64), received_at: Micros, n: u64) -> Chunk {
        let mut bytes = Vec::new();
        for seq in first..=last {
            let payload = format!("{n}/{epoch}/{seq}");
            let content_type = ContentType::Bytes;
            let frame = FrameRef { ts: seq, channel: "c", content_type, payload: payload.as_bytes() };
            frame.encode(&mut bytes).unwrap();
        }
        let source = ObjectId { incarnation: Incarnation([1; 16]), n };
        Chunk {
            epoch: Epoch(epoch),
            first: Seq(first),
            count: last - first + 1,
            received_at,
            source,
            bytes: bytes.into(),
        }
    }

    fn damage(epoch: u64, (first, last): (u64, u64)) -> ReadError {
        let object = ObjectKey::new("x").unwrap();
        let (epoch, first, last) = (Epoch(epoch), Seq(first), Seq(last));
        ReadError::DamagedObject { object, offset: 7, epoch, first, last }
    }

    /// What a scan shows: number → the copy's source, or 0 where it is damaged.
    fn shown(order: Order, sources: &[Vec<Result<Chunk, ReadError>>]) -> Vec<((u64, u64), u64)> {
        let given = |chunks: &Vec<Result<Chunk, ReadError>>| {
            let copy = |chunk: &Result<Chunk, ReadError>| match chunk {
                Ok(chunk) => Ok(chunk.clone()),
                Err(error) => {
                    let (_, first, last) = error.lost().unwrap();
                    Err(error.of(first, last))
                }
            };
            let mut chunks: VecDeque<_> = chunks.iter().map(copy).collect();
            if order == Order::Desc {
                chunks.make_contiguous().reverse();
            }
            Box::new(Given { order, chunks }) as Box<dyn Source>
        };
        let mut all = Vec::new();
        for next in Merge::new(order, sources.iter().map(given).collect()) {
            let mut part = Vec::new();
            match next {
                Ok(chunk) => {
                    assert!(check_frames(&chunk.bytes, FRAME_BYTES_MAX).is_ok());
                    let mut rest = &chunk.bytes[..];
                    for seq in chunk.first.0..=chunk.last().0 {
                        let frame = FrameRef::decode(&mut rest, FRAME_BYTES_MAX).unwrap();
                        let wanted = format!("{}/{}/{seq}", chunk.source.n, chunk.epoch);
                        assert_eq!(frame.payload, wanted.as_bytes());
                        part.push(((chunk.epoch.0, seq), chunk.source.n));
                    }
                }
                Err(error) => {
                    let (epoch, first, last) = error.lost().expect("no other error was made");
                    part.extend((first.0..=last.0).map(|seq| ((epoch.0, seq), 0)));
                }
            }
            if order == Order::Desc {
                part.reverse();
            }
            all.extend(part);
        }
        if order == Order::Desc {
            all.reverse();
        }
        all
    }

    #[test]
    fn a_damaged_number_is_taken_from_whoever_has_it() {
        let sources = [
            vec![Ok(chunk(1, (1, 5), 10, 1)), Err(damage(1, (6, 9))), Ok(chunk(1, (10, 12), 11, 2))],
            vec![Ok(chunk(1, (7, 8), 20, 3)), Ok(chunk(1, (12, 13), 20, 3))],
        ];
        let wanted = [1, 1, 1, 1, 1, 0, 3, 3, 0, 2, 2, 2, 3];
        let wanted: Vec<_> = wanted.into_iter().zip(1..).map(|(n, seq)| ((1, seq), n)).collect();
        assert_eq!(shown(Order::Asc, &sources), wanted);
        assert_eq!(shown(Order::Desc, &sources), wanted);
    }

    #[test]
    fn every_number_is_shown_once_and_of_copies_the_lowest_rank() {
        for seed in 0..400 {
            let mut rng = Rng::new(seed);
            let mut best: BTreeMap<(u64, u64), (bool, Micros, u64)> = BTreeMap::new();
            let mut n = 0;
            let mut sources = Vec::new();
            for _ in 0..rng.below(5) {
                let mut chunks = Vec::new();
                for epoch in 1..=2 {
                    let mut at = 1 + rng.below(10);
                    while at < 40 && rng.below(8) > 0 {
                        let last = at + rng.below(6);
                        n += 1;
                        let damaged = rng.below(6) == 0;
                        let received_at = rng.below(5);
                        for seq in at..=last {
                            let copy = (damaged, received_at, if damaged { 0 } else { n });
                            let held = best.entry((epoch, seq)).or_insert(copy);
                            *held = copy.min(*held);
                        }
                        chunks.push(match damaged {
                            true => Err(damage(epoch, (at, last))),
                            false => Ok(chunk(epoch, (at, last), received_at, n)),
                        });
                        at = last + 1 + rng.below(4);
                    }
                }
                sources.push(chunks);
            }
            let wanted: Vec<_> = best.into_iter().map(|(place, (_, _, n))| (place, n)).collect();
            for order in [Order::Asc, Order::Desc] {
                assert_eq!(shown(order, &sources), wanted, "seed {seed}, {order:?}");
            }
        }
    }
}
