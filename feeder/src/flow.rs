//! What a session and its link share about one device: what waits, what is in flight, what is durable, and which
//! link it is.
//!
//! Both live on the shard's one thread, so there is no lock; each wakes the other by its waker.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use trough_protocol::frame::FramesSummary;
use trough_protocol::link::LinkCode;
use trough_protocol::{DeviceId, Epoch, Seq};

use crate::queue::{Item, Queue};
use crate::uplink::Link;

/// A session that was in flight at this many link deaths travels alone, so that whatever kills links is found.
const DEATHS_UNTIL_ALONE: u8 = 2;

/// What the session has to tell its device.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The newest cumulative ack that was not told yet.
    pub ack: Option<Seq>,
    /// The link died with frames in flight: rewind to the number after the last ack.
    pub rewind: Option<Seq>,
    /// The eater refused the device's frames.
    pub refused: Option<(LinkCode, String)>,
}

/// One session's frames on their way.
#[derive(Debug)]
pub struct Flow {
    /// Whose frames.
    pub device: DeviceId,
    /// In which numbering.
    pub epoch: Epoch,
    /// Whether the feeder keeps the frames until they are durable, as the device cannot (raw mode).
    pub keeps: bool,
    state: RefCell<State>,
}

/// Which link carries a session. There is only ever one: frames on two links could become durable out of order.
#[derive(Debug, Default)]
enum Way {
    /// None: what comes waits.
    #[default]
    None,
    /// This one.
    On(Rc<Link>),
    /// Still this one for what is in flight; the rest waits for another.
    Leaving(Rc<Link>),
}

#[derive(Debug, Default)]
struct State {
    way: Way,
    queue: Queue,
    /// Raw mode only: what is in flight, to be sent again if the link dies.
    kept: VecDeque<Item>,
    in_flight: usize,
    in_flight_bytes: usize,
    acked: Seq,
    outgoing: Outgoing,
    deaths: u8,
    /// Bytes that deficit round robin still allows: see `scheduler`.
    deficit: usize,
    scheduled: bool,
    waker: Option<Waker>,
}

impl State {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

impl Flow {
    /// A flow whose device has everything up to `acked` acknowledged.
    pub fn new(device: DeviceId, epoch: Epoch, keeps: bool, acked: Seq) -> Self {
        let state = State { acked, ..State::default() };
        Self { device, epoch, keeps, state: RefCell::new(state) }
    }

    /// Who is woken when there is something to tell or room to read.
    pub fn set_waker(&self, waker: &Waker) {
        let mut state = self.state.borrow_mut();
        match &mut state.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Appends frames that follow what was pushed before.
    pub fn push_frames(&self, first: Seq, summary: FramesSummary, data: &[u8]) {
        self.state.borrow_mut().queue.push_frames(first, summary, data);
    }

    /// Appends a declared loss.
    pub fn push_skip(&self, first: Seq, count: u64, reason: u8) {
        self.state.borrow_mut().queue.push_skip(first, count, reason);
    }

    /// Bytes that are not durable yet.
    pub fn unacked_bytes(&self) -> usize {
        let state = self.state.borrow();
        state.queue.bytes() + state.in_flight_bytes
    }

    /// Whether everything pushed is durable.
    pub fn is_settled(&self) -> bool {
        let state = self.state.borrow();
        state.queue.is_empty() && state.in_flight == 0
    }

    /// Whether nothing is on its way: it is durable, or its link is dead.
    pub fn has_landed(&self) -> bool {
        self.state.borrow().in_flight == 0
    }

    /// The last durable number.
    pub fn acked(&self) -> Seq {
        self.state.borrow().acked
    }

    /// The link that takes its frames, if one does.
    pub fn link(&self) -> Option<Rc<Link>> {
        match &self.state.borrow().way {
            Way::On(link) => Some(link.clone()),
            Way::None | Way::Leaving(_) => None,
        }
    }

    /// Whether `link` takes its frames or has some in flight.
    pub fn uses(&self, link: &Rc<Link>) -> bool {
        match &self.state.borrow().way {
            Way::On(used) | Way::Leaving(used) => Rc::ptr_eq(used, link),
            Way::None => false,
        }
    }

    /// Whether it has no link at all.
    pub fn is_stranded(&self) -> bool {
        matches!(self.state.borrow().way, Way::None)
    }

    /// From here on `link` takes its frames. Nothing is in flight: it has landed.
    pub fn enter(&self, link: Option<&Rc<Link>>) {
        let mut state = self.state.borrow_mut();
        debug_assert_eq!(state.in_flight, 0, "frames of one session on two links");
        state.way = link.map_or(Way::None, |link| Way::On(link.clone()));
    }

    /// Its link takes no more of it. `true` if it may enter another; else [`Flow::settled`] says when.
    pub fn leave(&self) -> bool {
        let mut state = self.state.borrow_mut();
        if let Way::On(link) = std::mem::take(&mut state.way)
            && state.in_flight > 0
        {
            state.way = Way::Leaving(link);
            return false;
        }
        true
    }

    /// Takes what is to be told to the device.
    pub fn take_outgoing(&self) -> Outgoing {
        std::mem::take(&mut self.state.borrow_mut().outgoing)
    }

    /// Whether it must travel without others.
    pub fn travels_alone(&self) -> bool {
        self.state.borrow().deaths >= DEATHS_UNTIL_ALONE
    }

    /// Enters the schedule; `false` if it was in it or has nothing to send.
    pub fn schedule(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let enters = !state.scheduled && !state.queue.is_empty();
        state.scheduled |= enters;
        enters
    }

    /// Whether anything waits.
    pub fn has_waiting(&self) -> bool {
        !self.state.borrow().queue.is_empty()
    }

    /// Gives `quantum` more bytes of the round.
    pub fn grant(&self, quantum: usize) {
        self.state.borrow_mut().deficit += quantum;
    }

    /// Takes the next item if the deficit and `fits` allow it, and counts it as in flight.
    /// `Err(true)` when it does not fit, `Err(false)` when the deficit is used up or nothing waits.
    pub fn take_item(&self, fits: impl FnOnce(usize) -> bool) -> Result<Item, bool> {
        let mut state = self.state.borrow_mut();
        let len = state.queue.next_len().filter(|len| *len <= state.deficit).ok_or(false)?;
        if !fits(len) {
            return Err(true);
        }
        let item = state.queue.pop().expect("next_len() saw it");
        state.deficit -= len;
        state.in_flight += 1;
        state.in_flight_bytes += len;
        if self.keeps {
            state.kept.push_back(item.clone());
        }
        Ok(item)
    }

    /// Leaves the schedule; `true` if it was in it.
    pub fn unschedule(&self) -> bool {
        let mut state = self.state.borrow_mut();
        state.deficit = 0;
        std::mem::take(&mut state.scheduled)
    }

    /// An item of `bytes` that ended with `last` is durable. Items come back in the order in which they were taken.
    /// `true` if it was the last on a link that the session leaves, so that it may enter another.
    pub fn settled(&self, last: Seq, bytes: usize) -> bool {
        let mut state = self.state.borrow_mut();
        // After a refusal nothing counts as in flight any more, though acks of earlier batches may still come.
        state.in_flight = state.in_flight.saturating_sub(1);
        state.in_flight_bytes = state.in_flight_bytes.saturating_sub(bytes);
        state.acked = state.acked.max(last);
        state.deaths = 0;
        state.outgoing.ack = Some(state.acked);
        if self.keeps {
            state.kept.pop_front();
        }
        state.wake();
        state.in_flight == 0 && matches!(state.way, Way::Leaving(_))
    }

    /// The link died. If anything was in flight, what came after it is of no use before it is sent again: the
    /// device rewinds, or what was kept goes first.
    pub fn link_died(&self) {
        let mut state = self.state.borrow_mut();
        if state.in_flight == 0 {
            return;
        }
        state.in_flight = 0;
        state.in_flight_bytes = 0;
        state.deaths = state.deaths.saturating_add(1);
        if self.keeps {
            let kept = std::mem::take(&mut state.kept);
            state.queue.put_back(kept);
        } else {
            state.queue.clear();
            state.outgoing.rewind = Some(state.acked.next());
        }
        state.wake();
    }

    /// The eater refused a batch with this session's frames: they are never sent again.
    pub fn refuse(&self, code: LinkCode, text: &str) {
        let mut state = self.state.borrow_mut();
        state.queue.clear();
        state.kept.clear();
        state.in_flight = 0;
        state.in_flight_bytes = 0;
        state.outgoing.refused = Some((code, text.to_owned()));
        state.wake();
    }

    /// The session is over. The device of a framed session sends again what waits here, so it is dropped; what
    /// waits in raw mode still goes.
    pub fn abandon(&self) {
        let mut state = self.state.borrow_mut();
        if !self.keeps {
            state.queue.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(keeps: bool) -> Flow {
        let flow = Flow::new(DeviceId::new("d").unwrap(), Epoch(1), keeps, Seq::ZERO);
        for seq in 1..=3 {
            let summary = FramesSummary { count: 1, min_ts: 1, max_ts: 1 };
            flow.push_frames(Seq(seq), summary, &[0; 20 * 1024]);
        }
        flow.grant(1 << 20);
        flow
    }

    #[test]
    fn a_dead_link_rewinds_a_session_that_had_frames_in_flight() {
        let flow = flow(false);
        let first = flow.take_item(|_| true).unwrap();
        flow.settled(first.last(), first.len());
        assert_eq!(flow.take_outgoing().ack, Some(Seq(1)));
        flow.take_item(|_| true).unwrap();
        flow.link_died();
        assert!(flow.is_settled(), "what waited is dropped: the device sends it again");
        assert_eq!(flow.take_outgoing().rewind, Some(Seq(2)));
        flow.link_died();
        assert_eq!(flow.take_outgoing().rewind, None, "nothing was in flight");
    }

    #[test]
    fn a_session_with_nothing_in_flight_keeps_what_waits() {
        let flow = flow(false);
        flow.link_died();
        assert_eq!(flow.take_outgoing(), Outgoing::default());
        assert_eq!(flow.take_item(|_| true).unwrap().last(), Seq(1));
    }

    #[test]
    fn raw_frames_are_kept_until_durable_and_sent_again_in_order() {
        let flow = flow(true);
        flow.take_item(|_| true).unwrap();
        flow.take_item(|_| true).unwrap();
        flow.settled(Seq(1), 20 * 1024);
        flow.link_died();
        let lasts: Vec<u64> =
            std::iter::from_fn(|| flow.take_item(|_| true).ok()).map(|i| i.last().0).collect();
        assert_eq!(lasts, [2, 3]);
    }

    #[test]
    fn two_deaths_in_flight_isolate_a_session_and_an_ack_frees_it() {
        let flow = flow(true);
        for _ in 0..2 {
            assert!(!flow.travels_alone());
            flow.take_item(|_| true).unwrap();
            flow.link_died();
        }
        assert!(flow.travels_alone());
        let item = flow.take_item(|_| true).unwrap();
        flow.settled(item.last(), item.len());
        assert!(!flow.travels_alone());
    }
}
