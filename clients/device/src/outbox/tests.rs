//! The outbox against a model of everything behind it: a program that may lose its memory, a network that may
//! break, and a server that checks every rule of the protocol and stores what it was sent.

use std::collections::BTreeMap;

use proptest::prelude::*;
use trough_protocol::ContentType;
use trough_protocol::device::{Skip, Welcome};
use trough_protocol::frame::{FrameRef, frames};

use super::*;
use crate::error::Fault;

const WINDOW: u32 = 600;
const MESSAGE: usize = 300;
const CUT: Cut = Cut { buffer_bytes: 4000, frames_per_message: 5, message_bytes: 200 };

/// What a program wanted to send, or lost. Its place in the program's log identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Frame(u64),
    Lost,
}

fn encoded(id: u64, len: usize) -> Vec<u8> {
    let mut payload = id.to_le_bytes().to_vec();
    payload.resize(8 + len, b'x');
    let mut out = Vec::new();
    let frame = FrameRef { ts: id + 1, channel: "c", content_type: ContentType::Bytes, payload: &payload };
    frame.encode(&mut out).unwrap();
    out
}

fn welcome(epoch: u64, resume: u64) -> Welcome {
    Welcome {
        epoch: Epoch(epoch),
        resume: Seq(resume),
        time: 1,
        window_bytes: WINDOW,
        frame_bytes_max: 200,
        message_bytes_max: MESSAGE as u32,
        session: [0; 16],
    }
}

#[derive(Debug, Clone)]
enum Op {
    /// The program adds frames of this length (or gives one again after a crash).
    Push(u8, u8),
    Lose(u8),
    Connect,
    Disconnect,
    /// The server takes in so many messages.
    Deliver(u8),
    /// So many of what the server took in become durable.
    Commit(u8),
    Ack,
    Rewind,
    /// What earlier sessions took in becomes durable at last.
    CommitLate(u8),
    /// The program stores its state.
    Save,
    /// The program starts again from its stored state.
    Crash,
    /// The registry grants a new epoch without being asked.
    NewEpoch,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (1..8_u8, 0..150_u8).prop_map(|(count, len)| Op::Push(count, len)),
        2 => (1..5_u8).prop_map(Op::Lose),
        3 => Just(Op::Connect),
        2 => Just(Op::Disconnect),
        6 => (1..6_u8).prop_map(Op::Deliver),
        6 => (1..20_u8).prop_map(Op::Commit),
        6 => Just(Op::Ack),
        2 => Just(Op::Rewind),
        1 => (1..20_u8).prop_map(Op::CommitLate),
        1 => Just(Op::Save),
        1 => Just(Op::Crash),
        1 => Just(Op::NewEpoch),
    ];
    prop::collection::vec(op, 1..120)
}

/// The server's side of a session.
#[derive(Debug, Clone)]
struct Session {
    epoch: u64,
    /// The number that is due.
    expected: u64,
    /// Taken in and not durable.
    received: Vec<(u64, Entry)>,
    /// Everything is discarded until these rewinds are echoed.
    rewinding: VecDeque<u64>,
}

#[derive(Debug)]
struct World {
    outbox: Outbox,
    /// What the program made, ever.
    log: Vec<Entry>,
    /// How much of it the program has given to the outbox that lives now.
    given: usize,
    /// Number 1 of the current epoch is this place of the log.
    base: usize,
    saved: (ResumeState, usize),
    durable: BTreeMap<u64, Vec<Entry>>,
    /// Where the log was when an epoch began.
    bases: BTreeMap<u64, usize>,
    late: Vec<(u64, u64, Entry)>,
    session: Option<Session>,
    force_new_epoch: bool,
}

impl World {
    fn new() -> Self {
        Self {
            outbox: Outbox::new(CUT, ResumeState::default()),
            log: Vec::new(),
            given: 0,
            base: 0,
            saved: (ResumeState::default(), 0),
            durable: BTreeMap::new(),
            bases: BTreeMap::new(),
            late: Vec::new(),
            session: None,
            force_new_epoch: false,
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Push(count, len) => {
                for _ in 0..count {
                    if self.given == self.log.len() {
                        self.log.push(Entry::Frame(self.log.len() as u64));
                    }
                    self.give(len.into());
                }
            }
            Op::Lose(count) if self.given == self.log.len() => {
                for _ in 0..count {
                    self.log.push(Entry::Lost);
                    self.give(0);
                }
            }
            Op::Connect => self.connect(),
            Op::Disconnect => self.disconnect(),
            Op::Deliver(count) => (0..count).for_each(|_| self.deliver()),
            Op::Commit(count) => self.commit(count.into()),
            Op::Ack => self.ack(),
            Op::Rewind => self.rewind(),
            Op::CommitLate(count) => self.commit_late(count.into()),
            Op::Save => self.saved = (self.outbox.resume_state(), self.base),
            Op::Crash => self.crash(),
            Op::NewEpoch => self.force_new_epoch = true,
            Op::Lose(_) => {}
        }
        self.check();
    }

    /// Gives the outbox the next entry of the log, if there is room.
    fn give(&mut self, len: usize) {
        let seq = match self.log.get(self.given) {
            None => return,
            Some(Entry::Frame(id)) => {
                let bytes = encoded(*id, len);
                let room = self.outbox.room(8 + len, bytes.len(), 9 + bytes.len());
                if room != Room::Yes {
                    assert!(self.outbox.held.cost() + bytes.len() > CUT.buffer_bytes, "{room:?}");
                    return;
                }
                self.outbox.push_frame(&bytes)
            }
            Some(Entry::Lost) => match self.outbox.room_for_skip() {
                Room::Yes => self.outbox.push_skip(1, SkipReason::OVERFLOW).unwrap(),
                _ => return,
            },
        };
        assert_eq!(self.base + seq.0 as usize - 1, self.given, "the number of what was given");
        self.given += 1;
    }

    fn head(&self, epoch: u64) -> u64 {
        self.durable.get(&epoch).map_or(0, |entries| entries.len() as u64)
    }

    fn connect(&mut self) {
        self.disconnect();
        let hello = self.outbox.hello().check().expect("a hello that keeps the rules");
        let newest = self.bases.keys().last().copied().unwrap_or(0);
        if hello.epoch.0 != 0 && hello.epoch.0 != newest {
            // Close code 4200.
            self.outbox.disconnected();
            self.outbox.ask_new_epoch();
            return;
        }
        let known = self.head(hello.epoch.0);
        let fresh = hello.epoch.is_none() || known >= hello.next.0 || self.force_new_epoch;
        let (epoch, resume) = match fresh {
            true => (newest + 1, 1),
            false => (hello.epoch.0, known.max(hello.acked.0) + 1),
        };
        self.force_new_epoch = false;
        let renumbered =
            self.outbox.welcome(&welcome(epoch, resume)).expect("a welcome that keeps the rules");
        assert_eq!(renumbered.is_some(), fresh);
        if let Some(renumbered) = renumbered {
            self.base += renumbered.first.0 as usize - 1;
            self.bases.insert(epoch, self.base);
        }
        self.session =
            Some(Session { epoch, expected: resume, received: Vec::new(), rewinding: VecDeque::new() });
    }

    fn disconnect(&mut self) {
        if let Some(session) = self.session.take() {
            self.late.extend(session.received.into_iter().map(|(seq, entry)| (session.epoch, seq, entry)));
        }
        self.outbox.disconnected();
    }

    fn deliver(&mut self) {
        let Some(message) = self.outbox.next_message() else { return };
        let session = self.session.as_mut().expect("messages only come in a session");
        let (first, entries): (u64, Vec<Entry>) = match message {
            Outgoing::Rewind(seq) => {
                assert_eq!(session.rewinding.pop_front(), Some(seq.0), "an echo of the rewind");
                return;
            }
            Outgoing::Skip(Skip { first, last, .. }) => {
                (first.0, (first.0..=last.0).map(|_| Entry::Lost).collect())
            }
            Outgoing::Frames { first, range } => {
                let (front, back) = self.outbox.frames(range);
                let data = [front, back].concat();
                assert!(data.len() + FRAMES_HEADER_BYTES <= MESSAGE, "a message over the feeder's limit");
                let id = |payload: &[u8]| u64::from_le_bytes(payload[..8].try_into().unwrap());
                let entries: Vec<_> =
                    frames(&data).map(|frame| Entry::Frame(id(frame.unwrap().payload))).collect();
                assert!(entries.len() == 1 || data.len() + FRAMES_HEADER_BYTES <= CUT.message_bytes);
                assert!((1..=CUT.frames_per_message as usize).contains(&entries.len()));
                (first.0, entries)
            }
        };
        let in_flight = self.outbox.cursor.offset;
        assert!(in_flight <= WINDOW as usize || entries.len() == 1, "{in_flight} bytes over the window");
        if session.rewinding.is_empty() {
            assert_eq!(first, session.expected, "the number that is due");
            session.expected += entries.len() as u64;
            session.received.extend((first..).zip(entries));
        }
    }

    fn store(&mut self, epoch: u64, seq: u64, entry: Entry) {
        let entries = self.durable.entry(epoch).or_default();
        if let Some(stored) = entries.get(seq as usize - 1) {
            assert_eq!(*stored, entry, "two frames with one number");
        } else if seq == entries.len() as u64 + 1 {
            entries.push(entry);
        }
    }

    fn commit(&mut self, count: usize) {
        let Some(session) = &mut self.session else { return };
        let epoch = session.epoch;
        let count = count.min(session.received.len());
        let committed: Vec<_> = session.received.drain(..count).collect();
        committed.into_iter().for_each(|(seq, entry)| self.store(epoch, seq, entry));
    }

    fn commit_late(&mut self, count: usize) {
        let count = count.min(self.late.len());
        let late: Vec<_> = self.late.drain(..count).collect();
        late.into_iter().for_each(|(epoch, seq, entry)| self.store(epoch, seq, entry));
    }

    fn ack(&mut self) {
        let Some(session) = &self.session else { return };
        let seq = self.head(session.epoch).min(session.expected - 1);
        self.outbox.ack(Seq(seq)).expect("an ack that keeps the rules");
    }

    fn rewind(&mut self) {
        self.ack();
        let Some(session) = &mut self.session else { return };
        if session.rewinding.len() == 3 {
            return;
        }
        // Just acknowledged, as far as it is durable and was taken in.
        let to = self.outbox.acked().0 + 1;
        session.rewinding.push_back(to);
        session.expected = to;
        session.received.clear();
        self.outbox.rewind(Seq(to)).expect("a rewind that keeps the rules");
    }

    fn crash(&mut self) {
        self.disconnect();
        let (state, base) = self.saved;
        self.outbox = Outbox::new(CUT, state);
        self.base = base;
        self.given = base + state.acked.0 as usize;
    }

    fn check(&self) {
        let acked = self.outbox.acked().0;
        assert!(acked <= self.head(self.outbox.epoch().0), "acknowledged and not durable");
        for (epoch, entries) in &self.durable {
            let from = self.bases[epoch];
            assert_eq!(entries[..], self.log[from..from + entries.len()], "epoch {epoch}");
        }
    }

    /// Nothing more goes wrong, and the program waits until all is done.
    fn finish(&mut self) {
        let ticket = self.outbox.ticket();
        for _ in 0..10_000 {
            if self.session.is_none() {
                self.connect();
            }
            self.give(10);
            self.deliver();
            self.commit(usize::MAX);
            self.ack();
            self.check();
            if self.given == self.log.len() && self.outbox.is_empty() {
                break;
            }
        }
        assert!(self.outbox.is_empty(), "never done: {self:?}");
        assert!(self.outbox.is_durable(ticket), "the ticket");
        assert_eq!(self.outbox.cost(), 0, "what an empty buffer holds");
        let mut stored = vec![false; self.log.len()];
        for (epoch, entries) in &self.durable {
            let from = self.bases[epoch];
            stored[from..from + entries.len()].fill(true);
        }
        assert_eq!(stored.iter().position(|stored| !stored), None, "lost");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_everything_arrives_in_order_and_an_ack_means_durable(ops in ops()) {
        let mut world = World::new();
        ops.iter().for_each(|op| world.apply(op));
        world.finish();
    }
}

fn in_session(resume: u64, frames: u64) -> Outbox {
    let state = ResumeState { epoch: Epoch(5), acked: Seq(resume - 1), sent: Seq(resume - 1) };
    let mut outbox = Outbox::new(CUT, state);
    for id in 0..frames {
        outbox.push_frame(&encoded(id, 10));
    }
    outbox.hello();
    outbox.welcome(&welcome(5, resume)).unwrap();
    while outbox.next_message().is_some() {}
    outbox
}

#[test]
fn a_program_that_stored_its_state_goes_on_where_it_was() {
    let mut outbox = in_session(11, 6);
    outbox.ack(Seq(12)).unwrap();
    let state = outbox.resume_state();
    assert_eq!(state, ResumeState { epoch: Epoch(5), acked: Seq(12), sent: Seq(16) });

    // Frame 14 had arrived all the same. The program gives 13 and 14 again, and lost the others.
    let mut outbox = Outbox::new(CUT, state);
    let hello = Hello { epoch: Epoch(5), oldest: Seq(13), next: Seq(17), acked: Seq(12), ..Hello::NEW };
    assert_eq!(outbox.hello(), hello);
    assert_eq!(outbox.welcome(&welcome(5, 15)).unwrap(), None);
    assert_eq!(outbox.push_frame(&encoded(2, 10)), Seq(13));
    assert_eq!(outbox.push_frame(&encoded(3, 10)), Seq(14));
    assert!(outbox.is_empty() && outbox.frames_acked() == 2, "they are durable already");
    assert_eq!(outbox.push_skip(2, SkipReason::STORAGE_LOST), Some(Seq(15)));
    let skip = Skip { first: Seq(15), last: Seq(16), reason: SkipReason::STORAGE_LOST };
    assert_eq!(outbox.next_message(), Some(Outgoing::Skip(skip)));
}

#[test]
fn a_feeder_that_forgot_gets_a_skip_for_what_is_gone() {
    let mut outbox = in_session(11, 3);
    outbox.ack(Seq(12)).unwrap();
    outbox.rewind(Seq(9)).unwrap();
    assert_eq!(outbox.next_message(), Some(Outgoing::Rewind(Seq(9))));
    let skip = Skip { first: Seq(9), last: Seq(12), reason: SkipReason::DISCARDED };
    assert_eq!(outbox.next_message(), Some(Outgoing::Skip(skip)));
    assert!(matches!(outbox.next_message(), Some(Outgoing::Frames { first: Seq(13), .. })));
    assert!(outbox.all_sent());

    outbox.hello();
    outbox.welcome(&welcome(5, 1)).unwrap();
    let skip = Skip { first: Seq(1), last: Seq(12), reason: SkipReason::DISCARDED };
    assert_eq!(outbox.next_message(), Some(Outgoing::Skip(skip)));
}

#[test]
fn a_feeder_that_breaks_the_rules_is_not_believed() {
    let mut outbox = in_session(11, 3);
    assert_eq!(outbox.ack(Seq(14)), Err(Fault::AckAhead { seq: Seq(14), sent: Seq(13) }));
    assert_eq!(outbox.rewind(Seq(15)), Err(Fault::RewindAhead { seq: Seq(15), known: Seq(14) }));
    assert!(matches!(outbox.welcome(&welcome(5, 11)), Err(Fault::Unexpected(_))));
    for _ in 0..16 {
        outbox.rewind(Seq(11)).unwrap();
    }
    assert!(matches!(outbox.rewind(Seq(11)), Err(Fault::Unexpected(_))));
    assert_eq!(outbox.acked(), Seq(10));

    outbox.hello();
    assert!(matches!(outbox.ack(Seq(11)), Err(Fault::Unexpected(_))), "before the welcome");
    assert!(matches!(outbox.welcome(&welcome(6, 2)), Err(Fault::NewEpochNotEmpty { .. })));
    assert_eq!(outbox.hello(), Hello::NEW);
    assert!(outbox.welcome(&welcome(7, 1)).unwrap().is_some());
    assert_eq!((outbox.epoch(), outbox.acked(), outbox.next()), (Epoch(7), Seq(0), Seq(4)));
}

#[test]
fn a_resume_above_what_was_made_asks_for_a_new_epoch() {
    let mut outbox = in_session(11, 3);
    outbox.hello();
    let fault = Fault::ResumeAhead { resume: Seq(15), next: Seq(14) };
    assert_eq!(outbox.welcome(&welcome(5, 15)), Err(fault));
    assert_eq!(outbox.hello(), Hello::NEW);
}

#[test]
fn a_frame_that_this_feeder_does_not_take_is_named() {
    let mut outbox = Outbox::new(CUT, ResumeState::default());
    assert_eq!(outbox.room(100_000, 100_020, 100_029), Room::Later, "no feeder has said yet");
    outbox.push_frame(&encoded(0, 250));
    outbox.hello();
    let fault = Fault::HeldTooLarge { seq: Seq(1), what: "frame payload", bytes: 258, max: 200 };
    assert_eq!(outbox.welcome(&welcome(1, 1)), Err(fault));
    assert_eq!(outbox.room(201, 220, 229), Room::Never { what: "frame payload", value: 201, max: 200 });
    let message = Room::Never { what: "message of this one frame", value: 301, max: 300 };
    assert_eq!(outbox.room(100, 292, 301), message);
}

#[test]
fn a_frame_larger_than_the_buffer_or_the_window_passes_alone() {
    let mut outbox = Outbox::new(Cut { buffer_bytes: 50, ..CUT }, ResumeState::default());
    assert_eq!(outbox.room(108, 123, 132), Room::Yes);
    outbox.push_frame(&encoded(0, 100));
    assert_eq!(outbox.room(8, 23, 32), Room::Later);
    outbox.hello();
    outbox.welcome(&Welcome { window_bytes: 0, ..welcome(1, 1) }).unwrap();
    assert!(matches!(outbox.next_message(), Some(Outgoing::Frames { .. })));
}

#[test]
fn skips_have_a_cost_and_a_range() {
    let mut outbox = Outbox::new(CUT, ResumeState::default());
    assert_eq!(outbox.push_skip(0, SkipReason::OVERFLOW), None);
    assert_eq!(outbox.push_skip(u64::MAX, SkipReason::OVERFLOW), None);
    let mut skips = 0;
    while outbox.room_for_skip() == Room::Yes {
        outbox.push_skip(1, SkipReason(skips % 2)).unwrap();
        skips += 1;
    }
    assert_eq!(usize::from(skips), CUT.buffer_bytes / SKIP_COST_BYTES);
}
