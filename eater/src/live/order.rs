//! Objects of several eaters, put into an order in which every device's numbers rise.
//!
//! A device's durable numbers are a prefix at every moment, so an object that goes on where nothing ends yet has others
//! before it that were entered before it. A look at one journal after the other may have missed those; a second look at
//! all of them, after the first, cannot.
//!
//! So of the objects that wait at the front of their journals the one that was entered first always may have its turn: all
//! that it goes on from is done. What is not always known is that it is, of devices that were silent for long; and if what
//! they sent last has left the journal and was sent again since, nothing tells either. Then two objects may each seem to be
//! behind the other, for one device each. An object is taken in parts then ([`Queues::split`]), as the numbers of one
//! device never go in a circle.

use std::collections::{BTreeMap, HashMap, VecDeque};

use lru::LruCache;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_store::object_catalog::{Incarnation, ObjectId};

use super::commit::{Commit, Content, Span};
use super::vector::Place;

/// Most (device, epoch) pairs whose last number is remembered.
const REMEMBERED_MAX: usize = 64 * 1024;

/// Which objects may have their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Those that go on where the devices' numbers end so far.
    Follows,
    /// Those before which no other one has to come; only once all journals were looked at since they came, and all that
    /// they have waits here.
    Free,
}

/// An object that was entered.
#[derive(Debug)]
pub(super) struct Entered {
    pub n: u64,
    pub received_at: Micros,
    /// Rising by device, epoch and number.
    pub spans: Vec<Span>,
}

/// By device and epoch, the lowest number that is not done.
pub(super) type Lowest = HashMap<(DeviceId, Epoch), Seq>;

/// Objects that wait for their turn.
#[derive(Debug)]
pub(super) struct Queues {
    waiting: BTreeMap<Incarnation, VecDeque<Entered>>,
    /// The highest number given so far.
    last: LruCache<(DeviceId, Epoch), Seq>,
}

impl Queues {
    pub fn new() -> Self {
        Self { waiting: BTreeMap::new(), last: LruCache::unbounded() }
    }

    /// Takes note that a device's numbers have been given up to this one.
    pub fn note(&mut self, device: &DeviceId, epoch: Epoch, last: Seq) {
        let key = (device.clone(), epoch);
        let last = self.last.get(&key).map_or(last, |known| last.max(*known));
        self.last.put(key, last);
        while self.last.len() > REMEMBERED_MAX {
            self.last.pop_lru();
        }
    }

    /// The last object of a journal that waits.
    pub fn end_of(&self, incarnation: Incarnation) -> Option<u64> {
        self.waiting.get(&incarnation)?.back().map(|entered| entered.n)
    }

    /// Adds the next object of a journal.
    pub fn push(&mut self, incarnation: Incarnation, entered: Entered) {
        self.waiting.entry(incarnation).or_default().push_back(entered);
    }

    /// Adds what waits: of its devices and epochs, the lowest number that may not have been given.
    pub fn lowest(&self, mut lowest: Lowest) -> Lowest {
        let waiting = self.waiting.values().flatten().flat_map(|entered| &entered.spans);
        waiting.for_each(|span| self.lower(&mut lowest, span));
        lowest
    }

    /// Adds a span. There is room for as many pairs as can be remembered.
    pub fn lower(&self, lowest: &mut Lowest, span: &Span) {
        let key = (span.device.clone(), span.epoch);
        if span.last > self.last_of(span) && (lowest.len() < REMEMBERED_MAX || lowest.contains_key(&key)) {
            let known = lowest.entry(key).or_insert(span.first);
            *known = span.first.min(*known);
        }
    }

    /// How many objects wait.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The object whose turn it is, if there is one of this kind.
    pub fn pop(&mut self, turn: Turn) -> Option<Commit> {
        let heads = self.waiting.iter().filter_map(|(of, queue)| Some((queue.front()?, *of)));
        let wanted = heads.filter(|(entered, of)| match turn {
            Turn::Follows => self.follows(entered),
            Turn::Free => self.follows(entered) || !self.is_behind_another(entered, *of),
        });
        // Of those that go on from something the first; else whatever was sealed first.
        let of = wanted.min_by_key(|(entered, of)| (!self.follows(entered), entered.received_at, *of))?.1;
        let queue = self.waiting.get_mut(&of)?;
        let entered = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&of);
        }
        Some(self.commit(of, entered))
    }

    /// When each object at the front seems to be behind another one, and all there is waits here: a part of one of them,
    /// with the lowest numbers that wait of a device that keeps an object at the front from having its turn. `None` if
    /// there is none, and it is known by now that the device does not keep it. Either way more is known than before, so
    /// that it comes to an end.
    ///
    /// Nobody can tell here whether the numbers were given long ago: better twice than never. The object itself still has
    /// its turn, without them.
    pub fn split(&mut self) -> Option<Commit> {
        let (device, epoch, before) = self.missing().into_iter().next()?;
        let last = self.last.peek(&(device.clone(), epoch)).copied().unwrap_or_default();
        let entered =
            self.waiting.iter().flat_map(|(of, queue)| queue.iter().map(move |entered| (*of, entered)));
        let spans = entered.flat_map(|(of, entered)| {
            let spans = find(&entered.spans, &device, epoch).iter();
            spans.map(move |span| (span, entered.received_at, of, entered.n))
        });
        let first = spans
            .filter(|(span, ..)| span.first <= before && span.last > last)
            .min_by_key(|(span, received_at, of, n)| (span.first, *received_at, *of, *n));
        let part = first.map(|(span, received_at, of, n)| {
            let entered = Entered { n, received_at, spans: vec![span.clone()] };
            (of, entered, Seq(span.first.0 - 1))
        });
        // Numbers that are in no object that waits were done before.
        let done = part.as_ref().map_or(before, |(.., done)| *done);
        self.note(&device, epoch, done);
        part.map(|(of, entered, _)| Commit { is_part: true, ..self.commit(of, entered) })
    }

    /// What the objects at the front go on from that was not given, as far as is known: device, epoch and number.
    pub fn missing(&self) -> Vec<(DeviceId, Epoch, Seq)> {
        let heads = self.waiting.values().filter_map(VecDeque::front);
        let missing = heads.flat_map(|entered| &entered.spans).filter_map(|span| {
            let last = self.last_of(span);
            (span.first > last.next()).then(|| (span.device.clone(), span.epoch, Seq(span.first.0 - 1)))
        });
        missing.collect()
    }

    fn last_of(&self, span: &Span) -> Seq {
        self.last.peek(&(span.device.clone(), span.epoch)).copied().unwrap_or_default()
    }

    /// Whether each of its spans goes on where the device's numbers end so far.
    fn follows(&self, entered: &Entered) -> bool {
        entered.spans.iter().all(|span| {
            let last = self.last_of(span);
            span.first <= last.next()
        })
    }

    /// Whether an object of another journal has what one of its spans goes on from.
    fn is_behind_another(&self, entered: &Entered, of: Incarnation) -> bool {
        let others = || self.waiting.iter().filter(|(other, _)| **other != of).flat_map(|(_, queue)| queue);
        entered.spans.iter().any(|span| {
            let has_before = |other: &Span| other.first < span.first && other.last.next() >= span.first;
            let is_missing = span.first > self.last_of(span).next();
            is_missing
                && others().any(|other| find(&other.spans, &span.device, span.epoch).iter().any(has_before))
        })
    }

    fn commit(&mut self, incarnation: Incarnation, entered: Entered) -> Commit {
        let Entered { n, received_at, mut spans } = entered;
        for span in &mut spans {
            let last = self.last_of(span);
            span.fresh = last.next().max(span.first);
            self.note(&span.device, span.epoch, span.last);
        }
        let content = Content::Object { received_at, spans };
        Commit { id: ObjectId { incarnation, n }, through: Place::behind(n), is_part: false, content }
    }
}

/// A device's spans among those of an object.
pub(super) fn find<'a>(spans: &'a [Span], device: &DeviceId, epoch: Epoch) -> &'a [Span] {
    let start = spans.partition_point(|span| (&span.device, span.epoch) < (device, epoch));
    let count = spans[start..].partition_point(|span| (&span.device, span.epoch) == (device, epoch));
    &spans[start..start + count]
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Incarnation = Incarnation([0xa; 16]);
    const B: Incarnation = Incarnation([0xb; 16]);

    fn span(device: &str, first: u64, last: u64) -> Span {
        let (device, epoch) = (DeviceId::new(device).unwrap(), Epoch(1));
        Span { device, epoch, first: Seq(first), last: Seq(last), fresh: Seq::ZERO }
    }

    fn push(queues: &mut Queues, of: Incarnation, n: u64, received_at: Micros, spans: &[Span]) {
        queues.push(of, Entered { n, received_at, spans: spans.to_vec() });
    }

    /// What is given, as letter and number, with the first fresh number of its first span.
    fn given(queues: &mut Queues, turn: Turn) -> Vec<(Incarnation, u64, u64)> {
        std::iter::from_fn(|| queues.pop(turn))
            .map(|commit| match &commit.content {
                Content::Object { spans, .. } => (commit.id.incarnation, commit.id.n, spans[0].fresh.0),
                Content::Local(_) => unreachable!(),
            })
            .collect()
    }

    /// The clock of B is behind that of A, and the device went from A to B and back.
    #[test]
    fn a_device_that_moves_is_given_in_the_order_of_its_numbers() {
        let mut queues = Queues::new();
        push(&mut queues, A, 1, 100, &[span("d", 1, 5)]);
        push(&mut queues, B, 1, 50, &[span("d", 6, 9)]);
        push(&mut queues, A, 2, 101, &[span("d", 10, 12)]);
        assert_eq!(given(&mut queues, Turn::Follows), [(A, 1, 1), (B, 1, 6), (A, 2, 10)]);
        assert!(queues.is_empty());
    }

    #[test]
    fn what_goes_on_from_where_nothing_ends_waits_for_another_look() {
        let mut queues = Queues::new();
        push(&mut queues, B, 1, 50, &[span("d", 6, 9)]);
        assert_eq!(given(&mut queues, Turn::Follows), []);
        push(&mut queues, A, 1, 100, &[span("d", 1, 5)]);
        assert_eq!(given(&mut queues, Turn::Free), [(A, 1, 1), (B, 1, 6)]);
        // One that was silent for long: nothing waits before it.
        push(&mut queues, B, 2, 51, &[span("e", 77, 78)]);
        push(&mut queues, A, 2, 101, &[span("e", 70, 76)]);
        assert_eq!(given(&mut queues, Turn::Free), [(A, 2, 70), (B, 2, 77)]);
    }

    /// An old copy waits behind what a copy of it goes before.
    #[test]
    fn copies_of_what_is_done_hold_nothing_up() {
        let mut queues = Queues::new();
        queues.note(&DeviceId::new("d").unwrap(), Epoch(1), Seq(9));
        push(&mut queues, A, 1, 10, &[span("d", 12, 13)]);
        push(&mut queues, B, 1, 20, &[span("d", 1, 5), span("e", 7, 8)]);
        push(&mut queues, B, 2, 30, &[span("d", 10, 11)]);
        assert_eq!(given(&mut queues, Turn::Follows), []);
        assert_eq!(given(&mut queues, Turn::Free), [(B, 1, 10), (B, 2, 10), (A, 1, 12)]);
    }

    /// Frames that were sent twice, through a hole that another eater's object fills.
    #[test]
    fn copies_are_told_apart() {
        let mut queues = Queues::new();
        queues.note(&DeviceId::new("d").unwrap(), Epoch(1), Seq(3));
        push(&mut queues, A, 1, 10, &[span("d", 1, 5), span("d", 11, 15)]);
        push(&mut queues, B, 1, 20, &[span("d", 1, 10)]);
        assert_eq!(given(&mut queues, Turn::Follows), [(B, 1, 4), (A, 1, 11)]);
        push(&mut queues, B, 2, 30, &[span("d", 11, 15)]);
        assert_eq!(given(&mut queues, Turn::Follows), [(B, 2, 16)], "nothing of it is new");
    }

    /// Each of the two seems to be behind the other one, for another device: what `d` sent last before A and `e` before B is
    /// not known any more, and was sent again.
    #[test]
    fn objects_in_a_circle_are_taken_in_parts() {
        let mut queues = Queues::new();
        push(&mut queues, A, 1, 20, &[span("d", 6, 9), span("e", 4, 8)]);
        push(&mut queues, B, 1, 10, &[span("d", 4, 8), span("e", 6, 9)]);
        assert_eq!(given(&mut queues, Turn::Free), []);
        let part = queues.split().unwrap();
        let Content::Object { spans, .. } = &part.content else { unreachable!() };
        assert!(part.is_part && part.id == ObjectId { incarnation: B, n: 1 });
        assert_eq!((spans.len(), spans[0].device.as_str(), spans[0].fresh), (1, "d", Seq(4)));
        // Of the rest, what was in the part is not new any more.
        let next = queues.pop(Turn::Follows);
        assert!(next.is_none(), "e does not follow yet");
        let commit = queues.pop(Turn::Free).unwrap();
        assert_eq!(commit.id.incarnation, A);
        let Content::Object { spans, .. } = &commit.content else { unreachable!() };
        assert_eq!(spans.iter().map(|span| span.fresh.0).collect::<Vec<_>>(), [9, 4]);
        let commit = queues.pop(Turn::Follows).unwrap();
        let Content::Object { spans, .. } = &commit.content else { unreachable!() };
        assert_eq!(spans.iter().map(|span| span.fresh.0).collect::<Vec<_>>(), [10, 9]);
        assert!(queues.is_empty());
    }
}
